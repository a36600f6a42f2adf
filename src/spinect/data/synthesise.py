"""Tissue maps of real CT, so that MR can be synthesised around true bone.

The HU target stays the CT's own; everything else is classed here. Thresholds alone cannot class
soft tissue (noise of thin slices exceeds the contrast), so a denoised copy decides, and what lies
between labelled vertebrae (canal, discs, ligaments) follows from their geometry.
"""

import zlib

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from spinect.anatomy import ORDER, SACRUM
from spinect.data.classify import classify, paint_organs
from spinect.data.parts import Frame, find_frames, split
from spinect.data.spaces import Canal, canal_of, fill_canal, fill_discs, ligaments
from spinect.errors import ConfigError, GeometryError, LabelError
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample, to_iso
from spinect.phantom.maps import DISTANCE_STEP_MM, Subject, TissueMap
from spinect.phantom.tissues import Tissue

WITHHELD = ("verse014", "tptbox_crop", "verse004")  # the bars of segmenter and phantom
SACRUM_MM3 = 120_000  # a label of more is the whole sacrum, not S1 alone
SIDE_MM = 95.0  # what lies farther to the left or right of the canal is cut away
UNKNOWN_MM = {"side": 25.0, "lumbar side": 48.0, "front": 55.0, "back": 60.0}  # of the canal line

Mask = NDArray[np.bool_]
Image = NDArray[np.float32]
Float = NDArray[np.float64]


def refuse_withheld(name: str) -> None:
    """Raise ConfigError where `name` belongs to a source that must never be trained on."""
    if held := [w for w in WITHHELD if w in name.lower()]:
        raise ConfigError(
            f"{name!r} is withheld from training: {held[0]} is what results are judged by. "
            f"Leave it out of the pool; withheld are {', '.join(WITHHELD)}"
        )


def tissue_map_from_ct(
    ct: Volume, vertebrae: Volume, subregions: Volume | None, name: str
) -> TissueMap:
    """The tissue map of a real CT.

    Args:
        ct: HU, any grid.
        vertebrae: Vertebra ids on any grid in the same world.
        subregions: Subregion ids (41-50), or None: found from the vertebrae's shape. Voxels
            that they leave open are filled from the shape as well.
        name: Of the source; it seeds what is random (strands of the cauda equina) and is checked
            against `WITHHELD`.
    Returns:
        1 mm isotropic, axes near R, A, S, at most SIDE_MM to each side of the canal; `hu` is the
        CT itself, `known` is 0 outside its field of view and around unlabelled vertebrae.
    Raises:
        ConfigError: A withheld source. LabelError: no vertebra with a whole foramen.
        GeometryError: Labels and CT do not overlap.
    """
    refuse_withheld(name)
    scan, labels = _on_one_grid(ct, vertebrae)
    frames = find_frames(labels.data, labels.grid)
    if not any(f.whole for f in frames.values()):
        raise LabelError(
            f"{name}: none of {len(frames)} labelled vertebrae shows a closed foramen; "
            "at least one whole vertebra is needed to find the canal"
        )
    canal = canal_of(frames)
    scan, labels = _cropped(scan, labels, canal)
    grid = labels.grid
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    parts = split(labels.data, grid, frames)
    if subregions is not None:
        given = resample(subregions, grid).data
        parts = np.where((given >= 41) & (given <= 50) & (labels.data > 0), given, parts)
    classed = classify(scan.data, labels.data)
    tissue = classed.tissue
    paint_organs(classed, canal, max(f.wall + f.depth for f in frames.values()), grid, rng)
    _paint_spine(tissue, (labels.data, parts), frames, canal, grid, rng)
    return TissueMap(
        grid=grid,
        tissue=tissue,
        vertebrae=labels.data,
        subregions=parts,
        bone_distance=bone_distance((labels.data > 0) | classed.other_bone),
        subject=_subject(scan.data, tissue, frames, name),
        hu=np.round(scan.data).clip(-1024, 3071).astype(np.int16),
        known=(classed.seen & ~unlabelled(labels.data, canal, grid, frames)).astype(np.uint8),
    )


