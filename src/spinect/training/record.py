"""When a validation is due, what is written of it, and which checkpoint is the best one."""

import csv
import logging
import math
import time
from collections.abc import Callable
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from spinect.errors import TrainingError
from spinect.training.adapter import MethodAdapter
from spinect.training.folder import RunFolder
from spinect.training.validate import Measured, Plan, means, measure

LOG = logging.getLogger(__name__)
MEAN = "mean"  # stands in the column `subject` of the mean over subjects


class Recorder:
    """Validates in every process; the first one writes."""

    def __init__(self, plan: Plan, folder: RunFolder):
        self.plan, self.folder = plan, folder
        self.best: float | None = None
        self._last = (-1, 0.0)  # update and minutes of the last validation

    def start(self, adapter: MethodAdapter) -> None:
        """Find where an earlier start left off."""
        self._last = (-1, 0.0)
        if self.folder.validation.is_file():
            with self.folder.validation.open(encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    self._last = (int(row["update"]), float(row["minutes"]))
        if adapter.trainer.is_global_zero:
            self.best = self._known_best(adapter.updates)

    def due(self, adapter: MethodAdapter, complete: bool) -> bool:
        """After so many updates or minutes, and when training is complete; not twice at one."""
        settings, (update, minutes) = self.plan.settings, self._last
        if adapter.updates == update:
            return False
        by_updates = settings.every is not None and adapter.updates % settings.every == 0
        by_clock = settings.minutes is not None and adapter.minutes - minutes >= settings.minutes
        return by_updates or by_clock or complete

    def validate(
        self, adapter: MethodAdapter, board: SummaryWriter | None, stop: Callable[[], bool]
    ) -> bool:
        """Measure, write, and keep the checkpoint if it is the best one so far; returns whether.

        Raises:
            TrainingError: A volume fails, or the metric is defined on none of them.
        """
        began = time.perf_counter()
        found = measure(self.plan, adapter, stop)
        if found is None:
            LOG.info("the validation at update %d was broken off", adapter.updates)
            return False
        self._last = (adapter.updates, adapter.minutes)
        if not adapter.trainer.is_global_zero:
            return False
        mean = means(self.plan, found)
        self._write(adapter, [*found, Measured(MEAN, "", mean)], board)
        metric = self.plan.metric
        value = mean[metric.name]
        if math.isnan(value):
            raise TrainingError(
                f"update {adapter.updates}: {metric.name} is defined on none of {len(found)} "
                "validation series, so that no checkpoint can be the best: name another "
                "validation.metric"
            )
        better = metric.better(value, self.best)
        if better:
            self.best = value
            chosen = {"validation": self.plan.facts() | {"value": value}}
            self.folder.save_best(adapter.state() | chosen)
        unit = f" {metric.measure.unit}" if metric.measure.unit else ""
        LOG.info(
            "validation at update %d: %s %.5g%s%s, %.0f s",
            *(adapter.updates, metric.name, value, unit, ", the best so far" if better else ""),
            time.perf_counter() - began,
        )
        return better

    def _write(
        self, adapter: MethodAdapter, rows: list[Measured], board: SummaryWriter | None
    ) -> None:
        head: dict[str, float | int | str] = {
            "update": adapter.updates,
            "minutes": round(adapter.minutes, 3),
        }
        self.folder.append_validation([
            head | {"subject": one.subject, "series": one.series}
            | {name: _digits(value) for name, value in one.values.items()}
            for one in rows
        ])  # fmt: skip
        if board is not None:
            for name, value in rows[-1].values.items():
                board.add_scalar(f"validation/{name}", value, adapter.updates)

    def _known_best(self, updates: int) -> float | None:
        """The best value so far, unless it was measured otherwise or on a way not taken."""
        state = self.folder.load_best()
        if state is None:
            return None
        chosen: dict[str, Any] = dict(state["validation"])
        value = float(chosen.pop("value"))
        if chosen == self.plan.facts() and int(state["updates"]) <= updates:
            return value
        old = self.folder.best.with_name(f"best.until-{updates:07d}.ckpt")
        self.folder.best.replace(old)
        LOG.warning("the best checkpoint was chosen otherwise: it is kept as %s", old.name)
        return None


def _digits(value: float) -> float:
    return float(f"{value:.5g}")
