"""Vertebra surfaces without a display, coloured by their signed distance to the true ones."""

import importlib.util
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import PRESACRAL
from spinect.errors import ConfigError
from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.report.evaluation.plots import blank, jpeg

Renderer = Literal["pyvista", "matplotlib", "none"]
Side = Literal["back", "left"]
SIDES: Final[tuple[Side, ...]] = ("back", "left")
LIMIT_MM: Final = 3.0  # colours end here
MAP: Final = "RdBu_r"  # red: outside the truth, too large; blue: inside, too small
_SMOOTH: Final = 0.8  # voxels, Gaussian over the mask, so that its steps do not show
_FINE: Final = 2  # pixels per mm
_LIGHT: Final = np.array([-0.35, -0.45, 0.82])  # right, down, towards the viewer
_MARGIN: Final = 4  # voxels around the vertebrae

Picture = NDArray[np.uint8]


def choose_renderer(asked: Renderer | None) -> Renderer:
    """The renderer that was asked for; None takes pyvista where it is installed, else matplotlib.

    What is chosen stands in the record and under every picture.

    Raises:
        ConfigError: pyvista was asked for and is not installed.
    """
    there = importlib.util.find_spec("pyvista") is not None
    if asked == "pyvista" and not there:
        raise ConfigError(
            "renderer pyvista: pyvista is not installed: pip install 'spinect[render]', or take "
            "--renderer matplotlib"
        )
    return asked or ("pyvista" if there else "matplotlib")


@dataclass(frozen=True, eq=False)
class Shape:
    """A predicted spine and its distance to the true one, RAS+, cropped.

    Attributes:
        mask: (X, Y, Z) smoothed 0-1, the surface is where it crosses a half.
        distance: mm from each voxel to the true surface, positive outside the truth.
        spacing: mm.
    """

    mask: NDArray[np.float32]
    distance: NDArray[np.float32]
    spacing: tuple[float, float, float]


def shape_of(prediction: Volume, truth: Volume) -> Shape | None:
    """All presacral vertebrae of a case; None where a side has none.

    Args:
        prediction, truth: Vertebra ids on any grids of one world; the prediction is brought onto
            the truth's.
    """
    true = truth.canonical()
    pred = resample(prediction, true.grid)
    mine, real = np.isin(pred.data, PRESACRAL), np.isin(true.data, PRESACRAL)
    if not mine.any() or not real.any():
        return None
    box = ndimage.find_objects((mine | real).astype(np.uint8))[0]
    mine, real = (np.pad(mask[box], _MARGIN) for mask in (mine, real))
    spacing = tuple(float(s) for s in true.grid.spacing)
    outside = ndimage.distance_transform_edt(~real, sampling=spacing)
    inside = ndimage.distance_transform_edt(real, sampling=spacing)
    half = min(spacing) / 2  # distances run between voxel centres, the surface lies between them
    distance = np.where(real, half - inside, outside - half)
    smooth = ndimage.gaussian_filter(mine.astype(np.float32), _SMOOTH)
    return Shape(smooth, distance.astype(np.float32), (spacing[0], spacing[1], spacing[2]))


def surface_picture(shape: Shape, renderer: Renderer) -> bytes:
    """Both views and the colour bar, with the renderer's name; JPEG."""
    if renderer == "pyvista":
        pictures = pyvista_views(shape)
    else:
        pictures = {side: depth_view(shape, side) for side in SIDES}
    high = max(picture.shape[0] for picture in pictures.values())
    wide = sum(picture.shape[1] for picture in pictures.values())
    height = 4.0
    figure = blank(height * wide / high + 1.3, height)
    axes = figure.subplots(1, 2, width_ratios=[p.shape[1] for p in pictures.values()])
    names = {"back": "from behind", "left": "from the left"}
    letters = {"back": ("L", "R"), "left": ("A", "P")}
    for axis, (side, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture, interpolation="bilinear")
        axis.set_axis_off()
        axis.set_title(names[side], size=8)
        for x, letter in zip((0.0, 1.0), letters[side], strict=True):
            axis.text(x, 0.5, letter, transform=axis.transAxes, size=7, ha="center", color="#777")
    bar = _colour_bar(figure, list(axes))
    bar.set_label(f"mm outside the true surface ({renderer})", size=7)
    return jpeg(figure)


def _colour_bar(figure: Any, axes: list[Any]) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(-LIMIT_MM, LIMIT_MM), MAP)
    bar = figure.colorbar(scale, ax=axes, shrink=0.7, pad=0.05, aspect=28)
    bar.ax.tick_params(labelsize=7)
    return bar


