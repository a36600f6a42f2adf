"""End to end on tiny subjects whose errors are known."""

import json
import math
import shutil
from collections import Counter
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec

import numpy as np
import pytest

from spinect.errors import ConfigError, InputError, OutputError, ResourceError
from spinect.evaluation.tables import read_tidy
from spinect.io import read
from spinect.workflows.evaluate import EvaluateOptions, evaluate
from spinect.workflows.evaluate.pairing import expected_series
from spinect.workflows.evaluate.results import find_methods
from spinect.workflows.evaluate.truth import find_cohort

OPTIONS = EvaluateOptions(renderer="matplotlib")


@pytest.fixture(scope="module")
def done(tiny_dataset, tiny_results, tmp_path_factory):
    return evaluate(tiny_dataset, tiny_results, tmp_path_factory.mktemp("out"), OPTIONS)


def picked(rows, method, region, metric, space="iso", protocol="strict", item=""):
    """case -> row."""
    wanted = (method, region, metric, space, protocol, item)
    return {r.case: r for r in rows
            if (r.method, r.region, r.metric, r.space, r.protocol, r.item) == wanted}  # fmt: skip


def test_known_errors_come_out(done, tiny_dataset, tiny_results):
    for method, offset in (("good", 30), ("poor", 90)):
        for metric in ("mae", "bias"):
            found = picked(done.scores.rows, method, "bone", metric)
            assert found["sub-1000000_T2w"].value == pytest.approx(offset, abs=1e-4)
    case = "sub-1000000_T2w"
    true = read(
        tiny_dataset
        / "derivatives/truth/sub-1000000/sub-1000000_space-iso_desc-vertebrae_dseg.nii.gz",
        "labels",
    ).data
    mine = read(tiny_results / f"good/{case}_space-iso_desc-vertebrae_dseg.nii.gz", "labels").data
    for name, number in (("L3", 22), ("L5", 24)):
        a, b = mine == number, true == number
        dice = 2 * (a & b).sum() / (a.sum() + b.sum())
        row = picked(done.scores.rows, "good", "vertebra", "dice", item=name)[case]
        assert row.value == pytest.approx(dice, abs=1e-12)


def test_every_protocol_is_there_and_only_what_was_asked(
    done, tiny_dataset, tiny_results, tmp_path
):
    assert {r.protocol for r in done.scores.rows} == {"strict", "graf2023", "synthrad"}
    one = EvaluateOptions(protocols=("synthrad",), renderer="none")
    fewer = evaluate(tiny_dataset, tiny_results, tmp_path, one)
    assert {r.protocol for r in fewer.scores.rows} == {"synthrad"}
    assert [table.key for table in fewer.tables] == ["synthrad"]
    assert (
        "surface"
        not in (tmp_path / "report.html")
        .read_text()
        .split('<section id="run">')[0]
        .split("<main>")[1]
    )


def test_missing_is_counted_and_worst(done):
    rows = done.scores.rows
    row = picked(rows, "poor", "vertebra", "dice")["sub-1000002_T2w"]
    assert (row.value, row.note) == (0.0, "no result")
    row = picked(rows, "poor", "bone", "mae")["sub-1000002_T2w"]
    assert math.isnan(row.value)
    assert row.note == "no result"
    assert done.record.methods["poor"].missing == 1
    assert [(p.method, p.case, p.status) for p in done.record.problems] == [
        ("poor", "sub-1000002_T2w", "missing")
    ]
    assert done.exit_code == 0
    headline = (done.out / "tables/headline.md").read_text()
    assert "poor: results missing: 1" in headline
    assert "sub-1000002_T2w" in (done.out / "report.html").read_text()


def test_ceiling_is_a_row_without_rank(done):
    masks = next(table for table in done.tables if table.key == "masks-iso").table
    assert [m.name for m in masks.methods] == ["good", "poor", "ceiling"]
    assert not masks.methods[-1].ranked
    assert all(cell.rank == 0 for cell in masks.cells[-1])
    native, iso = (picked(done.scores.rows, "ceiling", "vertebra", "dice", space=space)
                   for space in ("native", "iso"))  # fmt: skip
    # The native truth was made from the 1 mm one, so the way there loses nothing; back it does.
    assert [row.value for row in native.values()] == [1.0, 1.0, 1.0]
    assert len(iso) == 3
    assert all(0.5 < row.value < 1 for row in iso.values())


