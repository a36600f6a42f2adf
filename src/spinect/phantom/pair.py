"""MR and CT of one phantom subject, and the dataset folder that they are written into."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from spinect.errors import ConfigError, OutputError
from spinect.geometry import Grid, Volume
from spinect.geometry.landmarks import Landmarks
from spinect.geometry.resample import resample
from spinect.geometry.transform import apply, invert
from spinect.io import write_dseg_table, write_json, write_poi, write_table, write_volume
from spinect.io.transforms import Transforms, write_transforms
from spinect.phantom.anatomy import (
    GLOBAL,
    Anatomy,
    Motion,
    Poses,
    Region,
    field_of_view_grid,
    landmarks,
    make_subject,
    pose,
    rasterise,
)
from spinect.phantom.contrast import (
    ContrastName,
    ct_hu,
    ct_scan,
    draw_ct,
    draw_mr,
    mr_signal,
    thick_shell,
)
from spinect.phantom.fields import along, interpolation
from spinect.phantom.maps import DISTANCE_STEP_MM, Subject, TissueMap
from spinect.phantom.scanner import acquire, back_skin, draw_scan
from spinect.phantom.series import Layout, as_series, layout_of, mr_grid
from spinect.phantom.tissues import Tissue

log = logging.getLogger(__name__)

CONTRASTS: Final[tuple[ContrastName, ...]] = (
    "T1w", "T2w", "STIR", "water", "fat", "inphase", "opposed", "PDw", "T2starw",
)  # fmt: skip
_STREAM: Final = 100  # first of the random streams of a subject that belong to its scans


@dataclass(frozen=True, eq=False)
class Pair:
    """MR and CT of one subject with everything that is true of them.

    Attributes:
        subject: The person, body centres in the MR's pose.
        mr: Contrast -> series on its own grid; those of a spine share one.
        ct, ct_vertebrae, ct_subregions: The CT as acquired, in its own pose, and its masks.
        truth_ct: Noise-free HU at 1 mm in the MR's pose.
        truth: The tissue map of that grid: masks, tissues.
        mr_landmarks, ct_landmarks: Named points that lie inside the images.
        ct_from_mr: Vertebra id -> (4, 4), mm; key 0 is the whole body's motion.
    """

    subject: Subject
    mr: Mapping[str, Volume]
    ct: Volume
    ct_vertebrae: Volume
    ct_subregions: Volume
    truth_ct: Volume
    truth: TissueMap
    mr_landmarks: Landmarks
    ct_landmarks: Landmarks
    ct_from_mr: Mapping[int, NDArray[np.float64]]


def split_of(seed: int) -> str:
    """The split that a subject seed belongs to: train, test or validation."""
    return "train" if seed < 1_000_000 else "test" if seed < 2_000_000 else "validation"


def make_pair(
    seed: int,
    region: Region = "lumbar",
    contrasts: Sequence[str] = ("T1w", "T2w"),
    motion: Motion = "none",
    slice_mm: float | None = None,
) -> Pair:
    """Scan one phantom subject in both machines.

    The MR of a spine is a sagittal series of 20 slices (more for a wide spine, or for thin
    slices), 0.6 mm in plane and `slice_mm` apart; the CT has 1 mm pixels and slices of 1-2 mm. That
    of a pelvis is axial, 0.875 mm in plane with slices of 2.5 mm (T1w 3 mm), the CT has slices of
    2-3 mm. The MR is taken in the neutral pose.

    Args:
        seed: Of the subject and of all draws.
        contrasts: Some of `CONTRASTS`.
        motion: How the CT's pose differs.
        slice_mm: From one sagittal MR slice to the next; None: 20 slices of 4 mm. Another
            distance gives as many slices as cover the same.
    Raises:
        ConfigError: Unknown contrast, region or seed; articulated motion of a pelvis, or a
            distance of its slices.
    """
    names = [_checked(name) for name in contrasts]
    layout = layout_of(region, slice_mm)
    anatomy = make_subject(seed, region)
    neutral, moved = pose(anatomy), pose(anatomy, motion)
    grid = mr_grid(anatomy, slice_mm)
    grids = {name: mr_grid(anatomy, slice_mm, name) for name in names}
    truth = rasterise(anatomy, grid.canonical().with_spacing(1.0), neutral)
    ct_grid = _ct_grid(anatomy, moved)
    still = motion == "none" and ct_grid.matches(truth.grid)
    ct_map = truth if still else rasterise(anatomy, ct_grid, moved)
    ct = _ct(ct_map, seed, layout.ct_slices)
    ct_from_mr = {v: moved[v] @ invert(neutral[v]) for v in moved}
    points = landmarks(anatomy, neutral)
    carried = {key: apply(ct_from_mr[key[0]], point) for key, point in points.items()}
    return Pair(
        subject=truth.subject,
        mr={name: _mr(truth, grids[name], layout, name, seed) for name in names},
        ct=ct,
        ct_vertebrae=resample(_labels(ct_map, "vertebrae"), ct.grid),
        ct_subregions=resample(_labels(ct_map, "subregions"), ct.grid),
        truth_ct=_ct(truth, seed),
        truth=truth,
        mr_landmarks=_visible(points, grid),
        ct_landmarks=_visible(carried, ct.grid),
        ct_from_mr=ct_from_mr,
    )


def _checked(name: str) -> ContrastName:
    for known in CONTRASTS:
        if name == known:
            return known
    raise ConfigError(f"no contrast {name!r}: choose from {', '.join(CONTRASTS)}")


def _ct_grid(anatomy: Anatomy, poses: Poses) -> Grid:
    """The field of view moved with the body, not turned with it."""
    grid = field_of_view_grid(anatomy)
    middle = anatomy.window.mean(0)
    affine = grid.affine.copy()
    affine[:3, 3] += apply(poses[GLOBAL], middle) - middle
    return Grid(grid.shape, affine)


def _mr(truth: TissueMap, grid: Grid, layout: Layout, name: ContrastName, seed: int) -> Volume:
    """One series of the subject on `grid`, stored values of an integer scale."""
    rng, generator = _random(seed, 1 + CONTRASTS.index(name))
    tissue, distance, thick = _tensors(truth)
    recipe = draw_mr(name, truth.subject, rng)
    skin = back_skin(tissue[0])
    seen = [truth.grid.index(c) for c in truth.subject.centres.values()]
    front = max(c[1] for c in seen if 0 <= c[2] < truth.grid.shape[2]) - skin
    plain = grid.canonical()
    axis = layout.slice_axis
    scan = as_series(draw_scan(name, rng, front), layout, float(plain.spacing[axis]))
    water, fat = mr_signal(tissue, distance, [recipe], thick=thick, generator=generator)
    image = acquire(water[0], fat[0], scan, skin=skin, generator=generator)
    first = truth.grid.index(plain.world(np.zeros(3)))
    step = plain.spacing / truth.grid.spacing
    for at in (
        a for a in range(3) if a != axis
    ):  # reconstructed pixels are finer than acquired ones
        positions = first[at] + step[at] * np.arange(plain.shape[at])
        image = along(image, interpolation(positions, image.shape[at], "cubic"), at)
    stored = image.clamp_(0, 1).mul_(scan.window.levels).round_().numpy()
    return Volume(stored, plain.affine, "mr").reoriented(layout.axes)


def _ct(tissue_map: TissueMap, seed: int, slices: Sequence[float] = ()) -> Volume:
    """HU of a map; noise-free at 1 mm, or with noise and one of some distances of slices."""
    rng, generator = _random(seed, 0)
    tissue, distance, thick = _tensors(tissue_map)
    recipe = draw_ct(tissue_map.subject, rng)
    hu = ct_hu(tissue, distance, [recipe], thick=thick, generator=generator)
    clean = Volume(hu[0].numpy(), tissue_map.grid.affine, "ct")
    if not slices:
        return clean
    thickness = float(rng.choice(slices))
    clean = resample(clean, tissue_map.grid.with_spacing([1.0, 1.0, thickness]))
    noisy = ct_scan(torch.from_numpy(clean.data)[None], rng, generator)[0]
    return clean.with_data(noisy.numpy())


def _random(seed: int, stream: int) -> tuple[np.random.Generator, torch.Generator]:
    rng = np.random.default_rng([seed, _STREAM + stream])
    return rng, torch.Generator().manual_seed(int(rng.integers(2**62)))


def _tensors(tissue_map: TissueMap) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tissue, bone distance in mm and thick shell of a map, each (1, *S)."""
    tissue, subregions, steps = (
        torch.from_numpy(np.ascontiguousarray(a))[None]
        for a in (tissue_map.tissue, tissue_map.subregions, tissue_map.bone_distance)
    )
    return tissue, steps.float() * DISTANCE_STEP_MM, thick_shell(tissue, subregions)


