"""The judge: a segmenter that scores every synthetic CT, and its masks kept by content."""

from pathlib import Path
from typing import Final

from spinect.bundle import Bundle, load_bundle
from spinect.io import read, write_volume
from spinect.workflows.evaluate.guards import file_hash
from spinect.workflows.evaluate.loading import Masks, read_masks
from spinect.workflows.steps import segment

FOLDER: Final = "judge"
_ENDS: Final = ("_desc-vertebrae_dseg.nii.gz", "_desc-subregions_dseg.nii.gz")


class Judge:
    """A segmenter bundle and the masks that it has made so far.

    Args:
        asked: Name or folder of the bundle.
        out: Masks are kept in ``out/judge``, named by the sha256 of the CT and of the bundle.
    Raises:
        BundleError: Unknown or damaged.
    """

    def __init__(self, asked: str, out: Path) -> None:
        self._bundle: Bundle = load_bundle(asked)
        self._out = out / FOLDER
        self.name = self._bundle.card.name
        self.sha256 = self._bundle.card.sha256

    def files(self, ct: Path) -> tuple[Path, Path]:
        """Where the masks of a CT lie, made or not."""
        stem = f"{file_hash(ct)[:24]}-{self.sha256[:12]}"
        return self._out / (stem + _ENDS[0]), self._out / (stem + _ENDS[1])

    def masks(self, ct: Path) -> Masks:
        """Vertebrae and subregions of a CT at 1 mm, from the store where it has them.

        Raises:
            SpinectError: The CT cannot be read or segmented.
        """
        first, second = self.files(ct)
        if first.is_file() and second.is_file():  # both are written whole or not at all
            return read_masks(first, second)
        made = segment(read(ct, "ct", trusted=True), "embedded", model=self._bundle)
        write_volume(made.vertebrae, first)
        write_volume(made.subregions, second)
        return made.vertebrae, made.subregions
