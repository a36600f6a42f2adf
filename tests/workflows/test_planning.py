"""What is decided before anything runs: names, clashes, lists, shards, room on the disk."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from pydantic import ValidationError

from spinect.errors import ConfigError, OutputError, ResourceError
from spinect.workflows.names import output_ends, stem_of
from spinect.workflows.options import (
    OUTPUTS,
    STANDARD,
    RunOptions,
    human_size,
    human_time,
    parse_outputs,
    parse_size,
)
from spinect.workflows.planning import parse_shard, plan

OPTIONS = RunOptions()


@pytest.fixture
def files(mr_file):
    names = [mr_file]
    for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz", "d.nii.gz"):
        names.append(mr_file.parent / name)
        shutil.copy(mr_file, names[-1])
    return names


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("sub-1_T2w.nii.gz", "sub-1_T2w"),
        ("a.b.nii", "a.b"),
        ("x.MHA", "x"),
        ("y.nrrd", "y"),
        ("noext", "noext"),
        (".nii.gz", ".nii.gz"),
    ],
)
def test_stem(name, stem):
    assert stem_of(Path(name)) == stem


def test_two_inputs_with_one_output_name_are_named(tmp_path, files):
    twin = tmp_path / "other"
    twin.mkdir()
    shutil.copy(files[1], twin / "a.nii.gz")
    with pytest.raises(OutputError) as caught:
        plan([files[1], twin / "a.nii.gz"], tmp_path / "out", OPTIONS)
    assert str(files[1]) in str(caught.value)
    assert str(twin / "a.nii.gz") in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_other_suffix_and_iso_twin_clash_too(tmp_path, files):
    folder = files[0].parent
    shutil.copy(files[1], folder / "a_space-iso.nii.gz")
    for other in (folder / "a.mha", folder / "a_space-iso.nii.gz", files[1]):
        with pytest.raises(OutputError, match="would both write"):
            plan([files[1], other], tmp_path / "out", OPTIONS)


def test_root_mirrors_the_tree_and_solves_the_clash(tmp_path, files):
    root = files[0].parent
    (root / "deep").mkdir()
    shutil.copy(files[1], root / "deep" / "a.nii.gz")
    inputs = [files[1], root / "deep" / "a.nii.gz"]
    made = plan(inputs, tmp_path / "out", OPTIONS, root=root)
    assert [case.folder for case in made.cases] == [tmp_path / "out", tmp_path / "out" / "deep"]
    with pytest.raises(ConfigError, match="does not lie below"):
        plan(inputs, tmp_path / "out", OPTIONS, root=root / "deep")


def test_an_output_never_replaces_an_input(mr_file):
    other = mr_file.with_name("sub-1_T2w_desc-synth_ct.nii.gz")
    shutil.copy(mr_file, other)
    with pytest.raises(OutputError, match="would replace the input"):
        plan([mr_file, other], mr_file.parent, OPTIONS)


def test_existing_outputs_stop_the_run_unless_told(tmp_path, files):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b_preview.png").touch()
    with pytest.raises(OutputError, match=r"1 outputs exist already .*b_preview\.png"):
        plan(files, out, OPTIONS)
    for told in (RunOptions(overwrite=True), RunOptions(resume=True)):
        assert len(plan(files, out, told).cases) == 5
    assert len(plan(files, out, RunOptions(outputs=("ct",))).cases) == 5  # no preview is planned


def test_out_that_is_a_file(tmp_path, mr_file):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        plan([mr_file], tmp_path / "out", OPTIONS)


def test_room_on_the_disk_is_checked_first(tmp_path, mr_file, monkeypatch):
    made = plan([mr_file], tmp_path / "out", OPTIONS)
    voxels = made.cases[0].grid.shape
    native = voxels[0] * voxels[1] * voxels[2] * (2 + 1 + 1)
    assert made.disk_bytes > native
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, made.disk_bytes - 1))
    with pytest.raises(ResourceError, match="the outputs need about"):
        plan([mr_file], tmp_path / "out", OPTIONS)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_part_the_cases(tmp_path, files, count):
    seen = []
    for index in range(1, count + 1):
        part = plan(files, tmp_path / "out", OPTIONS, shard=(index, count))
        seen += [case.source for case in part.cases]
        assert part.cohort.name == f"cohort_shard-{index}of{count}.tsv"
    assert sorted(seen) == sorted(files)


def test_an_empty_shard_is_an_error(tmp_path, files):
    with pytest.raises(ConfigError, match="at most 5 shards"):
        plan(files, tmp_path / "out", OPTIONS, shard=(6, 6))


def test_list_file_with_own_options(tmp_path, mr_file):
    table = mr_file.parent / "list.tsv"
    table.write_text("mr\tlowest\tvolume\nsub-1_T2w.nii.gz\tL5\t\nx/y.nii.gz\t\t2\n")
    cases = plan([], tmp_path / "out", OPTIONS, table=table).cases
    assert cases[0].source == mr_file
    assert (cases[0].options.lowest, cases[0].options.volume) == ("L5", None)
    assert (cases[1].options.lowest, cases[1].options.volume) == (None, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it needs a tab-separated column mr"),
        ("file\na.nii\n", "it needs a tab-separated column mr"),
        ("mr,lowest\na.nii,L5\n", "it needs a tab-separated column mr"),
        ("mr\tlowest\na.nii\tL9\n", "line 2: lowest 'L9' is not a vertebra"),
        ("mr\tvolume\na.nii\t\n\t1\n", "names no MR in line 3"),
    ],
)
def test_bad_list_file(tmp_path, text, message):
    table = tmp_path / "list.tsv"
    table.write_text(text)
    with pytest.raises(ConfigError, match=message):
        plan([], tmp_path / "out", OPTIONS, table=table)


def test_nothing_to_do(tmp_path):
    with pytest.raises(ConfigError, match="no MR is named"):
        plan([], tmp_path / "out", OPTIONS)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "-1/2"])
def test_bad_shard(text):
    with pytest.raises(ConfigError, match="shard"):
        parse_shard(text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"segmenter": "command:prog"}, "{input} and {output}"),
        ({"segmenter": "nnunet"}, "'nnunet' is not"),
        ({"lowest": "L9"}, "'L9' is not a vertebra"),
        ({"lowest": "T12", "highest": "L1"}, "lowest T12 lies above highest L1"),
        ({"overwrite": True, "resume": True}, "exclude each other"),
        ({"kind": "ct", "segmenter": "direct"}, "needs an MR"),
        ({"mode": "fast"}, "mode"),
        ({"seed": -1}, "seed"),
        ({"speed": 1}, "speed"),
    ],
)
def test_options_that_do_not_fit_are_one_line(values, message):
    with pytest.raises(ConfigError) as caught:
        RunOptions.checked(**values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hash_changes_with_what_decides_the_result_only():
    same = [RunOptions(device="cpu"), RunOptions(max_memory=1), RunOptions(timeout=1.0)]
    other = [RunOptions(seed=1), RunOptions(mode="mc"), RunOptions(segmenter="direct")]
    assert {o.content_hash() for o in same} == {RunOptions().content_hash()}
    assert RunOptions().content_hash() not in {o.content_hash() for o in other}
    assert len({o.content_hash() for o in other}) == 3


def test_options_are_frozen():
    with pytest.raises(ValidationError):
        RunOptions().seed = 1


def test_output_ends_follow_the_options():
    assert output_ends(RunOptions(outputs=("ct",))) == ["_desc-synth_ct.nii.gz", "_run.json"]
    assert "_desc-std_ct.nii.gz" in output_ends(RunOptions(mode="mc"))
    assert "_desc-std_ct.nii.gz" not in output_ends(RunOptions())
    whole = output_ends(RunOptions(mode="mc", outputs=("iso", "interval", "votes")))
    for end in ("_desc-upper_ct", "_desc-vertebrae_probseg", "_desc-voted_dseg"):
        assert {f"{end}.nii.gz", f"_space-iso{end}.nii.gz", f"{end}.json"} <= set(whole)
    assert not [end for end in whole if "medoid" in end or "std" in end]
    from_ct = output_ends(RunOptions(kind="ct"))
    assert not [end for end in from_ct if end.endswith("ct.nii.gz")]


@pytest.mark.parametrize(
    ("text", "size"), [("6G", 6 * 2**30), ("1.5gb", 3 * 2**29), ("800MiB", 800 * 2**20), ("12", 12)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


def test_text_that_is_no_size_or_output():
    for text in ("6 lots", "", "-1G"):
        with pytest.raises(ConfigError, match="not a size"):
            parse_size(text)
    with pytest.raises(ConfigError, match="picture"):
        parse_outputs("ct,picture")
    assert parse_outputs("iso, ct") == ("ct", "iso")
    assert parse_outputs("all") == STANDARD
    assert parse_outputs("votes,all,interval") == tuple(n for n in OUTPUTS if n != "medoid")


def test_figures_for_people():
    assert [human_time(s) for s in (4.4, 185, 7800)] == ["4 s", "3 min 05 s", "2 h 10 min"]
    assert [human_size(n) for n in (12, 3 * 2**20, 6 * 2**30)] == ["12 B", "3 MB", "6.0 GB"]
