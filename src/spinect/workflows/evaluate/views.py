"""Which results are shown in pictures: the worst ones, with their volumes."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from spinect.evaluation.tables import Tidy
from spinect.io import read
from spinect.report.evaluation import CaseView
from spinect.report.scene import Scene
from spinect.workflows.evaluate.loading import Truth, read_masks
from spinect.workflows.evaluate.results import Made, Method
from spinect.workflows.evaluate.run import Scores
from spinect.workflows.evaluate.truth import Series

MOST: Final = 10  # results in pictures, all methods together
_FACTS: Final = (
    ("vertebra Dice", "vertebra", "dice", 2),
    ("posterior Dice", "posterior", "dice", 2),
    ("MAE near bone HU", "near_bone", "mae", 0),
    ("wrong levels", "vertebra", "wrong_level", 0),
)
Ranked = tuple[float, str, str]  # badness, method, case


def worst_views(scores: Scores) -> list[CaseView]:
    """The worst results of every method, the worst of all first; up to `MOST` in all.

    Worst is the lowest mean vertebra Dice at 1 mm (of the judge, where there is one), for methods
    without masks the highest MAE near bone relative to the others' range. Equal shares of places
    for every method, at least one.
    """
    values = _values(scores.rows)
    judge = scores.judge[0] if scores.judge else None
    share = max(1, MOST // len(scores.methods))
    chosen: list[Ranked] = []
    for name in scores.methods:
        chosen += sorted(_ranked(scores, name, values, judge), reverse=True)[:share]
    series = {one.name: one for one in scores.cohort.series}
    by_badness = sorted(chosen, key=lambda one: (-one[0], one[1], one[2]))[:MOST]
    return [
        _view(series[case], scores.methods[method], values, judge) for _, method, case in by_badness
    ]


Values = Mapping[tuple[str, str, str, str], float]  # method, case, region, metric


def _values(rows: Sequence[Tidy]) -> Values:
    return {
        (r.method, r.case, r.region, r.metric): r.value
        for r in rows
        if not r.item and (r.protocol, r.space) == ("strict", "iso")
    }


def _ranked(scores: Scores, method: str, values: Values, judge: str | None) -> list[Ranked]:
    """Scored results with a badness from 0 to 1."""
    region = f"vertebra@{judge}" if judge else "vertebra"
    done = [
        o.series.name
        for o in scores.outcomes
        if o.method == method and o.status in ("done", "kept")
    ]
    errors = [v for key, v in values.items() if key[2:] == ("near_bone", "mae") and np.isfinite(v)]
    top = max(errors, default=1.0) or 1.0
    found = []
    for case in done:
        dice = values.get((method, case, region, "dice"), np.nan)
        error = values.get((method, case, "near_bone", "mae"), np.nan)
        bad = 1 - dice if np.isfinite(dice) else error / top if np.isfinite(error) else 0.0
        found.append((float(bad), method, case))
    return found


def _view(series: Series, method: Method, values: Values, judge: str | None) -> CaseView:
    facts = {}
    for title, region, metric, digits in _FACTS:
        for seen in (f"{region}@{judge}", region):
            value = values.get((method.name, series.name, seen, metric), np.nan)
            if np.isfinite(value):
                name = f"{title} ({judge})" if "@" in seen else title
                facts[name] = f"{value:.{digits}f}"
    scene = make_scene(series, method.made[series.name])
    return CaseView(method.name, series.name, f"patient {series.patient}", scene, facts)


def make_scene(series: Series, made: Made) -> Scene:
    """The volumes of one result and of its truth, at 1 mm where both have them."""
    truth = Truth(series)
    image = read(series.mr)
    ct = made.ct_iso or made.ct
    pairs = ((made.vertebrae_iso, made.subregions_iso), (made.vertebrae, made.subregions))
    masks = next(((v, s) for v, s in pairs if v and s), None)
    vertebrae, subregions = read_masks(*masks) if masks else (None, None)
    true_ct = truth.ct if series.iso.ct else truth.native_ct if series.native.ct else None
    true_masks = (
        truth.masks if series.iso.masks else truth.native_masks if series.native.masks else None
    )
    return Scene(
        image=image,
        ct=read(ct, "ct", trusted=True) if ct else None,
        vertebrae=vertebrae,
        subregions=subregions,
        truth_ct=true_ct,
        truth_vertebrae=true_masks[0] if true_masks else None,
    )