def warped(ct: Volume, labels: Volume, rng: np.random.Generator) -> tuple[Volume, Volume]:
    """A CT and its labels at 1 mm, stretched by up to 8 % per axis and gently bent.

    The same body then meets another voxel lattice, another size and another curvature.
    """
    scan = to_iso(ct)
    own = resample(labels, scan.grid)
    centre = np.argwhere(own.data > 0).mean(0)
    scale = 1 / (1 + rng.uniform(-0.08, 0.08, 3))
    bend = [smooth_field(scan.data.shape, 60.0, 2.0, rng) for _ in range(3)]
    nodes = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in scan.data.shape), indexing="ij")
    at = np.stack(
        [
            (n - c) * np.float32(s) + c + b
            for n, c, s, b in zip(nodes, centre.astype(np.float32), scale, bend, strict=True)
        ]
    )
    image = ndimage.map_coordinates(scan.data, at, order=1, mode="nearest")
    best = np.full(image.shape, 0.5, np.float32)
    ids = np.zeros(image.shape, np.uint8)
    for v in np.unique(own.data[own.data > 0]):
        soft = ndimage.gaussian_filter((own.data == v).astype(np.float32), 0.6)
        share = ndimage.map_coordinates(soft, at, order=1)
        wins = share >= best
        best[wins], ids[wins] = share[wins], v
    return scan.with_data(image.astype(np.float32)), own.with_data(ids)


def smooth_field(
    shape: tuple[int, ...], reach: float, spread: float, rng: np.random.Generator
) -> Image:
    """Random field of SD `spread` on voxels of 1 mm that varies over `reach` mm."""
    coarse = [int(np.ceil(n / reach)) + 4 for n in shape]
    field = spread * rng.normal(size=coarse)
    for axis, n in enumerate(shape):  # separable cubic splines keep it cheap
        spline = make_interp_spline(np.arange(coarse[axis]), field, k=3, axis=axis)
        field = spline(np.arange(n) / reach + 1.5)
    return np.asarray(field, np.float32)


def _on_one_grid(ct: Volume, vertebrae: Volume) -> tuple[Volume, Volume]:
    scan = to_iso(ct)
    labels = resample(vertebrae, scan.grid)
    if not labels.data.any():
        raise GeometryError(
            f"no vertebra label lies inside the CT: labels on {vertebrae.grid}, CT on {ct.grid}. "
            "Both must share one world"
        )
    return scan, labels.with_data(labels.data.astype(np.uint8))


def _cropped(scan: Volume, labels: Volume, canal: Canal) -> tuple[Volume, Volume]:
    """Both volumes within SIDE_MM of the labelled part of the canal, left to right."""
    x = scan.grid.index(canal.line[canal.within])[:, 0]
    low = int(max(np.floor(x.min() - SIDE_MM), 0))
    high = int(min(np.ceil(x.max() + SIDE_MM), scan.data.shape[0] - 1))
    grid = scan.grid.crop((low, 0, 0), (high - low + 1, *scan.data.shape[1:]))
    take = slice(low, high + 1)
    return (
        Volume(np.ascontiguousarray(scan.data[take]), grid.affine, "ct"),
        Volume(np.ascontiguousarray(labels.data[take]), grid.affine, "labels"),
    )


def bone_distance(bone: Mask) -> NDArray[np.int8]:
    """Signed distance to a bone mask of 1 mm voxels, in DISTANCE_STEP_MM, negative inside.

    The faces of the voxels lie half a voxel before the centres; a small Gaussian takes the
    staircase off, so that the zero level runs between the voxels.
    """
    out = np.full(bone.shape, 127, np.int8)
    where = ndimage.find_objects(bone.astype(np.uint8))
    if not where:
        return out
    box = tuple(slice(max(s.start - 15, 0), s.stop + 15) for s in where[0])
    inside = bone[box]
    far = ndimage.distance_transform_edt(~inside).astype(np.float32)
    far -= ndimage.distance_transform_edt(inside).astype(np.float32)
    far -= 0.5 * np.sign(far)
    smooth = ndimage.gaussian_filter(np.clip(far, -14, 14), 0.6)
    out[box] = np.round(smooth / DISTANCE_STEP_MM).clip(-127, 127)
    return out


