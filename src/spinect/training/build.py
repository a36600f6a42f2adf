"""The method of a run config, with the weights that its training starts from."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from spinect.bundle import load_bundle
from spinect.errors import ConfigError
from spinect.methods.registry import build
from spinect.protocols import Method
from spinect.training.config import RunConfig
from spinect.training.optim import as_module, draw_seed

LOG = logging.getLogger(__name__)


def make_method(config: RunConfig) -> Method:
    """The config's method with its initial weights: drawn from the seed, or a bundle's.

    Raises:
        ConfigError: The config and the bundle of `start_from` describe different networks, or,
            with `start_partly`, have no tensor in common.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw_seed(config.seed, 0))
        method = build(config.method["name"], config.method_fields)
    if config.start_from is not None:
        source = as_module(load_bundle(config.start_from).method).state_dict()
        if config.start_partly:
            source = _fitting(source, as_module(method).state_dict(), config.start_from)
        try:
            as_module(method).load_state_dict(source)
        except RuntimeError as error:
            text = " ".join(str(error).split())[:300]
            raise ConfigError(f"start_from {config.start_from}: another network: {text}") from error
    return method


def _fitting(
    source: Mapping[str, Tensor], random: Mapping[str, Tensor], origin: str
) -> dict[str, Tensor]:
    """`random` with what `source` holds under the same name in the same shape."""
    fits = {k: v for k, v in source.items() if k in random and random[k].shape == v.shape}
    if not fits:
        raise ConfigError(f"start_from {origin}: not one tensor fits the method's network")
    kept = sorted(random.keys() - fits.keys())
    LOG.info("start_from %s: %d tensors taken, random: %s", origin, len(fits), ", ".join(kept))
    return {**random, **fits}
