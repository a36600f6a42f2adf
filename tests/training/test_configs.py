"""Every config in the repository is one that runs."""

from pathlib import Path

import pytest

from spinect.training.config import load_config
from spinect.training.features import give_features
from spinect.training.run import count_parameters, make_method

ROOT = Path(__file__).parents[2] / "configs"
# Loops have configs of their own, beside the training that they run.
PATHS = [
    p
    for p in sorted(ROOT.rglob("*.yaml"))
    if "experiments" not in p.parts and (p.parent.name != "loop" or p.stem == "training")
]


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_config_builds_its_method(path):
    # The bundles that a chain of trainings starts from are not in the repository.
    config = load_config(path).model_copy(update={"start_from": None})
    method = make_method(config)
    assert method.ndim == len(config.data.patch)
    facts = give_features(method, config)  # the bundle that a config names is there and fits
    assert (facts is None) == (config.features is None)
    assert all(n % method.divisor == 0 for n in config.data.patch)
    tile = config.export.preprocessing.tile[-method.ndim :]
    assert all(n % method.divisor == 0 for n in tile)
    assert set(config.export.modes) <= set(method.modes)
    assert config.export.inputs == config.data.inputs
    assert config.export.command == f"spinect train configs/{path.relative_to(ROOT).as_posix()}"
    if "shipped" in path.parts:
        assert count_parameters(method) <= 7_800_000  # two bytes each, under 16 MB
