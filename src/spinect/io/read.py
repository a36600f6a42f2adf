"""Reading images: NIfTI with nibabel, MetaImage and NRRD with SimpleITK.

Whatever is mended or chosen on the way is a `SpinectWarning`; whatever cannot be used is one
line that names the file, what is wrong, the value found and what to do.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spinect.errors import ImageError, InputError, LabelError
from spinect.geometry import Volume
from spinect.geometry.volume import Kind
from spinect.io import headers
from spinect.io.checks import check_ct, check_mr

NIFTI: Final = (".nii.gz", ".nii")
ITK: Final = (".mha", ".mhd", ".nrrd", ".nhdr")
SUFFIXES: Final = NIFTI + ITK


def read(
    path: str | Path,
    kind: Kind = "mr",
    *,
    volume: int | None = None,
    force: bool = False,
    trusted: bool = False,
) -> Volume:
    """Read an image file.

    Args:
        path: .nii, .nii.gz, .mha, .mhd, .nrrd or .nhdr.
        kind: What it is taken for. "mr" and "ct" become float32 with the header's scaling
            applied and must look like what they are called; "labels" become the smallest
            unsigned integer type that holds them.
        volume: Which one of a 4D file, counted from 0.
        force: Doubts about the modality become warnings.
        trusted: A synthetic CT that this package wrote: its scale is not doubted, and one value
            everywhere is an image too, as the CT of a baseline is.
    Returns:
        The voxels in file order with their affine in mm, RAS+.
    Raises:
        InputError: Missing, empty or a folder.
        ImageError: Not an image, damaged, not 3D, constant, not finite, RGB, wrong modality.
        GeometryError: An affine or a spacing that cannot be used.
        LabelError: Labels that are not whole numbers of at least 0.
    """
    path = Path(path)
    name = path.name
    data, affine = read_array(path, volume)
    if kind == "labels":
        return Volume(_labels(data, name), affine, kind)
    image = Volume(_finite(data, name, trusted), affine, kind)
    if not trusted:
        check = check_mr if kind == "mr" else check_ct
        check(image, name, force)
    return image


def read_array(
    path: str | Path, volume: int | None = None
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Voxels and affine of an image file, its contents not judged; raises as `read` does.

    Returns:
        (X, Y, Z) array in file order with the header's scaling applied, and the (4, 4) affine,
        voxel index -> mm, RAS+.
    """
    path = Path(path)
    _check_file(path)
    with _damage(path):
        if path.name.lower().endswith(NIFTI):
            data, affine = headers.load_nifti(path, volume)
        else:
            data, affine = headers.load_itk(path, volume)
    return data, headers.mended(affine, data.shape, path.name)


def _check_file(path: Path) -> None:
    """Refuse what is not a file that could be an image."""
    if path.is_dir():
        raise _folder(path)
    if not path.exists():
        raise InputError(f"{path}: no such file: check the path, it is taken from {Path.cwd()}")
    size = path.stat().st_size
    if size == 0:
        raise ImageError(f"{path}: the file is empty (0 bytes): copy or export it again")
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        raise ImageError(
            f"{path}: a single DICOM file, not a volume: convert its series first, "
            "dcm2niix -z y -o OUT FOLDER, and give the .nii.gz"
        )
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise ImageError(
            f"{path}: not an image that can be read, its suffix is {path.suffix or 'missing'}: "
            f"give one of {', '.join(SUFFIXES)}"
        )
    zipped = start[:2] == b"\x1f\x8b"
    if name.endswith(".nii.gz") and not zipped:
        raise ImageError(
            f"{path}: not an image: it is called .nii.gz, but starts with {start[:4]!r} "
            "and not with gzip's 1f 8b: export it again, or rename it if it is a plain .nii"
        )
    if name.endswith(".nii") and zipped:
        raise ImageError(f"{path}: called .nii, but is compressed by gzip: rename it to .nii.gz")


def _folder(path: Path) -> InputError:
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    dicom = sum(_is_dicom(file) for file in files[:50])
    if dicom:
        return ImageError(
            f"{path}: a DICOM folder ({len(files)} files): convert it first, "
            f"dcm2niix -z y -o OUT {path}, and give the .nii.gz"
        )
    return ImageError(f"{path}: a folder of {len(files)} files, not an image: give one image file")


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn what the readers throw on damaged files into one clear line."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImageError(
            f"{path}: the gzip stream is damaged or cut off after {path.stat().st_size} bytes "
            f"({_line(error)}): copy or export it again"
        ) from error
    except (OSError, ValueError, *headers.READER_ERRORS) as error:
        if isinstance(error, PermissionError):
            raise InputError(f"{path}: there is no permission to read it: chmod +r") from error
        raise ImageError(
            f"{path}: not an image, or damaged ({_line(error)}): copy or export it again"
        ) from error


def _line(error: Exception) -> str:
    """What a reader says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _finite(data: NDArray[Any], name: str, constant: bool) -> NDArray[np.float32]:
    """Images as float32, finite and, unless they may be, not constant."""
    image = np.ascontiguousarray(data, np.float32)
    low, high = float(image.min()), float(image.max())
    if not np.isfinite([low, high]).all():
        count = int(image.size - np.isfinite(image).sum())
        raise ImageError(
            f"{name}: {count} of {image.size} voxels are NaN or infinite: "
            "replace them (0 for MR, -1000 for CT) and write the file again"
        )
    if low == high and not constant:
        raise ImageError(
            f"{name}: every voxel is {low:g}, there is no image in it: export the series again"
        )
    return image


def _labels(data: NDArray[Any], name: str) -> NDArray[Any]:
    """Label ids in the smallest unsigned integer type."""
    low, high = data.min(), data.max()
    if data.dtype.kind == "f" and not (np.isfinite([low, high]).all() and (data % 1 == 0).all()):
        raise LabelError(
            f"{name}: labels must be whole numbers, these run from {low:g} to {high:g} "
            "with fractions: was the label map interpolated? Give the original one"
        )
    if low < 0 or high > 65535:
        raise LabelError(
            f"{name}: labels must lie between 0 and 65535, these run from {low:g} to {high:g}: "
            "give a label map"
        )
    return np.ascontiguousarray(data, np.uint8 if high < 256 else np.uint16)
