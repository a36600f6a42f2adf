"""Which rows and values decide which claim of claims.yaml; fixed before the results were there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from claims_decide import Finding, Patients, Rule, difference, falling

MARGIN = 0.02  # of Dice, in claims.yaml
Value = tuple[str, str, str, str]  # protocol, space, region, metric
Look = Callable[[str, Value], Patients]  # of a row
POSTERIOR: Value = ("strict", "iso", "posterior@judge", "dice")
POSTERIOR_NATIVE: Value = ("graf2023", "native", "posterior@judge", "dice")
POSTERIOR_OWN: Value = ("strict", "iso", "posterior", "dice")  # of a row that makes no CT
VERTEBRA: Value = ("strict", "iso", "vertebra@judge", "dice")
PSNR: Value = ("graf2023", "native", "frame", "psnr")
FLAT, DEEP, DIRECT = "regression_2d", "regression_3d", "direct_segmentation_3d"
IMAGE, NOISE = "ddim_image_2d", "ddim_noise_2d"
TRANSLATORS = (
    FLAT, DEEP, "resenc_regression_3d", "edm_2d", "edm_3d", "cut_resnet_2d", "cut_saunet_2d",
    "pix2pix_unet_2d", "pix2pix_saunet_2d", "pix2pix_3d", "syndiff_2d", IMAGE, NOISE,
    "ddim_image_3d", "ddim_noise_3d",
)  # fmt: skip
SAMPLED = ("edm_2d", "edm_3d", IMAGE, "ddim_image_3d")


@dataclass(frozen=True)
class Test:
    """One finding that a claim needs.

    Attributes:
        rows: First minus second; of a trend all doses, least first.
        value: Of every row; `second`: of the second row where it differs.
        sign: +1: the claim says that the first is higher.
    """

    rows: tuple[str, ...]
    value: Value
    rule: Rule = "differs"
    sign: int = 1
    second: Value | None = None

    def find(self, look: Look) -> Finding:
        """The finding; raises as `difference`."""
        if self.rule == "trend":
            return falling([look(row, self.value) for row in self.rows], text=self.text)
        first = look(self.rows[0], self.value)
        second = look(self.rows[1], self.second or self.value)
        made = partial(difference, text=self.text, sign=self.sign, rule=self.rule)
        return made(first, second, margin=MARGIN)

    @property
    def text(self) -> str:
        """What is compared."""
        protocol, space, region, metric = self.value
        link = " > " if self.rule == "trend" else " - "
        return f"{link.join(self.rows)}, {region} {metric} ({protocol}, {space})"


def _shifts(there: Sequence[str]) -> list[Test]:
    doses = {
        "shift": [f"{FLAT}_shift_{mm}" for mm in (1, 2, 4)],
        "turn": [f"{FLAT}_turn_{degrees}" for degrees in (5, 10)],
    }
    return [
        Test((FLAT, *(r for r in rows if r in there)), POSTERIOR, "trend")
        for rows in doses.values()
    ]


def _translators(there: Sequence[str]) -> list[Test]:
    return [Test((row, DIRECT), POSTERIOR, "non-inferior", 1, POSTERIOR_OWN)
            for row in TRANSLATORS if row in there]  # fmt: skip


def _sampling(there: Sequence[str]) -> list[Test]:
    ends = ("_steps_", "_eta_", "_guidance_")
    return [Test((row, base), VERTEBRA, "equivalent") for base in SAMPLED
            for row in there if any(row.startswith(base + end) for end in ends)]  # fmt: skip


def _fixed(*tests: Test) -> Callable[[Sequence[str]], list[Test]]:
    return lambda _: list(tests)


ZERO, ONE = f"{FLAT}_points_0", f"{FLAT}_points_1"
# table of claims.yaml, by which Holm is taken -> claim -> its tests, given the rows there are
RULES: Mapping[str, Mapping[str, Callable[[Sequence[str]], list[Test]]]] = {
    "registration": {
        "two-points-beat-one": _fixed(Test((FLAT, ONE), POSTERIOR)),
        "unregistered-loses-posterior": _fixed(
            Test((ZERO, ONE), POSTERIOR, sign=-1), Test((ZERO, FLAT), POSTERIOR, sign=-1)
        ),
        "per-vertebra-registration": _fixed(Test((f"{FLAT}_polyrigid_2", FLAT), POSTERIOR)),
    },
    "misalignment": {"misalignment-dose": _shifts},
    "dimensions": {
        "three-dimensions": _fixed(
            Test((DEEP, FLAT), POSTERIOR), Test((DEEP, FLAT), POSTERIOR_NATIVE, "not lower")
        ),
        "three-dimensions-lower-psnr": _fixed(Test((DEEP, FLAT), PSNR, sign=-1)),
    },
    "image_quality": {"image-mode-beats-noise-mode": _fixed(Test((IMAGE, NOISE), PSNR))},
    "dice": {"segmentation-transfer": _translators},
    "sampling": {"inference-parameters": _sampling},
}


def missing(claim: str, tests: Sequence[Test]) -> str:
    """What a claim asks for and none of the tests shows; empty where all is there."""
    rows = " ".join(row for test in tests for row in test.rows)
    if claim == "inference-parameters":
        lacking = [one for one in ("steps", "eta", "guidance") if f"_{one}_" not in rows]
        return f"no row varies {', '.join(lacking)}" if lacking else ""
    return ""
