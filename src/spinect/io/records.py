"""Everything that is written to disk: whole or not at all.

A file is written beside its final place, flushed to the disk and renamed; whatever stops the
program in between, a reader sees the old file, the new file or none, never a half of one.
"""

import errno
import json
import logging
import math
import os
import secrets
import shutil
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from spinect.anatomy import COLOURS, SUBREGIONS, VERTEBRAE
from spinect.errors import ImageError, LabelError, OutputError
from spinect.geometry import Volume
from spinect.io import formats

log = logging.getLogger(__name__)

HU_RANGE = (-1024, 3071)  # what int16 CT files hold, the range of a 12-bit scanner
GZIP_LEVEL = 1  # on MR and CT noise higher levels cost 3-10x the time for a few percent
BLOCK_BYTES = 4 << 20  # one gzip member; big enough that cutting costs nothing
_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file system does not hold files of this size",
    errno.EACCES: "there is no permission to write there",
    errno.EPERM: "there is no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a part of the path is a file, not a folder",
    errno.EISDIR: "a folder of that name is there already",
    errno.ENAMETOOLONG: "the name is too long for the file system",
    errno.EIO: "the disk reports an error",
}


@contextmanager
def atomic(path: str | Path, need: int = 0) -> Iterator[Path]:
    """Write a file whole or not at all.

    Args:
        path: Final place; its folder is created.
        need: Bytes that will be written, checked against the free space before the start.
    Yields:
        A path in the same folder, with the same suffix, to write to. It is renamed on success
        and removed on any exception, a keyboard interrupt included.
    Raises:
        OutputError: The folder cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}.part.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        if need > shutil.disk_usage(path.parent).free:
            raise OSError(errno.ENOSPC, "not enough free space", str(path))
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        if error.errno not in _DISK:
            raise
        size = f" ({need / 1e6:.1f} MB needed)" if need and error.errno == errno.ENOSPC else ""
        raise OutputError(
            f"{path}: cannot be written, {_DISK[error.errno]}{size}: "
            "free some space or choose another output folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_volume(volume: Volume, path: str | Path, *, like: str | Path | None = None) -> Path:
    """Write a volume: NIfTI (.nii.gz, .nii), MetaImage (.mha) or NRRD (.nrrd), by suffix.

    "ct" is rounded to whole HU, clipped to `HU_RANGE` and stored as int16; "labels" as uint8
    (uint16 above 255); "mr" as float32. Millimetres; NIfTI gets both an sform and a qform.

    Args:
        like: Image whose coordinate code (scanner, aligned, ...) is kept if both are NIfTI.
    Returns:
        `path`.
    Raises:
        ImageError: Values that are not finite.
        LabelError: Label ids that 16 bits do not hold.
        OutputError: Unknown suffix, unwritable folder, full disk.
    """
    path = Path(path)
    dtype = _stored_dtype(volume, path)
    name = path.name.lower()
    compress = name.endswith((".nii.gz", ".nrrd"))
    if name.endswith((".nii", ".nii.gz")):
        header = formats.nifti_header(volume, dtype, like)
    elif name.endswith(".mha"):
        header = formats.mha_header(volume, dtype)
    elif name.endswith(".nrrd"):
        header = formats.nrrd_header(volume, dtype)
    else:
        raise OutputError(
            f"{path}: unknown image format: use the suffix .nii.gz, .nii, .mha or .nrrd"
        )
    with atomic(path, volume.data.size * dtype.itemsize) as part, part.open("wb") as file:
        # The header of a .nii.gz lies inside the gzip stream, that of a .nrrd before it.
        inside = compress and name.endswith(".gz")
        file.write(_gzip(header) if inside else header)
        for block in _blocks(volume, dtype, compress):
            file.write(block)
    log.debug("wrote %s: %s", path, volume.grid)
    return path


def write_text(text: str, path: str | Path) -> Path:
    """Write UTF-8 text, whole or not at all."""
    with atomic(path, len(text)) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def write_json(data: Any, path: str | Path) -> Path:
    """Write JSON, whole or not at all; numpy values become numbers and lists, NaN becomes null."""
    return write_text(json.dumps(_plain(data), indent=2, ensure_ascii=False) + "\n", path)


def write_table(
    rows: Sequence[Mapping[str, Any]], path: str | Path, columns: Sequence[str] | None = None
) -> Path:
    """Write a tab-separated table as BIDS wants it: a header line, "n/a" for what is missing.

    Args:
        rows: One mapping per line; None and NaN are missing.
        columns: Their order; by default the order in which they first occur.
    """
    names = list(columns) if columns else list(dict.fromkeys(key for row in rows for key in row))
    lines = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    return write_text("".join("\t".join(line) + "\n" for line in lines), path)


def write_dseg_table(path: str | Path, ids: Iterable[int]) -> Path:
    """Write the names and colours of a label map's ids: index, name, color (#rrggbb).

    Raises:
        LabelError: An id that is neither a vertebra nor a subregion.
    """
    names = VERTEBRAE | SUBREGIONS
    wanted = [int(i) for i in ids if int(i) != 0]
    unknown = [i for i in wanted if i not in names]
    if unknown:
        raise LabelError(
            f"{path}: ids {unknown} are neither vertebrae (1-32) nor subregions "
            f"({', '.join(map(str, SUBREGIONS))}): translate them into this scheme first"
        )
    rows = [
        {"index": i, "name": names[i], "color": "#{:02x}{:02x}{:02x}".format(*COLOURS[i])}
        for i in wanted
    ]
    return write_table(rows, path, ("index", "name", "color"))


def _flush(path: Path) -> None:
    """Make the operating system write a file (or a folder's entries) to the disk."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _stored_dtype(volume: Volume, path: Path) -> np.dtype[Any]:
    if volume.kind != "labels":
        return np.dtype(volume.rules.dtype).newbyteorder("<")
    low, high = int(volume.data.min()), int(volume.data.max())
    if volume.data.dtype.kind not in "iub" or low < 0 or high > 65535:
        raise LabelError(
            f"{path}: labels must be integers from 0 to 65535, "
            f"these are {volume.data.dtype} from {low} to {high}"
        )
    return np.dtype("u1" if high < 256 else "<u2")


def _blocks(volume: Volume, dtype: np.dtype[Any], compress: bool) -> Iterator[bytes]:
    """The voxels in file order, first axis fastest; some slices at a time, in threads."""
    across = volume.data.shape[0] * volume.data.shape[1] * dtype.itemsize
    step = max(1, BLOCK_BYTES // across)
    starts = range(0, volume.data.shape[2], step)

    def encode(start: int) -> bytes:
        values = volume.data[:, :, start : start + step]
        if volume.kind != "labels" and not np.isfinite(values).all():
            raise ImageError(
                f"the {volume.kind} to be written holds values that are not finite "
                f"(slices {start} to {start + values.shape[2] - 1}): they were not computed"
            )
        if volume.kind == "ct":
            values = np.clip(np.rint(values), *HU_RANGE)
        raw = np.asarray(values, dtype).tobytes("F")
        return _gzip(raw) if compress else raw

    if not compress or len(starts) == 1:
        yield from map(encode, starts)
        return
    workers = min(os.cpu_count() or 1, 4)
    with ThreadPoolExecutor(workers) as pool:  # zlib and numpy let go of the interpreter lock
        pending: deque[Future[bytes]] = deque()
        for start in starts:
            pending.append(pool.submit(encode, start))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _gzip(raw: bytes) -> bytes:
    """One complete gzip member without a time stamp; members may follow each other in a file."""
    squeeze = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 31)
    return squeeze.compress(raw) + squeeze.flush()


def _plain(value: Any) -> Any:
    """The same as plain Python values that JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(held) for held in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def _cell(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return "n/a"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()) or "n/a"  # a tab or line break would start another cell
