"""The claims of Lyu and Wang in claims.yaml, decided from the slices of lyu2022.py.

Holm is taken over all of them, for they are of one table.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from claims_decide import Finding, adjusted, difference, verdict
from spinect.evaluation.uncertainty import expected_gain

Found = Sequence[Mapping[str, Any]]  # by subject
FOUR = ("ddpm-ddpm", "score_vp-em", "score_vp-pc", "score_vp-ode heun")
MARGIN_DB = 0.5  # in claims.yaml
STEPS = 1000


def _people(found: Found, *keys: str) -> dict[str, float]:
    values: list[Any] = list(found)
    for key in keys:
        values = [value[key] for value in values]
    return {f"{index:03d}": float(value) for index, value in enumerate(values)}


def _averaging(sets: Mapping[str, Found], most: str) -> list[Finding]:
    return [
        difference(_people(sets[name], most, key), _people(sets[name], "K=1", key),
                   text=f"{name}, {key}, {most} - K=1")
        for name in FOUR if name in sets for key in ("psnr", "ssim")
    ]  # fmt: skip


def _size(sets: Mapping[str, Found], draws: int) -> list[Finding]:
    made = []
    for name in (one for one in FOUR if one in sets):
        single = _people(sets[name], "K=1", "psnr")
        exact = {who: value + expected_gain(draws) for who, value in single.items()}
        text = f"{name}, PSNR of K={draws} - that of exact draws"
        mean = _people(sets[name], f"K={draws}", "psnr")
        made.append(difference(mean, exact, text=text, rule="equivalent", margin=MARGIN_DB))
    return made


def _cost(ladder: Mapping[str, Sequence[Found]]) -> list[Finding]:
    """Seconds of as many steps as DDPM has; RK45 takes its own."""

    def seconds(name: str, calls: int | None) -> dict[str, float] | None:
        for found in ladder.get(name, ()):
            if calls is None or all(one["calls"] == calls for one in found):
                return _people(found, "seconds")
        return None

    flow, ddpm = seconds("score_vp-ode rk45", None), seconds("ddpm-ddpm", STEPS)
    em, pc = seconds("score_vp-em", STEPS), seconds("score_vp-pc", 2 * STEPS)
    pairs = {"ode - ddpm": (flow, ddpm), "ode - em": (flow, em), "ddpm - pc": (ddpm, pc),
             "em - pc": (em, pc)}  # fmt: skip
    return [
        difference(a, b, text=f"{name}, seconds", sign=-1)
        for name, (a, b) in pairs.items() if a and b
    ]  # fmt: skip


def decide(
    rows: Mapping[str, Found],
    sets: Mapping[str, Found],
    ladder: Mapping[str, Sequence[Found]],
    draws: int,
) -> dict[str, dict[str, str]]:
    """Claim -> its word, and what was found.

    Args:
        rows: Quality of the models by subject. sets: Averages. ladder: Single draws by calls.
    """
    found: dict[str, list[Finding]] = {
        "averaging": _averaging(sets, f"K={draws}"),
        "averaging-size": _size(sets, draws),
        "sampler-cost": _cost(ladder),
    }
    mean, one = (rows.get(f"ddpm-ddpm, {what}") for what in (f"mean of {draws}", "one draw"))
    if mean and one and "cnn" in rows:
        found["diffusion-against-cnn"] = [
            difference(
                _people(mean, key), _people(rows["cnn"], key), text=f"averaged ddpm - cnn, {key}"
            )
            for key in ("psnr", "ssim")
        ]  # fmt: skip
        found["cnn-blurs"] = [
            difference(_people(one, "spectrum"), _people(rows["cnn"], "spectrum"),
                       text="a draw of ddpm - cnn, spectrum distance", sign=-1)
        ]  # fmt: skip
    wanted = {"averaging": 2 * len(FOUR), "averaging-size": len(FOUR), "sampler-cost": 4}
    told = {}
    for claim, own in adjusted({name: made for name, made in found.items() if made}).items():
        lacking = len(own) < wanted.get(claim, len(own))
        word = verdict(own, "not every sampler was run" if lacking else "")
        told[claim] = {"word": word, "found": "; ".join(map(str, own))}
    return told
