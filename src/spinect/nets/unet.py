"""One residual-encoder U-Net for two and three axes, with a coarse body and a thin fine head."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spinect.errors import ConfigError
from spinect.nets.blocks import (
    NoiseEmbedding,
    Norm,
    ResidualBlock,
    batch_norm,
    conv,
    depth_to_space,
    space_to_depth,
    without_autocast,
)
from spinect.nets.staged import Staged


class UNet(nn.Module):
    """U-Net whose body works on cells of `stem` voxels per axis, and whose head works on voxels.

    Encoder: `space_to_depth`, a convolution, then per level residual blocks and a strided
    convolution. Decoder: 1x1 convolution, nearest upsampling, addition of the 1x1-convolved skip,
    residual blocks. Fine outputs: `depth_to_space` of a 1x1 convolution, which teaches the body
    without a detour, plus a correction that sees the raw input: `depth_to_space`, the input beside
    it, two convolutions of kernel 3. Coarse outputs: one 1x1 convolution, left on the cells. In
    evaluation no statistic is taken over space, so a voxel's output depends only on the `reach`
    voxels around it.

    Args:
        ndim: 2 or 3 spatial axes.
        in_channels: Channels of the input.
        fine: Output channels on the voxels.
        coarse: Output channels on the cells; 0 for none.
        channels: Features per level, finest first.
        blocks: Residual blocks per level of the encoder.
        decoder_blocks: Residual blocks per level of the decoder; one entry fewer.
        stem: Voxels per cell and axis; 1 for none.
        head: Features of the fine head.
        embedding: Length of the noise-level embedding; 0 for a network without noise level.
        precise: In evaluation the last fine convolutions ignore autocast and stay float32.
        norm: "rms" normalises each voxel's channels; "batch" learns several times as fast on images
            of many contrasts, and needs batches of several of them (docs/decisions).
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        fine: int,
        coarse: int = 0,
        *,
        channels: Sequence[int],
        blocks: Sequence[int],
        decoder_blocks: Sequence[int],
        stem: int = 2,
        head: int = 16,
        embedding: int = 0,
        precise: bool = False,
        norm: Norm = "rms",
    ) -> None:
        super().__init__()
        levels = len(channels)
        if len(blocks) != levels or len(decoder_blocks) != levels - 1:
            raise ConfigError(
                f"{levels} levels of channels need {levels} entries in blocks, found {len(blocks)},"
                f" and {levels - 1} in decoder_blocks, found {len(decoder_blocks)}"
            )
        if head <= in_channels:
            raise ConfigError(
                f"head {head} holds the {in_channels} channels of the input and features beside "
                f"them: set network.head to {-(-(in_channels + 1) // 16) * 16} or more"
            )
        self.ndim, self.stem, self.precise = ndim, stem, precise
        self.divisor = stem * 2 ** (levels - 1)
        self.blocks, self.decoder_blocks = tuple(blocks), tuple(decoder_blocks)
        steps = list(pairwise(channels))

        def stage(count: int, width: int) -> nn.ModuleList:
            return nn.ModuleList(ResidualBlock(ndim, width, embedding, norm) for _ in range(count))

        def joint(a: int, b: int, kernel: int, stride: int = 1) -> nn.Module:
            bare = conv(ndim, a, b, kernel, stride)
            return nn.Sequential(bare, batch_norm(ndim, b)) if norm == "batch" else bare

        self.embed = NoiseEmbedding(embedding) if embedding else None
        self.entry = joint(in_channels * stem**ndim, channels[0], 3)
        self.encoder = nn.ModuleList(map(stage, blocks, channels))
        self.down = nn.ModuleList(joint(a, b, 2, stride=2) for a, b in steps)
        self.up = nn.ModuleList(joint(b, a, 1) for a, b in steps)
        self.skip = nn.ModuleList(joint(a, a, 1) for a, _ in steps)
        self.decoder = nn.ModuleList(map(stage, decoder_blocks, channels[:-1]))
        # The body fills what the raw input leaves of `head`: kernels are quick at multiples of 16.
        self.expand = conv(ndim, channels[0], (head - in_channels) * stem**ndim, 1)
        self.settle = batch_norm(ndim, channels[0]) if norm == "batch" else None
        self.fine_first = conv(ndim, head, head, 3)
        self.fine_last = conv(ndim, head, fine, 3)
        self.direct = conv(ndim, channels[0], fine * stem**ndim, 1)
        self.coarse = conv(ndim, channels[0], coarse, 1) if coarse else None

    @property
    def reach(self) -> int:
        """Voxels to each side of a cell beyond which the input cannot change the output.

        The furthest path runs down to the last level and back: two convolutions of kernel 3 per
        block, plus up to one cell per halving for where the cell lies inside the coarser one.
        """
        cells = 1 + sum(2 * n << i for i, n in enumerate(self.blocks))
        cells += sum(2 * n << i for i, n in enumerate(self.decoder_blocks))
        cells += (1 << len(self.down)) - 1
        return cells * self.stem + (self.stem - 1) + 2

    def forward(self, x: Tensor, level: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Voxels in, voxels and cells out.

        Args:
            x: (B, in_channels, *S), every size of S a multiple of `divisor`.
            level: (B,), the noise level as the denoiser scales it; only with an embedding.
        Returns:
            fine (B, fine, *S) and coarse (B, coarse, *S / stem) or None.
        """
        embedding = self.embed(level) if self.embed is not None and level is not None else None
        return self.decode(list(self._encode(x, embedding)), x, embedding)

    def decode(
        self, stages: Sequence[Tensor], x: Tensor, embedding: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """What `forward` returns, from the features of every encoder level, finest first, and x."""
        *skips, cells = stages
        for index in reversed(range(len(self.up))):
            risen = F.interpolate(self.up[index](cells), scale_factor=2.0, mode="nearest")
            cells = risen + self.skip[index](skips.pop())
            for block in self.decoder[index]:  # type: ignore[attr-defined]
                cells = block(cells, embedding)
        if self.settle is not None:
            cells = self.settle(cells)
        coarse = self.coarse(cells) if self.coarse is not None else None
        return self._fine(cells, x), coarse

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """Features (B, C, *S / (stem * 2**i)) of each encoder level i, finest first; x as above."""
        return self._encode(x, None)

    def _encode(self, x: Tensor, embedding: Tensor | None) -> Iterator[Tensor]:
        cells = self.entry(space_to_depth(x, self.stem) if self.stem > 1 else x)
        cells = cells if self.settle is None else F.silu(cells)
        for index, stage in enumerate(self.encoder):
            if index:
                cells = self.down[index - 1](cells)
            for block in stage:  # type: ignore[attr-defined]
                cells = block(cells, embedding)
            yield cells

    def _fine(self, cells: Tensor, x: Tensor) -> Tensor:
        voxels = self.expand(cells)
        voxels = self._to_voxels(voxels if self.settle is None else F.silu(voxels))
        h = F.silu(self.fine_first(torch.cat([voxels, x.to(voxels.dtype)], dim=1)))
        if self.precise and not self.training:
            # bfloat16 has steps of 3 to 6 HU between soft tissue and bone: coarse for an image.
            with without_autocast(h.device.type):
                cells, h = (v.to(self.fine_last.weight.dtype) for v in (cells, h))
                return self._join(cells, h)
        return self._join(cells, h)

    def _join(self, cells: Tensor, h: Tensor) -> Tensor:
        fine: Tensor = self._to_voxels(self.direct(cells)) + self.fine_last(h)
        return fine

    def _to_voxels(self, cells: Tensor) -> Tensor:
        return depth_to_space(cells, self.stem) if self.stem > 1 else cells


class UNetGenerator(Staged):
    """The fine outputs of a `UNet` alone: a network that makes an image in one call.

    They are linear, as in regression, which so has the same network: no tanh keeps them in
    [-1, 1], and nothing clips what a loss sees.
    """

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network
        self.divisor = network.divisor

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """The features of each level of the encoder, finest first, then the output."""
        levels = []
        for features in self.network.stages(x):
            levels.append(features)
            yield features
        yield self.network.decode(levels, x)[0]


def channels_last(module: nn.Module, ndim: int) -> nn.Module:
    """The module with its weights stored channels last, which CPU and GPU kernels want."""
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[ndim]
    return module.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]
