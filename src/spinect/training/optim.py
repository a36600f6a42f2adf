"""Optimisers, learning rate, moving average and seeds of a training run."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from spinect.errors import ConfigError, TrainingError
from spinect.protocols import Method
from spinect.training.settings import TrainerConfig


class Ema:
    """Exponential moving average of a module's parameters, in float32; buffers are copied.

    After update t (from 1): average <- d average + (1 - d) value, with the warmed-up decay
    d = min(decay, (1 + t) / (10 + t)), so that the random start is forgotten early.
    Source: the warm-up is that of tf.train.ExponentialMovingAverage (num_updates).
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.average = {k: v.detach().clone().float() for k, v in _floats(module)}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        names = {k for k, _ in module.named_parameters()}
        moved = [(self.average[k], v.detach().float()) for k, v in _floats(module) if k in names]
        torch._foreach_lerp_([a for a, _ in moved], [v for _, v in moved], 1 - decay)
        for key, value in _floats(module):
            if key not in names:
                self.average[key].copy_(value)

    @torch.no_grad()
    def swap(self, module: nn.Module) -> None:
        """Exchange the module's values and the averages; a second call puts them back."""
        for key, value in _floats(module):
            held = value.detach().clone()
            value.copy_(self.average[key])
            self.average[key].copy_(held)

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process the first one's buffers; parameters agree, running means do not."""
        names = {k for k, _ in module.named_parameters()}
        for key, value in self.average.items():
            if key not in names:
                torch.distributed.broadcast(value, 0)

    def state_dict(self) -> dict[str, object]:
        return {"updates": self.updates, "average": self.average}

    def load_state_dict(self, state: dict[str, object]) -> None:
        average = state["average"]
        if not isinstance(average, dict) or average.keys() != self.average.keys():
            raise TrainingError("the checkpoint's moving average belongs to another network")
        self.updates = int(str(state["updates"]))
        for key, value in self.average.items():
            value.copy_(average[key])


def make_optimisers(method: Method, config: TrainerConfig) -> dict[str, torch.optim.Optimizer]:
    """One AdamW per part; rank-0 and rank-1 tensors (biases, norms) are not decayed.

    Raises:
        ConfigError: `part_lr` names an unknown part, or a trainable parameter is in no part.
    """
    unknown = sorted(config.part_lr.keys() - set(method.parts))
    if unknown:
        known = ", ".join(method.parts)
        raise ConfigError(f"trainer.part_lr.{unknown[0]}: the method has only the parts {known}")
    module = as_module(method)
    owned: set[int] = set()
    optimisers: dict[str, torch.optim.Optimizer] = {}
    for part in method.parts:
        weights = part_parameters(method, part)
        owned |= {id(w) for w in weights}
        groups = [
            {"params": [w for w in weights if w.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
        ]
        optimisers[part] = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=config.part_lr.get(part, config.lr),
            betas=config.betas,
            fused=weights[0].device.type in ("cpu", "cuda"),
        )
    orphans = [k for k, w in module.named_parameters() if w.requires_grad and id(w) not in owned]
    if orphans:
        raise ConfigError(f"{orphans[0]} and {len(orphans) - 1} more parameters are in no part")
    return optimisers


def part_parameters(method: Method, part: str) -> list[nn.Parameter]:
    """Trainable parameters of one part, in a fixed order."""
    return [w for w in as_module(method).get_submodule(part).parameters() if w.requires_grad]


def as_module(method: Method) -> nn.Module:
    """A method seen as the ``nn.Module`` that it also is."""
    if not isinstance(method, nn.Module):
        raise ConfigError(f"{type(method).__name__} is not a torch module and cannot be trained")
    return method


def share_done(config: TrainerConfig, step: int, minutes: float) -> float:
    """Share of the training that is done at update `step` (from 0) after `minutes`, in [0, 1]."""
    shares = []
    if config.max_steps is not None and not config.schedule.endswith("-clock"):
        shares.append(step / config.max_steps)
    if config.max_minutes is not None and config.schedule not in ("cosine", "linear"):
        shares.append(minutes / config.max_minutes)
    return min(1.0, max(shares))


def learning_rate_factor(config: TrainerConfig, step: int, minutes: float) -> float:
    """Share of the base rate at update `step` (from 0) after `minutes` of training, in [0, 1].

    With s the share done and e = `lr_end`: "cosine" is e + (1 - e) (1 + cos(pi s)) / 2, "linear"
    is 1 up to s = 1/2 and 1 - (1 - e) (2 s - 1) after it, both times the linear warm-up.

    The published Pix2Pix and CUT fall once per epoch (e from 0, 200 in all), by the factor
    1 - max(0, e + 1 - 100) / 101: steps along the same line, never more than 0.01 from ours.
    """
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "constant":
        return warm
    done = share_done(config, step, minutes)
    if config.schedule.startswith("linear"):
        left = 1 - max(0.0, 2 * done - 1)
    else:
        left = 0.5 * (1 + math.cos(math.pi * done))
    return warm * (config.lr_end + (1 - config.lr_end) * left)


def draw_seed(*words: int) -> int:
    """One 63-bit seed from several integers, such as (run seed, sample, stage)."""
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def _floats(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    return ((k, v) for k, v in module.state_dict(keep_vars=True).items() if v.is_floating_point())
