"""What of a sampler's calls is the same in every call: is it worth keeping?

    python benchmarks/schedule_share.py [--threads 1] [--repeats 5] [--keep]

Per preset and precision, processor milliseconds of one call of the network on one tile, and of the
parts that do not change from call to call: in the first convolution what the condition adds, which
would leave the convolution of the noisy image and an addition; and what the noise level becomes
on its way to the blocks. Random weights. The least of the repeats: other programs only add to it.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common import publish, table
from spinect.inference.compute import Compute
from spinect.methods.registry import build
from spinect.nets.packed import packed
from spinect.nets.unet import channels_last
from spinect.training.config import load_config

CONFIGS = Path(__file__).parents[1] / "configs"
TILES = {
    "graf2023/ddim_image_3d": (16, 64, 64),
    "graf2023/ddim_image_2d": (256, 256),
    "modern/edm_3d": (48, 48, 48),
    "lyu2022/ddpm": (256, 256),
    "lyu2022/ddpm_neighbours": (256, 256),
}


def least(call: Callable[[], object], repeats: int) -> float:
    """Processor milliseconds."""
    call()
    found = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        found.append(time.process_time() - begin)
    return 1e3 * min(found)


class Watch:
    """The last input of a module, and the processor time of all the modules that it was put on."""

    def __init__(self, *modules: nn.Module) -> None:
        self.seconds, self.input = 0.0, torch.empty(0)
        for module in modules:
            module.register_forward_pre_hook(self._before)
            module.register_forward_hook(self._after)

    def _before(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.input, self._begin = inputs[0], time.process_time()

    def _after(self, *_: object) -> None:
        self.seconds += time.process_time() - self._begin


def first_convolution(network: Any, x: Tensor) -> tuple[Any, Tensor]:
    """The convolution that sees the condition, and which of its input channels are the noisy image.

    Args:
        x: (1, channels of the network, *S).
    """
    if hasattr(network, "stem") and isinstance(network.stem, nn.Module):
        return network.stem, torch.tensor([0])
    entry = network.entry[0] if isinstance(network.entry, nn.Sequential) else network.entry
    return entry, torch.arange(0, x.shape[1] * network.stem**network.ndim, x.shape[1])


def measured(preset: str, dtype: torch.dtype | None, repeats: int) -> tuple[object, ...]:
    config = load_config(CONFIGS / f"{preset}.yaml").method
    options = {key: value for key, value in config.items() if key != "name"}
    method: Any = build("diffusion", options).eval()
    size = TILES[preset]
    channels_last(method, len(size))
    vectors = Watch(*(m for m in method.modules() if isinstance(m, nn.Linear)))
    plain, method = method, packed(method, dtype or torch.float32)
    x, condition = torch.randn(1, 1, *size), torch.randn(1, method.in_channels, *size)
    first, own = first_convolution(method.network, torch.cat([x, condition], dim=1))
    seen = Watch(first)
    with (
        torch.inference_mode(),
        torch.autocast("cpu", dtype=dtype, enabled=dtype is not None),
    ):
        for _ in range(repeats):
            plain.denoise(x, torch.tensor(1.0), condition)
        level = vectors.seconds / repeats * 1e3
        call = least(lambda: method.denoise(x, torch.tensor(1.0), condition), repeats)
        whole = seen.input.clone(memory_format=torch.preserve_format)
        first._forward_hooks.clear()
        first._forward_pre_hooks.clear()
        all_of_it = least(lambda: first(whole), repeats)
        kind = {2: F.conv2d, 3: F.conv3d}[len(size)]
        layout = {2: torch.channels_last, 3: torch.channels_last_3d}[len(size)]
        part = whole[:, own].contiguous(memory_format=layout)
        weight = first.weight[:, own].contiguous(memory_format=layout)

        def split(dtype: torch.dtype | None) -> float:
            wanted = dtype or torch.float32
            a, w, b = part.to(wanted), weight.to(wanted), first.bias.to(wanted)
            kept = torch.zeros_like(kind(a, w, b, padding=first.plain.padding))
            with torch.autocast("cpu", enabled=False):
                return least(lambda: kept + kind(a, w, b, padding=first.plain.padding), repeats)

        remains = min(split(dtype), split(None))
    gain = (all_of_it - remains) / call
    kept = (
        first.weight.shape[0] * whole[0, 0].numel() / x.numel() * (dtype or torch.float32).itemsize
    )
    return (
        preset, "x".join(map(str, size)), "fp32" if dtype is None else "bf16", call, all_of_it,
        remains, f"{gain:.1%}", f"{kept:.0f}", level, f"{level / call:.1%}",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="keep the result")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    precisions = [None]
    if Compute.choose("cpu").dtype is not None:
        precisions.insert(0, torch.bfloat16)
    rows = [measured(preset, how, args.repeats) for preset in TILES for how in precisions]
    header = (
        "preset", "tile", "precision", "call ms", "first convolution ms", "of the noisy image ms",
        "gain", "kept, bytes per voxel", "level's vectors ms", "share",
    )  # fmt: skip
    publish("schedule_share", "What is the same in every call", table(header, rows), keep=args.keep)


if __name__ == "__main__":
    main()