def test_files_and_record(done):
    record = json.loads((done.out / "evaluate.json").read_text())
    assert record["phantom"] is True
    assert record["renderer"] == "matplotlib"
    assert record["parquet"] is (find_spec("pyarrow") is not None)
    assert all((done.out / name).is_file() for name in record["outputs"])
    assert read_tidy(done.out / "values.csv")[0] == done.scores.rows[0]
    assert len(read_tidy(done.out / "values.csv")) == len(done.scores.rows)
    hashes = {name for name in record["inputs"] if name.startswith("good/")}
    assert len(hashes) == 3 * 6
    for table in done.tables:
        for end in ("md", "tex"):
            assert "Phantom data" in (done.out / f"tables/{table.key}.{end}").read_text()


def test_resume_keeps_what_is_up_to_date(tiny_dataset, tiny_results, tmp_path, makers):
    results, out = tmp_path / "results", tmp_path / "out"
    shutil.copytree(tiny_results, results)
    options = EvaluateOptions(renderer="none", protocols=("strict",))
    evaluate(tiny_dataset, results, out, options)
    before = (out / "values.csv").read_bytes()
    with pytest.raises(OutputError, match="--resume"):
        evaluate(tiny_dataset, results, out, options)
    # as after a kill: no record, and the values of one case lost
    (out / "evaluate.json").unlink()
    next((out / "cases/good").glob("sub-1000001_T2w.*.csv")).unlink()
    again = options.model_copy(update={"resume": True})
    found = evaluate(tiny_dataset, results, out, again)
    assert (out / "values.csv").read_bytes() == before
    count = Counter(o.status for o in found.scores.outcomes)
    assert count == {"kept": 7, "done": 1, "missing": 1}  # ceilings too
    makers["result"](results / "good", tiny_dataset, 1_000_001, offset=60.0)
    third = evaluate(tiny_dataset, results, out, again)
    assert [o.series.name for o in third.scores.outcomes if o.status == "done"] == [
        "sub-1000001_T2w"
    ]
    assert len(list((out / "cases/good").glob("*.csv"))) == 3
    assert (out / "values.csv").read_bytes() != before


def test_other_protocols_or_formulas_make_other_keys(
    tiny_dataset, tiny_results, tmp_path, monkeypatch
):
    from spinect.workflows.evaluate import cases

    options = EvaluateOptions(renderer="none", protocols=("graf2023",), resume=True)
    evaluate(tiny_dataset, tiny_results, tmp_path, options)
    other = options.model_copy(update={"protocols": ("synthrad",)})
    assert evaluate(tiny_dataset, tiny_results, tmp_path, other).scores.count("kept") == 0
    assert {path.stem for path in (tmp_path / "tables").iterdir()} == {"synthrad"}
    monkeypatch.setattr(cases, "program_hash", lambda: "other formulas")
    assert evaluate(tiny_dataset, tiny_results, tmp_path, other).scores.count("kept") == 0


