"""The models of one row, used on the test subjects as `spinect run` uses the shipped ones."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from spinect.bundle import Bundle, load_bundle
from spinect.errors import ConfigError
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample
from spinect.inference import Translation, predict_masks, to_native, translate
from spinect.inference.compute import Compute
from spinect.inference.walk import fit
from spinect.methods.registry import build, config_model
from spinect.segmentation import Segmentation, segment_ct, segment_heads
from spinect.training.optim import as_module
from spinect.workflows.case import Outcome
from spinect.workflows.compare.config import Inference
from spinect.workflows.compare.data import Pause
from spinect.workflows.compare.stages import Facts
from spinect.workflows.engine import Result
from spinect.workflows.options import RunOptions
from spinect.workflows.planning import Case, Plan, plan
from spinect.workflows.record import ModelRecord, Stopwatch
from spinect.workflows.run import run_many

_OUTPUTS: Final = {
    "embedded": ("ct", "vertebrae", "subregions", "iso", "table"),
    "direct": ("vertebrae", "subregions", "iso", "table"),
    "none": ("ct", "iso"),
}


@dataclass(frozen=True)
class Use:
    """How a bundle is used.

    Attributes:
        segmenter: Bundle that segments the synthetic CTs, None for no masks of them; a bundle
            without a CT head segments the MR by itself.
        seed: Of the noise. threads: Of the networks.
        mirror_average: Whether the segmenter averages over the mirrored CT where its card says so.
    """

    inference: Inference
    segmenter: str | None
    seed: int
    threads: int
    mirror_average: bool = True


def variant(bundle: Bundle, fields: Mapping[str, Any]) -> Bundle:
    """The same weights under other fields of the method's config, such as eta.

    Raises:
        ConfigError: The method has no such field, or refuses its value.
    """
    if not fields:
        return bundle
    card = bundle.card
    known = config_model(card.method).model_fields
    if unknown := [key for key in fields if key not in known]:
        raise ConfigError(f"method {card.method} of bundle {card.name} has no {unknown[0]}")
    with torch.random.fork_rng(devices=[]):
        method = build(card.method, {**card.config, **fields})
    module = as_module(method)
    module.load_state_dict(as_module(bundle.method).state_dict())
    module.eval()
    changed = card.model_copy(update={"config": {**card.config, **fields}})
    return replace(bundle, card=changed, method=method)


def unmirrored(bundle: Bundle) -> Bundle:
    """The same weights, called once per tile."""
    settings = bundle.card.preprocessing.model_copy(update={"flip_average": False})
    return replace(bundle, card=bundle.card.model_copy(update={"preprocessing": settings}))


class RowEngine:
    """One bundle, and the segmenter of all rows; fulfils `workflows.engine.Engine`."""

    def __init__(self, folder: Path, use: Use) -> None:
        torch.set_num_threads(use.threads)
        self.use = use
        self.bundle = variant(load_bundle(folder), use.inference.method_fields)
        segmenter = None if use.segmenter is None else load_bundle(use.segmenter)
        if segmenter is not None and not use.mirror_average:
            segmenter = unmirrored(segmenter)
        self._compute = Compute.choose()
        self.device = self._compute.device.type
        self.makes_ct = "ct" in self.bundle.method.heads
        self.segmenter = segmenter if self.makes_ct else None
        used = [b for b in (self.bundle, self.segmenter) if b is not None]
        self.models = tuple(ModelRecord(name=b.card.name, sha256=b.card.sha256) for b in used)

    @property
    def options(self) -> RunOptions:
        """What a run of this row is."""
        asked = self.use.inference
        segmenter = (
            ("none" if self.segmenter is None else "embedded") if self.makes_ct else "direct"
        )
        return RunOptions.checked(
            model=str(self.bundle.folder),
            mode=asked.mode,
            steps=asked.steps,
            samples=asked.samples,
            seed=self.use.seed,
            segmenter=segmenter,
            outputs=_OUTPUTS[segmenter],
            resume=True,
        )

    def memory_need(self, grid: Grid, options: RunOptions) -> int:
        """Expected peak of the process, bytes."""
        return fit(grid, self.bundle, self._compute, options.max_memory, options.mode)[1].peak_bytes

    def process(self, image: Volume, options: RunOptions, watch: Stopwatch) -> Result:
        """Translate and segment, or segment the MR itself."""
        if not self.makes_ct:
            with watch.stage("segment"):
                masks = predict_masks(image, self.bundle)
                return _result(None, segment_heads(masks, None), image)
        with watch.stage("translate"):
            made = translate(
                image,
                self.bundle,
                mode=options.mode,
                steps=options.steps,
                samples=options.samples,
                seed=options.seed,
            )
        found = None
        if self.segmenter is not None:
            with watch.stage("segment"):
                found = segment_ct(made.ct, self.segmenter)
        with watch.stage("native"):
            return _result(made, found, image)


def _result(made: Translation | None, found: Segmentation | None, image: Volume) -> Result:
    ct, std = (None, None) if made is None else to_native(made, image)
    said = () if made is None else made.warnings
    result = Result(ct=ct, ct_iso=None if made is None else made.ct, std=std, warnings=said)
    if found is None:
        return result
    return replace(
        result,
        vertebrae=resample(found.vertebrae, image.grid),
        vertebrae_iso=found.vertebrae,
        subregions=resample(found.subregions, image.grid),
        subregions_iso=found.subregions,
        rows=found.rows,
        warnings=(*said, *found.warnings),
    )


class _Listener:
    """Stops between two subjects when the time of this start is used up."""

    def __init__(self, pause: Pause) -> None:
        self.pause = pause

    def planned(self, plan: Plan, memory_bytes: int) -> None:
        """Nothing to do."""

    def begin(self, case: Case) -> None:  # noqa: ARG002
        """Before a subject."""
        self.pause()

    def stage(self, name: str) -> None:
        """Nothing to do."""

    def share(self, done: float) -> None:
        """Nothing to do."""

    def end(self, outcome: Outcome, done: int, remaining_s: float | None) -> None:
        """Nothing to do."""


def translate_row(bundle: Path, scans: list[Path], use: Use, folder: Path, pause: Pause) -> Facts:
    """Synthetic CTs and masks of the test subjects; those that are up to date are kept.

    Returns:
        How many there are, and the reasons of those that failed.
    Raises:
        Paused: There are more.
        SpinectError: The bundle cannot be used at all.
    """
    engine = RowEngine(bundle, use)
    done = run_many(plan(scans, folder, engine.options), engine, _Listener(pause))
    bad = {o.case.stem: o.error for o in done.outcomes if o.status == "failed"}
    if bad and len(bad) == len(done.outcomes):
        raise ConfigError(f"every test subject failed; the first: {next(iter(bad.values()))}")
    seconds = [o.seconds for o in done.outcomes if o.status == "done"]
    mean = round(sum(seconds) / len(seconds), 3) if seconds else None
    return {
        "cases": len(done.outcomes) - len(bad),
        "failed": bad,
        "makes_ct": engine.makes_ct,
        "seconds_per_case": mean,
    }
