"""The engine of the program: a translator bundle, a segmenter, and the way onto the MR's grid."""

from spinect.bundle import Bundle, load_bundle
from spinect.card import Card
from spinect.errors import BundleError
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample
from spinect.inference import Translation, to_native, translate
from spinect.inference.compute import Compute
from spinect.inference.heads import MASK_HEADS
from spinect.inference.walk import fit
from spinect.protocols import Mode
from spinect.segmentation import Segmentation
from spinect.workflows.engine import Engine, Result
from spinect.workflows.options import RunOptions
from spinect.workflows.record import ModelRecord, Stopwatch
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
        loaded = [b for b in (self._translator, self._segmenter) if b is not None]
        for bundle in (
            self._segmenter,
            self._translator if options.segmenter == "direct" else None,
        ):
            if bundle is not None:
                _check_heads(bundle, options.segmenter)
        self.models = tuple(ModelRecord(name=b.card.name, sha256=b.card.sha256) for b in loaded)

    def memory_need(self, grid: Grid, options: RunOptions) -> int:
        """Expected peak of the process, bytes: the larger of translation and segmentation.

        Raises:
            ResourceError: The smallest tile does not fit into `options.max_memory`.
        """
        runs: list[tuple[Bundle, Mode]] = []
        if self._translator is not None:
            runs.append((self._translator, options.mode))
        if self._segmenter is not None:
            runs.append((self._segmenter, "regress"))
        plans = [
            fit(grid, bundle, self._compute, options.max_memory, mode)[1] for bundle, mode in runs
        ]
        return max((plan.peak_bytes for plan in plans), default=0)

    def process(self, image: Volume, options: RunOptions, watch: Stopwatch) -> Result:
        """Translate, segment (unless told not to), bring both onto the image's grid.

        Masks are of the CT: the synthetic one, or the image where an MR is made of it.
        """
        translation = found = None
        if self._translator is not None:
            with watch.stage("translate"):
                translation = self._translate(self._translator, image, options, watch)
        if options.segmenter != "none":
            with watch.stage("segment"):
                made = None if options.makes != "ct" else translation
                found = self._segment(made or image, options, watch)
        ct = std = vertebrae = subregions = None
        with watch.stage("native"):
            if translation is not None:
                ct, std = to_native(translation, image)
            if found is not None:
                vertebrae = resample(found.vertebrae, image.grid)
                subregions = resample(found.subregions, image.grid)
        said = (*(translation.warnings if translation else ()), *(found.warnings if found else ()))
        return Result(
            ct=ct,
            ct_iso=translation.image if translation else None,
            std=std,
            vertebrae=vertebrae,
            vertebrae_iso=found.vertebrae if found else None,
            subregions=subregions,
            subregions_iso=found.subregions if found else None,
            rows=found.rows if found else (),
            warnings=said,
        )

    def _translate(
        self, bundle: Bundle, image: Volume, options: RunOptions, watch: Stopwatch
    ) -> Translation:
        return translate(
            image,
            bundle,
            mode=options.mode,
            steps=options.steps,
            samples=options.samples,
            seed=options.seed,
            precision=options.precision,
            max_memory=options.max_memory,
            device=options.device,
            progress=watch.share,
        )

    def _segment(
        self, source: Translation | Volume, options: RunOptions, watch: Stopwatch
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
            precision=options.precision,
            max_memory=options.max_memory,
            device=options.device,
            progress=watch.share,
        )


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
