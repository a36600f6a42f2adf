"""Validation: whole volumes through the driver of inference, measured as an evaluation does."""

import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
import torch

from spinect.anatomy import PRESACRAL, VERTEBRA_CLASSES
from spinect.bundle import Bundle
from spinect.card import Card
from spinect.data.intensity import MR_RANGE, RELATIVE
from spinect.data.series import Series
from spinect.errors import ConfigError, SpinectError, TrainingError
from spinect.evaluation.measures import Value
from spinect.evaluation.overlap import dice
from spinect.evaluation.protocols.strict_image import strict_image
from spinect.evaluation.regions import regions_of
from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.inference.heads import MASK_HEADS, MaskHeads
from spinect.inference.plan import resident_bytes
from spinect.inference.prepare import condition_channels, relative_mr
from spinect.inference.translate import predict_masks, translate
from spinect.io import read
from spinect.protocols import IMAGE, Method, Mode
from spinect.training.adapter import MethodAdapter
from spinect.training.aside import averaged, random_kept
from spinect.training.bundling import make_card
from spinect.training.config import RunConfig
from spinect.training.metric import DICE, Metric
from spinect.training.settings import ValidationConfig
from spinect.training.subjects import find_validation

LOG = logging.getLogger(__name__)
IMAGE_COLUMNS: Final = (
    "mae_near_bone", "bias_near_bone", "mae_patient", "psnr_patient", "ssim_patient",
)  # fmt: skip
_REGIONS: Final = ("near_bone", "patient", "valid")  # "valid" says where similarities count
_MEMORY: Final = 6 * 2**30  # bytes beside what training holds; decides about speed only


class Stopped(Exception):
    """The run was asked to end while a volume was under way."""


@dataclass(frozen=True)
class Measured:
    """One series: its participant, its name, and its figures by column."""

    subject: str
    series: str
    values: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """What a run measures, and how.

    Attributes:
        mode: Of `translate`. columns: Names of the figures, the metric among them.
    """

    settings: ValidationConfig
    card: Card
    series: tuple[tuple[str, Series], ...]
    metric: Metric
    mode: Mode
    columns: tuple[str, ...]
    seed: int

    def facts(self) -> dict[str, Any]:
        """What a best checkpoint was chosen by; free of the participants' names."""
        names = hashlib.sha256("\n".join(one.name for _, one in self.series).encode()).hexdigest()
        return {
            "metric": self.metric.name,
            "unit": self.metric.measure.unit,
            "split": self.settings.split,
            "subjects": len({subject for subject, _ in self.series}),
            "series": len(self.series),
            "series_sha256": names,
            "mode": self.mode,
            "steps": self.settings.steps,
        }


def make_plan(config: RunConfig, method: Method) -> Plan | None:
    """The validation of a config; None where it wants none.

    Raises:
        ConfigError: The method cannot be measured so, or a subject is trained on.
        InputError: A file is missing.
    """
    settings = config.validation
    if settings is None:
        return None
    metric, card = Metric.parse(settings.metric), make_card(config)
    if card.image_kind == "mr":
        metric = metric.in_unit(RELATIVE)
    masked, makes = all(head in method.heads for head in MASK_HEADS), IMAGE in method.heads
    columns = (IMAGE_COLUMNS if makes else ()) + ((DICE,) if masked else ())
    needed = f"all of the heads {', '.join(MASK_HEADS)}" if metric.name == DICE else "the head ct"
    if not (masked if metric.name == DICE else makes):
        raise ConfigError(
            f"validation.metric {metric.name} needs {needed}, the method has "
            f"{', '.join(method.heads)}: name another metric, such as mae_near_bone of a "
            f"translator or {DICE} of a segmenter"
        )
    if metric.name not in columns:
        columns += (metric.name,)
    count = condition_channels(card.channels, card.preprocessing.neighbours)
    if count != method.in_channels:
        raise ConfigError(
            f"validation: export.channels {card.channels} is {count} channels, the method takes "
            f"{method.in_channels}: set the one that training shows it"
        )
    mode = _mode(settings, card, method)
    series = tuple(find_validation(config))
    return Plan(settings, card, series, metric, mode, columns, config.seed)


def _mode(settings: ValidationConfig, card: Card, method: Method) -> Mode:
    offered = [mode for mode in card.modes if mode in method.modes]
    mode = settings.mode or next(iter(offered), None)
    if mode is None or mode not in offered:
        raise ConfigError(
            f"validation.mode {settings.mode or 'of the bundle'}: export.modes are "
            f"{', '.join(card.modes)}, the method offers {', '.join(method.modes)}: name a mode "
            "of both"
        )
    if settings.steps is not None and mode == "regress":
        raise ConfigError("validation.steps belong to the modes sample and mc, not to regress")
    return mode


