"""Any foreign segmenter that reads a CT and writes a label map, run as a process of its own."""

import os
import shlex
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.anatomy import PRESACRAL, SACRUM
from spinect.errors import ConfigError, ExternalToolError, InputError
from spinect.geometry import Volume
from spinect.io import check_ct, field_of_view, read, write_volume
from spinect.segmentation.levels import assign_levels
from spinect.segmentation.result import Instances, Level, Segmentation
from spinect.segmentation.schemes import check_scheme, to_vertebra_ids
from spinect.segmentation.table import vertebra_rows

NO_SUBREGIONS: Final = (
    "an external segmenter names vertebrae only: the subregion mask is empty, and body heights "
    "are not measured"
)
_PLACEHOLDERS: Final = ("{input}", "{output}")


def segment_command(
    ct: Volume,
    command: str,
    scheme: str,
    *,
    timeout: float | None = None,
    lowest: int | None = None,
    highest: int | None = None,
    single_sacrum: bool = False,
) -> Segmentation:
    """Run a foreign segmenter on a CT.

    The names are those that the program gave: level_source is "user", for it was the user who
    chose the program, and level_p is missing, for such programs give no probability. With
    `lowest` or `highest` the vertebrae are counted anew from there.

    Args:
        ct: HU; the program sees it as NIfTI on this grid.
        command: Words as in a shell, but run without one; {input} and {output} are replaced.
        scheme: Meaning of the program's labels, a key of `schemes.SCHEMES`.
        timeout: Seconds; None waits for ever.
        lowest, highest, single_sacrum: As `segment_heads`.
    Returns:
        Vertebrae on the grid of `ct`, an empty subregion map, and a warning that says so.
    Raises:
        ConfigError: A command without placeholders or with open quotes, or an unknown scheme.
        ImageError: The CT is not in HU.
        ExternalToolError: The program is missing, failed, took too long, wrote nothing, or wrote
            another grid or unknown labels.
    """
    check_scheme(scheme)
    words = _words(command)
    check_ct(ct, "the CT for the external segmenter")
    with tempfile.TemporaryDirectory(prefix="spinect-") as folder:
        source, answer = Path(folder) / "ct.nii.gz", Path(folder) / "labels.nii.gz"
        write_volume(ct, source)
        places = {"{input}": str(source), "{output}": str(answer)}
        _run([_filled(word, places) for word in words], Path(folder), timeout)
        vertebrae = _answer(answer, ct, words[0], scheme)
    if single_sacrum:
        vertebrae[np.isin(vertebrae, list(SACRUM))] = 26
    found = np.unique(vertebrae[vertebrae > 0]).tolist()
    levels = {number: Level(number, float("nan"), "user") for number in found}
    said: tuple[str, ...] = (NO_SUBREGIONS,)
    if lowest is not None or highest is not None:
        vertebrae, anew, more = _renamed(vertebrae, ct, lowest, highest)
        levels = {n: level for n, level in levels.items() if n in SACRUM} | anew
        said += more
    names = Volume(vertebrae, ct.affine, "labels")
    parts = names.with_data(np.zeros_like(vertebrae))
    rows = vertebra_rows(names, parts, levels, ct, field_of_view(ct.data), None)
    rows = tuple({**row, "level_p": _known(row["level_p"])} for row in rows)
    return Segmentation(names, parts, rows, said)


def _known(p: object) -> object:
    """A probability, None where it is NaN, as tables and JSON spell what is missing."""
    return None if isinstance(p, float) and np.isnan(p) else p


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
        if len(words) == 1:  # the whole command in quotes that the shell left in place
            words = shlex.split(words[0])
    except ValueError as problem:
        raise ConfigError(f"the segmenter command {command!r}: {problem}") from problem
    missing = [p for p in _PLACEHOLDERS if not any(p in word for word in words)]
    if missing:
        raise ConfigError(
            f"the segmenter command {command!r} does not name {' and '.join(missing)}: write "
            '"PROGRAM {input} {output}"'
        )
    return words


def _filled(word: str, places: dict[str, str]) -> str:
    for placeholder, path in places.items():
        word = word.replace(placeholder, path)
    return word


def _run(words: list[str], folder: Path, timeout: float | None) -> None:
    """Run to the end; whatever ends the wait (an alarm, Ctrl-C) ends the program as well."""
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    errors = folder / "stderr.txt"  # a file, since a pipe stays open with the program's children
    with errors.open("wb") as stream:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stream,
                env=environment,
                start_new_session=True,
            )
        except OSError as problem:
            raise ExternalToolError(
                f"segmenter {words[0]} cannot be started: {problem.strerror}: check the command"
            ) from problem
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as problem:
            raise ExternalToolError(
                f"segmenter {words[0]} did not finish within {timeout:g} s: raise the timeout"
            ) from problem
        finally:
            _end(process)
    if code != 0:
        lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = lines[-1].strip() if lines else "it said nothing"
        raise ExternalToolError(f"segmenter {words[0]} failed with exit code {code}: {last}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program that still runs, with its children where the system can."""
    if process.poll() is not None:
        return
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _answer(path: Path, ct: Volume, program: str, scheme: str) -> NDArray[np.uint8]:
    """The program's label map as vertebra ids on the grid of the CT."""
    if not path.exists():
        raise ExternalToolError(
            f"segmenter {program} ended well but wrote no {{output}}: it must write one NIfTI "
            "file of that very name"
        )
    try:
        labels = read(path, "labels")
        ids = to_vertebra_ids(labels.data, scheme)
    except InputError as problem:
        raise ExternalToolError(f"segmenter {program}: its output is unusable: {problem}") from None
    if not labels.grid.matches(ct.grid):
        raise ExternalToolError(
            f"segmenter {program} wrote another grid than it was given: {labels.grid} against "
            f"{ct.grid}: it must keep the grid of {{input}}"
        )
    return ids


def _renamed(
    vertebrae: NDArray[np.uint8], ct: Volume, lowest: int | None, highest: int | None
) -> tuple[NDArray[np.uint8], dict[int, Level], tuple[str, ...]]:
    """The presacral vertebrae counted anew from the ends that the user named."""
    found = [v for v in PRESACRAL if (vertebrae == v).any()]  # head to feet
    to_label = np.zeros(256, np.uint8)
    to_label[found] = range(1, len(found) + 1)
    labels = to_label[vertebrae]
    centres = ndimage.center_of_mass(labels > 0, labels, range(1, len(found) + 1))
    instances = Instances(
        labels,
        np.asarray(centres, np.float64).reshape(-1, 3),
        np.isin(vertebrae, list(SACRUM)),
    )
    spacing_mm = float(np.mean(ct.grid.spacing))
    levels, said = assign_levels(instances, spacing_mm, lowest, highest)
    to_vertebra = np.zeros(256, np.uint8)
    to_vertebra[1 : len(levels) + 1] = [level.vertebra for level in levels]
    renamed = np.where(labels > 0, to_vertebra[labels], vertebrae)
    return renamed, {level.vertebra: level for level in levels}, said
