"""The network and sampler of the public code of Graf et al. 2023, loaded from a checkout of it.

Only `models/diffusion_unet3D.py` and `pl_models/diffusion/*.py` of its folder `diffusion3d` are
run, with the few modules of theirs that these name. What they import for training and previews
alone is replaced by stand-ins that do nothing, so neither Lightning nor torchvision is needed.
Nothing of that code is in this repository.
"""

import importlib
import importlib.util
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

TIMES = 1000  # of the noise process


class _Lightning(nn.Module):
    """What their sampler takes of a LightningModule."""

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


class _Nothing:
    def __init__(self, *_: object, **__: object) -> None:
        pass


def _rearrange(x: Tensor, pattern: str) -> Tensor:
    """The one use that the network makes of einops: "b c -> b c 1 1 1"."""
    before, after = (side.split() for side in pattern.split("->"))
    more = len(after) - len(before)
    if after != before + ["1"] * more:
        raise SystemExit(f"the network calls einops with {pattern!r}: install einops")
    return x.reshape(*x.shape, *[1] * more)


@contextmanager
def _stand_ins(**members: dict[str, object]) -> Iterator[None]:
    """Modules of these members ("__" for a dot) as long as the context is open."""
    found = {}
    for name, held in members.items():
        module = found[name.replace("__", ".")] = ModuleType(name)
        module.__dict__.update(held)
    for name, module in found.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(found[parent], child, module)
    kept = {name: sys.modules[name] for name in found if name in sys.modules}
    sys.modules.update(found)
    try:
        yield
    finally:
        for name in found:
            del sys.modules[name]
        sys.modules.update(kept)


def load(checkout: Path, width: int) -> Any:
    """Their diffusion model in three dimensions, with weights drawn anew, in eval mode.

    Args:
        checkout: Of github.com/robert-graf/Readable-Conditional-Denoising-Diffusion.
        width: Features of the finest level; 64 in the publication.
    """
    root = checkout / "diffusion3d"
    if not (root / "pl_models" / "diffusion" / "diffusion.py").is_file():
        raise SystemExit(f"{root} holds no pl_models/diffusion/diffusion.py: give their checkout")
    inert: dict[str, dict[str, object]] = {
        "pytorch_lightning": {"LightningModule": _Lightning},
        "pytorch_lightning__loggers": {"TensorBoardLogger": _Nothing},
        "torchvision": {},
        "ema_pytorch": {"EMA": _Nothing},
        "tqdm": {"tqdm": lambda steps, **_: steps},
        "losses": {},
        "utils": {},
        "utils__arguments": {"Diffusion_Option": _Nothing},
        "utils__Wrapper_datasets": {"Batch_Dict": dict},
    }
    if importlib.util.find_spec("einops") is None:
        inert["einops"] = {"rearrange": _rearrange}
    sys.path.insert(0, str(root))
    with _stand_ins(**inert):
        theirs = importlib.import_module("pl_models.diffusion.diffusion")
    options = SimpleNamespace(
        timesteps=TIMES,
        linear=False,
        L2_loss=False,
        learned_variance=False,
        image_mode=True,
        volumes=True,
        channels=width,
        conditional=True,
        conditional_dimensions=4,
        conditional_label_size=0,
        image_dropout=0.0,
    )
    model = theirs.Diffusion(options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.generator.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            gain = ".norm.weight" in name
            weight.copy_(1 + 0.2 * noise if gain else noise / math.sqrt(max(1, noise[0].numel())))
    return model.eval()


def sample(model: Any, condition: Tensor, noise: list[Tensor]) -> Tensor:
    """Their draw with our noise, in [-1, 1]: the start, then one field for each step.

    Shapes: condition (1, 4, *S) on axes R, I, P; noise (1, 1, *S) each, one per call of the
    network -> (1, 1, *S).
    """
    drawn: Iterator[Tensor] = iter([*noise, torch.zeros_like(noise[0])])  # the last one unused
    steps = range(0, TIMES, TIMES // len(noise))

    def draw(*_: object, **__: object) -> Tensor:
        return next(drawn)

    # Their argument `noise` compares a list with a tuple and always fails.
    with patch.object(torch, "randn", draw), patch.object(torch, "randn_like", draw):
        unit, _ = model.forward_ddim(1, steps, eta=1, x_conditional=condition, progressbar=False)
    return 2 * unit - 1  # theirs lies in [0, 1]
