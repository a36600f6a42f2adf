"""One pair: read, register, warp, judge, write, draw; whole or not at all."""

import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from spinect.errors import InputError, SpinectWarning
from spinect.geometry import Volume
from spinect.io import write_json
from spinect.registration import Quality, Registration
from spinect.registration import quality as judge_field
from spinect.report.alignment import Alignment
from spinect.report.registration import write_registration
from spinect.workflows import record as records
from spinect.workflows.outputs import install, workbench
from spinect.workflows.record import Stopwatch
from spinect.workflows.register import names as n
from spinect.workflows.register.align import align, judged
from spinect.workflows.register.files import in_mr, write_maps, write_points, write_volumes
from spinect.workflows.register.loading import Inputs, load
from spinect.workflows.register.options import RegisterOptions
from spinect.workflows.register.pairs import Pair
from spinect.workflows.register.record import FileRecord, RegistrationRecord, facts, read_record
from spinect.workflows.register.volumes import (
    Registered,
    bone_mask,
    bring,
    bring_native,
    cropped,
    field_on,
    iso_grid,
)


@dataclass(frozen=True)
class Outcome:
    """What became of one pair.

    Attributes:
        status: "done", "kept" (up to date, with resume) or "failed".
        record: Of a pair that is done or kept.
        error: One line, of a pair that failed.
    """

    pair: Pair
    status: Literal["done", "kept", "failed"]
    seconds: float
    record: RegistrationRecord | None = None
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Work:
    """A registered pair before it is drawn: the verdict, and the 1 mm volumes."""

    registration: Registration
    iso: Registered
    facts: dict[str, Any]


def register_pair(pair: Pair, options: RegisterOptions) -> Outcome:
    """Do one pair.

    Its files appear in `pair.folder` together at the end, the record last; an error, Ctrl-C or a
    kill before that leaves none of them.

    Raises:
        SpinectError: What went wrong, in one line.
    """
    start = time.perf_counter()
    if options.resume and (kept := _up_to_date(pair, options)):
        return Outcome(pair, "kept", round(time.perf_counter() - start, 3), kept)
    records.reset_peak()
    started, watch = records.now(), Stopwatch()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with watch.stage("read"):
            inputs = load(pair, landmarks_needed=options.points != "0")
        with watch.stage("register"):
            found = align(inputs, options)
        with workbench(pair.folder, pair.names.stem) as bench:
            work = _make(inputs, found, pair, options, (bench, watch))
            with watch.stage("picture"):
                _draw(work, inputs, pair, bench)
            said = [str(w.message) for w in caught if issubclass(w.category, SpinectWarning)]
            outputs = tuple(sorted(path.name for path in bench.iterdir()))
            record = RegistrationRecord(
                commit=records.commit(),
                started=started,
                inputs=_inputs(pair),
                outputs=outputs,
                options=options.deciding,
                options_sha256=options.sha256,
                warnings=tuple(dict.fromkeys(said)),
                seconds=watch.seconds,
                peak_bytes=records.peak_memory(),
                versions=records.versions(),
                **work.facts,
            )
            write_json(record.model_dump(mode="json"), bench / pair.record.name)
            install(bench, pair.record, outputs, _former(pair))
    return Outcome(pair, "done", round(time.perf_counter() - start, 3), record)


def _make(
    inputs: Inputs,
    found: Registration,
    pair: Pair,
    options: RegisterOptions,
    place: tuple[Path, Stopwatch],
) -> Work:
    """Warp, judge and write both grids."""
    bench, watch = place
    names, fine = pair.names, iso_grid(inputs.mr.grid)
    near = replace(
        inputs,
        ct=cropped(inputs.ct, fine, found),
        ct_vertebrae=_part(inputs.ct_vertebrae, inputs, found),
        ct_subregions=_part(inputs.ct_subregions, inputs, found),
    )
    with watch.stage("bone"):
        bone = bone_mask(inputs, found, fine)
    with watch.stage("motion"):
        field = field_on(fine, found, bone)
    with watch.stage("warp"):
        made = bring(near, fine, found, field, options.interpolation)
        native = (
            bring(near, inputs.mr.grid, found, None, options.interpolation)
            if field is None
            else bring_native(near, inputs.mr.grid, found, (made, field), options.interpolation)
        )
    judgement: Quality | None = None
    if field is not None and bone is not None:
        with watch.stage("quality"):
            judgement = judge_field(field, bone)
    found = judged(found, judgement, made.inside, inputs.mr.grid)
    with watch.stage("write"):
        write_volumes(native, bench / names.stem, pair.mr)
        write_volumes(made, bench / (names.stem + n.ISO), pair.mr)
        write_maps(found, field, bench, names)
        write_points(found, inputs, bench / names.stem)
    least = None if field is None else float(field.jacobian.min())
    return Work(found, made, facts(found, judgement, least) | {"valid": round(made.inside, 4)})


def _part(mask: Volume | None, inputs: Inputs, found: Registration) -> Volume | None:
    return None if mask is None else cropped(mask, inputs.mr.grid, found)


def _draw(work: Work, inputs: Inputs, pair: Pair, bench: Path) -> None:
    mr, ct = inputs.mr_points, inputs.ct_points
    found = work.registration
    picture = Alignment(
        mr=inputs.mr,
        ct=work.iso.ct,
        valid=work.iso.valid,
        vertebrae=work.iso.vertebrae,
        mr_points=mr,
        ct_points=None if ct is None else in_mr(found, ct),
        registration=found,
        facts=work.facts,
    )
    write_registration(picture, bench / (pair.names.stem + n.PICTURE), pair.names.stem)


def _inputs(pair: Pair) -> dict[str, FileRecord]:
    return {
        field: FileRecord(path=path.name, sha256=records.sha256_of(path))
        for field, path in pair.inputs.items()
    }


def _up_to_date(pair: Pair, options: RegisterOptions) -> RegistrationRecord | None:
    """The record, if inputs and options are the same and every output is there."""
    if pair.problem or not pair.record.is_file():
        return None
    try:
        record = read_record(pair.record)
    except InputError:
        return None
    there = all((pair.folder / name).is_file() for name in record.outputs)
    same = record.options_sha256 == options.sha256 and there
    return record if same and record.inputs == _inputs(pair) else None


def _former(pair: Pair) -> list[Path]:
    """Outputs that the record of an earlier registration of this pair names."""
    former: list[Path] = []
    if pair.record.is_file():
        with suppress(InputError):  # a foreign or damaged record names nothing
            former = [pair.folder / Path(f).name for f in read_record(pair.record).outputs]
    return [path for path in former if path.name.startswith(f"{pair.names.prefix}_")]