def test_workers_give_the_same_values(tiny_dataset, tiny_results, tmp_path):
    options = EvaluateOptions(protocols=("graf2023",), renderer="none")
    for folder, workers in (("one", 1), ("two", 2)):
        changed = options.model_copy(update={"workers": workers})
        evaluate(tiny_dataset, tiny_results, tmp_path / folder, changed)
    one, two = (tmp_path / folder / "values.csv" for folder in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_a_killed_worker_is_said_in_one_line(tiny_dataset, tiny_results, tmp_path, monkeypatch):
    def killed(_pool, _do, _jobs):
        raise BrokenProcessPool("a process ended")

    monkeypatch.setattr("spinect.workflows.evaluate.run.ProcessPoolExecutor.map", killed)
    options = EvaluateOptions(protocols=("graf2023",), renderer="none", workers=2)
    with pytest.raises(ResourceError, match="fewer --workers and --resume"):
        evaluate(tiny_dataset, tiny_results, tmp_path, options)


def test_one_series_per_patient(tiny_dataset, tiny_results, tmp_path):
    dataset = tmp_path / "set"
    shutil.copytree(tiny_dataset, dataset)
    for folder in (dataset / "sub-1000001/anat", dataset / "derivatives/truth/sub-1000001"):
        for path in list(folder.iterdir()):
            if "T2w" in path.name:
                shutil.copy(path, path.with_name(path.name.replace("T2w", "T1w")))
    cohort, methods = find_cohort(dataset, "test"), find_methods(tiny_results)
    assert len(cohort.series) == 4
    every = expected_series(cohort, methods, one_series=False)
    assert "sub-1000001_T1w" in {s.name for s in every}
    single = expected_series(cohort, methods, one_series=True)
    assert [s.name for s in single] == [f"sub-100000{k}_T2w" for k in range(3)]
    assert [s.name for s in find_cohort(dataset, "test", ("T1w",)).series] == ["sub-1000001_T1w"]


def test_registered_truth_counts_only_where_it_is_valid(makers, tmp_path):
    """Errors outside desc-valid are not seen; a registered CT is a truth."""
    from spinect.io import write_volume

    dataset = makers["dataset"](tmp_path / "set", seeds=(1_000_000,))
    results = makers["results"](tmp_path / "results", dataset, seeds=(1_000_000,))
    truth = dataset / "derivatives/truth/sub-1000000"
    folder = dataset / "derivatives/registered/sub-1000000"
    folder.mkdir(parents=True)
    for path in truth.iterdir():
        shutil.copy(path, folder / path.name.replace("space-iso", "space-T2w_res-iso"))
    shutil.rmtree(dataset / "derivatives/truth")
    ct = read(folder / "sub-1000000_space-T2w_res-iso_ct.nii.gz", "ct")
    valid = np.ones(ct.data.shape, np.uint8)
    valid[:, :, :20] = 0
    spoiled = ct.with_data(np.where(valid > 0, ct.data, 3000).astype(np.float32))
    write_volume(spoiled, folder / "sub-1000000_space-T2w_res-iso_ct.nii.gz")
    mask = ct.with_data(valid, "labels")
    write_volume(mask, folder / "sub-1000000_space-T2w_res-iso_desc-valid_mask.nii.gz")
    found = evaluate(dataset, results, tmp_path / "out",
                     EvaluateOptions(protocols=("strict",), renderer="none"))  # fmt: skip
    assert found.scores.cohort.series[0].source == "registered"
    row = picked(found.scores.rows, "results", "bone", "mae")["sub-1000000_T2w"]
    assert row.value == pytest.approx(30, abs=1e-4)


def test_nothing_in_common_is_an_error(tiny_dataset, makers, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no result"):
        evaluate(tiny_dataset, empty, tmp_path / "out", OPTIONS)
    with pytest.raises(InputError, match="no series with a truth to score on side 'validation'"):
        evaluate(
            tiny_dataset,
            empty,
            tmp_path / "out",
            OPTIONS.model_copy(update={"split": "validation"}),
        )
    other = makers["dataset"](tmp_path / "other", seeds=(1_000_009,))
    strange = makers["results"](tmp_path / "strange", other, seeds=(1_000_009,))
    with pytest.raises(InputError, match="no result belongs to a series"):
        evaluate(tiny_dataset, strange, tmp_path / "out", OPTIONS)


def test_reference_must_be_a_method(tiny_dataset, tiny_results, tmp_path):
    options = OPTIONS.model_copy(update={"reference": "best"})
    with pytest.raises(ConfigError, match="'best' is not among the methods good, poor"):
        evaluate(tiny_dataset, tiny_results, tmp_path, options)


def test_options_are_checked():
    with pytest.raises(ConfigError, match="overwrite and resume"):
        EvaluateOptions.checked(resume=True, overwrite=True)
    with pytest.raises(ConfigError, match="protocols"):
        EvaluateOptions.checked(protocols=())


def test_methods_may_make_only_masks_or_only_a_ct(tiny_dataset, tiny_results, tmp_path):
    """A direct segmenter has no HU, a bare translator no masks; neither is a failure."""
    results = tmp_path / "results"
    for name, unwanted in (("direct", "*_ct.nii.gz"), ("bare", "*_dseg.nii.gz")):
        shutil.copytree(tiny_results / "good", results / name)
        for path in results.glob(f"{name}/{unwanted}"):
            path.unlink()
    options = EvaluateOptions(renderer="matplotlib", reference="direct")
    done = evaluate(tiny_dataset, results, tmp_path / "out", options)
    assert done.exit_code == 0
    kinds = {name: {row.metric for row in done.scores.rows if row.method == name}
             for name in ("direct", "bare")}  # fmt: skip
    assert "mae" in kinds["bare"]
    assert "dice" not in kinds["bare"]
    assert "dice" in kinds["direct"]
    assert "mae" not in kinds["direct"]
    headline = (tmp_path / "out/tables/headline.md").read_text()
    assert headline.count("| — ") >= 4
    shutil.rmtree(results / "direct")  # alone, nothing is said of masks: the ceiling is no method
    alone = EvaluateOptions(renderer="matplotlib")
    assert evaluate(tiny_dataset, results, tmp_path / "alone", alone).exit_code == 0
    told = (tmp_path / "alone/tables/headline.md").read_text()
    assert "MAE" in told
    assert "Dice" not in told
