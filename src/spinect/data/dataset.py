"""Training patches from a dataset folder: real or simulated patients with MR, CT and masks.

The folder's layout is the one that ``spinect phantom`` writes. What a patient needs::

    participants.tsv                                     participant_id, split (whole patients)
    sub-X/anat/sub-X_T2w.nii.gz                          the MR; acq, run tell series apart
    derivatives/truth/sub-X/sub-X_space-iso_*            in the MR's world, at any grid; or
    derivatives/truth/sub-X/sub-X_space-T2w_*            on the MR's own grid:
        ct, desc-vertebrae_dseg, and desc-subregions_dseg if there is one; to translate,
        patches that lie anywhere need no mask
    derivatives/registered/registration.tsv              instead: what ``spinect register`` made;
                                                         `data.series` reads it

An image may be .nii.gz, .nii, .mha or .nrrd.

Each series is brought to its working grid once (`data.prepared`); all the rest is done here, patch
by patch. Axes are R, A, S throughout: the 128 x 128 x 32 patch of Graf et al. 2023, whose slices
lie along its last axis, is (32, 128, 128), and their 256 x 256 slice is (1, 256, 256).
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from spinect.data.appearance import in_range, jitter, ramps
from spinect.data.elastic import draw_lattice, is_deformed
from spinect.data.intensity import ct_channels, unit_of_robust
from spinect.data.neighbours import middle_of
from spinect.data.options import DatasetOptions
from spinect.data.prepared import Case, Working, build_case, prepare_series
from spinect.data.reading import Read, read_mask, read_patch
from spinect.data.series import find_series, patients
from spinect.data.stream import Triple
from spinect.data.targets import targets
from spinect.data.unpaired import Half, half_of
from spinect.data.warp import Warp, draw_warp
from spinect.errors import ConfigError
from spinect.io.participants import people
from spinect.protocols import Batch, without_image

LOG = logging.getLogger(__name__)
_ON_BONE = 0.8  # share of patches whose centre is near labelled bone
_JITTER_MM = 16  # between such a centre and the bone voxel that it was drawn from
_TRIES = 1000  # draws of a slice until one shows enough of a vertebra


class DatasetPatches(Dataset[Batch]):
    """Patches of a dataset's patients; item i depends on (seed, i) and on the files alone.

    Args:
        folder: The dataset.
        options: What is taken from it.
        seed: Of all draws.
        length: Number of items.
        half: Of the people of the split, for unpaired data; None: all of them.
    Raises:
        ConfigError: No patient of the split, or one whose seed is reserved for testing; options
            that contradict each other; one person who is to be halved.
        InputError: A patient's file is missing or unusable, or MR and truth do not share a grid;
            no pair of the split was registered; a person stands on two sides of the split.
    """

    def __init__(
        self,
        folder: Path,
        options: DatasetOptions,
        seed: int,
        length: int,
        half: Half | None = None,
    ) -> None:
        self.options, self.seed, self.length = options, seed, length
        names = patients(folder, options.split)
        if half is not None:
            person = people(folder)
            own = half_of([[person[name] for name in names]], half)
            names = [name for name in names if person[name] in own]
        found = find_series(folder, names, options.contrast, options.pose, options.needs_masks)
        working = Working(options.raster, options.intensity, options.spacing_mm, options.axes)
        if options.cache:
            kept = [(one.name, prepare_series(folder, one, working)) for one in found]
            cases = [Case.load(*one) for one in kept]
        else:
            cases = [build_case(one, working) for one in found]
        self.cases = _with_slices(cases, options.min_pixels)
        self._masked = all(case.masks for case in self.cases)
        if not self._masked:
            LOG.info("no masks of some patients: nothing is taught but the image")
        # Slices are drawn evenly over all series; patches, and those near bone, series by series.
        counts = np.array([c.shape[0] if options.whole_slices else 1 for c in self.cases], float)
        self._shares = counts / counts.sum()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < self.length:
            raise IndexError(f"item {index} of a dataset of {self.length}")
        rng = np.random.default_rng([self.seed, index])
        parts = []
        for _ in range(self.options.scans):
            case = self._draw_case(rng)
            for number in range(self.options.patches_per_scan):
                if number and self.options.whole_slices:
                    case = self._draw_case(rng)  # slices are drawn one by one
                parts.append(self._patch(case, rng))
        return stack(parts)

    def _draw_case(self, rng: np.random.Generator) -> Case:
        return self.cases[rng.choice(len(self.cases), p=self._shares)]

    def _patch(self, case: Case, rng: np.random.Generator) -> Batch:
        """One patch; slices that show too little of the vertebrae are drawn again."""
        o = self.options
        for _ in range(_TRIES):
            warp = self._warp(case, rng)
            if o.min_pixels == 0:
                break
            mask = read_mask(case, warp, self._reach)[o.neighbours]
            if int((mask > 0).sum()) >= o.min_pixels:
                break
            if o.whole_slices:
                case = self._draw_case(rng)
        else:
            raise ConfigError(
                f"{_TRIES} slices in a row show fewer than {o.min_pixels} pixels of vertebrae: "
                "lower min_pixels"
            )
        seen = read_patch(case, warp, o.border, self._reach, o.interpolation)
        batch = self._batch(case, warp, seen, rng)
        if not self._masked:
            batch = replace(batch, classes=None, centre=None, offset=None)
        if o.neighbours:
            batch = middle_of(batch, o.neighbours, *_held(warp, case.shape[0]))
        if not o.whole_slices:
            return batch
        _, second, third = warp.patch
        return _cropped(batch, self._crop((1, second, third), rng))

    @property
    def _reach(self) -> int:
        return self.options.elastic.margin if self.options.copies > 1 else 0

    def _warp(self, case: Case, rng: np.random.Generator) -> Warp:
        """Where a patch lies, and how it is turned, bent and mirrored."""
        o = self.options
        axis = _axis(o.mirrored, rng) if o.augmented else None
        if o.place == "bone":
            bend = o.elastic_mm / o.spacing_mm  # voxels
            spread = (o.rotate_deg, o.scale, bend) if o.augmented else (0.0, 0.0, 0.0)
            warp = draw_warp(_near_bone(case, rng), o.patch, spread, axis, rng)
        else:
            warp = _straight(*self._region(case, rng), axis)
        if o.neighbours:
            warp = warp.thickened(o.neighbours)
        copy = int(rng.integers(o.copies)) if o.augmented else o.copies - 1
        if not is_deformed(copy, o.copies):
            return warp
        return warp.bent(draw_lattice(o.elastic, case.shape, case.spacing, case.name, copy))

    def _region(self, case: Case, rng: np.random.Generator) -> tuple[Sequence[int], Triple]:
        """First voxel and shape: a patch anywhere, or a whole slice, padded where it is small."""
        o = self.options
        padded = [max(n, p) for n, p in zip(case.shape, o.patch, strict=True)]
        first = [-((m - n) // 2) for m, n in zip(padded, case.shape, strict=True)]
        if o.whole_slices:
            slot = int(rng.integers(case.shape[0]))
            return (slot, *first[1:]), (1, padded[1], padded[2])
        free = [m - p for m, p in zip(padded, o.patch, strict=True)]
        return [a + f for a, f in zip(first, self._offset(free, rng), strict=True)], o.patch

    def _crop(self, shape: Triple, rng: np.random.Generator) -> tuple[slice, ...]:
        """The patch inside a whole slice."""
        free = [n - p for n, p in zip(shape, self.options.patch, strict=True)]
        starts = self._offset(free, rng)
        return tuple(slice(a, a + p) for a, p in zip(starts, self.options.patch, strict=True))

    def _offset(self, free: Sequence[int], rng: np.random.Generator) -> list[int]:
        """Random in training. In validation the middle (the public code goes on drawing there)."""
        if not self.options.augmented:
            return [f // 2 for f in free]
        return [int(rng.integers(f + 1)) for f in free]

    def _batch(self, case: Case, warp: Warp, seen: Read, rng: np.random.Generator) -> Batch:
        o = self.options
        goal = targets(seen.scene, case.spacing)
        hu = seen.scene.hu
        assert hu is not None  # every case has a CT
        translate = o.task == "translate"
        unit = o.hu_range.to_unit(hu)[None]
        target = unit if translate else None
        if not translate:
            condition = ct_channels(hu[None, None])[0]
        elif o.direction == "mr_to_ct":
            condition = self._mr(seen, rng)
        else:
            mr = in_range(seen.image, o.intensity)[:1] * seen.inside
            condition, target = unit, unit_of_robust(mr)
        if o.ramps:
            condition = torch.cat([condition, ramps(warp.places(), case.shape, o.patch)])
        inside = seen.inside * goal.known if translate else seen.known
        return Batch(
            condition=condition[None],
            inside=inside[None],
            target=None if target is None else target[None],
            near_bone=goal.near_bone[None] if translate else None,
            classes=goal.classes[None],
            centre=goal.centre[None],
            offset=goal.offset[None],
        )

    def _mr(self, seen: Read, rng: np.random.Generator) -> Tensor:
        """The MR's channels (C, *patch) as the network gets them.

        Jitter and dropped conditions belong to training. (The public code jitters test images.)
        """
        o, image = self.options, seen.image
        robust = o.intensity == "robust"
        shown = seen.inside if robust else seen.covered
        image = in_range(image, o.intensity) * shown
        if o.augmented and o.jitter > 0:
            # As published: either first in two dimensions, brightness first in three.
            image = jitter(image, shown, o.intensity, o.jitter, rng, shuffled=o.patch[0] == 1)
        condition = torch.cat([image, seen.inside]) if robust else image * 2 - 1
        if o.augmented and o.dropout > 0 and rng.random() < o.dropout:
            return without_image(condition[None], o.intensity)[0]
        return condition


def stack(parts: list[Batch]) -> Batch:
    """One batch of several that know the same things."""
    held = {k: [vars(part)[k] for part in parts] for k in vars(parts[0])}
    return Batch(**{k: torch.cat(v) for k, v in held.items() if v[0] is not None})


def _with_slices(cases: list[Case], pixels: int) -> list[Case]:
    """Those with a slice of at least `pixels` pixels of vertebrae; the others are told."""
    most = [int((np.asarray(c.arrays["vertebrae"]) > 0).sum((1, 2)).max()) if pixels else 0
            for c in cases]  # fmt: skip
    kept = [c for c, n in zip(cases, most, strict=True) if n >= pixels]
    for case, n in zip(cases, most, strict=True):
        if n < pixels:
            LOG.warning("left out: no slice of %s has %d pixels of vertebrae", case.name, pixels)
    if not kept:
        raise ConfigError(
            f"no slice of {len(cases)} series shows {pixels} pixels of vertebrae, the most is "
            f"{max(most)}: check the masks, or lower min_pixels"
        )
    return kept


def _axis(shares: Sequence[float], rng: np.random.Generator) -> int | None:
    """The axis that is mirrored, one at most."""
    drawn = rng.random()
    for axis, edge in enumerate(np.cumsum(shares)):
        if drawn < edge:
            return axis
    return None


def _near_bone(case: Case, rng: np.random.Generator) -> np.ndarray:
    """A centre that is mostly near labelled bone."""
    bone = case.arrays["bone"]
    if len(bone) and rng.random() < _ON_BONE:
        reach = np.rint(_JITTER_MM / np.array(case.spacing)).astype(int)
        return np.asarray(bone[rng.integers(len(bone))] + rng.integers(-reach, reach + 1))
    return rng.integers(0, case.shape)


def _held(warp: Warp, slices: int) -> tuple[int, int]:
    """First and last slice of a slab whose middle lies in a scan; its own one where none does."""
    own = (warp.patch[0] - 1) // 2
    at = warp.centre[0] + warp.matrix[0, 0] * (np.arange(warp.patch[0]) - own)
    held = np.flatnonzero((at >= -0.5) & (at < slices - 0.5))
    return (int(held[0]), int(held[-1])) if held.size else (own, own)


def _straight(start: Sequence[int], shape: Triple, mirror: int | None) -> Warp:
    """A plain crop, mirrored about its own middle."""
    matrix = np.eye(3)
    if mirror is not None:
        matrix[mirror, mirror] = -1
    middle = np.asarray(start, np.float64) + (np.array(shape) - 1) / 2
    return Warp(middle, matrix, torch.zeros(1).expand(3, *shape))


def _cropped(batch: Batch, box: tuple[slice, ...]) -> Batch:
    """The same part of everything."""
    held = {k: v for k, v in vars(batch).items() if v is not None}
    return Batch(**{k: v[(..., *box)].contiguous() for k, v in held.items()})
