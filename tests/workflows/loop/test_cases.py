"""Which series a loop works on, and which it cannot; no image is read."""

from types import SimpleNamespace

import pytest

from spinect.errors import ConfigError, InputError, TrainingError
from spinect.io import write_table
from spinect.training import load_config
from spinect.workflows.loop import parse_loop
from spinect.workflows.loop.cases import find_cases
from spinect.workflows.loop.engines import ConfiguredTrainer
from spinect.workflows.loop.rounds import blocked, candidates, lesson

FILES = (
    "sub-1/anat/sub-1_T2w.nii.gz", "sub-1/anat/sub-1_T2w_poi.json",
    "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_T1w_poi.json",
    "sub-1/anat/sub-1_STIR.nii.gz",
    "sub-1/ct/sub-1_ct.nii.gz", "sub-1/ct/sub-1_ct_poi.json",
    "sub-1/ct/sub-1_desc-vertebrae_dseg.nii.gz",
    "sub-2/anat/sub-2_T2w.nii.gz",
    "sub-2/ct/sub-2_ct.nii.gz",
    "sub-3/anat/sub-3_T2w.nii.gz",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    rows = [{"participant_id": f"sub-{n}", "split": "train"} for n in (1, 2, 3)]
    write_table(rows, tmp_path / "set" / "participants.tsv")
    return tmp_path / "set"


def loop(**fields):
    return parse_loop({"dataset": "d", "train": "t"} | fields)


def test_two_contrasts_and_only_the_seeds_have_landmarks(folder):
    cases = find_cases(folder, loop())
    assert [c.name for c in cases] == ["sub-1_T1w", "sub-1_T2w", "sub-2_T2w", "sub-3_T2w"]
    assert [c.name for c in cases if c.pair.mr_landmarks] == ["sub-1_T2w"]
    assert cases[0].visit == cases[1].visit != cases[2].visit


def test_landmarks_of_another_folder(folder, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    (marks / "sub-2_T2w_poi.json").touch()
    seeds = {"contrast": "T2w", "landmarks": str(marks)}
    cases = find_cases(folder, loop(seeds=seeds))
    assert [c.name for c in cases if c.pair.mr_landmarks] == ["sub-2_T2w"]


def test_one_contrast_its_marked_series_teach_the_others(folder):
    config = loop(targets="T2w", match={"frame": "header"})
    cases = find_cases(folder, config)
    done = {"sub-1_T2w": 0}
    assert lesson(cases, done, config, "train").cases == ("sub-1_T2w",)
    assert [c.name for c in candidates(cases, done, config)] == ["sub-2_T2w", "sub-3_T2w"]


def test_what_no_model_can_mend_is_said(folder):
    said = [blocked(case) for case in find_cases(folder, loop())]
    assert said[:2] == ["", ""]
    assert "sub-2_ct.nii.gz has no landmarks" in said[2]
    assert "sub-3 has no CT" in said[3]
    (folder / "sub-2/ct/sub-2_ct_poi.json").touch()
    assert "no vertebra mask" in blocked(find_cases(folder, loop())[2])


def test_no_seed_and_no_row_are_errors(folder):
    with pytest.raises(ConfigError, match="no STIR has landmarks"):
        find_cases(folder, loop(seeds={"contrast": "STIR"}))
    write_table([{"participant_id": "sub-1", "split": "train"}], folder / "participants.tsv")
    with pytest.raises(InputError, match="does not list sub-2"):
        find_cases(folder, loop())


def test_a_training_that_was_stopped_is_not_used(raw, tmp_path, monkeypatch):
    """After its `piece_minutes` training returns in good order, and its model is not finished."""
    seen = SimpleNamespace(config=None)

    def stop(config, run):
        seen.config = config
        return run

    monkeypatch.setattr("spinect.workflows.loop.engines.train", stop)
    trainer = ConfiguredTrainer(load_config(tmp_path / "train.yaml"))
    with pytest.raises(TrainingError, match="stopped at update 0, before its end"):
        trainer(tmp_path / "accepted", "T1w", tmp_path / "training")
    data = seen.config.data
    assert (data.folder, data.contrast) == (str(tmp_path / "accepted"), "T1w")
    assert data.pose == "registered"
    assert raw["train"] == str(tmp_path / "train.yaml")
