"""Methods that learn from pairs refuse batches whose CT is of other patients."""

from dataclasses import replace

import pytest
import torch

from spinect.errors import ConfigError
from spinect.methods.registry import build
from spinect.protocols import Batch

RESIDUAL = {"channels": (8, 12), "blocks": (1, 1), "decoder_blocks": (1,), "head": 8}
PAIRED = {
    "diffusion": {"network": RESIDUAL},
    "lookup": {},
    "regression": {"network": RESIDUAL, "heads": ("ct",)},
    "segmentation": {"network": RESIDUAL},
}


@pytest.mark.parametrize("name", PAIRED)
def test_unpaired_batches_are_refused(name):
    method = build(name, PAIRED[name] | {"ndim": 2})
    condition = torch.zeros(1, method.in_channels, 8, 8)
    one = condition[:, :1]
    classes = torch.zeros(1, 8, 8, dtype=torch.uint8)
    batch = Batch(condition=condition, inside=one + 1, target=one, classes=classes)
    assert len(list(method.losses(batch))) == 1
    with pytest.raises(ConfigError, match=r"different patients.* set data.paired to true"):
        next(iter(method.losses(replace(batch, target_inside=one + 1))))
