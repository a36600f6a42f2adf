"""Unpacking foreign archives: nothing outside the folder, nothing that explodes."""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Final

from spinect.errors import InputError, ResourceError

SUFFIXES: Final = (".zip", ".tar", ".tar.gz", ".tgz")
_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What an archive may hold.

    Attributes:
        total_bytes: Unpacked, all files together.
        ratio: Unpacked over packed bytes; real DICOM and NIfTI stay below 20, all-zero masks
            below 200, bombs reach 1000 and more.
        files: How many.
        floor_bytes: An archive that unpacks to less than this is no bomb, whatever its ratio.
    """

    total_bytes: int = 64 << 30
    ratio: float = 300.0
    files: int = 200_000
    floor_bytes: int = 16 << 20


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive which `unpack` reads."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> Path:
    """Unpack a .zip or .tar(.gz) into a new or empty folder.

    Sizes are counted while bytes are written: what the archive says of itself is not believed.

    Raises:
        InputError: Damaged, encrypted, a path that leaves the folder, a link or a device, or
            more than the limits; what was unpacked so far is removed.
        ResourceError: Less free disk than the archive says it needs.
    """
    bounds = limits or Limits()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError(f"{folder} is not empty: unpack into a new folder")
    try:
        _unpack(archive, folder, bounds)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{archive}: cannot be unpacked ({why}): copy it again") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


@contextmanager
def unpacked(source: Path, near: Path, limits: Limits | None = None) -> Iterator[Path]:
    """A folder as it is, or an archive's contents in a folder below `near` that goes away again."""
    if not is_archive(source):
        yield source
        return
    near.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".unpacked-", dir=near) as folder:
        yield unpack(source, Path(folder) / source.name.partition(".")[0], limits)


def _unpack(archive: Path, folder: Path, limits: Limits) -> None:
    packed = archive.stat().st_size
    written = 0
    for count, (name, size, stream) in enumerate(_members(archive), start=1):
        if count > limits.files:
            raise InputError(f"{archive}: more than {limits.files} files: not a dataset")
        target = _inside(archive, folder, name)
        if size > (free := shutil.disk_usage(folder).free):
            raise ResourceError(f"{archive}: {name} needs {size} bytes, {free} are free")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise InputError(f"{archive}: {name} stands in it twice: unpack it by hand")
        with stream, target.open("xb") as out:
            while block := stream.read(_BLOCK):
                written += len(block)
                _check_size(archive, packed, written, limits)
                out.write(block)


def _check_size(archive: Path, packed: int, written: int, limits: Limits) -> None:
    if written > limits.total_bytes:
        raise InputError(
            f"{archive}: unpacks to more than {limits.total_bytes} bytes: a zip bomb, or too "
            "large; unpack it by hand if you trust it"
        )
    ratio = written / max(packed, 1)
    if written > limits.floor_bytes and ratio > limits.ratio:
        raise InputError(
            f"{archive}: {packed} bytes unpack to more than {written} (ratio {ratio:.0f}, at most "
            f"{limits.ratio:.0f}): a zip bomb; unpack it by hand if you trust it"
        )


def _members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, stated size and stream of each file; folders are left out."""
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise InputError(f"{archive}: {info.filename} is a link or device: refused")
                if info.flag_bits & 1:
                    raise InputError(f"{archive}: {info.filename} is encrypted: unpack it by hand")
                if not info.is_dir():
                    yield info.filename, info.file_size, file.open(info)
        return
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            if member.isdir():
                _inside(archive, Path(), member.name)
                continue
            stream = tar.extractfile(member) if member.isreg() else None
            if stream is None:
                raise InputError(f"{archive}: {member.name} is a link or device: refused")
            yield member.name, member.size, stream


def _inside(archive: Path, folder: Path, name: str) -> Path:
    """Where a member goes; refuses what would leave the folder."""
    plain = PurePosixPath(name.replace("\\", "/"))
    drive = bool(plain.parts) and ":" in plain.parts[0]
    if plain.is_absolute() or drive or ".." in plain.parts or "\0" in name or not plain.parts:
        raise InputError(
            f"{archive}: {name!r} would be written outside the folder (path traversal): "
            "do not trust this archive"
        )
    return folder.joinpath(*plain.parts)
