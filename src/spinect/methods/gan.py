"""What adversarial methods share: losses on scores, masks, pools, sizes, critics, weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spinect.errors import ConfigError
from spinect.protocols import Batch

GanLoss = Literal["lsgan", "vanilla"]
AIR: Final = -1.0  # of a CT in [-1, 1]: what nobody knows looks alike in real and fake images


def score_loss(scores: Tensor, real: bool, kind: GanLoss) -> Tensor:
    """How far scores, of any shape, are from calling an image real, or fake; their mean.

    "lsgan": squared distance to 1 or 0 (Mao et al., arXiv 1611.04076, eq. 9, doubled).
    "vanilla": binary cross-entropy of the logits (Goodfellow et al., arXiv 1406.2661), which for
    a generator that asks for "real" is the non-saturating loss.
    """
    scores = scores.float()
    if kind == "lsgan":
        return (scores - float(real)).square().mean()
    return F.softplus(-scores if real else scores).mean()


def critic_loss(real: Tensor, fake: Tensor, kind: GanLoss) -> Tensor:
    """The mean of both errors of a critic, from its scores of real and fake images."""
    return (score_loss(real, True, kind) + score_loss(fake, False, kind)) / 2


def image_scores(scores: Tensor) -> Tensor:
    """The mean of each image's map of scores, (B, 1, *M) to (B,), float32 or wider."""
    return _wide(scores).flatten(1).mean(dim=1)


def wasserstein_loss(real: Tensor, fake: Tensor) -> Tensor:
    """E C(fake) - E C(real), from a critic's scores (B, 1, *M); C is the mean over the map.

    The best critic of slope 1 reaches minus the Wasserstein-1 distance of real and fake images.
    Source: Arjovsky et al., arXiv 1701.07875, eq. 2 and 3.
    """
    return (image_scores(fake) - image_scores(real)).mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, beside: Tensor
) -> Tensor:
    """E (|grad_u C(u, y)| - 1)**2 for u on the line between a real and a fake image.

    u = a real + (1 - a) fake with one a ~ U(0, 1) per image, from torch's global generator. C is
    the mean over the map, as in `wasserstein_loss`: with the sum, slopes would be as many times as
    steep as there are scores. |.| is the length over all voxels of an image. y stays as it is, and
    gets no gradient. float32 also under autocast, for it takes derivatives of derivatives.

    Source: Gulrajani et al., arXiv 1704.00028, eq. 3.

    Args:
        critic: (B, C + D, *S) to scores (B, 1, *M), each image's of itself alone: no batch norm.
        real, fake: (B, C, *S); their own gradients are not asked for.
        beside: (B, D, *S), y: what the critic sees beside each image.
    """
    with torch.autocast(real.device.type, enabled=False):
        real, fake, beside = (_wide(image.detach()) for image in (real, fake, beside))
        share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
        u = torch.lerp(fake, real, share.to(real.dtype)).requires_grad_()
        total = image_scores(critic(torch.cat([u, beside], dim=1))).sum()
        (slope,) = torch.autograd.grad(total, u, create_graph=True)
        # Unlike a root of squares, this norm has the finite gradient 0 at 0.
        length: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
        return (length - 1).square().mean()