def measure(plan: Plan, adapter: MethodAdapter, stop: Callable[[], bool]) -> list[Measured] | None:
    """Figures of every series with the averaged weights; None where `stop` ended it.

    The processes of a distributed run share the series. Neither weights nor random state of the
    training change.

    Raises:
        TrainingError: A volume cannot be translated or measured; the text names it.
    """
    world, rank = adapter.trainer.world_size, adapter.trainer.global_rank
    mine: list[Measured] | str | None = []
    adapter.method.zero_grad(set_to_none=True)  # room for tiles; every update begins so anyway
    if adapter.device.type == "cuda":
        torch.cuda.empty_cache()
    if world > 1:
        adapter.ema.share_buffers(adapter.method)
    with random_kept(adapter.device), averaged(adapter.method, adapter.ema):
        bundle = Bundle(plan.card, adapter.typed_method, Path())
        try:
            mine = [_one(plan, bundle, *s, adapter.device, stop) for s in plan.series[rank::world]]
        except Stopped:
            mine = None
        except SpinectError as error:
            mine = f"update {adapter.updates}: {error}"
    return _gathered(mine, world)


def _gathered(mine: list[Measured] | str | None, world: int) -> list[Measured] | None:
    """All that the processes found, in the order of the series."""
    every: list[list[Measured] | str | None] = [mine]
    if world > 1:
        every = [None] * world
        torch.distributed.all_gather_object(every, mine)
    found: list[Measured] = []
    for one in every:
        if isinstance(one, str):
            raise TrainingError(f"{one}; the checkpoint before it is kept")
        found += one or []
    if any(one is None for one in every):
        return None
    return sorted(found, key=lambda m: m.series)


def means(plan: Plan, found: list[Measured]) -> dict[str, float]:
    """Mean over participants of the mean over their series; NaN where no series has the figure."""
    result = {}
    for column in plan.columns:
        each: dict[str, list[float]] = {}
        for one in found:
            if not math.isnan(one.values[column]):
                each.setdefault(one.subject, []).append(one.values[column])
        result[column] = fmean(map(fmean, each.values())) if each else math.nan
    return result


def _one(
    plan: Plan,
    bundle: Bundle,
    subject: str,
    series: Series,
    device: torch.device,
    stop: Callable[[], bool],
) -> Measured:
    def watch(_share: float) -> None:
        if stop():
            raise Stopped

    watch(0.0)
    memory = resident_bytes() + _MEMORY
    ct = read(series.parts["ct"], "ct")
    vertebrae = read(series.parts["vertebrae"], "labels")
    valid = read(series.parts["valid"], "labels").data > 0 if "valid" in series.parts else None
    try:
        if IMAGE in bundle.method.heads:
            mr = read(series.mr, "mr")
            made = translate(
                mr if plan.card.inputs == "mr" else ct, bundle, mode=plan.mode,
                steps=plan.settings.steps, seed=plan.seed, max_memory=memory, device=device,
                progress=watch,
            )  # fmt: skip
            values = _compared(plan, made.image, mr, (ct, vertebrae, valid))
            masks = made.masks
        else:
            masks, values = (
                predict_masks(ct, bundle, max_memory=memory, device=device, progress=watch),
                [],
            )
    except SpinectError as error:
        raise TrainingError(f"validation on {series.name}: {error}") from error
    if masks is not None:
        values.append(_dice(masks, vertebrae, valid))
    return Measured(subject, series.name, {c: Metric.parse(c).of(values) for c in plan.columns})


def _compared(
    plan: Plan, made: Volume, mr: Volume, true: tuple[Volume, Volume, np.ndarray | None]
) -> list[Value]:
    """Figures of a synthetic image on the grid of the true CT, whose anatomy gives the regions.

    Args:
        mr: As measured. true: CT, vertebrae, and where both are known.
    """
    ct, vertebrae, valid = true
    wanted = {*_REGIONS, plan.metric.region}
    if made.kind == "ct":
        regions = _some(regions_of(ct, vertebrae, valid), wanted)
        return strict_image(resample(made, ct.grid), ct, regions)
    truth, inside = relative_mr(mr, plan.card)
    seen = resample(truth.with_data(inside.astype(np.uint8), "labels"), ct.grid).data > 0
    valid = seen if valid is None else valid & seen
    regions = _some(regions_of(ct, vertebrae, valid), wanted)
    mine, true_mr = (resample(volume, ct.grid) for volume in (made, truth))
    return strict_image(mine, true_mr, regions, limits=MR_RANGE)


def _some(regions: Mapping[str, np.ndarray], wanted: set[str]) -> dict[str, np.ndarray]:
    return {name: mask for name, mask in regions.items() if name in wanted}


def _dice(masks: MaskHeads, vertebrae: Volume, valid: np.ndarray | None) -> Value:
    """Dice of all vertebrae above the sacrum as one mask, on the grid of the truth."""
    found = np.isin(masks.classes, VERTEBRA_CLASSES).astype(np.uint8)
    there = resample(Volume(found, masks.grid.affine, "labels"), vertebrae.grid)
    mine, true = there.data > 0, np.isin(vertebrae.data, PRESACRAL)
    if valid is not None:
        mine, true = mine & valid, true & valid
    value = dice(mine, true)
    return Value("volume", "", "dice", value, "both are empty" if math.isnan(value) else "")
