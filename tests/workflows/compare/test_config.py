"""An experiment with an error is refused before anything runs; a good one fills the configs."""

from pathlib import Path

import pytest
import yaml
from planted_compare import RAW, experiment

from spinect.errors import ConfigError
from spinect.training.config import parse_config
from spinect.workflows.compare import Plan, load_experiment
from spinect.workflows.compare.training import find_preset, training_fields

CONFIGS = Path(__file__).parents[3] / "configs"
FLAT = {"name": "a", "preset": "flat"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": []}, "rows"),
        ({"rows": [FLAT]}, "no row is a baseline"),
        ({"rows": [{"name": "a"}]}, "needs one of preset, bundle and weights_of, not none"),
        ({"rows": [FLAT | {"bundle": "mr2ct"}]}, "not preset and bundle"),
        ({"rows": [FLAT, FLAT]}, "two rows are named a"),
        ({"rows": [*RAW["rows"], {"name": "x", "weights_of": "y"}]}, "weights_of y is no row"),
        ({"rows": [FLAT | {"contrast": "T1w"}]}, "contrast T1w is not among those of the data"),
        ({"rows": [FLAT | {"set": {"trainer.max_minutes": 99}}]}, "is the same for all rows"),
        ({"rows": [FLAT | {"set": {"data": {}}}]}, "data is the same for all rows"),
        ({"rows": [{"name": "a", "weights_of": "flat", "seeds": [1, 2]}]}, "trains nothing"),
        ({"rows": [FLAT | {"registration": "3"}]}, "registration"),
        ({"rows": [FLAT | {"registration": "0", "shift_mm": 2}]}, "registration 0 uses none"),
        ({"rows": [FLAT | {"registration": "truth", "turn_deg": 5}]}, "truth uses none"),
        ({"rows": [FLAT | {"turn_deg": -5}]}, "turn_deg"),
        ({"rows": [{"name": "a", "weights_of": "flat", "shift_mm": 2}]}, "trains nothing"),
        (
            {
                "data": {"source": "folder", "folder": "x"},
                "rows": [FLAT | {"shift_mm": 2}],
            },
            "for phantoms only",
        ),
        ({"trainer": {"threads": 8}}, "told by budget"),
        ({"data": RAW["data"] | {"train": 1_000_001}}, "seeds from 1,000,000 on are for testing"),
        ({"data": RAW["data"] | {"test_seed": 5}}, "test_seed"),
        ({"data": RAW["data"] | {"region": "pelvis"}}, "a pelvis is one piece"),
        (
            {
                "data": {
                    "source": "phantom",
                    "train": 1,
                    "test": 1,
                    "region": "pelvis",
                    "motion": "none",
                    "slice_mm": 4,
                }
            },
            "those of a pelvis are axial",
        ),
        ({"tables": ["diec"]}, "tables"),
        ({"colour": 1}, "colour: unknown field"),
    ],
)
def test_errors_are_told(changes, told):
    with pytest.raises(ConfigError, match=told):
        experiment(**changes)


def test_phantoms_of_a_pelvis_have_slices_of_their_own():
    told = {"source": "phantom", "train": 1, "test": 1, "region": "pelvis", "motion": "none"}
    assert experiment(data=told).data.slices is None
    assert experiment().data.slices == RAW["data"].get("slice_mm", 4)


def test_a_training_gets_data_patches_and_budget_of_the_experiment(home):
    """The preset's own phantoms, steps and tile do not count; its learning rate does."""
    made = experiment(trainer={"ema": 0.5})
    fields = training_fields(made, made.rows[1], 7, home)
    config = parse_config(fields)
    assert (config.seed, config.data.folder, config.data.pose) == (7, "", "registered")
    assert (config.data.patch, config.data.raster, config.data.spacing_mm) == (
        (16, 16),
        "slices",
        2,
    )
    about = config.export.preprocessing
    assert (about.tile, about.raster, about.spacing_mm) == ((1, 16, 16), "slices", 2.0)
    trainer = config.trainer
    assert (trainer.max_steps, trainer.max_minutes, trainer.schedule) == (None, 1.0, "cosine-clock")
    assert (trainer.lr, trainer.ema, trainer.clock, trainer.threads) == (0.5, 0.5, "cpu", 1)
    deep = parse_config(training_fields(made, made.rows[2], 0, home))
    assert (deep.data.patch, deep.data.raster, deep.data.spacing_mm) == ((8, 16, 16), "iso", 2.0)


def test_a_preset_that_reads_a_dataset_keeps_what_it_says_of_it(home):
    text = (home.parent / "flat.yaml").read_text()
    own = text.replace(
        '"source": "phantom",\n    "subjects": 1',
        '"source": "dataset",\n    "folder": "x",\n    "jitter": 0.3,\n    "patch": [8, 8]',
    )
    assert own != text
    (home / "own.yaml").write_text(own)
    made = experiment(rows=[*RAW["rows"], {"name": "own", "preset": "own.yaml",
                                           "registration": "truth"}])  # fmt: skip
    config = parse_config(training_fields(made, made.rows[-1], 0, home))
    assert (config.data.jitter, config.data.patch, config.data.pose) == (0.3, (16, 16), "truth")


def test_a_row_sets_fields_of_its_preset(home):
    made = experiment(rows=[*RAW["rows"], {"name": "steep", "preset": "flat",
                                           "set": {"trainer.lr": 0.25}}])  # fmt: skip
    assert training_fields(made, made.rows[-1], 0, home)["trainer"]["lr"] == 0.25
    assert training_fields(made, made.rows[1], 0, home)["trainer"]["lr"] == 0.5


def test_what_inference_asks_is_checked_before_training(home):
    """A field that the method lacks, and a value that it refuses."""
    rows = [*RAW["rows"], {"name": "odd", "weights_of": "deep", "inference": {"eta": 1.0}}]
    with pytest.raises(ConfigError, match="row odd, inference: eta: unknown field"):
        Plan(experiment(rows=rows), home, home).told()
    score = home.parent / "score.yaml"
    fields = yaml.safe_load((CONFIGS / "fast" / "lyu2022" / "score_vp.yaml").read_text())
    score.write_text(yaml.safe_dump(fields))
    rows = [*RAW["rows"], {"name": "score", "preset": "score", "inference": {"mode": "sample"}}]
    good = {"sampler": "pc", "snr": 0.075, "tweedie": True}
    asked = {"name": "pc", "weights_of": "score", "inference": {"mode": "sample", **good}}
    slices = {"patch": [96, 96]}
    assert (
        "pc: weights score"
        in Plan(experiment(rows=[*rows, asked], slices=slices), home, home).told()[-2]
    )
    asked = {"name": "pc", "weights_of": "score", "inference": {"mode": "sample", "solver": "x"}}
    with pytest.raises(ConfigError, match="row pc, inference: solver: input should be"):
        Plan(experiment(rows=[*rows, asked], slices=slices), home, home).told()


def test_presets_are_found_by_path_and_by_name(home, tmp_path):
    assert find_preset("flat", home) == home.parent / "flat.yaml"
    assert find_preset(str(home.parent / "deep.yaml"), tmp_path) == home.parent / "deep.yaml"


def test_the_experiments_of_the_repository_are_complete():
    root = Path(__file__).parents[3] / "configs" / "experiments"
    found = sorted(root.glob("*.yaml"))
    assert found
    for path in found:
        made = load_experiment(path)
        assert made.name == path.stem
        for row in made.rows:
            if row.preset is not None:
                training_fields(made, row, row.seeds[0], root)