def depth_view(shape: Shape, side: Side) -> Picture:
    """A parallel view by its depth map: the first crossing of a half along each line of sight.

    Returns:
        (rows, columns, 3); white where nothing is hit; `_FINE` pixels per mm.
    """
    factors = [s * _FINE for s in shape.spacing]
    factors[1 if side == "back" else 0] = 1.0  # along the sight, crossings are interpolated
    mask: NDArray[np.float32] = ndimage.zoom(shape.mask, factors, order=1)
    distance: NDArray[np.float32] = ndimage.zoom(shape.distance, factors, order=1)
    along = 1 if side == "back" else 0  # from behind: y runs to the front; from the left: x right
    mask, distance = (np.moveaxis(a, along, 0) for a in (mask, distance))
    filled: NDArray[np.uint8] = (mask >= 0.5).astype(np.uint8)
    first = filled.argmax(0)
    hit = filled.max(0) > 0
    rows, columns = np.indices(first.shape)
    before = mask[np.maximum(first - 1, 0), rows, columns]
    after = mask[first, rows, columns]
    step = np.where(first > 0, (0.5 - before) / np.maximum(after - before, 1e-6), 1.0)
    depth = (first - 1 + step) * shape.spacing[along]
    near = distance[np.maximum(first - 1, 0), rows, columns]
    colour = _painted(near + step * (distance[first, rows, columns] - near))
    light = _shade(np.where(hit, depth, np.nan))
    picture = np.where(hit[..., None], colour * light[..., None], 1.0)
    # arrays run (right or front, head); pictures run (feet, right) and (feet, back)
    flat = picture[:, ::-1].swapaxes(0, 1)
    return np.round(255 * (flat if side == "back" else flat[:, ::-1])).astype(np.uint8)


def _painted(distance: NDArray[np.float32]) -> NDArray[np.float64]:
    from matplotlib import colormaps

    share = np.clip(distance / (2 * LIMIT_MM) + 0.5, 0, 1)
    return np.asarray(colormaps[MAP](share)[..., :3], np.float64)


def _shade(depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brightness 0.35-1 of a depth map in mm; lines without a neighbour are seen edge-on."""
    slopes = np.gradient(depth, 1 / _FINE)
    steep = [np.nan_to_num(np.clip(slope, -4, 4), nan=0.0) for slope in slopes]
    normal = np.stack([steep[0], steep[1], np.ones_like(depth)])
    normal /= np.linalg.norm(normal, axis=0)
    light = _LIGHT / np.linalg.norm(_LIGHT)
    bright = light[0] * normal[0] - light[1] * normal[1] + light[2] * normal[2]
    return np.asarray(0.35 + 0.65 * np.clip(bright, 0, 1))


def pyvista_views(shape: Shape) -> dict[Side, Picture]:
    """The same two views as triangle meshes, drawn off the screen by VTK."""
    import pyvista

    vtk: Any = pyvista  # its decorators hide the types of what is called here
    with vtk.vtk_verbosity("off"):  # it says on stderr that there is no display: so it is meant
        grid = vtk.ImageData(dimensions=shape.mask.shape, spacing=shape.spacing)
        grid.point_data["mask"] = shape.mask.ravel(order="F")
        grid.point_data["distance"] = shape.distance.ravel(order="F")
        mesh = grid.contour([0.5], scalars="mask")
        return {side: _drawn(vtk, mesh, shape, side) for side in SIDES}


def _drawn(vtk: Any, mesh: Any, shape: Shape, side: Side) -> Picture:
    size = [n * s for n, s in zip(shape.mask.shape, shape.spacing, strict=True)]
    wide = size[0] if side == "back" else size[1]
    window = [max(int(wide * _FINE), 1), max(int(size[2] * _FINE), 1)]
    plotter = vtk.Plotter(off_screen=True, window_size=window, lighting="light kit")
    plotter.add_mesh(
        mesh, scalars="distance", cmap=MAP, clim=(-LIMIT_MM, LIMIT_MM), smooth_shading=True,
        show_scalar_bar=False,
    )  # fmt: skip
    plotter.set_background("white")
    centre = [extent / 2 for extent in size]
    eye = list(centre)
    eye[1 if side == "back" else 0] -= 1000.0
    plotter.camera_position = [tuple(eye), tuple(centre), (0.0, 0.0, 1.0)]
    plotter.camera.parallel_projection = True
    plotter.camera.parallel_scale = size[2] / 2
    picture = np.asarray(plotter.screenshot(return_img=True), np.uint8)
    plotter.close()
    return picture