def _wide(x: Tensor) -> Tensor:
    """float32, or float64 where it was."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def known(image: Tensor, inside: Tensor) -> Tensor:
    """The image (B, 1, *S) where `inside` (B, 1, *S) is above 0, air elsewhere."""
    return torch.where(inside > 0, image, AIR)


def inside_target(batch: Batch) -> Tensor:
    """Where the CT of a batch is known, (B, 1, *S), whether or not it belongs to the MR."""
    return batch.inside if batch.target_inside is None else batch.target_inside


def check_sizes(images: Tensor, divisor: int, least: int = 1) -> None:
    """Refuse images (B, C, *S) that a network cannot take.

    Args:
        divisor: Every size must be a multiple of it.
        least: The smallest size, as of a critic.
    Raises:
        ConfigError: With the sizes and what they should be.
    """
    sizes = tuple(images.shape[2:])
    shown = " x ".join(map(str, sizes))
    if any(size % divisor for size in sizes):
        raise ConfigError(
            f"the network takes sizes that are multiples of {divisor} voxels, not {shown}: "
            "change the patch, or the number of the network's levels"
        )
    if min(sizes) < least:
        raise ConfigError(
            f"the losses take at least {least} voxels along each axis, not {shown}: "
            "make the patch larger, or the critic's halvings fewer"
        )


def refuse_training(inference_only: bool) -> None:
    """Raises:
    ConfigError: The method was built without its critics.
    """
    if inference_only:
        raise ConfigError(
            "this method was built with inference_only, without critics: it cannot be trained; "
            "set method.inference_only to false"
        )


class ImagePool(nn.Module):
    """A history of fakes for the critic: half of what it returns is older than what it got.

    Until the pool is full it stores what it gets. From then on each image is, with probability
    0.5, exchanged for a stored one. Draws come from torch's global generator. In training its
    images are part of the state, so that a resumed training goes on exactly; under DDP each
    process has its own and the first one's is kept.

    Source: Shrivastava et al., arXiv 1612.07828, sec. 2.3, as Zhu et al., arXiv 1703.10593.

    Args:
        size: Images that it stores.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.images: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, *S) to the same, float32, without a graph."""
        return torch.stack([self._exchanged(image) for image in images.detach().float()])

    def _exchanged(self, image: Tensor) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        if float(torch.rand(())) < 0.5:
            return image
        place = int(torch.randint(self.size, ()))
        old, self.images[place] = self.images[place], image.clone()
        return old.to(image.device)

    def get_extra_state(self) -> Tensor:
        """The images, (N, C, *S), as int32 bits: moving averages take floats for weights.

        Nothing in evaluation, where nobody asks the pool: bundles are free of it.
        """
        if not (self.training and self.images):
            return torch.empty(0, dtype=torch.int32)
        return torch.stack(self.images).view(torch.int32)

    def set_extra_state(self, state: Tensor) -> None:
        """The inverse of `get_extra_state`."""
        self.images = [image.clone() for image in state.view(torch.float32)]


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Modules whose weights gather no gradient within; gradients still pass through them."""
    held = [(p, p.requires_grad) for module in modules for p in module.parameters()]
    for parameter, _ in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, wanted in held:
            parameter.requires_grad_(wanted)


def init_normal(module: nn.Module, std: float = 0.02, *, zero_bias: bool = True) -> None:
    """Weights of convolutions and linear layers ~ N(0, std); arXiv 1611.07004, app. 6.2.

    Args:
        zero_bias: Also set their biases to 0; Graf et al. 2023 leave torch's.
    """
    _initialise(module, lambda weight: nn.init.normal_(weight, 0.0, std), std, zero_bias)


def init_xavier(module: nn.Module, gain: float = 0.02) -> None:
    """Weights ~ N(0, gain**2 2 / (inputs + outputs)), biases 0; the published code of CUT.

    Source: Glorot and Bengio, AISTATS 2010, eq. 16, drawn from a normal distribution.
    """
    _initialise(module, lambda weight: nn.init.xavier_normal_(weight, gain), gain, True)


def _initialise(
    module: nn.Module, draw: Callable[[Tensor], object], std: float, zero_bias: bool
) -> None:
    """`draw` for weights of rank 2 and more; those of batch norm ~ N(1, std)."""
    for part in module.modules():
        weight = getattr(part, "weight", None)
        if not isinstance(weight, nn.Parameter):
            continue
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.normal_(weight, 1.0, std)
        elif weight.ndim > 1:
            draw(weight)
            bias = getattr(part, "bias", None)
            if zero_bias and isinstance(bias, nn.Parameter):
                nn.init.zeros_(bias)
