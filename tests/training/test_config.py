"""A config is checked before anything runs, and says where it is wrong."""

import pytest
import yaml

from spinect.errors import ConfigError
from spinect.training.config import dump_config, load_config, parse_config
from spinect.training.parse import resolve_path


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trainer.learning=1", "trainer.learning: unknown field"),
        ("trainer.max_step=1", "trainer.max_step: unknown field; did you mean max_steps?"),
        ("data.patches=1", "data.patches: unknown field"),
        ("export.preprocessing.overlop=0", "export.preprocessing.overlop: unknown field"),
        ("trainer.lr=-1", r"trainer.lr: .*greater than 0 \(found -1\)"),
        ("data.source=folder", "data: .*'pool', 'dataset'"),
        ("trainer.schedule=cosine-clock", "cosine-clock needs max_minutes"),
        ("trainer.schedule=linear-clock", "linear-clock needs max_minutes"),
        ("trainer={max_minutes: 1, schedule: linear}", "schedule linear needs max_steps"),
        ("trainer={max_steps: 1, schedule: constant, lr_end: 0.1}", "end at lr_end 0.1: leave"),
        ("validation.metrics=1", "validation.metrics: unknown field; did you mean metric?"),
        ("method={}", 'method needs a "name"'),
        ("name.a.b=1", "name is a value"),
        ("trainer.lr", "write it as"),
    ],
)
def test_errors_name_the_field_and_the_file(raw, tmp_path, override, told):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=told):
        load_config(path, [override])


def test_overrides_pass_through_the_same_model(raw, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(raw))
    config = load_config(path, ["trainer.lr=2e-4", "data.patch=[16,24,8]", "trainer.clip=0"])
    assert config.trainer.lr == 2e-4
    assert config.data.patch == (16, 24, 8)
    assert load_config(path).trainer.lr == 1e-3


def test_a_resolved_config_reads_back_equal(config):
    assert parse_config(yaml.safe_load(dump_config(config))) == config


def test_data_roots_take_environment_variables(monkeypatch, tmp_path):
    monkeypatch.setenv("SPINECT_TEST_ROOT", str(tmp_path))
    assert resolve_path("$SPINECT_TEST_ROOT/pool") == tmp_path / "pool"
    monkeypatch.delenv("SPINECT_TEST_ROOT")
    with pytest.raises(ConfigError, match="SPINECT_TEST_ROOT is not set"):
        resolve_path("${SPINECT_TEST_ROOT}/pool")
