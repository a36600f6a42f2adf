"""An endless, seeded supply of training patches: subject -> scan -> patches."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from spinect.data.augment import Scene, draw_field_of_view, view
from spinect.data.intensity import (
    HuRange,
    ct_channels,
    unit_of_robust,
)
from spinect.data.neighbours import middle_of
from spinect.data.simulate import degrade_ct, simulate_ct, simulate_mr
from spinect.data.targets import targets
from spinect.data.unpaired import Half, half_of
from spinect.errors import ConfigError
from spinect.phantom.anatomy import PELVIS
from spinect.phantom.contrast import (
    ContrastName,
    ct_scan,
)
from spinect.phantom.maps import TissueMap
from spinect.protocols import Batch

Task = Literal["translate", "segment"]
Direction = Literal["mr_to_ct", "ct_to_mr"]
Triple = tuple[int, int, int]
FIRST_TEST_SEED = 1_000_000  # subjects from here on are for testing and validation
_ON_BONE = 0.8  # share of patches that are centred on labelled bone


@dataclass(frozen=True)
class Shown:
    """What a network is shown of a scan, and what it learns to make.

    Attributes:
        direction: "ct_to_mr" shows the CT as a scanner reads it and teaches the MR.
        contrast: Of the MR; None draws one for each scan, which an MR to be made cannot have.
        neighbours: Slices to each side of a patch of one slice whose channels are shown, too.
    """

    direction: Direction = "mr_to_ct"
    contrast: ContrastName | None = None
    neighbours: int = 0


class PatchStream(Dataset[Batch]):
    """Patches of simulated scans; item i depends on (seed, i) alone.

    With ``DataLoader(stream, batch_size=None, num_workers=n)`` every item is one `Batch` of
    `patches_per_scan` patches of each of `scans` scans.

    Args:
        pools: Folder of saved `TissueMap`s -> weight of being drawn from.
        seed: Of the whole stream.
        patch: Voxels of 1 mm along R, A, S; what a scan lacks is 0 and not inside.
        patches_per_scan: Patches of each scan of an item.
        scans: Scans of an item, each of a contrast of its own.
        task: "translate" gives MR channels and the CT; "segment" gives CT channels.
        length: Number of items.
        hu_range: What [-1, 1] of the target stands for.
        half: Of the people in the pools, for unpaired data; None: all of them.
        shown: Direction, contrast and neighbours.
    Raises:
        ConfigError: A pool without maps, a map whose seed is not a training seed, or one person
            who is to be halved.
    """

    def __init__(
        self,
        pools: Mapping[Path, float],
        seed: int,
        patch: Triple = (96, 96, 96),
        patches_per_scan: int = 2,
        task: Task = "translate",
        length: int = 1_000_000,
        hu_range: HuRange | None = None,
        scans: int = 1,
        half: Half | None = None,
        shown: Shown | None = None,
    ) -> None:
        self.pools = [training_maps(Path(folder)) for folder in pools]
        weights = np.array(list(pools.values()), np.float64)
        if half is not None:
            self.pools = _one_half(self.pools, half)
            weights *= [bool(pool) for pool in self.pools]  # one of a single person may be empty
        if len(weights) == 0 or weights.min() < 0 or weights.sum() <= 0:
            raise ConfigError(f"a stream needs pools of positive weight, not {dict(pools)}")
        self.weights = weights / weights.sum()
        self.seed, self.patch, self.patches_per_scan = seed, patch, patches_per_scan
        self.task, self.length, self.scans = task, length, scans
        self.hu_range, self.shown = hu_range or HuRange(), shown or Shown()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < self.length:
            raise IndexError(f"item {index} of a stream of {self.length}")
        rng = np.random.default_rng([self.seed, index])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        return _stack([part for _ in range(self.scans) for part in self._scan(rng, generator)])

    def _scan(self, rng: np.random.Generator, generator: torch.Generator) -> list[Batch]:
        """The patches of one scan."""
        pool = self.pools[rng.choice(len(self.pools), p=self.weights)]
        tissue_map = TissueMap.load(pool[rng.integers(len(pool))])
        scene = view(tissue_map, draw_field_of_view(tissue_map, rng))
        starts = draw_patches(scene, self.patch, self.patches_per_scan, rng)
        reach, axis = self.shown.neighbours, self._across
        slabs = [_moved(start, axis, -reach) for start in starts]
        if self.task == "translate":
            mr = simulate_mr(scene, rng, generator, self.shown.contrast)
            made = [self._translate(scene, *mr, s, rng, generator) for s in slabs]
        else:
            made = [self._segment(scene, s, rng, generator) for s in slabs]
        if reach == 0:
            return made
        last = scene.shape[axis] - 1
        return [
            middle_of(one, reach, -start[axis], last - start[axis], axis)
            for one, start in zip(made, slabs, strict=True)
        ]

    @property
    def _across(self) -> int:
        """The axis that slices are one voxel thick along; 0 where patches have three axes."""
        return self.patch.index(1) if 1 in self.patch else 0

    @property
    def _slab(self) -> Triple:
        """Voxels of a patch with the neighbours of its slice."""
        return _moved(self.patch, self._across, 2 * self.shown.neighbours)

    def _translate(
        self,
        scene: Scene,
        condition: Tensor,
        inside: Tensor,
        start: Triple,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> Batch:
        slab = self._slab
        part, box = _part(scene, start, slab)
        goal = targets(part)
        hu = simulate_ct(scene, box, rng, generator)
        valid = inside[box][None] * goal.known
        mr = condition[(slice(None), *box)]
        if self.shown.direction == "mr_to_ct":
            seen = pad(mr, start, slab)
            made = pad(self.hu_range.to_unit(hu)[None], start, slab, -1.0)
        else:
            read = ct_scan(hu[None], rng, generator) if scene.hu is None else hu[None]
            seen = pad(self.hu_range.to_unit(read), start, slab, -1.0)
            made = pad(unit_of_robust(mr[:1]), start, slab, -1.0)
        return Batch(
            condition=seen[None],
            inside=pad(valid, start, slab)[None],
            target=made[None],
            near_bone=pad(goal.near_bone, start, slab)[None],
            classes=pad(goal.classes, start, slab)[None],
            centre=pad(goal.centre, start, slab)[None],
            offset=pad(goal.offset, start, slab, torch.nan)[None],
        )

    def _segment(
        self, scene: Scene, start: Triple, rng: np.random.Generator, generator: torch.Generator
    ) -> Batch:
        slab = self._slab
        part, box = _part(scene, start, slab)
        goal = targets(part)
        hu = degrade_ct(simulate_ct(scene, box, rng, generator), rng, generator)
        return Batch(
            condition=pad(ct_channels(hu[None]), start, slab)[None],
            inside=pad(goal.known, start, slab)[None],
            classes=pad(goal.classes, start, slab)[None],
            centre=pad(goal.centre, start, slab)[None],
            offset=pad(goal.offset, start, slab, torch.nan)[None],
        )


def training_maps(folder: Path) -> list[Path]:
    """Folders of the complete maps of a pool, sorted; refuses what is not for training."""
    found = sorted(p.parent for p in folder.glob("*/map.json"))
    if not found:
        raise ConfigError(f"{folder} holds no tissue maps (NAME/map.json): build the pool first")
    for path in found:
        seed = json.loads((path / "map.json").read_text())["subject"]["seed"]
        if seed >= FIRST_TEST_SEED:
            raise ConfigError(
                f"{path} has seed {seed}: seeds from {FIRST_TEST_SEED} on are for testing and "
                "validation; build a training pool of smaller seeds"
            )
    return found


def _one_half(pools: list[list[Path]], half: Half) -> list[list[Path]]:
    """Of each pool the maps of one half of the people."""
    people = [{path: _person(path) for path in pool} for pool in pools]
    kept = half_of((pool.values() for pool in people), half)
    return [[path for path, name in pool.items() if name in kept] for pool in people]


def _person(path: Path) -> str:
    """Whose map it is; "NAME-0", "NAME-1" are variations of one real person."""
    subject = json.loads((path / "map.json").read_text())["subject"]
    source: str = subject.get("source", "phantom")
    if source == "phantom":
        return f"phantom {subject['seed']}"
    return re.sub(r"-\d+$", "", source.partition(":")[2])


def draw_patches(scene: Scene, patch: Triple, count: int, rng: np.random.Generator) -> list[Triple]:
    """First voxels of patches; most are centred on bone, and all overlap the scene."""
    bony = (scene.vertebrae > 0) & (scene.subregions < 60)
    if scene.subject.part == PELVIS:
        bony = scene.distance < 0  # hips and femora have no label
    bone = (bony & scene.known).nonzero()
    starts = []
    for _ in range(count):
        if len(bone) > 0 and rng.random() < _ON_BONE:
            centre = bone[rng.integers(len(bone))].numpy() + rng.integers(-16, 17, 3)
        else:
            centre = rng.integers(0, scene.shape)
        start = []
        for at, size, n in zip(centre, patch, scene.shape, strict=True):
            low, high = min(0, n - size), max(0, n - size)  # as little padding as possible
            free = rng.integers(low, high + 1)  # a narrow scan lies anywhere in the patch
            start.append(int(free if n <= size else np.clip(at - size // 2, low, high)))
        starts.append((start[0], start[1], start[2]))
    return starts


def _moved(values: Triple, axis: int, by: int) -> Triple:
    """The same numbers, but for one of them."""
    first, second, third = (n + by * (i == axis) for i, n in enumerate(values))
    return first, second, third


def _part(scene: Scene, start: Triple, patch: Triple) -> tuple[Scene, tuple[slice, ...]]:
    """The part of the scene that a patch covers, and its box."""
    ends = zip(start, patch, scene.shape, strict=True)
    box = tuple(slice(max(0, s), min(n, s + p)) for s, p, n in ends)
    first, second, third = (b.start for b in box)
    sizes = [b.stop - b.start for b in box]
    return scene.crop((first, second, third), (sizes[0], sizes[1], sizes[2])), box


def pad(x: Tensor, start: Triple, patch: Triple, value: float = 0.0) -> Tensor:
    """Place what a patch that begins at `start` covers of a scene into the whole patch."""
    before = [max(0, -s) for s in start]
    after = [p - n - b for p, n, b in zip(patch, x.shape[-3:], before, strict=True)]
    if not any(before) and not any(after):
        return x
    pairs = [n for b, a in zip(before[::-1], after[::-1], strict=True) for n in (b, a)]
    return F.pad(x, pairs, value=value)


def _stack(parts: list[Batch]) -> Batch:
    """One batch of several."""
    held: dict[str, Tensor] = {}
    for field in fields(Batch):
        values = [getattr(p, field.name) for p in parts]
        if values[0] is not None:
            held[field.name] = torch.cat(values)
    return Batch(**held)
