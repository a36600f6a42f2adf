"""The engine of the program: a translator bundle, a segmenter, and the way onto the MR's grid."""

from dataclasses import replace
from typing import Any

from spinect.bundle import Bundle, load_bundle
from spinect.card import Card
from spinect.errors import BundleError
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample
from spinect.inference import Translation, translate
from spinect.inference.compute import Compute
from spinect.inference.heads import MASK_HEADS
from spinect.inference.region import leave_out
from spinect.inference.walk import Progress, fit
from spinect.segmentation import Segmentation
from spinect.segmentation.region import glancing
from spinect.workflows import sampled
from spinect.workflows.engine import Engine, Need, Result
from spinect.workflows.options import RunOptions
from spinect.workflows.plausibility import Evidence, Plausibility, by_the_masks, judge, measure
from spinect.workflows.record import ModelRecord, Stopwatch
from spinect.workflows.region import finder_of, look, record_region
from spinect.workflows.sampled import Told, tell
from spinect.workflows.steps import SEGMENTER, SegmentOptions, segment


def load_engine(options: RunOptions) -> Engine:
    """Load every model that these options need, once for all cases.

    Raises:
        BundleError: Unknown or damaged model, or one without the mask heads that the segmenter
            needs.
        ConfigError: The device is not there.
    """
    return ShippedEngine(options)