def _paint_spine(
    tissue: NDArray[np.uint8],
    labels: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    frames: dict[int, Frame],
    canal: Canal,
    grid: Grid,
    rng: np.random.Generator,
) -> None:
    """Vertebrae, canal, discs and ligaments; writes into `tissue` and the subregions."""
    vertebrae, parts = labels
    bone = vertebrae > 0
    free = ~bone & ~np.isin(tissue, (Tissue.AIR, Tissue.OTHER_CORTEX, Tissue.OTHER_MARROW))
    content, spaces = fill_canal(canal, free, grid, rng)
    disc = fill_discs(vertebrae, parts, grid, frames)
    disc[spaces > 0] = 0
    strap = ligaments(parts == 50, disc > 0, canal, grid) & free
    tissue[strap] = Tissue.LIGAMENT
    tissue[content > 0] = content[content > 0]
    tissue[disc > 0] = disc[disc > 0]
    parts[spaces > 0] = spaces[spaces > 0]
    parts[disc > 0] = 100
    inner = ndimage.binary_erosion(bone, border_value=1)
    tissue[bone] = np.where(inner[bone], Tissue.MARROW, Tissue.CORTEX)


def unlabelled(
    vertebrae: NDArray[np.uint8], canal: Canal, grid: Grid, frames: dict[int, Frame]
) -> Mask:
    """Surroundings of the canal line beyond the labelled levels, where vertebrae carry no label.

    Below a sacrum that is labelled as a whole only the hollows inside it are not known.
    """
    out = np.zeros(grid.shape, bool)
    edges = np.flatnonzero(canal.within)[[0, -1]]
    sacrum = np.isin(vertebrae, tuple(SACRUM))
    whole_sacrum = np.count_nonzero(sacrum) > SACRUM_MM3
    if whole_sacrum:
        out |= ndimage.binary_closing(sacrum, iterations=8) & ~sacrum
    lowest, highest = frames[max(frames, key=ORDER.index)], frames[min(frames, key=ORDER.index)]
    for samples, step, frame in (
        (np.arange(edges[0]), -1, lowest),
        (np.arange(edges[1] + 1, len(canal.line)), 1, highest),
    ):
        if not len(samples) or (frame.vertebra == 1 if step > 0 else whole_sacrum):
            continue
        lumbar = ORDER.index(frame.vertebra) >= ORDER.index(19)
        side = UNKNOWN_MM["lumbar side" if lumbar else "side"]
        edge = edges[0 if step < 0 else 1]
        right, front, head = _local_lattice(grid, canal.line[edge], canal.axes[edge])
        reach = step * head
        # The sacrum swings backwards, away from the straight line.
        back = UNKNOWN_MM["back"] + (0.8 * reach if frame.vertebra in SACRUM or lumbar else 0)
        out |= (
            (reach > 0) & (np.abs(right) < side) & (front < UNKNOWN_MM["front"]) & (front > -back)
        )
    return np.asarray(out & (vertebrae == 0))


def _local_lattice(grid: Grid, origin: Float, axes: Float) -> list[Image]:
    """Coordinates of all voxels along three `axes` (rows) from `origin`, mm."""
    matrix = axes @ grid.affine[:3, :3]
    offset = axes @ (grid.affine[:3, 3] - origin)
    i, j, k = np.ogrid[tuple(slice(n) for n in grid.shape)]
    return [
        (m[0] * i + o).astype(np.float32) + (m[1] * j + m[2] * k).astype(np.float32)
        for m, o in zip(matrix, offset, strict=True)
    ]


def _subject(hu: Image, tissue: NDArray[np.uint8], frames: dict[int, Frame], name: str) -> Subject:
    """Age and marrow fat that go with the trabecular HU measured (recipe: 250 - 2.2 (age - 25))."""
    marrow = hu[(tissue == Tissue.MARROW)]
    trabecular = float(np.median(marrow)) if marrow.size else 150.0
    age = float(np.clip(25 + (250 - trabecular) / 2.2, 20, 90))
    return Subject(
        seed=-1,
        age=age,
        sex="M",
        marrow_fat=float(np.interp(age, [25, 85], [0.25, 0.60])),
        trabecular_hu=trabecular,
        centres={
            v: (float(f.centre[0]), float(f.centre[1]), float(f.centre[2]))
            for v, f in frames.items()
        },
        source=f"ct:{name}",
    )
