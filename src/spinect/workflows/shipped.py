"""The engine of the program: a translator bundle, a segmenter, and the way onto the MR's grid."""

from spinect.bundle import Bundle, load_bundle
from spinect.data.tiles import plan_tiles
from spinect.errors import ConfigError
from spinect.geometry import Grid, Volume
from spinect.inference import Translation, to_native, translate
from spinect.inference.compute import Compute
from spinect.inference.heads import BYTES_PER_VOXEL
from spinect.inference.plan import Demand, plan_memory
from spinect.inference.prepare import CHANNELS
from spinect.protocols import HEADS
from spinect.workflows.engine import Engine, Result
from spinect.workflows.options import RunOptions
from spinect.workflows.record import ModelRecord, Stopwatch
from spinect.workflows.steps import SEGMENTER

_CT_BYTES = {"regress": 4, "sample": 4, "mc": 12}  # whole-volume results per voxel


def load_engine(options: RunOptions) -> Engine:
    """Load every model that these options need, once for all cases.

    Raises:
        BundleError: Unknown or damaged model, or a mode that it does not offer.
        ConfigError: The device is not there, or the segmenter is not.
    """
    if options.segmenter != "none":
        raise ConfigError(
            f"segmenter {options.segmenter} is not part of this version; use --segmenter none"
        )
    return ShippedEngine(options)


class ShippedEngine:
    """Bundles in memory; `process` is the walk from an image to everything made of it."""

    def __init__(self, options: RunOptions) -> None:
        compute = Compute.choose(options.device, options.precision)
        self.device = compute.device.type
        self._compute = compute
        self._translator = load_bundle(options.model) if options.kind == "mr" else None
        self._segmenter = load_bundle(SEGMENTER) if options.segmenter == "embedded" else None
        loaded = [b for b in (self._translator, self._segmenter) if b is not None]
        self.models = tuple(ModelRecord(name=b.card.name, sha256=b.card.sha256) for b in loaded)

    def memory_need(self, grid: Grid, options: RunOptions) -> int:
        """Expected peak of the process, bytes: the larger of translation and segmentation.

        Raises:
            ResourceError: The smallest tile does not fit into `options.max_memory`.
        """
        need = 0
        if self._translator is not None:
            need = self._peak(self._translator, grid, options, _CT_BYTES[options.mode])
        if self._segmenter is not None:
            need = max(need, self._peak(self._segmenter, grid, options, 0))
        return need

    def _peak(self, bundle: Bundle, grid: Grid, options: RunOptions, per_voxel: int) -> int:
        card, method = bundle.card, bundle.method
        shape = grid.canonical().with_spacing(card.preprocessing.spacing_mm).shape
        settings = card.preprocessing
        tiling = plan_tiles(shape, settings.tile, settings.overlap, method.divisor)
        channels = sum(HEADS[head] for head in method.heads)
        sampled = options.mode != "regress" and bundle is self._translator
        demand = Demand(CHANNELS[card.channels], channels, per_voxel + BYTES_PER_VOXEL, sampled)
        plan = plan_memory(method, tiling, demand, self._compute, options.max_memory)
        return plan.peak_bytes

    def process(self, image: Volume, options: RunOptions, watch: Stopwatch) -> Result:
        """Translate (an MR), segment (unless told not to), bring both onto the image's grid."""
        translation = None
        if self._translator is not None:
            with watch.stage("translate"):
                translation = self._translate(self._translator, image, options, watch)
        ct = std = None
        if translation is not None:
            with watch.stage("native"):
                ct, std = to_native(translation, image)
        return Result(
            ct=ct,
            ct_iso=translation.ct if translation else None,
            std=std,
            warnings=translation.warnings if translation else (),
        )

    def _translate(
        self, bundle: Bundle, mr: Volume, options: RunOptions, watch: Stopwatch
    ) -> Translation:
        return translate(
            mr,
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
