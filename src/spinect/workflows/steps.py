"""The steps of a run as functions on volumes, with the shipped models as defaults."""

from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from spinect.bundle import Bundle, load_bundle
from spinect.geometry import Volume
from spinect.inference import Translation
from spinect.inference import translate as run_translation
from spinect.io import write_volume
from spinect.protocols import Mode

TRANSLATOR: Final = "mr2ct"
SEGMENTER: Final = "vertebrae"


@lru_cache(maxsize=4)
def _loaded(name: str) -> Bundle:
    return load_bundle(name)


def translate(
    mr: Volume, model: str | Bundle = TRANSLATOR, *, mode: Mode = "regress", **options: Any
) -> Translation:
    """Synthetic CT of an MR with a shipped model, a bundle's folder or a loaded bundle.

    Args:
        mr: Any grid and orientation.
        mode: "regress", "sample" or "mc".
        options: steps, samples, seed, precision, max_memory, device; see `inference.translate`.
    Returns:
        The CT in HU on a 1 mm grid, and what the network knows about vertebrae.
    """
    bundle = model if isinstance(model, Bundle) else _loaded(model)
    return run_translation(mr, bundle, mode=mode, **options)


def write(volume: Volume, path: str | Path) -> Path:
    """Write a volume by its suffix: .nii.gz, .nii, .mha or .nrrd; whole or not at all."""
    return write_volume(volume, path)
