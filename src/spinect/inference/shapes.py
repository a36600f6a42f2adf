"""What shapes operations put out, for counting memory on torch's meta device.

torch's own rules for that device import its compiler, which is never used here: more than a second,
and memory. An operation without a rule here only costs that again.
"""

from typing import Any, Final

import numpy as np
import torch


def _convolved(
    x: Any, weight: Any, _bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, more: Any, groups: int,
) -> Any:  # fmt: skip
    """What a convolution puts out, as a shape."""
    sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, more, strict=True)
    if transposed:
        channels = weight.shape[1] * groups
        spatial = [(n - 1) * s - 2 * p + d * (k - 1) + o + 1 for n, k, s, p, d, o in sizes]
    else:
        channels = weight.shape[0]
        spatial = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in sizes]
    return x.new_empty((x.shape[0], channels, *spatial))


def _normalised(x: Any, *_rest: Any) -> Any:
    """What a batch norm in evaluation puts out, as shapes; its statistics are empty."""
    return x.new_empty(x.shape), x.new_empty(0), x.new_empty(0)


def _pointwise(*args: Any, **_options: Any) -> Any:
    """What an operation voxel by voxel puts out, as a shape; of the type of its first operand."""
    tensors = [x for x in args if isinstance(x, torch.Tensor)]
    return tensors[0].new_empty(np.broadcast_shapes(*(tuple(x.shape) for x in tensors)))


def _resized(x: Any, size: Any, *_rest: Any) -> Any:
    """What an interpolation puts out, as a shape."""
    return x.new_empty((*x.shape[:2], *size))


def _joined(tensors: Any, axis: int = 0) -> Any:
    """What a concatenation puts out, as a shape."""
    shape = list(tensors[0].shape)
    shape[axis] = sum(x.shape[axis] for x in tensors)
    return tensors[0].new_empty(shape)


_SHAPES: Final[dict[Any, Any]] = {
    torch.ops.aten.convolution.default: _convolved,
    torch.ops.aten.native_batch_norm.default: _normalised,
    torch.ops.aten.clone.default: _pointwise,
    torch.ops.aten.cat.default: _joined,
    torch.ops.aten.upsample_nearest2d.default: _resized,
    torch.ops.aten.upsample_nearest3d.default: _resized,
    torch.ops.aten.upsample_bilinear2d.default: _resized,
    torch.ops.aten.upsample_trilinear3d.default: _resized,
}


def shape_of(func: Any) -> Any:
    """A rule that puts out empty tensors of the right shape, or the operation itself."""
    if torch.Tag.pointwise in func.tags and not func._schema.is_mutable:
        return _pointwise
    return _SHAPES.get(func, func)
