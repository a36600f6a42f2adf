"""The main job on a phantom that no training saw, with the truth beside it."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from spinect.errors import ConfigError, OutputError
from spinect.evaluation.image import mae, near_bone, oracle_floor
from spinect.evaluation.measures import Value, at
from spinect.evaluation.protocols.strict_segmentation import strict_segmentation
from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.io import atomic, read
from spinect.phantom.pair import write_dataset
from spinect.report import Comparison, Page, Scene, write_html, write_preview
from spinect.workflows import names
from spinect.workflows.case import Outcome, Watcher
from spinect.workflows.facts import facts
from spinect.workflows.options import RunOptions
from spinect.workflows.outputs import read_rows
from spinect.workflows.run import run_files

TEST_SEEDS: Final = range(1_000_000, 2_000_000)
CONTRAST: Final = "T2w"


@dataclass(frozen=True)
class Demo:
    """Where to look, and how close the result comes to the truth."""

    page: Path
    preview: Path
    comparison: tuple[Comparison, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Machine-readable."""
        return {
            "page": str(self.page),
            "preview": str(self.preview),
            "seconds": self.seconds,
            "comparison": {row.name: row.value for row in self.comparison},
        }


def demo(
    out: Path,
    *,
    seed: int = TEST_SEEDS.start,
    overwrite: bool = False,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    watcher: Watcher | None = None,
) -> Demo:
    """Make a phantom, run the main job on its MR, compare with the truth, write the report.

    Args:
        out: Folder; the phantom goes to `out`/phantom.
        seed: Of the phantom, one that training refuses.
    Raises:
        ConfigError: The seed is not a test seed.
        OutputError: `out` holds an earlier demo and `overwrite` is False.
    """
    if seed not in TEST_SEEDS:
        raise ConfigError(
            f"seed {seed} is not a test seed: choose one from {TEST_SEEDS.start} to "
            f"{TEST_SEEDS.stop - 1}, which no training sees"
        )
    options = RunOptions(overwrite=overwrite, device=device)
    scan = _phantom(out / "phantom", seed, overwrite)
    summary = run_files([scan], out, options, watcher=watcher)
    outcome = summary.outcomes[0]
    if outcome.status == "failed":
        raise OutputError(f"the demo failed: {outcome.error}")
    return _compare(outcome, _Truth.load(scan))


def _phantom(folder: Path, seed: int, overwrite: bool) -> Path:
    subject = f"sub-{seed}"
    if folder.exists():
        if not overwrite:
            raise OutputError(f"{folder} exists already: --overwrite replaces the last demo")
        if not (folder / "participants.tsv").is_file():
            raise OutputError(f"{folder} is not a phantom of an earlier demo: choose another --out")
        shutil.rmtree(folder)
    write_dataset(
        folder, subjects=1, seed=seed, region="lumbar", contrasts=(CONTRAST,), motion="none"
    )
    return folder / subject / "anat" / f"{subject}_{CONTRAST}.nii.gz"


@dataclass(frozen=True, eq=False)
class _Truth:
    """What the phantom is, on the MR's grid and at 1 mm."""

    vertebrae: Volume
    subregions: Volume
    vertebrae_iso: Volume
    ct_iso: Volume
    tissue_iso: Volume

    @classmethod
    def load(cls, scan: Path) -> "_Truth":
        subject = scan.name.partition("_")[0]
        folder = scan.parents[2] / "derivatives" / "truth" / subject
        native, iso = f"{subject}_space-{CONTRAST}", f"{subject}_space-iso"
        return cls(
            read(folder / f"{native}_desc-vertebrae_dseg.nii.gz", "labels"),
            read(folder / f"{native}_desc-subregions_dseg.nii.gz", "labels"),
            read(folder / f"{iso}_desc-vertebrae_dseg.nii.gz", "labels"),
            read(folder / f"{iso}_ct.nii.gz", "ct"),
            read(folder / f"{iso}_desc-tissue_dseg.nii.gz", "labels"),
        )


def _compare(outcome: Outcome, truth: _Truth) -> Demo:
    case, record = outcome.case, outcome.record
    assert record is not None
    got = {
        end: read(case.output(end), "ct" if end.endswith("ct.nii.gz") else "labels")
        for end in (
            names.VERTEBRAE + ".nii.gz",
            names.SUBREGIONS + ".nii.gz",
            names.ISO + names.VERTEBRAE + ".nii.gz",
            names.ISO + names.SUBREGIONS + ".nii.gz",
            names.ISO + names.CT,
        )
    }
    masks = list(got.values())
    score = strict_segmentation(masks[0], masks[1], truth.vertebrae, truth.subregions)
    comparison = (*_mask_rows(score), *_hu_rows(masks[4], truth))
    scene = Scene(
        image=read(case.source),
        ct=masks[4],
        vertebrae=masks[2],
        subregions=masks[3],
        truth_ct=truth.ct_iso,
        truth_vertebrae=truth.vertebrae_iso,
    )
    rows = read_rows(case.output(names.TABLE))
    page = Page(f"{case.stem} (phantom)", rows, record.warnings, facts(record), comparison)
    with atomic(case.output(names.PREVIEW)) as part:
        write_preview(scene, part, page.title)
    with atomic(case.output(names.PAGE)) as part:
        write_html(scene, page, part)
    return Demo(case.output(names.PAGE), case.output(names.PREVIEW), comparison, outcome.seconds)


def _mask_rows(score: list[Value]) -> Sequence[Comparison]:
    each = [v for v in score if v.region == "vertebra" and v.item]
    count = sum(v.metric == "dice" for v in each)
    distances = [v.value for v in each if v.metric == "signed_distance" and np.isfinite(v.value)]
    named = count - at(score, "vertebra", "missed") - at(score, "vertebra", "wrong_level")
    return (
        Comparison(
            "vertebra Dice",
            f"{at(score, 'vertebra', 'dice'):.2f}",
            f"mean of {count} whole vertebrae on the MR's grid; 1 is perfect",
        ),
        Comparison(
            "body Dice", f"{at(score, 'vertebral_body', 'dice'):.2f}", "vertebral bodies only"
        ),
        Comparison(
            "posterior Dice", f"{at(score, 'posterior', 'dice'):.2f}", "arches and processes"
        ),
        Comparison(
            "surface distance",
            f"{np.median(distances):+.2f} mm" if distances else "n/a",
            "median, signed: positive where the mask is too large",
        ),
        Comparison(
            "levels",
            f"{named:.0f} of {count}",
            f"right names among the true vertebrae; {at(score, 'vertebra', 'spurious'):.0f} extra",
        ),
    )


def _hu_rows(ct: Volume, truth: _Truth) -> Sequence[Comparison]:
    mine = resample(ct, truth.ct_iso.grid)
    near = near_bone(truth.vertebrae_iso.data > 0, truth.ct_iso.grid.spacing)
    floor = oracle_floor(truth.tissue_iso.data, truth.ct_iso.data, near)
    return (
        Comparison(
            "MAE near bone",
            f"{mae(mine.data, truth.ct_iso.data, near):.0f} HU",
            f"within 10 mm of vertebrae; who knows every tissue still errs by {floor:.0f} HU",
        ),
    )
