"""The loop's logic, driven by oracles with planted failures."""

import csv
import json
import re

import pytest
import yaml
from planted import EMPTY, FAR, GOOD, LOST, SHIFTED, WRONG, Oracle
from typer.testing import CliRunner

from spinect.cli.main import app
from spinect.errors import ConfigError, OutputError
from spinect.io import read_poi
from spinect.workflows.loop import parse_loop, run_loop

STILL = {"clock": lambda: 0.0}
# What differs between two registrations of the same pair: when, how fast, in how much memory.
TIMED = re.compile(r'"started": "[^"]*"|"seconds": \{[^}]*\}|"peak_bytes": \d+')
TIMED_COLUMN = re.compile(r"\t[\d.]+\tn/a\n")  # seconds and error of registration.tsv
TARGETS = [f"{name}_T1w" for name in (GOOD, SHIFTED, WRONG, EMPTY, FAR, LOST)]


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def content(out):
    """Every file of a loop, less what tells the time."""
    found = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        held = path.read_bytes()
        if path.suffix in (".json", ".tsv"):
            text = TIMED.sub("", held.decode())
            held = TIMED_COLUMN.sub("\n", text) if path.name == "registration.tsv" else text
        found[path.relative_to(out).as_posix()] = held
    return found


@pytest.fixture(scope="module")
def whole(study, tmp_path_factory):
    """An uninterrupted loop: its folder, its end, its oracle."""
    base = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "spinect.workflows.register.pair.write_registration", lambda _a, p, _t: p.touch()
        )
        oracle = Oracle(study)
        ended = run_loop(config_in(base, study), base / "out", oracle.models, **STILL)
    return base / "out", ended, oracle


def config_in(folder, study, **change):
    training = folder / "train.yaml"
    training.write_text(
        "name: tiny\nmethod: {name: regression}\n"
        "data: {source: dataset, folder: replaced}\ntrainer: {max_steps: 1, warmup: 0}\n"
    )
    raw = {
        "dataset": str(study),
        "train": str(training),
        "least_pairs": 2,
        "rounds": 4,
        "register": {"points": "2", "model": "rigid"},
    }
    return parse_loop(raw | change)


def test_what_can_be_gained_is_gained(whole):
    out, ended, oracle = whole
    series = {row["series"]: row for row in rows(out / "cases.tsv")}
    found = {k: (series[k]["state"], series[k]["round"]) for k in TARGETS}
    assert found == {
        f"{GOOD}_T1w": ("accepted", "1"),
        f"{SHIFTED}_T1w": ("accepted", "1"),
        f"{WRONG}_T1w": ("failed", "3"),
        f"{EMPTY}_T1w": ("accepted", "2"),
        f"{FAR}_T1w": ("failed", "3"),
        f"{LOST}_T1w": ("failed", "3"),
    }
    assert ended.exit_code == 3
    assert ended.why == "round 3 gained nothing, 3 target(s) failed"
    # The first model learns from T2w, the next ones from the T1w that were accepted.
    assert oracle.trainings == [("T2w", 5), ("T1w", 5 + 2), ("T1w", 5 + 3)]


def test_every_failure_has_its_reason_in_every_round(whole):
    out, ended, _ = whole
    said = {
        WRONG: "match: no body of one scan lies within 15 mm",
        FAR: "mean residual",
        LOST: "match: no other series of this patient, session and CT is accepted",
    }
    for number in (1, 2, 3):
        failed = ended.decisions[number].failed
        for name, reason in said.items():
            assert reason in failed[f"{name}_T1w"]
            assert (out / f"round-{number}" / "steps" / f"{name}_T1w_translate.json").is_file()
    assert (
        ended.decisions[1].failed[f"{EMPTY}_T1w"].startswith("segment: the segmentation is empty")
    )
    assert "mean residual 17.1 mm" in ended.decisions[0].failed[f"{LOST}_T2w"]


def test_levels_are_named_after_the_nearest_bodies(whole):
    out, _, _ = whole
    row = next(r for r in rows(out / "cases.tsv") if r["series"] == f"{SHIFTED}_T1w")
    assert "L6 is L5" in row["renamed"]
    synthetic = out / "round-1" / "synthetic" / SHIFTED
    before, after = (
        read_poi(synthetic / f"{SHIFTED}_space-T1w_desc-{d}_poi.json")
        for d in ("synthetic", "matched")
    )
    assert before.vertebrae[-1] == after.vertebrae[-1] + 1


def test_one_table_of_all_rounds(whole):
    out, _, _ = whole
    found = [
        {k: row[k] for k in ("round", "trained_on", "training", "tried", "gained", "accepted")}
        for row in rows(out / "rounds.tsv")
    ]
    assert [tuple(row.values()) for row in found] == [
        ("0", "n/a", "0", "6", "5", "5"),
        ("1", "T2w", "5", "6", "2", "7"),
        ("2", "T1w", "2", "4", "1", "8"),
        ("3", "T1w", "3", "3", "0", "8"),
    ]
    table = rows(out / "rounds.tsv")
    assert [row["failed"] for row in table] == ["1", "4", "3", "3"]
    assert [row["registered"] for row in table] == ["6", "3", "2", "1"]
    assert 0 < float(table[1]["mean_mm"]) < float(table[1]["p95_mm"]) < 12


def test_the_accepted_pairs_are_a_dataset(whole, study):
    from spinect.data.series import find_series, patients

    view = whole[1].accepted
    found = find_series(view, patients(view, "train"), "T1w", "registered")
    assert [s.mr.resolve().name for s in found] == [
        f"{n}_T1w.nii.gz" for n in (GOOD, SHIFTED, EMPTY)
    ]
    assert all(path.is_file() for s in found for path in s.files)
    assert not list(view.rglob("*.nii.gz"))
    assert not (study / "derivatives" / "registered").exists()  # nothing is written in the dataset


