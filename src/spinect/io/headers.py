"""From file headers to one affine in mm, RAS+, and voxels that can be trusted to lie there."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.openers import Opener
from nibabel.spatialimages import HeaderDataError, ImageDataError
from numpy.typing import NDArray

from spinect.errors import GeometryError, ImageError, SpinectWarning
from spinect.geometry import Grid

Float = NDArray[np.float64]
READER_ERRORS: Final = (ImageFileError, HeaderDataError, ImageDataError)

SPACING_MM: Final = (0.01, 100.0)  # below and from here on no scanner works: the unit is wrong
CONFLICT_MM: Final = 0.1  # corners of sform and qform further apart than this disagree
COSINE_NOISE: Final = 1e-4  # axes this close to perpendicular are so but for rounding
COSINE_MENDED: Final = 0.02  # up to here (1.1 degrees) axes are made perpendicular, with a warning
_UNIT_MM: Final = {1: ("metre", 1e3), 2: ("mm", 1.0), 3: ("micron", 1e-3)}


def load_nifti(path: Path, volume: int | None) -> tuple[NDArray[Any], Float]:
    """Voxels and affine of a NIfTI file (1 or 2).

    Args:
        volume: Which one of a 4D file, from 0.
    Returns:
        (X, Y, Z) array with the header's scaling applied, F order, and the (4, 4) affine, mm.
    Raises:
        ImageError: RGB, complex, not 3D.
        GeometryError: No usable affine.
    """
    with LoggingOutputSuppressor():  # nibabel logs what it mends in a header; we read it raw
        header = raw_header(path)
        chosen = _chosen(header.get_data_shape(), volume, path.name)
        affine = _nifti_affine(header, path.name)
        image: Any = nib.load(path)
    dtype = image.get_data_dtype()
    if dtype.kind in "Vc":
        raise ImageError(
            f"{path.name}: voxels are {'complex numbers' if dtype.kind == 'c' else 'RGB colours'} "
            f"(data type {nib.nifti1.data_type_codes.label[int(header['datatype'])]}), not one "
            "number each: export the magnitude image, not a screenshot or colour map"
        )
    return np.asanyarray(image.dataobj[chosen]), affine


def load_itk(path: Path, volume: int | None) -> tuple[NDArray[Any], Float]:
    """The same for MetaImage and NRRD; ITK's LPS+ world becomes RAS+."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        if reader.GetNumberOfComponents() != 1:
            raise ImageError(
                f"{path.name}: voxels are RGB colours or vectors of "
                f"{reader.GetNumberOfComponents()} numbers, not one number each: "
                "export the grey image"
            )
        size = reader.GetSize()
        chosen = _chosen(size, volume, path.name)
        if len(size) > 3:
            reader.SetExtractSize([*size[:3], *[0] * (len(size) - 3)])
            reader.SetExtractIndex([0, 0, 0, *(int(n) for n in chosen[1:])])
        image = reader.Execute()
    except RuntimeError as error:
        raise _itk_error(path, error) from error
    direction = np.array(image.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = direction * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def mended(affine: Float, shape: tuple[int, ...], name: str) -> Float:
    """The affine if it can be used, its axes made perpendicular if they nearly are.

    Axes off by rounding only are left as they are, bit for bit. The middle of the volume stays
    in place.
    Raises:
        GeometryError: Not finite, spacing out of range, singular, or sheared beyond
            `COSINE_MENDED`.
    """
    if not np.isfinite(affine).all():
        raise GeometryError(
            f"{name}: the affine holds values that are not finite, {affine.tolist()}: "
            "convert the series again from DICOM"
        )
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < SPACING_MM[0] or spacing.max() >= SPACING_MM[1]:
        raise GeometryError(
            f"{name}: the spacing is {_mm(spacing)} mm, but must lie between {SPACING_MM[0]} and "
            f"{SPACING_MM[1]:g} mm: correct voxel size or unit in the header, or convert again"
        )
    cosines = affine[:3, :3] / spacing
    if abs(np.linalg.det(cosines)) < 0.05:
        raise GeometryError(
            f"{name}: the affine is singular, two axes point the same way "
            f"({np.round(cosines, 3).tolist()}): convert the series again from DICOM"
        )
    worst = float(np.abs(cosines.T @ cosines - np.eye(3)).max())
    degrees = np.degrees(np.arcsin(min(worst, 1.0)))
    if worst <= COSINE_NOISE:
        return affine
    if worst > COSINE_MENDED:
        raise GeometryError(
            f"{name}: the axes are sheared, {degrees:.1f} degrees off perpendicular (at most "
            f"{np.degrees(COSINE_MENDED):.1f} are mended): resample it onto a straight grid first"
        )
    left, _, right = np.linalg.svd(cosines)
    straight = np.eye(4)
    straight[:3, :3] = left @ right * spacing
    middle = (np.array(shape[:3]) - 1) / 2
    straight[:3, 3] = affine[:3, :3] @ middle + affine[:3, 3] - straight[:3, :3] @ middle
    size = (int(shape[0]), int(shape[1]), int(shape[2]))
    warnings.warn(
        f"{name}: the axes were {degrees:.2f} degrees off perpendicular and were straightened; "
        f"corners moved by up to {Grid(size, affine).gap(Grid(size, straight)):.2f} mm",
        SpinectWarning,
        stacklevel=3,
    )
    return straight


def _chosen(shape: tuple[int, ...], volume: int | None, name: str) -> tuple[Any, ...]:
    """The index that picks a 3D volume, or the reason why there is none."""
    size = "x".join(map(str, shape))
    if min(shape, default=0) < 1:
        raise ImageError(f"{name}: an axis has no voxels, the size is {size}: export it again")
    if len(shape) < 3 or min(shape[:3]) == 1:
        raise ImageError(
            f"{name}: a 2D image of {size} voxels, a volume is needed: give the whole series"
        )
    count = int(np.prod(shape[3:], dtype=int))
    if len(shape) > 4 and count != max(shape[3:]):
        raise ImageError(f"{name}: {len(shape)}D ({size}), at most 4D is read: split it first")
    if volume is None and count > 1:
        raise ImageError(
            f"{name}: 4D, {count} volumes of {'x'.join(map(str, shape[:3]))}: "
            f"choose one with --volume N, N from 0 to {count - 1}"
        )
    if volume is not None and not 0 <= volume < count:
        raise ImageError(
            f"{name}: --volume {volume} is not there, the file holds {count} "
            f"({size}): choose N from 0 to {count - 1}"
        )
    return (..., *np.unravel_index(volume or 0, shape[3:])) if len(shape) > 3 else (...,)


def raw_header(path: Path) -> Any:
    """The header as it stands in the file: nibabel would turn a spacing of 0 into 1."""
    with Opener(str(path)) as file:
        start = file.read(nib.Nifti2Header.sizeof_hdr)
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(start):
            return kind.from_fileobj(BytesIO(start), check=False)
    raise ImageFileError("the first bytes are no NIfTI header")


def _nifti_affine(header: Any, name: str) -> Float:
    """Sform unless its code is 0, else qform, else the voxel sizes alone; mm."""
    sform = header.get_sform() if int(header["sform_code"]) > 0 else None
    qform = _qform(header, name, fatal=sform is None) if int(header["qform_code"]) > 0 else None
    unit, scale = _unit(header, name)
    size = tuple(int(n) for n in header.get_data_shape()[:3])
    if sform is None and qform is None:
        affine = header.get_base_affine()
        warnings.warn(
            f"{name}: the header has no orientation (sform and qform codes 0): axes are taken "
            "as left, anterior, superior, so left and right may be swapped",
            SpinectWarning,
            stacklevel=4,
        )
    else:
        affine = qform if sform is None else sform
    affine = np.diag([scale, scale, scale, 1.0]) @ np.asarray(affine, float)
    if sform is not None and qform is not None:
        corner = np.stack(np.meshgrid(*[[0, n - 1] for n in size], [1], indexing="ij"), -1)
        gap = np.linalg.norm(corner.reshape(-1, 4) @ (scale * (sform - qform)[:3]).T, axis=1).max()
        if gap > CONFLICT_MM:
            warnings.warn(
                f"{name}: sform and qform disagree by up to {gap:.1f} mm; the sform "
                f"(code {int(header['sform_code'])}) was used",
                SpinectWarning,
                stacklevel=4,
            )
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if unit != "mm" and (spacing.min() < SPACING_MM[0] or spacing.max() >= SPACING_MM[1]):
        raise GeometryError(
            f"{name}: the header's unit is {unit}, which makes the spacing {_mm(spacing)} mm: "
            "correct the unit (xyzt_units) or the voxel size in the header"
        )
    return np.asarray(affine)


def _qform(header: Any, name: str, fatal: bool) -> Float | None:
    """The qform with the voxel sizes as they stand there, or None where it is broken."""
    sizes = np.abs(header["pixdim"][1:4].astype(float))
    if not (sizes > 0).all():
        if fatal:
            raise GeometryError(
                f"{name}: the spacing is {_mm(sizes)} mm and there is no sform: "
                "correct the voxel size in the header, or convert the series again"
            )
        return None
    try:
        return np.asarray(header.get_qform(), float)
    except (ValueError, HeaderDataError) as error:
        if fatal:
            raise GeometryError(
                f"{name}: the qform is no rotation ({error}) and there is no sform: "
                "convert the series again from DICOM"
            ) from error
        return None


def _unit(header: Any, name: str) -> tuple[str, float]:
    """Name and size in mm of the unit of length; unknown means mm."""
    code = int(header["xyzt_units"]) & 7
    if code not in _UNIT_MM and code:
        warnings.warn(
            f"{name}: the unit code {code} means nothing, mm assumed", SpinectWarning, stacklevel=5
        )
    return _UNIT_MM.get(code, ("unknown (taken as mm)", 1.0))


def _itk_error(path: Path, error: RuntimeError) -> Exception:
    text = str(error)
    if "Zero-valued spacing" in text:
        found = text.partition(" to [")[2].partition("]")[0]
        return GeometryError(
            f"{path.name}: the spacing is {found or 0} mm: correct the voxel size in the header"
        )
    if "determinant is 0" in text:
        return GeometryError(
            f"{path.name}: the affine is singular, its direction matrix has determinant 0: "
            "convert the series again"
        )
    if "Unable to determine ImageIO" in text:
        why = "its header is none"
    elif "cannot be read" in text or "Error reading" in text:
        why = f"its voxel data are missing or cut off, {path.stat().st_size} bytes are there"
    else:
        why = " ".join(text.split())[-200:]
    return ImageError(f"{path}: not an image, or damaged: {why}: copy or export it again")


def _mm(spacing: Float) -> str:
    return " x ".join(f"{s:.4g}" for s in spacing)
