"""The one Lightning module: it trains every method, and knows none by name."""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from spinect.errors import TrainingError
from spinect.nets.blocks import freeze_statistics
from spinect.nets.unet import channels_last
from spinect.protocols import Batch, Method
from spinect.training.broken import refuse_broken_batches
from spinect.training.config import RunConfig
from spinect.training.memory import is_out_of_memory, out_of_memory
from spinect.training.optim import (
    Ema,
    as_module,
    draw_seed,
    learning_rate_factor,
    make_optimisers,
    part_parameters,
    share_done,
)


class MethodAdapter(LightningModule):
    """Manual optimisation of whatever a method's `losses` yields.

    One update takes k micro-batches. Their `losses` run side by side: all are advanced to their
    first (part, loss), the gradients of the losses' mean are summed, that part's optimiser
    steps; then all are advanced to the second, and so on. So k micro-batches equal one batch of
    k times the size, also for a method whose second loss depends on the first step.
    """

    def __init__(self, method: Method, config: RunConfig, state: dict[str, Any] | None = None):
        super().__init__()
        self.automatic_optimization = False
        self.method = as_module(method)
        self.parts = method.parts
        self.losses_of = method.losses
        self.format = {2: torch.channels_last, 3: torch.channels_last_3d}[method.ndim]
        self.config = config
        self.updates = 0  # done so far, over all starts
        self.network_seconds = 0.0  # spent inside `training_step` since this start
        self.last: dict[str, tuple[float, float]] = {}  # part -> loss, gradient norm
        self.terms: dict[str, list[float]] = {}  # parts of the losses, where a method keeps them
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.ema: Ema
        self._state = state
        self.minutes = 0.0  # of training over all starts, by the first process's clock
        self._earlier_minutes = 0.0
        self._seconds = {"wall": time.perf_counter, "cpu": time.process_time}[config.trainer.clock]
        self._started = self._seconds()
        if config.trainer.channels_last:
            channels_last(self.method, method.ndim)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        self.optimisers = make_optimisers(self.typed_method, self.config.trainer)
        return list(self.optimisers.values())

    @property
    def typed_method(self) -> Method:
        """The method by its contract."""
        method: Any = self.method
        return method  # type: ignore[no-any-return]

    def on_train_start(self) -> None:
        self.ema = Ema(self.method, self.config.trainer.ema)
        if self._state is not None:
            self._restore(self._state)
            self._state = None
        self.method.train()
        self._started = self._seconds()
        self.minutes = self._earlier_minutes

    def transfer_batch_to_device(
        self, batch: list[Batch], device: torch.device, dataloader_idx: int
    ) -> list[Batch]:
        del dataloader_idx
        return [one.to(device) for one in batch]

    def training_step(self, batches: list[Batch], batch_idx: int) -> None:
        """One update: every part's optimiser steps, then the moving average.

        Raises:
            TrainingError: A loss or gradient is not finite, or memory ran out.
        """
        del batch_idx
        began = time.perf_counter()
        try:
            self._update(batches)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            said = str(error)
        else:
            self.ema.update(self.method)
            self.updates += 1
            self.minutes = self._clock()
            self.network_seconds += time.perf_counter() - began
            return
        raise out_of_memory(self, batches, said)

    def rehearse(self, batches: list[Batch]) -> None:
        """Forward and backward passes of all parts, side by side as in training; no step."""
        streams, stage = self._streams(batches), 0
        while self._accumulate(streams, stage, alone=True) is not None:
            stage += 1

    def state(self) -> dict[str, Any]:
        """Everything that a later start needs: plain numbers, dicts and tensors."""
        return {
            "format": 1,
            "updates": self.updates,
            "minutes": self.minutes,
            "method": self.method.state_dict(),
            "ema": self.ema.state_dict(),
            "optimisers": {part: opt.state_dict() for part, opt in self.optimisers.items()},
        }

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of forward passes; left after each, since its cache outlives no step."""
        if self.config.trainer.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def _update(self, batches: list[Batch]) -> None:
        settings = self.config.trainer
        factor = learning_rate_factor(settings, self.updates, self.minutes)
        if share_done(settings, self.updates, self.minutes) >= settings.freeze_norm:
            freeze_statistics(self.method)
        streams = self._streams(batches)
        self.last, self.terms = {}, {}
        stage = 0
        while (part := self._accumulate(streams, stage)) is not None:
            self._step(part, factor, batches)
            stage += 1

    def _streams(self, batches: list[Batch]) -> list[Iterator[tuple[str, Tensor]]]:
        return [iter(self.losses_of(self._formatted(batch))) for batch in batches]

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """What happens inside counts for no `max_minutes` and no schedule."""
        began = self._seconds()
        try:
            yield
        finally:
            self._started += self._seconds() - began

    def _accumulate(
        self, streams: list[Iterator[tuple[str, Tensor]]], stage: int, alone: bool = False
    ) -> str | None:
        """Gradients of one stage's mean loss; returns the part to step, None at the end.

        Args:
            alone: The processes do not exchange what they found.
        """
        self.method.zero_grad(set_to_none=True)
        found: list[str | None] = []
        total = 0.0
        for micro, stream in enumerate(streams):
            sample = self.updates * len(streams) + micro
            number = sample * self.trainer.world_size + self.trainer.global_rank
            torch.manual_seed(draw_seed(self.config.seed, number, stage))
            with self.autocast():
                part, loss = next(stream, (None, None))
            found.append(part)
            if loss is None:
                continue
            for name, term in getattr(self.method, "terms", {}).items():
                self.terms.setdefault(name, []).append(float(term))
            with self._unsynchronised(alone or micro < len(streams) - 1):
                self.manual_backward(loss / len(streams))
            total += float(loss.detach()) / len(streams)
        if len(set(found)) > 1:
            raise TrainingError(f"micro-batches of one update yield different parts: {found}")
        part = found[0]
        if part is not None:
            self.last[part] = (total, self.last.get(part, (0.0, 0.0))[1])
        return part

    def _step(self, part: str, factor: float, batches: list[Batch]) -> None:
        if part not in self.optimisers:
            raise TrainingError(f"losses yield the part {part!r}; the method has {self.parts}")
        trainer = self.config.trainer
        loss = self.last[part][0]
        weights = part_parameters(self.typed_method, part)
        norm = float(torch.nn.utils.clip_grad_norm_(weights, trainer.clip or math.inf))
        if not (math.isfinite(norm) and math.isfinite(loss)):
            refuse_broken_batches(batches, self.updates)
            raise TrainingError(
                f"update {self.updates}: the loss of {part} is {loss:g} and its gradient norm "
                f"{norm:g}; the last checkpoint is kept. Lower trainer.lr (now {trainer.lr:g}) "
                "or trainer.clip, then start again"
            )
        for group in self.optimisers[part].param_groups:
            group["lr"] = trainer.part_lr.get(part, trainer.lr) * factor
        self.optimisers[part].step()
        self.last[part] = (loss, norm)

    def _unsynchronised(self, wanted: bool) -> AbstractContextManager[Any]:
        """Let processes exchange gradients only with the last micro-batch of an update."""
        strategy = self.trainer.strategy
        if wanted and isinstance(strategy, DDPStrategy):
            hold: AbstractContextManager[Any] = strategy.block_backward_sync()
            return hold
        return nullcontext()

    def _clock(self) -> float:
        own = self._earlier_minutes + (self._seconds() - self._started) / 60
        if self.trainer.world_size > 1:
            return float(self.trainer.strategy.broadcast(own))
        return own

    def _formatted(self, batch: Batch) -> Batch:
        if not self.config.trainer.channels_last:
            return batch
        condition = batch.condition.contiguous(memory_format=self.format)
        return Batch(**{**vars(batch), "condition": condition})

    def _restore(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"])
        self.ema.load_state_dict(state["ema"])
        for part, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][part])
        self.updates = int(state["updates"])
        self._earlier_minutes = float(state["minutes"])
