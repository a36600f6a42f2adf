"""The list of methods answers for what is not on it."""

import pytest

from spinect.errors import ConfigError
from spinect.methods.registry import build, config_model, names, register
from spinect.methods.regression import Regression, RegressionConfig


def test_an_unknown_name_is_told_what_there_is():
    """The error lists the names."""
    with pytest.raises(ConfigError, match=", ".join(names())):
        config_model("regresion")


def test_a_name_is_given_once():
    """Two methods of one name would hide each other."""
    with pytest.raises(ConfigError, match="regression"):
        register("regression", RegressionConfig)(Regression)


def test_a_bad_value_is_named_with_its_place():
    """Nested fields too."""
    with pytest.raises(ConfigError, match=r"network\.channels\.1 = -3"):
        build("regression", {"network": {"channels": (8, -3)}})


@pytest.mark.parametrize(
    "wrong",
    [
        {"predicts": "eps"},
        {"sigma_min": 90.0},
        {"eta": 0.5, "sampler": "heun"},
        {"embedding": 7},
    ],
)
def test_diffusion_options_that_contradict_each_other(wrong):
    """eps without noise, levels the wrong way round, eta where nothing is added, odd vectors."""
    with pytest.raises(ConfigError):
        build("diffusion", wrong)


def test_heads_stand_in_one_order_and_once():
    """Channels of `predict` follow protocols.HEADS, however the config lists them."""
    small = {"network": {"channels": (4,), "blocks": (0,), "decoder_blocks": (), "head": 8}}
    assert build("regression", {**small, "heads": ["classes", "ct"]}).heads == ("ct", "classes")
    for heads in ([], ["ct", "ct"]):
        with pytest.raises(ConfigError, match="heads"):
            build("regression", {**small, "heads": heads})
