"""Training patches from a dataset folder: real or simulated patients with MR, CT and masks.

The folder's layout is the one that ``spinect phantom`` writes. What a patient needs::

    participants.tsv                                     participant_id, split (whole patients)
    sub-X/anat/sub-X_T2w.nii.gz                          the MR
    derivatives/truth/sub-X/sub-X_space-iso_*            in the MR's world, at any grid; or
    derivatives/truth/sub-X/sub-X_space-T2w_*            on the MR's own grid:
        ct, desc-vertebrae_dseg, and desc-subregions_dseg if there is one   (.nii.gz)
    derivatives/registered/registration.tsv              instead: what ``spinect register`` made;
                                                         `data.series` reads it

Each series is brought to 1 mm once, into ``derivatives/spinect/``, and read from there.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from spinect.data.augment import Scene
from spinect.data.intensity import HuRange, ct_channels, inside_field_of_view, mr_channels
from spinect.data.series import Pose, Series, find_series, patients, truth_series
from spinect.data.stream import Task, Triple
from spinect.data.synthesise import bone_distance
from spinect.data.targets import targets
from spinect.data.warp import Warp, draw_warp
from spinect.errors import GeometryError
from spinect.geometry import Volume
from spinect.geometry.resample import resample, to_iso
from spinect.io import read, write_json
from spinect.phantom.maps import DISTANCE_STEP_MM, Subject
from spinect.protocols import Batch

LOG = logging.getLogger(__name__)
_ON_BONE = 0.8  # share of patches whose centre is near labelled bone
_JITTER = 16  # voxels between such a centre and the bone voxel that it was drawn from
_ARRAYS = ("channels", "hu", "vertebrae", "subregions", "distance", "bone", "valid")
_FORMAT = "2"  # of the prepared arrays; those of an older one are made again


@dataclass(frozen=True)
class DatasetOptions:
    """What is taken from a dataset folder, and how it is varied.

    Attributes:
        contrast: Suffix of the MR. split: Value of the column in participants.tsv.
        pose: "registered" reads derivatives/registered, "truth" derivatives/truth, "auto" the
            registered one where it is there.
        task: "translate" gives MR channels and the CT; "segment" gives CT channels.
        patch: Voxels of 1 mm along R, A, S.
        scans: Patients of an item. patches_per_scan: Patches of each of them.
        rotate_deg: SD of the turn about each axis. scale: SD of the log of each axis's zoom.
        elastic_mm: SD of the smooth displacement along each axis.
        flip: Mirror left and right in half of the patches.
        hu_range: What [-1, 1] of the target stands for.
    """

    contrast: str = "T2w"
    split: str = "train"
    pose: Pose = "auto"
    task: Task = "translate"
    patch: Triple = (96, 96, 96)
    scans: int = 1
    patches_per_scan: int = 2
    rotate_deg: float = 10.0
    scale: float = 0.08
    elastic_mm: float = 2.0
    flip: bool = True
    hu_range: HuRange = field(default_factory=HuRange)


class DatasetPatches(Dataset[Batch]):
    """Augmented patches of a dataset's patients; item i depends on (seed, i) alone.

    Raises:
        ConfigError: No patient of the split, or one whose seed is reserved for testing.
        InputError: A patient's file is missing or unusable, or MR and truth do not share a grid;
            no pair of the split was registered; a person stands on two sides of the split.
    """

    def __init__(self, folder: Path, options: DatasetOptions, seed: int, length: int) -> None:
        self.options, self.seed, self.length = options, seed, length
        names = patients(folder, options.split)
        found = find_series(folder, names, options.contrast, options.pose)
        self.cases = [prepare_series(folder, one) for one in found]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < self.length:
            raise IndexError(f"item {index} of a dataset of {self.length}")
        rng = np.random.default_rng([self.seed, index])
        parts = []
        for _ in range(self.options.scans):
            case = _Case.load(self.cases[rng.integers(len(self.cases))])
            parts += [self._patch(case, rng) for _ in range(self.options.patches_per_scan)]
        return stack(parts)

    def _patch(self, case: "_Case", rng: np.random.Generator) -> Batch:
        o = self.options
        bone = case.arrays["bone"]
        if len(bone) and rng.random() < _ON_BONE:
            centre = bone[rng.integers(len(bone))] + rng.integers(-_JITTER, _JITTER + 1, 3)
        else:
            centre = rng.integers(0, case.shape)
        mirror = o.flip and bool(rng.random() < 0.5)
        warp = draw_warp(centre, o.patch, (o.rotate_deg, o.scale, o.elastic_mm), mirror, rng)
        scene, channels, known = case.warped(warp)
        goal = targets(scene)
        assert scene.hu is not None  # every case has a CT
        translate = o.task == "translate"
        condition = channels if translate else ct_channels(scene.hu[None, None])[0]
        inside = channels[2:3] * goal.known if translate else known
        return Batch(
            condition=condition[None],
            inside=inside[None],
            target=o.hu_range.to_unit(scene.hu)[None, None] if translate else None,
            near_bone=goal.near_bone[None] if translate else None,
            classes=goal.classes[None],
            centre=goal.centre[None],
            offset=goal.offset[None],
        )


def prepare(folder: Path, name: str, contrast: str) -> Path:
    """One patient's truth at 1 mm; as `prepare_series`."""
    return prepare_series(folder, truth_series(folder, name, contrast))