class ShippedEngine:
    """Bundles in memory; `process` is the walk from an image to everything made of it."""

    def __init__(self, options: RunOptions) -> None:
        compute = Compute.choose(options.device, options.precision)
        self.device = compute.device.type
        self._compute = compute
        self._translator = load_bundle(options.model) if options.translates else None
        if self._translator is not None:
            _check_direction(self._translator.card, options)
        self._segmenter = load_bundle(SEGMENTER) if options.segmenter == "embedded" else None
        self._finder = self._look_with(options)
        bundles = (self._translator, self._segmenter, self._finder)
        loaded = {id(b): b for b in bundles if b is not None}  # one may serve twice
        for bundle in (
            self._segmenter,
            self._translator if options.segmenter == "direct" else None,
        ):
            if bundle is not None:
                _check_heads(bundle, options.segmenter)
        self.models = tuple(
            ModelRecord(name=b.card.name, sha256=b.card.sha256) for b in loaded.values()
        )

    def _look_with(self, options: RunOptions) -> Bundle | None:
        """What finds the region; None where everything is translated."""
        if options.region == "all" or self._translator is None:
            return None
        name = finder_of(self._translator)
        if name is None:
            return self._translator
        return self._segmenter if name == SEGMENTER and self._segmenter else load_bundle(name)

    def need(self, grid: Grid, options: RunOptions) -> Need:
        """Memory and temporary files; see `sampled.need`."""
        need = sampled.need(grid, options, self._compute, self._translator, self._segmenter)
        if self._finder is None:
            return need
        looking = fit(grid, glancing(self._finder), self._compute, options.max_memory, "regress")[1]
        return Need(
            max(need.memory_bytes, looking.peak_bytes),
            max(need.temporary_bytes, looking.disk_bytes),
        )

    def process(self, image: Volume, options: RunOptions, watch: Stopwatch) -> Result:
        """Translate, segment (unless told not to), bring both onto the image's grid.

        Masks are of the CT: the synthetic one, or the image where an MR is made of it.
        """
        translation = None
        told = Told(None)
        where = None
        if self._finder is not None:
            with watch.stage("region"):
                where = look(image, self._finder, **_computing(options, watch.share))
        if self._translator is not None:
            with watch.stage("translate"):
                translation = translate(
                    image,
                    self._translator,
                    **sampled.asked(options),
                    **_computing(options, watch.share),
                    region=where,
                )
        if options.segmenter != "none":
            with watch.stage("segment"):
                made = None if options.makes != "ct" else translation
                told = Told(self._segment(made or image, options, watch.share, where))
        if translation is not None and translation.std is not None:
            with watch.stage("samples"):
                told = tell(
                    translation,
                    told.found,
                    image,
                    options,
                    lambda draw, share: self._segment(draw, options, share, where),
                    watch.share,
                )
        found, plausible = told.found, None
        if found is not None:
            with watch.stage("plausible"):
                plausible = self._plausible(image, translation, found, options)
        with watch.stage("native"):
            native = self._native(image, translation, told)
        said = (*(translation.warnings if translation else ()), *(found.warnings if found else ()))
        return replace(
            native,
            ct_iso=translation.image if translation else None,
            vertebrae_iso=found.vertebrae if found else None,
            subregions_iso=found.subregions if found else None,
            layers=told.layers,
            sampling=told.sampling,
            rows=found.rows if found else (),
            plausibility=plausible.record if plausible else None,
            warnings=(*said, *(plausible.warnings if plausible else ())),
        )

    def _native(self, image: Volume, translation: Translation | None, told: Told) -> Result:
        """What lies on the image's own grid; what the region leaves out says so there."""
        ct = vertebrae = subregions = region = None
        if translation is not None:
            ct = resample(translation.image, image.grid)
            if self._finder is not None:
                region = record_region(translation, image, self._finder)
                for made in (ct, *(layer.native for layer in told.layers.values())):
                    leave_out(made, region.native)
        if told.found is not None:
            vertebrae = resample(told.found.vertebrae, image.grid)
            subregions = resample(told.found.subregions, image.grid)
        return Result(ct=ct, vertebrae=vertebrae, subregions=subregions, region=region)

    def _segment(
        self,
        source: Translation | Volume,
        options: RunOptions,
        progress: Progress | None,
        region: Grid | None,
    ) -> Segmentation:
        naming = SegmentOptions(
            scheme=options.scheme,
            lowest=options.lowest,
            highest=options.highest,
            sacrum=options.sacrum,
        )  # a command needs no timeout of its own: the case's alarm ends it as well
        return segment(
            source,
            options.segmenter,
            model=self._segmenter or SEGMENTER,
            options=naming,
            **_computing(options, progress),
            region=region if options.makes == "ct" else None,  # a CT that was given is all there
        )

    def _plausible(
        self,
        image: Volume,
        translation: Translation | None,
        found: Segmentation,
        options: RunOptions,
    ) -> Plausibility:
        """Ask the translator if it has mask heads, else the segmenter."""
        heads = translation.masks if translation is not None else None
        source, bundle = image, self._translator
        if heads is None:
            source, bundle = image, self._segmenter
            if translation is not None and options.makes == "ct":
                source = translation.ct
        measured = measure(
            Evidence(image, found, heads, source, bundle),
            precision=options.precision,
            device=options.device,
        )
        return judge(measured, by_the_masks(found))


def _computing(options: RunOptions, progress: Progress | None) -> dict[str, Any]:
    """How networks run, as every driver of one takes it."""
    return {
        "precision": options.precision,
        "max_memory": options.max_memory,
        "device": options.device,
        "progress": progress,
    }


def _check_direction(card: Card, options: RunOptions) -> None:
    if (card.inputs, card.makes) == (options.kind, options.makes):
        return
    its = f"makes {card.makes} of an image of kind {card.inputs}"
    if card.inputs == "ct" and card.makes == "ct":
        its = "segments a CT"
    raise BundleError(
        f"model {card.name} {its}, these options ask for {options.makes} of an image of kind "
        f"{options.kind}: choose another model, or set kind and makes as its card does"
    )


def _check_heads(bundle: Bundle, segmenter: str) -> None:
    missing = [head for head in MASK_HEADS if head not in bundle.method.heads]
    if missing:
        raise BundleError(
            f"segmenter {segmenter}: model {bundle.card.name} has no head for "
            f"{', '.join(missing)}; choose another --segmenter or model"
        )
