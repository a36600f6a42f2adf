"""What happens beside the updates: log rows, checkpoints, previews, and when to stop."""

import logging
import signal
import time
from statistics import fmean
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.tensorboard import SummaryWriter

from spinect.protocols import Batch
from spinect.training.adapter import MethodAdapter
from spinect.training.config import RunConfig
from spinect.training.folder import RunFolder
from spinect.training.loader import TimedLoader
from spinect.training.preview import save_preview
from spinect.training.record import Recorder

LOG = logging.getLogger(__name__)


class Keeper(Callback):
    """Looks after each update; only the first process writes."""

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        loader: TimedLoader,
        recorder: Recorder | None = None,
    ):
        self.config, self.folder, self.loader = config, folder, loader
        self.recorder = recorder
        self.signal: int | None = None  # that asked for the end
        self._handlers: dict[int, Any] = {}
        self._began = self._saved = self._logged = time.perf_counter()
        self._waited = self._network = 0.0
        self._sums: dict[str, list[float]] = {}
        self._terms: dict[str, list[float]] = {}
        self._rows = 0
        self._preview: Batch | None = None
        self._board: SummaryWriter | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del trainer, pl_module
        self._began = self._saved = self._logged = time.perf_counter()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._ask_to_stop)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The one epoch begins when the adapter has found where an earlier start left off."""
        adapter = _adapter(pl_module)
        if trainer.is_global_zero:
            board = self.folder.path / "tensorboard"
            self._board = SummaryWriter(str(board), purge_step=adapter.updates + 1)
        if self.recorder is not None:
            self.recorder.start(adapter)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        del outputs, batch_idx
        adapter, settings = _adapter(pl_module), self.config.trainer
        self._collect(adapter)
        if trainer.is_global_zero:
            if adapter.updates % settings.log_every == 0:
                self._log(adapter)
            if settings.preview_every and adapter.updates % settings.preview_every == 0:
                self._preview = self._preview or batch[0]
                path = self.folder.previews / f"update-{adapter.updates:07d}.png"
                save_preview(adapter, self._preview, path, self.config.seed)
        improved = self._validate(adapter)
        ended = self._ended(trainer, adapter)
        due = improved or time.perf_counter() - self._saved >= settings.checkpoint_minutes * 60
        if (due or ended) and trainer.is_global_zero:
            self.folder.save(adapter.state())
            self._saved = time.perf_counter()
        if ended:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del trainer, pl_module
        # Not later: what is put back here is Lightning's, which then puts back what it found.
        # After an error Lightning does so by itself.
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        del trainer, pl_module, stage
        if self._board is not None:
            self._board.close()

    def _validate(self, adapter: MethodAdapter) -> bool:
        """Where it is due; its time is not that of the updates. True: there is a new best one.

        Then the last checkpoint is written too, so that no run goes on from before its best one.
        """
        if self.recorder is None or not self.recorder.due(adapter, self._complete(adapter)):
            return False
        began = time.perf_counter()
        with adapter.clock_stopped():
            better = self.recorder.validate(adapter, self._board, lambda: self.signal is not None)
        self._logged += time.perf_counter() - began
        return better

    def _complete(self, adapter: MethodAdapter) -> bool:
        """Whether the config's end is reached; all processes agree."""
        settings = self.config.trainer
        return adapter.updates >= (
            settings.max_steps or adapter.updates + 1
        ) or adapter.minutes >= (settings.max_minutes or float("inf"))

    def _ended(self, trainer: Trainer, adapter: MethodAdapter) -> bool:
        settings = self.config.trainer
        piece = (time.perf_counter() - self._began) / 60
        done = (
            self.signal is not None
            or self._complete(adapter)
            or piece >= (settings.piece_minutes or float("inf"))
        )
        if trainer.world_size > 1:  # all processes leave together
            return bool(trainer.strategy.reduce_boolean_decision(done, all=False))
        return done

    def _collect(self, adapter: MethodAdapter) -> None:
        self._rows += 1
        for part, (loss, norm) in adapter.last.items():
            sums = self._sums.setdefault(part, [0.0, 0.0])
            sums[0] += loss
            sums[1] += norm
        for name, values in adapter.terms.items():
            self._terms.setdefault(name, []).extend(values)

    def _log(self, adapter: MethodAdapter) -> None:
        now = time.perf_counter()
        seconds = now - self._logged
        waited = self.loader.waited - self._waited
        network = adapter.network_seconds - self._network
        per_update = seconds / self._rows
        settings, data = self.config.trainer, self.config.data
        left = float("inf")
        if settings.max_steps is not None:
            left = (settings.max_steps - adapter.updates) * per_update / 60
        if settings.max_minutes is not None:
            left = min(left, settings.max_minutes - adapter.minutes)
        samples = adapter.updates * settings.accumulate * settings.devices
        terms = {name: _digits(fmean(values)) for name, values in self._terms.items()}
        row: dict[str, float | int | str] = {
            "update": adapter.updates,
            "patches": samples * data.patches_per_item,
            "minutes": round(adapter.minutes, 3),
        }
        for part, (loss, norm) in self._sums.items():
            rate = adapter.optimisers[part].param_groups[0]["lr"]
            row[f"{part}_loss"] = _digits(loss / self._rows)
            row[f"{part}_grad_norm"] = _digits(norm / self._rows)
            row[f"{part}_lr"] = _digits(rate)
        row |= {
            "seconds_per_update": _digits(per_update),
            "share_waiting": _digits(waited / seconds),
            "share_overhead": _digits(max(0.0, seconds - waited - network) / seconds),
            "minutes_left": _digits(left),
            "terms": " ".join(f"{name}={value:g}" for name, value in terms.items()),
        }
        self.folder.append(row)
        LOG.info("%s", "  ".join(f"{key} {value}" for key, value in row.items()))
        if self._board is not None:
            numbers = {k: v for k, v in row.items() if not isinstance(v, str)}
            for key, value in (numbers | {f"terms/{k}": v for k, v in terms.items()}).items():
                self._board.add_scalar(key, value, adapter.updates)
        self._sums, self._terms, self._rows = {}, {}, 0
        self._logged, self._waited = now, self.loader.waited
        self._network = adapter.network_seconds

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        """Finish the update under way, then checkpoint; a second Ctrl-C ends at once.

        A second SIGTERM changes nothing: `timeout` and schedulers send it to the process and again
        to its group.
        """
        del frame
        if self.signal is not None and number == signal.SIGINT:
            raise SystemExit(128 + number)  # of a KeyboardInterrupt Lightning makes exit code 1
        self.signal = self.signal or number


def _adapter(module: LightningModule) -> MethodAdapter:
    assert isinstance(module, MethodAdapter)  # the only module that a Keeper is used with
    return module


def _digits(value: float) -> float:
    return float(f"{value:.5g}")
