"""A loop's config: what is refused, and that the shipped ones run."""

from pathlib import Path

import pytest

from spinect.errors import ConfigError
from spinect.training import load_config
from spinect.workflows.loop import load_loop, parse_loop
from spinect.workflows.loop.engines import training_split

ROOT = Path(__file__).parents[3]
PATHS = [
    p
    for p in sorted((ROOT / "configs").rglob("*.yaml"))
    if p.parent.name == "loop" and p.stem != "training"
]


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_shipped_configs_name_a_training_that_fits(path):
    config = load_loop(path)
    training = load_config(ROOT / config.train)
    assert training_split(training) == "train"
    assert (config.seeds.contrast, config.targets) == ("T2w", "T1w")


def test_there_is_a_fast_twin():
    assert {p.parts[-3] for p in PATHS} == {"configs", "fast"}
    assert len({p.name for p in PATHS}) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"segmenter": "direct"}, "segmenter is embedded or command"),
        ({"segmenter": "command:prog {input}"}, "must name {input} and {output}"),
        ({"targets": "T2w"}, "match.frame accepted needs a series of another contrast"),
        ({"round": 3}, "round: unknown field"),
        ({"accept": {"mean_mm": 0}}, "accept.mean_mm"),
        ({"match": {"frame": "nearest"}}, "match.frame"),
    ],
)
def test_what_does_not_fit_is_named(raw, change, said):
    with pytest.raises(ConfigError, match=said):
        parse_loop(raw | change)


def test_missing_fields_and_overrides(raw, tmp_path):
    with pytest.raises(ConfigError, match="dataset: is missing"):
        parse_loop({key: value for key, value in raw.items() if key != "dataset"})
    path = tmp_path / "loop.yaml"
    path.write_text("dataset: a\ntrain: b\n")
    assert load_loop(path, ["accept.mean_mm=4"]).accept.mean_mm == 4


def test_more_rounds_are_the_same_loop(raw):
    one, more, other = (parse_loop(raw | c) for c in ({}, {"rounds": 9}, {"least_pairs": 9}))
    assert one.fingerprint("x") == more.fingerprint("x") != other.fingerprint("x")
    assert one.fingerprint("x") != one.fingerprint("y")


def test_training_that_reads_no_dataset_is_refused():
    training = load_config(ROOT / "configs" / "modern" / "regression_3d.yaml")
    with pytest.raises(ConfigError, match="from a dataset folder"):
        training_split(training)
