"""Closed triangle surfaces of vertebrae -> a label map."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spinect.errors import ImageError
from spinect.geometry import Grid, Volume

Float = NDArray[np.float64]
Faces = NDArray[np.intp]
MARGIN_MM = 8.0
NUDGE = np.array([1.7e-4, 2.3e-4, 0.0])  # mm: keeps rays off vertices that lie on the lattice


def read_obj(path: Path) -> tuple[Float, Faces]:
    """Vertices (N, 3) and triangles (M, 3) of a Wavefront OBJ file, in the file's own unit.

    Raises:
        ImageError: No triangles, or faces with more than three corners.
    """
    vertices: list[list[float]] = []
    faces: list[list[int]] = []
    for line in path.read_text().splitlines():
        words = line.split()
        if words[:1] == ["v"]:
            vertices.append([float(w) for w in words[1:4]])
        elif words[:1] == ["f"]:
            faces.append([int(w.split("/")[0]) - 1 for w in words[1:]])
    if not faces or any(len(f) != 3 for f in faces):
        raise ImageError(
            f"{path.name}: {len(vertices)} vertices and {len(faces)} faces; a closed surface of "
            "triangles is needed. Export it as a triangle mesh"
        )
    return np.array(vertices), np.array(faces, np.intp)


def voxelise(vertices: Float, faces: Faces, grid: Grid) -> NDArray[np.bool_]:
    """Voxels whose centres lie inside a closed surface.

    Every column of voxels along the third axis is a ray: a voxel is inside when an odd number of
    triangles lies below it.

    Args:
        vertices: (N, 3) mm in the world of `grid`. faces: (M, 3) vertex indices.
    """
    corners = (grid.index(vertices) + NUDGE)[faces]
    low = np.ceil(corners[..., :2].min(1)).astype(int)
    count = np.floor(corners[..., :2].max(1)).astype(int) - low + 1
    crossings = np.zeros((*grid.shape[:2], grid.shape[2] + 1), np.int32)
    for i in range(max(int(count[:, 0].max()), 0)):
        for j in range(max(int(count[:, 1].max()), 0)):
            use = (count[:, 0] > i) & (count[:, 1] > j)
            column = low[use] + (i, j)
            held = ((column >= 0) & (column < grid.shape[:2])).all(1)
            column, height = column[held], _height(corners[use][held], column[held])
            hit = np.isfinite(height)
            first = np.clip(np.ceil(height[hit]), 0, grid.shape[2]).astype(int)
            np.add.at(crossings, (*column[hit].T, first), 1)
    return np.asarray(np.cumsum(crossings, 2)[..., :-1] % 2 == 1)


def _height(triangles: Float, column: NDArray[np.intp]) -> Float:
    """Where columns (N, 2) pierce triangles (N, 3, 3) along the third axis; NaN where they miss."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    ab, ac, ap = b - a, c - a, column - a[:, :2]
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    safe = np.where(area == 0, 1.0, area)
    u = (ap[:, 0] * ac[:, 1] - ap[:, 1] * ac[:, 0]) / safe
    v = (ab[:, 0] * ap[:, 1] - ab[:, 1] * ap[:, 0]) / safe
    hit = (area != 0) & (u >= 0) & (v >= 0) & (u + v <= 1)
    return np.asarray(np.where(hit, a[:, 2] + u * ab[:, 2] + v * ac[:, 2], np.nan))


def labels_from_surfaces(surfaces: Mapping[int, tuple[Float, Faces]]) -> Volume:
    """One label map of closed surfaces at 1 mm.

    Args:
        surfaces: Vertebra id -> vertices in mm, RAS+, and triangles.
    """
    points = np.concatenate([vertices for vertices, _ in surfaces.values()])
    affine = np.eye(4)
    affine[:3, 3] = np.floor(points.min(0) - MARGIN_MM)
    size = np.ceil(points.max(0) + MARGIN_MM - affine[:3, 3]).astype(int)
    grid = Grid((int(size[0]), int(size[1]), int(size[2])), affine)
    labels = np.zeros(grid.shape, np.uint8)
    for vertebra, (vertices, faces) in surfaces.items():
        labels[voxelise(vertices, faces, grid) & (labels == 0)] = vertebra
    return Volume(labels, grid.affine, "labels")
