"""The residual generator of CycleGAN and CUT, for two and three axes."""

from collections.abc import Iterator

from torch import Tensor, nn

from spinect.nets.blocks import conv, instance_norm, reflect
from spinect.nets.resample import BlurDown, BlurUp
from spinect.nets.staged import Staged


class ResnetGenerator(Staged):
    """Convolution 7, halvings, residual blocks, doublings, convolution 7, tanh; instance norm.

    Instance norm takes its statistics over the tile, so the answer depends on the tile.

    Source: Johnson et al., arXiv 1603.08155, as Zhu et al., arXiv 1703.10593, and, with filtered
    changes of size, Park et al., arXiv 2007.15651, use it.

    Args:
        ndim: 2 or 3 spatial axes.
        in_channels, out_channels: Of the images.
        width: Features of the finest level; each halving doubles them.
        halvings: Changes of size.
        blocks: Residual blocks on the coarsest level.
        filtered: Low-pass filters change the size, not strides.
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 64,
        halvings: int = 2,
        blocks: int = 9,
        filtered: bool = True,
    ) -> None:
        super().__init__()
        self.divisor = 2**halvings
        layers = [reflect(ndim, 3), _valid(ndim, in_channels, width, 7), *_settle(ndim, width)]
        for level in range(halvings):
            now, then = width << level, width << level + 1
            layers += [conv(ndim, now, then, 3, 1 if filtered else 2), *_settle(ndim, then)]
            layers += [BlurDown(ndim)] if filtered else []
        layers += [ResnetBlock(ndim, width << halvings) for _ in range(blocks)]
        for level in reversed(range(halvings)):
            now, then = width << level + 1, width << level
            if filtered:
                layers += [BlurUp(ndim), conv(ndim, now, then, 3)]
            else:
                kind = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
                layers += [kind(now, then, 3, stride=2, padding=1, output_padding=1)]
            layers += _settle(ndim, then)
        layers += [reflect(ndim, 3), _valid(ndim, width, out_channels, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """The features after each layer, in order."""
        for layer in self.layers:
            x = layer(x)
            yield x


class ResnetBlock(nn.Module):
    """x + in(conv(relu(in(conv(x))))), reflected at the borders."""

    def __init__(self, ndim: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            reflect(ndim, 1),
            _valid(ndim, channels, channels, 3),
            *_settle(ndim, channels),
            reflect(ndim, 1),
            _valid(ndim, channels, channels, 3),
            instance_norm(ndim, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) to the same."""
        y: Tensor = x + self.layers(x)
        return y


def _settle(ndim: int, channels: int) -> list[nn.Module]:
    return [instance_norm(ndim, channels), nn.ReLU()]


def _valid(ndim: int, inputs: int, outputs: int, kernel: int) -> nn.Module:
    """A convolution without padding: `reflect` stands in front of it."""
    return (nn.Conv2d if ndim == 2 else nn.Conv3d)(inputs, outputs, kernel)