def _labels(tissue_map: TissueMap, name: str) -> Volume:
    return Volume(np.asarray(getattr(tissue_map, name)), tissue_map.grid.affine, "labels")


def _visible(points: Mapping[tuple[int, int], NDArray[np.float64]], grid: Grid) -> Landmarks:
    """The landmarks that lie inside a grid's voxels."""
    last = np.array(grid.shape) - 0.5
    inside = {k: p for k, p in points.items() if np.all(grid.index(p) >= -0.5)}
    return Landmarks({k: p for k, p in inside.items() if np.all(grid.index(p) <= last)})


def write_dataset(
    folder: Path,
    subjects: int,
    seed: int,
    region: Region = "lumbar",
    contrasts: Sequence[str] = ("T1w", "T2w"),
    motion: Motion = "none",
) -> list[Path]:
    """Write a dataset folder of phantom subjects.

    ::

        participants.tsv                      participant_id, seed, split, sex, age
        sub-X/anat/sub-X_T2w.nii.gz           and sub-X_T2w_poi.json
        sub-X/ct/sub-X_ct.nii.gz              masks and sub-X_ct_poi.json beside it
        derivatives/truth/sub-X/              in the MR's pose, on its grid and at 1 mm

    Args:
        folder: New or empty; made when missing.
        subjects: How many; subject i is sub-(seed + i).
    Returns:
        The folders of the subjects.
    Raises:
        OutputError: The folder holds something already.
        ConfigError: Unknown contrast or region, no contrast, no subject.
    """
    folder = Path(folder)
    if subjects < 1 or not contrasts:
        raise ConfigError(f"{subjects} subjects of {len(contrasts)} contrasts: ask for one or more")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is not an empty folder: choose another or remove it")
    rows, written = [], []
    for number in range(seed, seed + subjects):
        pair = make_pair(number, region, contrasts, motion)
        written.append(write_pair(pair, folder, f"sub-{number}"))
        rows.append(participant(pair))
        log.info("wrote subject %d of %d: sub-%d", len(rows), subjects, number)
    write_people(rows, folder)
    return written


