"""The contracts between the world of tensors and the world of volumes.

Shapes: B batch, C channels, *S two or three spatial axes. Axes run in the order (R, A, S), so a
network never sees an affine; millimetres and orientation stay with ``geometry``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

Mode = Literal["regress", "sample", "mc"]
Randn = Callable[[Tensor], Tensor]  # like torch.randn_like: unit normal noise of that shape
Denoise = Callable[[Tensor, Tensor], Tensor]  # (x, sigma) -> estimate of the clean image

# (B, 1, *S), CT in [-1, 1] -> what a frozen network has of it, each (B, C, *S / stride)
Features = Callable[[Tensor], Sequence[Tensor]]

# Output channels of the networks by head. "ct" is the image that a translator makes, in [-1, 1]:
# a CT on the bundle's HU range, or an MR in relative intensity where the bundle's card says so. Its
# name, which is older than that direction, stands in every card there is; code says IMAGE. The
# masks are logits over anatomy.CLASSES; "centre" is the logit of a body-centre heatmap;
# "offset" points to the centre of the voxel's own vertebral body, in units of 50 mm.
HEADS: dict[str, int] = {"ct": 1, "classes": 10, "centre": 1, "offset": 3}
IMAGE = "ct"
OFFSET_MM = 50.0

# How an MR was scaled, and mid grey in each of its own channels, which come first. "robust": the
# middle of the 1st to the 99th percentile, and a voxel that equals its surroundings; the field of
# view follows. "max": the middle of [0, max], brought to [-1, 1].
Intensity = Literal["robust", "max"]
_GREY: dict[Intensity, tuple[float, ...]] = {"robust": (0.5, 1.0), "max": (0.0,)}


def without_image(condition: Tensor, scale: Intensity) -> Tensor:
    """A condition that shows mid grey for the MR: what training drops and guidance compares with.

    Grey ends with the field of view where the condition tells it ("robust"). It does not with
    "max", so all is grey there, as in Graf et al. 2023; channels after the MR's stay.

    Shapes: (B, C, *S) -> the same.
    """
    level = condition.new_tensor(_GREY[scale]).reshape(1, -1, *[1] * (condition.ndim - 2))
    own = level.shape[1]
    seen = condition[:, own : own + 1] if scale == "robust" else torch.ones_like(condition[:, :1])
    return torch.cat([level * seen, condition[:, own:]], dim=1)


@dataclass(frozen=True)
class Batch:
    """What a method sees in one training step. Everything that is not known is None."""

    # (B, C, *S), the network's input. Channel 0 is the image to be translated, of the slice itself
    # where the channels of neighbouring slices follow.
    condition: Tensor
    inside: Tensor  # (B, 1, *S), 1 where the loss counts (field of view, validity), else 0
    target: Tensor | None = None  # (B, 1, *S), the image to be made, CT or MR, in [-1, 1]
    # (B, 1, *S), 1 where an unpaired target, of other patients than the condition, is known; None:
    # both are of one patient and `inside` counts. Unpaired batches know condition and target only.
    target_inside: Tensor | None = None
    near_bone: Tensor | None = None  # (B, 1, *S), 1 within 10 mm of bone, else 0
    classes: Tensor | None = None  # (B, *S) uint8, anatomy.CLASSES or one of anatomy.CLASS_*
    centre: Tensor | None = None  # (B, 1, *S) in [0, 1], body-centre heatmap
    offset: Tensor | None = None  # (B, 3, *S), units of OFFSET_MM, NaN where there is no vertebra

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with every tensor on `device`."""
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {k: v.to(device, non_blocking=True) for k, v in held.items() if v is not None}
        return replace(self, **moved)


class Method(Protocol):
    """A way to turn an image into another one, or into masks: networks, losses, prediction.

    Implementations are ``nn.Module``s registered in ``methods.registry``; nothing outside a
    method's own file knows its name.
    """

    ndim: int  # 2 or 3
    parts: tuple[str, ...]  # names of sub-modules with an optimiser of their own
    modes: tuple[Mode, ...]  # what `translate` offers; "regress" is one call without noise
    heads: tuple[str, ...]  # keys of HEADS, in channel order of `predict`
    in_channels: int
    divisor: int  # spatial sizes must be multiples of this

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        """Yield (part, loss); the trainer steps that part's optimiser after each."""
        ...

    def predict(self, condition: Tensor) -> Tensor:
        """One call without noise: (B, C, *S) -> (B, sum of HEADS, *S)."""
        ...

    def denoise(self, x: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """Clean CT estimated from x = ct + sigma * noise; only where "sample" is in modes."""
        ...

    def sample(self, denoise: Denoise, like: Tensor, steps: int | None, randn: Randn) -> Tensor:
        """Run this method's sampler with any `denoise` (a tile's or a whole volume's)."""
        ...


@runtime_checkable
class Encoder(Method, Protocol):
    """A method whose network has features to compare images by."""

    levels: int  # of its encoder

    def stages(self, condition: Tensor) -> Iterator[Tensor]:
        """Features (B, C, *S / stride) of each level of the encoder, finest first."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A method whose `denoise` takes what a condition becomes in every call, made once."""

    prepared_channels: int  # float32 per voxel of the condition; 0 where it does not pay

    def prepare(self, condition: Tensor) -> Tensor:
        """(B, C, *S) -> (B, prepared_channels, *S), for `denoise` with the same condition."""
        ...

    def denoise(
        self, x: Tensor, sigma: Tensor, condition: Tensor, prepared: Tensor | None = None
    ) -> Tensor:
        """As `Method.denoise`, and equal to it but for rounding."""
        ...


@runtime_checkable
class ComparesFeatures(Protocol):
    """A method whose loss may compare features that a frozen network has of its images.

    Training hands that network in: it is no part of the method, and whatever runs a trained method
    needs none.
    """

    wants_features: bool  # whether its loss gives them a weight
    features: Features | None


class Segmenter(Protocol):
    """Turns a CT, or what a translator knows about it, into vertebra and subregion masks."""

    name: str
