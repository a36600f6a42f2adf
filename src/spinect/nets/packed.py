"""Networks for the inference of one volume on a CPU, with nothing done twice.

oneDNN, which convolves for torch on a CPU, brings weights into an order of its own in every call,
and with plain weights of float32 it takes slow kernels for some sizes. In inference the weights
never change, so this is done once.
"""

import copy
import logging
from functools import cache
from itertools import chain
from typing import Final, TypeGuard, cast

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

_KINDS: Final = (nn.Conv2d, nn.Conv3d)
_LAYOUTS: Final = {2: torch.channels_last, 3: torch.channels_last_3d}


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch has kernels of oneDNN for `dtype` (float32 or bfloat16) to pack for.

    The operators are torch's own and may change with its versions, so one small convolution is
    tried first; where it fails, networks run with plain weights, slower, and the log says so.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        if dtype != torch.float32 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        with torch.random.fork_rng(devices=[]):  # nobody's random numbers change by this
            plain = nn.Conv3d(2, 3, 3, padding=1)
        x = torch.ones(1, 2, 4, 4, 4)
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            made, wanted = PackedConv(plain, dtype)(x), plain(x)
    except (AttributeError, RuntimeError, TypeError) as problem:
        log.warning(
            "torch %s packs no weights, networks are slower: %s", torch.__version__, problem
        )
        return False
    return bool(torch.allclose(made.float(), wanted.float(), rtol=1e-2, atol=1e-2))


def packed(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy for the inference of one volume; it shares all tensors with `module`, which stays.

    Args:
        module: On the CPU.
        dtype: Of the products; bfloat16 counts under autocast, float32 without it. Where a network
            leaves autocast its own weights are used.
    """
    shared = {id(t): t for t in chain(module.parameters(), module.buffers())}
    out = copy.deepcopy(module, shared)
    for parent in list(out.modules()):
        for name, child in list(parent.named_children()):
            if _packs(child):
                setattr(parent, name, PackedConv(child, dtype))
            elif type(child) is nn.Linear:
                setattr(parent, name, RememberedLinear(child))
    return out


def packed_bytes(module: nn.Module, dtype: torch.dtype) -> int:
    """What `packed` keeps beside the weights of the module."""
    return sum(m.weight.numel() * dtype.itemsize for m in module.modules() if _packs(m))


def _packs(module: nn.Module) -> TypeGuard[nn.Conv2d | nn.Conv3d]:
    """Whether it is a convolution that the kernels pad themselves."""
    return (
        type(module) in _KINDS
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _working_dtype(x: Tensor) -> torch.dtype:
    """What products of x are made in."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


class RememberedLinear(nn.Module):
    """A layer of inference that gives its last answer again where it is asked the same.

    The vectors that a noise level becomes on its way to the blocks are the same for all tiles in a
    step of a sampler: for a slice they cost as much as a convolution.
    """

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.plain = plain
        self._asked: Tensor | None = None
        self._kind = torch.float32
        self._answer = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs), which nobody may write into."""
        asked, kind = self._asked, _working_dtype(x)
        if asked is None or self._kind != kind or not torch.equal(asked, x):
            self._asked, self._kind, self._answer = x.clone(), kind, self.plain(x)
        return self._answer


class PackedConv(nn.Module):
    """A convolution of inference beside the plain one, whose weights it shows."""

    def __init__(self, plain: nn.Conv2d | nn.Conv3d, dtype: torch.dtype) -> None:
        super().__init__()
        self.plain = plain
        self.in_channels, self.padding = plain.in_channels, plain.padding
        self.dtype = dtype
        self._how = (plain.padding, plain.stride, plain.dilation, plain.groups)
        with torch.no_grad():
            own = plain.weight.to(dtype).contiguous(memory_format=_LAYOUTS[plain.weight.ndim - 2])
            # No buffer: it follows the plain weights, and has a layout that nothing else knows.
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(own, *self._how)
            self._bias = None if plain.bias is None else plain.bias.detach().to(dtype)

    @property
    def weight(self) -> Tensor:
        """Of the plain convolution."""
        return self.plain.weight

    @property
    def bias(self) -> Tensor | None:
        """Of the plain convolution."""
        return self.plain.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, *S) to (B, outputs, *S), channels last."""
        if _working_dtype(x) != self.dtype:
            return cast(Tensor, self.plain(x))
        x = x.to(self.dtype).contiguous(memory_format=_LAYOUTS[x.ndim - 2])
        kernel = torch.ops.mkldnn._convolution_pointwise
        return cast(Tensor, kernel(x, self._packed, self._bias, *self._how, "none", [], ""))