def participant(pair: Pair) -> dict[str, object]:
    """The subject's row of participants.tsv."""
    number = pair.subject.seed
    return {
        "participant_id": f"sub-{number}",
        "seed": number,
        "split": split_of(number),
        "sex": pair.subject.sex,
        "age": pair.subject.age,
    }


def write_people(rows: Sequence[Mapping[str, object]], folder: Path) -> None:
    """`participants.tsv` and `dataset_description.json` of a dataset folder of phantoms."""
    description = {"Name": "spinect phantoms", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    write_json(description, folder / "dataset_description.json")
    write_table(rows, folder / "participants.tsv")


def write_pair(pair: Pair, folder: Path, name: str) -> Path:
    """All files of one subject, as in `write_dataset`; returns `folder / name`."""
    anat, ct = folder / name / "anat", folder / name / "ct"
    truth = folder / "derivatives" / "truth" / name
    write_volume(pair.ct, ct / f"{name}_ct.nii.gz")
    _write_masks(pair.ct_vertebrae, pair.ct_subregions, ct / f"{name}_ct")
    write_poi(pair.ct_landmarks, ct / f"{name}_ct_poi.json")
    masks = _labels(pair.truth, "vertebrae"), _labels(pair.truth, "subregions")
    write_volume(pair.truth_ct, truth / f"{name}_space-iso_ct.nii.gz")
    _write_masks(*masks, truth / f"{name}_space-iso")
    tissue = _labels(pair.truth, "tissue")
    write_volume(tissue, truth / f"{name}_space-iso_desc-tissue_dseg.nii.gz")
    names = [{"index": int(t), "name": t.name.lower()} for t in Tissue]
    write_table(names, truth / f"{name}_space-iso_desc-tissue_dseg.tsv")
    single = {v: matrix for v, matrix in pair.ct_from_mr.items() if v != GLOBAL}
    grid, native = None, (pair.truth_ct, *masks)
    for contrast, image in pair.mr.items():
        if grid is None or not image.grid.matches(grid):
            grid = image.grid
            native = (resample(pair.truth_ct, grid), resample(masks[0], grid),
                      resample(masks[1], grid))  # fmt: skip
        write_volume(image, anat / f"{name}_{contrast}.nii.gz")
        write_poi(pair.mr_landmarks, anat / f"{name}_{contrast}_poi.json")
        write_volume(native[0], truth / f"{name}_space-{contrast}_ct.nii.gz")
        _write_masks(native[1], native[2], truth / f"{name}_space-{contrast}")
        write_transforms(
            Transforms(contrast, "ct", pair.ct_from_mr[GLOBAL], single),
            truth / f"{name}_from-{contrast}_to-ct_transforms.json",
        )
    return folder / name


def _write_masks(vertebrae: Volume, subregions: Volume, stem: Path) -> None:
    for kind, mask in (("vertebrae", vertebrae), ("subregions", subregions)):
        base = f"{stem.name.removesuffix('_ct')}_desc-{kind}_dseg"
        write_volume(mask, stem.with_name(base + ".nii.gz"))
        write_dseg_table(stem.with_name(base + ".tsv"), np.unique(mask.data))