def prepare_series(folder: Path, series: Series) -> Path:
    """One series at 1 mm as arrays that are mapped into memory; made when its files change.

    Returns:
        Folder of channels (3, *S) float16, hu int16, vertebrae, subregions and valid uint8,
        distance int8 (DISTANCE_STEP_MM), bone (N, 3) voxels of labelled bone, and case.json.
    """
    files = series.files
    facts = [f"{p.relative_to(folder)} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files]
    key = hashlib.sha256("\n".join([_FORMAT, *facts]).encode()).hexdigest()
    out = folder / "derivatives" / "spinect" / series.name
    meta = out / "case.json"
    if meta.is_file() and json.loads(meta.read_text(encoding="utf-8"))["key"] == key:
        return out
    LOG.info("preparing %s", series.name)
    native = read(series.mr, "mr")
    mr = to_iso(native)
    own = {}
    for part, path in series.parts.items():
        volume = read(path, "ct" if part == "ct" else "labels")
        if not series.own_grid and not volume.grid.matches(native.grid):
            raise GeometryError(
                f"{path} lies on {volume.grid}, {series.mr.name} on {native.grid}: "
                "resample it onto the MR, or name it space-iso"
            )
        own[part] = resample(volume, mr.grid)
    arrays = _arrays(mr, own)
    out.mkdir(parents=True, exist_ok=True)
    meta.unlink(missing_ok=True)
    for label, array in arrays.items():
        np.save(out / f"{label}.npy", array)
    write_json({"key": key, "centres": _centres(arrays)}, meta)  # last: marks it complete
    return out


def stack(parts: list[Batch]) -> Batch:
    """One batch of several that know the same things."""
    held = {k: [vars(part)[k] for part in parts] for k in vars(parts[0])}
    return Batch(**{k: torch.cat(v) for k, v in held.items() if v[0] is not None})


def _arrays(mr: Volume, own: Mapping[str, Volume]) -> dict[str, NDArray[Any]]:
    image = torch.from_numpy(np.ascontiguousarray(mr.data, np.float32))[None, None]
    channels = mr_channels(image, inside_field_of_view(image))[0]
    ct, vertebrae = own["ct"].data, own["vertebrae"].data.astype(np.uint8)
    nothing = np.zeros_like(vertebrae)
    subregions = own["subregions"].data.astype(np.uint8) if "subregions" in own else nothing
    valid = own["valid"].data.astype(np.uint8) if "valid" in own else nothing + np.uint8(1)
    return {
        "channels": channels.half().numpy(),
        "hu": np.round(ct).clip(-1024, 3071).astype(np.int16),
        "vertebrae": vertebrae,
        "subregions": subregions,
        "distance": bone_distance(vertebrae > 0),
        "bone": np.argwhere(vertebrae > 0)[::7].astype(np.int16),
        "valid": valid,
    }


def _centres(arrays: dict[str, NDArray[Any]]) -> dict[str, list[float]]:
    """Vertebra id -> centre of its body in voxels; only where the subregions show the body."""
    body = np.isin(arrays["subregions"], (49, 50))
    ids = np.unique(arrays["vertebrae"][body])
    return {
        str(v): np.argwhere(body & (arrays["vertebrae"] == v)).mean(0).tolist() for v in ids if v
    }


@dataclass(frozen=True)
class _Case:
    """A prepared patient; the arrays stay on disk until a patch is read."""

    arrays: dict[str, NDArray[Any]]
    centres: dict[int, NDArray[np.float64]]

    @classmethod
    def load(cls, folder: Path) -> "_Case":
        meta = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        arrays = {k: np.load(folder / f"{k}.npy", mmap_mode="r") for k in _ARRAYS}
        return cls(arrays, {int(k): np.array(c) for k, c in meta["centres"].items()})

    @property
    def shape(self) -> Triple:
        first, second, third = self.arrays["hu"].shape
        return first, second, third

    def warped(self, warp: Warp) -> tuple[Scene, Tensor, Tensor]:
        """A patch as a scene, its MR channels (3, *S) and where CT and masks are known (1, *S)."""
        box, at = warp.box(self.shape)
        whole = (slice(None), *box)
        held = {
            k: torch.from_numpy(np.array(self.arrays[k][box])) for k in (*_ARRAYS[1:5], "valid")
        }
        channels = torch.from_numpy(np.array(self.arrays["channels"][whole])).float()
        grey = torch.cat([channels, (held["hu"].float() + 1024)[None], held["distance"][None]])
        grey = warp.read(grey, at, "bilinear")  # 0 outside: -1024 HU
        names = torch.stack([held[k] for k in ("vertebrae", "subregions", "valid")]).float()
        vertebrae, subregions, valid = warp.read(names, at, "nearest").to(torch.uint8)
        reach = warp.read(torch.ones_like(names[:1]), at, "nearest")
        # The field of view has no half voxels; outside it every channel is 0, as in inference.
        # What the CT does not reach is hidden from the losses only: the network sees the MR.
        inside = (grey[2:3] > 0.5) & (reach > 0)
        known = reach * (valid > 0)
        person = Subject(seed=-1, age=0, sex="", marrow_fat=0, trabecular_hu=0, source="dataset")
        scene = Scene(
            tissue=torch.zeros_like(vertebrae),
            vertebrae=vertebrae,
            subregions=subregions,
            distance=torch.where(reach[0] > 0, grey[4] * DISTANCE_STEP_MM, 12.7),
            known=known[0] > 0,
            hu=grey[3] - 1024,
            centres=warp.moved(self.centres),
            subject=person,
        )
        seen = torch.cat([grey[:2] * inside, inside.float()])
        return scene, seen, known
