"""Headers of the image formats that are written: NIfTI-1, MetaImage, NRRD."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from spinect.geometry import Volume


def nifti_header(volume: Volume, dtype: np.dtype[Any], like: str | Path | None) -> bytes:
    """The 352 bytes before the voxels of a single-file NIfTI-1, little-endian, mm.

    Args:
        like: Image whose coordinate code (scanner, aligned, ...) is kept if it is a NIfTI file.
    """
    code = 1  # scanner coordinates
    if like is not None and str(like).lower().endswith((".nii", ".nii.gz")):
        source: Any = nib.load(like).header
        code = int(source["sform_code"]) or int(source["qform_code"]) or 1
    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(volume.data.shape)
    header.set_xyzt_units("mm")
    header.set_qform(volume.affine, code)
    header.set_sform(volume.affine, code)
    header.set_slope_inter(1, 0)
    if volume.kind == "labels":
        header.set_intent("label")
    header["magic"], header["vox_offset"] = b"n+1", 352
    return bytes(header.binaryblock) + bytes(4)  # no extensions


def _lps(volume: Volume) -> NDArray[np.float64]:
    """(4, 4) voxel index -> mm in the DICOM convention, left and posterior positive."""
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine)


def mha_header(volume: Volume, dtype: np.dtype[Any]) -> bytes:
    """The text before the raw voxels of a MetaImage; LPS+, numbers with all their digits."""
    affine, spacing = _lps(volume), volume.grid.spacing
    cosines = (affine[:3, :3] / spacing).T  # one axis per row
    types = {"i2": "MET_SHORT", "u1": "MET_UCHAR", "u2": "MET_USHORT", "f4": "MET_FLOAT"}
    return "\n".join(
        [
            "ObjectType = Image",
            "NDims = 3",
            "BinaryData = True",
            "BinaryDataByteOrderMSB = False",
            "CompressedData = False",
            f"TransformMatrix = {_numbers(cosines.ravel())}",
            f"Offset = {_numbers(affine[:3, 3])}",
            "CenterOfRotation = 0 0 0",
            f"ElementSpacing = {_numbers(spacing)}",
            f"DimSize = {_numbers(volume.data.shape)}",
            f"ElementType = {types[dtype.str[1:]]}",
            "ElementDataFile = LOCAL",
            "",
        ]
    ).encode()


def nrrd_header(volume: Volume, dtype: np.dtype[Any]) -> bytes:
    """The text before the gzip stream of an NRRD; LPS+, numbers with all their digits."""
    affine = _lps(volume)
    types = {"i2": "int16", "u1": "uint8", "u2": "uint16", "f4": "float"}
    directions = " ".join(f"({_numbers(axis, ',')})" for axis in affine[:3, :3].T)
    return "\n".join(
        [
            "NRRD0004",
            f"type: {types[dtype.str[1:]]}",
            "dimension: 3",
            "space: left-posterior-superior",
            f"sizes: {_numbers(volume.data.shape)}",
            f"space directions: {directions}",
            "kinds: domain domain domain",
            "endian: little",
            "encoding: gzip",
            f"space origin: ({_numbers(affine[:3, 3], ',')})",
            "",
            "",
        ]
    ).encode()


def _numbers(values: Iterable[float], separator: str = " ") -> str:
    """Numbers with all their digits."""
    return separator.join(repr(np.asarray(v).item()) for v in values)
