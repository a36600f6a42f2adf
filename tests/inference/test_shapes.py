"""Shapes on the meta device against the operations themselves, and no compiler for them."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from spinect.inference.shapes import shape_of

CASES = {
    "convolution": lambda x, w: F.conv3d(x, w, stride=(2, 1, 1), padding=1, dilation=(1, 2, 1)),
    "in groups": lambda x, w: F.conv3d(x, w[:, :1], padding=(0, 1, 2), groups=4),
    "flat": lambda x, w: F.conv2d(x[:, :, 0], w[:, :, 0], stride=3),
    "transposed": lambda x, w: F.conv_transpose3d(
        x, w, stride=2, padding=1, output_padding=(1, 0, 1), dilation=(1, 1, 2)
    ),
    "batch norm": lambda x, _w: F.batch_norm(x, x.new_ones(4), x.new_ones(4)),
    "voxel by voxel": lambda x, w: F.silu(x) + x[:, :1] * w[0, 0, 0, 0, 0],
    "in place": lambda x, _w: x.mul_(2).clamp_(0),
    "a copy": lambda x, _w: x.movedim(1, -1).reshape(4, -1),
    "joined": lambda x, _w: torch.cat([x, x[:, :2], x], dim=1),
    "joined at the end": lambda x, _w: torch.cat([x, x], dim=-1),
    "nearest": lambda x, _w: F.interpolate(x, scale_factor=2, mode="nearest"),
    "linear": lambda x, _w: F.interpolate(x, size=(3, 5, 11), mode="trilinear"),
    "linear, flat": lambda x, _w: F.interpolate(x[:, 0], size=(3, 5), mode="bilinear"),
}


class Shapes(TorchDispatchMode):
    """Asks the rules for everything."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return shape_of(func)(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", CASES)
def test_rules_say_what_the_operations_do(name):
    x, w = torch.rand(4, 4, 6, 8, 10), torch.rand(4, 4, 3, 3, 3)
    with Shapes():
        told = CASES[name](x.to("meta"), w.to("meta"))
    done = CASES[name](x, w)
    assert told.device.type == "meta"
    assert told.shape == done.shape
    assert told.dtype == done.dtype


def test_counting_a_network_imports_no_compiler():
    """In a process of its own; `sympy` comes with torch's compiler."""
    program = """
import sys
from spinect.inference.plan import activation_bytes
from spinect.methods.registry import build
network = {"channels": [8, 8], "blocks": [1, 1], "decoder_blocks": [1], "head": 4, "norm": "batch"}
assert activation_bytes(build("regression", {"network": network}).eval(), 3, (16, 16, 16)) > 0
assert "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
