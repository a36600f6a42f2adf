"""Presets of how a dataset is prepared; what a user writes beside a preset counts more."""

from collections.abc import Mapping
from typing import Any, Final

from spinect.data.intensity import GRAF_HU

# Graf et al. 2023, arXiv 2308.09345, as their published generators and loaders do it. Where those
# contradict themselves or the paper, we do what was meant:
# - Masks keep the vertebrae's ids (theirs are clipped to one value), series never overwrite each
#   other, the split is by person, and every copy has a seed.
# - The MR's largest value is that of the scan, in training and in inference alike; theirs is that
#   of the deformed and splined volume here and of a tile there.
# - What pads a slice, lies outside the field of view or beyond the registered CT is not learnt
#   (theirs is water, 0 HU, and is learnt as air or water).
# - Validation and test see no jitter, no mirror and the middle crop.
# - Scans are brought to 1 mm by area average and linear interpolation, not by cubic splines.
_BOTH: Final[Mapping[str, Any]] = {
    "intensity": "max",
    "place": "anywhere",
    "copies": 10,  # nine deformed, one as it is
    "elastic": {"rule": "voxels", "sigma": (1.6, 3.6)},
    "interpolation": "cubic",
    "rotate_deg": 0.0,
    "scale": 0.0,
    "elastic_mm": 0.0,
    "flip": False,  # left and right are never exchanged
    "jitter": 0.2,
}
_SLICES: Final[Mapping[str, Any]] = {
    **_BOTH,
    "patch": (256, 256),
    "raster": "slices",
    "min_pixels": 10,
    "mirror": (0.5, 0.0),
    "border": "outside",
    "dropout": 0.3,
}
# 128 x 128 x 32 there; ours runs along R, A, S. Each of two axes is mirrored in one patch of eight.
_VOLUMES: Final[Mapping[str, Any]] = {
    **_BOTH,
    "patch": (32, 128, 128),
    "raster": "iso",
    "mirror": (0.125, 0.125),
    "border": "mirror",
    "ramps": True,
}


def with_preset(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `DatasetData` with those of the named preset; 3D where the patch does not say."""
    if raw.get("preset") != "graf2023":
        return dict(raw)
    patch = raw.get("patch")
    flat = isinstance(patch, list | tuple) and len(patch) == 2
    filled = {**(_SLICES if flat else _VOLUMES), **raw}
    if raw.get("task") == "segment":  # the paper has no segmenter; ours sees the CT alone
        filled["ramps"] = raw.get("ramps", False)
    if raw.get("direction") == "ct_to_mr":  # nor this direction; what changes an MR stays away
        filled |= {"intensity": "robust", "jitter": 0.0, "dropout": 0.0, **raw}
    return filled


def with_export(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A run whose bundle carries the raster, and the scalings of the preset, of its data."""
    data, export = raw.get("data"), raw.get("export", {})
    if not isinstance(data, Mapping) or not isinstance(export, Mapping):
        return dict(raw)
    own = export.get("preprocessing", {})
    if not isinstance(own, Mapping):
        return dict(raw)
    if data.get("plane") == "axial":
        own = {"axes": "SRA", **own}
    own = {"neighbours": data.get("neighbours", 0), **own}
    if data.get("direction") == "ct_to_mr":
        seen = "hu_range" + "_ramps" * bool(with_preset(data).get("ramps"))
        export = {"inputs": "ct", "channels": seen, **export}
    export = {**export, "preprocessing": own}
    raw = {**raw, "export": export}
    if data.get("source") != "dataset":
        return raw
    full = with_preset(data)
    grid = {key: full[key] for key in ("raster", "spacing_mm") if key in full}
    raw = {**raw, "export": {**export, "preprocessing": {**grid, **own}}}
    if data.get("preset") != "graf2023" or data.get("task") == "segment":
        return raw
    return _with_scalings(raw, full)


def _with_scalings(raw: dict[str, Any], full: Mapping[str, Any]) -> dict[str, Any]:
    """The preset graf2023 on the bundle; `full` are the data's fields with the preset's."""
    export = raw["export"]
    patch = full["patch"]
    channels = "max" if full["intensity"] == "max" else "robust3"
    scalings = {
        "hu_low": GRAF_HU.low,
        "hu_high": GRAF_HU.high,
        "tile": (1, *patch) if len(patch) == 2 else patch,
        "flip_average": bool(full["flip"]),  # what was never mirrored cannot be averaged
    }
    filled = {"channels": channels + "_ramps" * bool(full.get("ramps"))}
    own = export["preprocessing"]
    return {**raw, "export": {**filled, **export, "preprocessing": {**scalings, **own}}}
