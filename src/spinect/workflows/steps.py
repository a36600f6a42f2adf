"""The steps of a run as functions on volumes, with the shipped models as defaults."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from spinect.anatomy import VERTEBRA_IDS
from spinect.bundle import Bundle, load_bundle
from spinect.errors import BundleError, ConfigError
from spinect.geometry import Volume
from spinect.geometry.resample import to_iso
from spinect.inference import Translation
from spinect.inference import translate as run_translation
from spinect.io import write_volume
from spinect.protocols import Mode
from spinect.segmentation import (
    Segmentation,
    agreement,
    name_vertebrae,
    segment_command,
    segment_ct,
    segment_heads,
    with_confidence,
)

TRANSLATOR: Final = "mr2ct"
SEGMENTER: Final = "vertebrae"


@lru_cache(maxsize=4)
def _loaded(name: str) -> Bundle:
    return load_bundle(name)


def translate(
    source: Volume, model: str | Bundle = TRANSLATOR, *, mode: Mode = "regress", **options: Any
) -> Translation:
    """Synthetic CT of an MR with a shipped model, a bundle's folder or a loaded bundle.

    A bundle that was trained for it makes an MR of a CT instead, in relative intensity.

    Args:
        source: An MR, or the CT that such a bundle takes; any grid and orientation.
        mode: "regress", "sample" or "mc".
        options: steps, samples, seed, precision, max_memory, device, region; see
            `inference.translate`.
    Returns:
        The image on the bundle's grid, and what the network knows about vertebrae.
    """
    bundle = model if isinstance(model, Bundle) else _loaded(model)
    return run_translation(source, bundle, mode=mode, **options)


@dataclass(frozen=True)
class SegmentOptions:
    """How `segment` names vertebrae, and how a foreign program is read.

    Attributes:
        scheme: Labels of a command's output: "totalsegmentator", "verse" or "spineps".
        lowest: Name of the lowest vertebra in the image, such as "L5", if it is known.
        highest: Name of the highest one.
        sacrum: "full" tells S1-S5 and coccyx apart, "single" makes one label of them.
        timeout: Seconds for a command; None waits for ever.
    """

    scheme: str = "totalsegmentator"
    lowest: str | None = None
    highest: str | None = None
    sacrum: Literal["full", "single"] = "full"
    timeout: float | None = None

    def naming(self) -> dict[str, Any]:
        """The arguments that every segmenter shares."""
        return {
            "lowest": _vertebra_id(self.lowest),
            "highest": _vertebra_id(self.highest),
            "single_sacrum": self.sacrum == "single",
        }


def segment(
    source: Translation | Volume,
    segmenter: str = "embedded",
    *,
    model: str | Bundle = SEGMENTER,
    options: SegmentOptions | None = None,
    **compute: Any,
) -> Segmentation:
    """Vertebra and subregion masks of a translation, or of a CT.

    Args:
        source: What `translate` returned, or a CT in HU on any grid.
        segmenter: "embedded" runs `model` on the CT, "direct" takes the translator's own mask
            heads, "command:PROGRAM {input} {output}" runs a foreign program.
        model: A segmenter bundle for "embedded": its name, its folder, or loaded.
        options: Known levels, labels of a command; None is the defaults.
        compute: precision, max_memory, device, progress, region of "embedded"; see `segment_ct`.
    Returns:
        Masks on an isotropic grid; `resample(masks.vertebrae, mr.grid)` brings them onto the
        MR's. "confidence" in the table is the Dice of the embedded with the direct instance,
        where both exist.
    Raises:
        ConfigError: Not a segmenter, or an MR where a CT is needed.
        BundleError: The model, or the translator for "direct", has no mask heads.
        ExternalToolError: The command failed.
    """
    options = options or SegmentOptions()
    if isinstance(source, Volume) and source.kind != "ct":
        raise ConfigError(
            f"segment takes a translation or a CT, not a volume of kind {source.kind}: translate "
            "the MR first"
        )
    ct, masks = (source, None) if isinstance(source, Volume) else (source.ct, source.masks)
    naming = options.naming()
    kind, _, command = segmenter.partition(":")
    if kind == "command":
        return segment_command(
            to_iso(ct), command, options.scheme, timeout=options.timeout, **naming
        )
    if segmenter == "direct":
        if masks is None:
            raise BundleError("segmenter direct needs a translator with mask heads: use embedded")
        return segment_heads(masks, ct, **naming)
    if segmenter != "embedded":
        raise ConfigError(f"segmenter {segmenter!r} is not embedded, direct or command:...")
    bundle = model if isinstance(model, Bundle) else _loaded(model)
    made = segment_ct(ct, bundle, **compute, **naming)
    if masks is None:
        return made
    return with_confidence(made, agreement(made.vertebrae, name_vertebrae(masks, **naming)))


def _vertebra_id(name: str | None) -> int | None:
    if name is None:
        return None
    if name not in VERTEBRA_IDS:
        raise ConfigError(f"{name!r} is not a vertebra; write one such as T12 or L5")
    return VERTEBRA_IDS[name]


def write(volume: Volume, path: str | Path) -> Path:
    """Write a volume by its suffix: .nii.gz, .nii, .mha or .nrrd; whole or not at all."""
    return write_volume(volume, path)