def test_killed_after_every_step_and_resumed(whole, study, tmp_path):
    """Each start does one step; all files equal those of the uninterrupted loop."""
    oracle, out, config = Oracle(study), tmp_path / "out", config_in(tmp_path, study)
    config = config.model_copy(update={"train": str(whole[0].parent / "train.yaml")})

    def kill(_record):
        raise KeyboardInterrupt

    starts = 0
    while True:
        starts += 1
        try:
            ended = run_loop(config, out, oracle.models, tell=kill, **STILL)
            break
        except KeyboardInterrupt:
            continue
    steps = len(list(out.glob("round-*/steps/*.json")))
    assert starts == steps + 1
    assert len(oracle.trainings) == 3
    assert ended.decisions == whole[1].decisions
    assert content(out) == content(whole[0])


def test_killed_inside_every_step_and_resumed(whole, study, tmp_path):
    """What a step left unfinished is made again, the same."""

    class Dying(Oracle):
        """Does its work, and dies before the loop hears of it; every second time it lives."""

        def __init__(self, dataset):
            super().__init__(dataset)
            self.died = set()

        def _once(self, *what):
            if what not in self.died:
                self.died.add(what)
                raise KeyboardInterrupt

        def train(self, dataset, contrast, folder):
            made = super().train(dataset, contrast, folder)
            self._once("train", str(folder))
            return made

        def translate(self, case, mr, model):
            self._once("translate", case.name, str(model))
            return super().translate(case, mr, model)

        def segment(self, case, ct):
            self._once("segment", case.name)
            return super().segment(case, ct)

    oracle, out, config = Dying(study), tmp_path / "out", config_in(tmp_path, study)
    config = config.model_copy(update={"train": str(whole[0].parent / "train.yaml")})
    for _ in range(100):
        try:
            run_loop(config, out, oracle.models, **STILL)
            break
        except KeyboardInterrupt:
            continue
    assert len(oracle.died) > 20
    assert content(out) == content(whole[0])


def test_finished_loops_stay_and_take_more_rounds(whole, study, tmp_path):
    """Another start changes nothing; one that ended by its number of rounds goes on with more."""
    config = config_in(tmp_path, study, rounds=1)
    oracle = Oracle(study)
    ended = run_loop(config, tmp_path / "out", oracle.models, **STILL)
    assert ended.why == "1 round(s) are done, 4 target(s) failed"
    again = run_loop(config, tmp_path / "out", oracle.models, **STILL)
    assert again.decisions == ended.decisions
    assert len(oracle.trainings) == 1
    more = run_loop(
        config.model_copy(update={"rounds": 2}), tmp_path / "out", oracle.models, **STILL
    )
    assert more.decisions == whole[1].decisions[:3]


def test_folders_of_others_are_refused(whole, study, tmp_path):
    other = config_in(tmp_path, study, least_pairs=3)
    with pytest.raises(ConfigError, match="belongs to a loop of another config"):
        run_loop(other, whole[0], whole[2].models)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="neither empty nor the folder of a loop"):
        run_loop(other, tmp_path / "full", whole[2].models)


def test_state_is_small_readable_json(whole):
    step = json.loads((whole[0] / "round-1" / "steps" / f"{GOOD}_T1w_register.json").read_text())
    assert step["status"] == "done"
    assert step["facts"]["verdict"] == "accept"
    assert all((whole[0] / name).is_file() for name in step["files"])


def test_headers_place_what_no_accepted_series_places(study, tmp_path):
    """Levels are matched from the headers, and a patient needs no marked series."""
    config = config_in(tmp_path, study, rounds=1, match={"frame": "header", "max_mm": 15})
    ended = run_loop(config, tmp_path / "out", Oracle(study).models, **STILL)
    assert f"{LOST}_T1w" in ended.decisions[1].gained
    assert f"{WRONG}_T1w" in ended.decisions[1].failed


def test_names_are_believed_unless_an_accepted_series_contradicts_them(study, tmp_path):
    """One level off, the registration alone would be accepted; the T2w's place tells."""
    config = config_in(tmp_path, study, rounds=1, match={"frame": "names"})
    ended = run_loop(config, tmp_path / "out", Oracle(study).models, **STILL)
    assert {f"{GOOD}_T1w", f"{LOST}_T1w"} <= set(ended.decisions[1].gained)
    assert "levels are shifted" in ended.decisions[1].failed[f"{SHIFTED}_T1w"]
    assert "L6 lies at L5" in ended.decisions[1].failed[f"{SHIFTED}_T1w"]


def test_the_command_shows_the_rounds_and_says_that_some_failed(whole, study):
    base = whole[0].parent
    config = yaml.safe_dump(
        {
            "dataset": str(study),
            "train": str(base / "train.yaml"),
            "least_pairs": 2,
            "rounds": 4,
            "register": {"points": "2", "model": "rigid"},
        }
    )
    (base / "loop.yaml").write_text(config)
    shown = CliRunner().invoke(app, ["loop", str(base / "loop.yaml"), "-o", str(whole[0])])
    assert shown.exit_code == 3, shown.output
    assert "round 3 gained nothing" in shown.output
    assert "trained on" in shown.output
    assert "\u2026" not in shown.output  # no figure is cut short where the terminal is narrow
    words = ["loop", str(base / "loop.yaml"), "-o", str(whole[0]), "--json"]
    found = json.loads(CliRunner().invoke(app, words).stdout)
    assert [row["gained"] for row in found["rounds"]] == [5, 2, 1, 0]
    assert len(found["waiting"]) == 3
    wrong = CliRunner().invoke(app, ["loop", str(base / "none.yaml")])
    assert wrong.exit_code == 1
