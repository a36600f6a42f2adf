"""Writes the outputs of one case: all of them, or none."""

import csv
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import numpy as np

from spinect.errors import InputError
from spinect.geometry import Volume
from spinect.io.records import write_dseg_table, write_json, write_table, write_volume
from spinect.report import Page, Scene, write_html, write_preview
from spinect.workflows import names
from spinect.workflows.engine import Result
from spinect.workflows.planning import Case
from spinect.workflows.record import RunRecord, read_record

_WORDS: Final[dict[str, bool | None]] = {"n/a": None, "true": True, "false": False}
TABLE_COLUMNS: Final = (
    "id",
    "name",
    "level_source",
    "level_p",
    "volume_mm3",
    "synthetic_hu_mean",
    "centroid_x_mm",
    "centroid_y_mm",
    "centroid_z_mm",
    "height_anterior_mm",
    "height_middle_mm",
    "height_posterior_mm",
    "cut_si",
    "cut_ap",
    "cut_lr",
    "confidence",
    "spread_hu",
    "draws_found",
)


@contextmanager
def workbench(folder: Path, stem: str) -> Iterator[Path]:
    """A hidden folder beside the outputs of a case, on the same disk; always taken away.

    What a killed run left there is removed first. Two runs of one case at once are not meant.
    """
    bench = folder / f".{stem}.part"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(bench, ignore_errors=True)
    bench.mkdir()
    try:
        yield bench
    finally:
        shutil.rmtree(bench, ignore_errors=True)


def write_result(result: Result, case: Case, bench: Path) -> None:
    """Volumes, masks with their name tables, and the vertebra table."""
    wanted = set(names.output_ends(case.options))
    like = case.source if case.source.name.lower().endswith((".nii", ".nii.gz")) else None
    volumes: dict[str, Volume | None] = {
        names.synthetic(case.options): result.ct,
        names.ISO + names.synthetic(case.options): result.ct_iso,
        names.VERTEBRAE + ".nii.gz": result.vertebrae,
        names.ISO + names.VERTEBRAE + ".nii.gz": result.vertebrae_iso,
        names.SUBREGIONS + ".nii.gz": result.subregions,
        names.ISO + names.SUBREGIONS + ".nii.gz": result.subregions_iso,
    }
    ends = names.layer_ends(case.options)
    for name, end in ends.items():
        layer = result.layers[name]
        volumes |= {f"{end}.nii.gz": layer.native, f"{names.ISO}{end}.nii.gz": layer.iso}
        write_json(dict(layer.facts), bench / f"{case.stem}{end}.json")
    if (region := result.region) is not None:
        ends_of = (names.REGION + ".nii.gz", names.ISO + names.REGION + ".nii.gz")
        volumes |= dict(zip(ends_of, (region.native, region.iso), strict=True))
        about = region.record.model_dump(mode="json") | {"1": "translated", "0": "left out"}
        write_json(about, bench / f"{case.stem}{names.REGION}.json")
    for end, volume in volumes.items():
        if end not in wanted:
            continue
        assert volume is not None, f"the engine made nothing for {end}"
        path = bench / (case.stem + end)
        write_volume(volume, path, like=like)
        if end.endswith("_dseg.nii.gz"):
            table = path.with_name(path.name.removesuffix(".nii.gz") + ".tsv")
            write_dseg_table(table, np.unique(volume.data).tolist())
    if names.TABLE in wanted:
        write_table(list(result.rows), bench / (case.stem + names.TABLE), TABLE_COLUMNS)


def read_rows(table: Path) -> list[dict[str, object]]:
    """The rows of a vertebrae.tsv with numbers and truth values as such, "n/a" as None."""
    with table.open(newline="", encoding="utf-8") as stream:
        return [
            {key: _value(text) for key, text in row.items()}
            for row in csv.DictReader(stream, delimiter="\t")
        ]


def _value(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    try:
        return float(text)
    except ValueError:
        return text


def write_report(scene: Scene, page: Page, case: Case, bench: Path) -> None:
    """The preview and the page, where they are wanted."""
    wanted = set(names.output_ends(case.options))
    if names.PREVIEW in wanted:
        write_preview(scene, bench / (case.stem + names.PREVIEW), page.title)
    if names.PAGE in wanted:
        write_html(scene, page, bench / (case.stem + names.PAGE))


def commit(record: RunRecord, case: Case, bench: Path) -> None:
    """Move everything from the workbench to its place, run.json last.

    Outputs of an earlier run of this case that the new one does not make are taken away, so that
    no file of other options stays beside the new record.
    """
    write_json(record.model_dump(mode="json"), bench / case.record.name)
    install(bench, case.record, record.outputs, _former(case))


def install(bench: Path, record: Path, outputs: Iterable[str], former: Iterable[Path]) -> None:
    """Move finished files from a workbench to the folder of their record, the record last.

    Args:
        record: Final place of the record; its file lies on the bench under the same name.
        former: Files of an earlier run, taken away first.
    """
    with _uninterrupted():
        for old in former:
            old.unlink(missing_ok=True)
        record.unlink(missing_ok=True)
        for name in outputs:
            (bench / name).replace(record.with_name(name))
        (bench / record.name).replace(record)


def _former(case: Case) -> list[Path]:
    """Outputs that the record of an earlier run names, of this case and in its folder only."""
    former: list[Path] = []
    if case.record.exists():
        with suppress(InputError):  # a foreign or damaged record names nothing
            former = [case.folder / Path(name).name for name in read_record(case.record).outputs]
    return [path for path in former if path.name.startswith(case.stem)]


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and termination back for the few milliseconds of renaming."""
    held = {signal.SIGINT, signal.SIGTERM}
    able = hasattr(signal, "pthread_sigmask") and (
        threading.current_thread() is threading.main_thread()
    )
    if not able:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
