"""The frozen segmenter whose features a loss compares.

It belongs to the training, not to the method: no state_dict, optimiser, moving average, checkpoint
or bundle holds it. The run folder and the card of what is exported say which one it was.
"""

import json
from pathlib import Path

from torch import Tensor

from spinect.bundle import load_bundle
from spinect.card import Card, FeatureFacts, find_bundle, read_card
from spinect.data.intensity import HuRange, ct_channels
from spinect.errors import ConfigError, TrainingError
from spinect.protocols import ComparesFeatures, Encoder, Method
from spinect.training.config import FeaturesConfig, RunConfig
from spinect.training.folder import write_text
from spinect.training.optim import as_module

JUDGE = "judge"  # name of the segmenter that scores comparisons
_FACTS = "features.json"  # in the run folder


class FrozenFeatures:
    """From a CT in [-1, 1] to the features that a segmenter's encoder has of it.

    It is no ``nn.Module``, so what holds it does not own its weights; they follow the image to its
    device.

    Args:
        encoder: A segmenter of CT; frozen here, in evaluation mode.
        hu_range: What [-1, 1] stands for in this run.
        taps: Levels of the encoder, rising.
    """

    def __init__(self, encoder: Encoder, hu_range: HuRange, taps: tuple[int, ...]) -> None:
        self.encoder, self.hu_range, self.taps = encoder, hu_range, taps
        self._module = as_module(encoder).requires_grad_(False).eval()

    def __call__(self, ct: Tensor) -> list[Tensor]:
        """(B, 1, *S) to (B, C, *S / stride) per tap, finest first.

        Gradients reach the CT where its HU lie within `intensity.CT_WINDOW`.
        """
        self._module.to(ct.device)
        seen = []
        for level, cells in enumerate(self.encoder.stages(ct_channels(self.hu_range.to_hu(ct)))):
            if level in self.taps:
                seen.append(cells)
            if level == self.taps[-1]:
                break
        return seen


def give_features(method: Method, config: RunConfig) -> FeatureFacts | None:
    """Hand the method the frozen network that the config names, if any; returns which one it is.

    Raises:
        ConfigError: The method weighs features and the config names no network, or the other way
            round; the network is no segmenter of CT on the run's grid, or is the judge.
        BundleError: No such bundle, or a damaged one.
    """
    wanted = config.features
    learner = method if isinstance(method, ComparesFeatures) and method.wants_features else None
    if wanted is None:
        if learner is not None:
            raise ConfigError(
                "method.weights.features is above 0, but no network is named that has features: "
                "set features: {bundle: vertebrae}, or the weight to 0"
            )
        return None
    if learner is None:
        raise ConfigError(
            f"features.bundle is {wanted.bundle}, but this method gives features no weight: set "
            "method.weights.features where the method has it, or leave features out"
        )
    card = read_card(find_bundle(wanted.bundle))
    _refuse(card, config)
    encoder = load_bundle(wanted.bundle).method
    if not isinstance(encoder, Encoder) or "classes" not in encoder.heads:
        raise ConfigError(
            f"features.bundle {card.name}: the method {card.method} segments nothing, so it has no "
            "features to compare by: take a segmenter of CT, such as vertebrae"
        )
    _refuse_size(card, encoder, method, config)
    taps = _taps(wanted, encoder)
    told = config.export.preprocessing
    learner.features = FrozenFeatures(encoder, HuRange(low=told.hu_low, high=told.hu_high), taps)
    return FeatureFacts(name=card.name, sha256=card.sha256, taps=taps)


def _refuse(card: Card, config: RunConfig) -> None:
    """A network that must not, or cannot, look at this run's CT."""
    where = f"features.bundle {card.name}"
    if card.name == JUDGE:
        raise ConfigError(
            f"{where}: it scores comparisons, and what was trained to please it cannot be judged "
            "by it: take another segmenter, such as vertebrae"
        )
    if (card.inputs, card.channels) != ("ct", "hu"):
        raise ConfigError(
            f"{where}: it takes {card.inputs} with the channels {card.channels}, not a CT: take a "
            "segmenter of CT, such as vertebrae"
        )
    if config.data.direction == "ct_to_mr":
        raise ConfigError(
            f"{where}: it compares CTs, and direction ct_to_mr makes an MR: leave features out"
        )
    if card.preprocessing.neighbours:
        raise ConfigError(
            f"{where}: it sees {card.preprocessing.neighbours} neighbours of each slice, which a "
            "made slice does not have: take a segmenter of single slices"
        )
    if config.data.task == "segment":
        raise ConfigError(
            f"{where}: with task segment there is no CT to be made: leave features out"
        )
    own, ours = card.preprocessing, config.export.preprocessing
    if (own.raster, own.spacing_mm, own.axes) != (ours.raster, ours.spacing_mm, ours.axes):
        raise ConfigError(
            f"{where}: it works on the raster {own.raster} of {own.spacing_mm:g} mm, this training "
            f"on {ours.raster} of {ours.spacing_mm:g} mm (axes {own.axes} and {ours.axes}): "
            "take a segmenter of this training's, or train on its own"
        )


def _refuse_size(card: Card, encoder: Encoder, method: Method, config: RunConfig) -> None:
    """A network that cannot take this run's patches."""
    if encoder.ndim != method.ndim:
        raise ConfigError(
            f"features.bundle {card.name}: it works in {encoder.ndim} dimensions, this method in "
            f"{method.ndim}: take a segmenter of {method.ndim}"
        )
    patch = config.data.patch
    if any(n % encoder.divisor for n in patch):
        raise ConfigError(
            f"features.bundle {card.name} takes multiples of {encoder.divisor} voxels, the patch "
            f"is {' x '.join(map(str, patch))}: change data.patch"
        )


def _taps(wanted: FeaturesConfig, encoder: Encoder) -> tuple[int, ...]:
    taps = range(encoder.levels) if wanted.taps is None else wanted.taps
    if not taps or max(taps) >= encoder.levels:
        raise ConfigError(
            f"features.taps is {list(taps)}, the encoder of {wanted.bundle} has the levels 0 to "
            f"{encoder.levels - 1}: take some of them"
        )
    return tuple(sorted(set(taps)))


def note_features(run: Path, facts: FeatureFacts | None) -> None:
    """Write down which network it is, and refuse to go on with another one.

    Raises:
        TrainingError: The run began with other tensors.
    """
    before = noted_features(run)
    if facts is None or before == facts:
        return
    if before is not None and before.sha256 != facts.sha256:
        raise TrainingError(
            f"{run} began with the features of {before.name}, sha256 {before.sha256[:12]}, this "
            f"start has {facts.name}, {facts.sha256[:12]}: give back the first, or choose another "
            "run folder"
        )
    write_text(run / _FACTS, facts.model_dump_json(indent=2) + "\n")


def noted_features(run: Path) -> FeatureFacts | None:
    """Which network's features the run was trained by; None for none."""
    path = run / _FACTS
    if not path.is_file():
        return None
    return FeatureFacts.model_validate(json.loads(path.read_text(encoding="utf-8")))
