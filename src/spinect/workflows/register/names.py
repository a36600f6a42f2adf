"""Names of what a registration writes, from the name of the MR.

::

    sub-X[_acq-A]_space-T2w_ct.nii.gz                  the CT on the MR's own grid
    sub-X[_acq-A]_space-T2w_desc-vertebrae_dseg.nii.gz  and subregions, with a .tsv of names
    sub-X[_acq-A]_space-T2w_desc-valid_mask.nii.gz      1 where the CT is known
    sub-X[_acq-A]_space-T2w_res-iso_*                   the same at 1 mm, axes of the MR
    sub-X[_acq-A]_from-T2w_to-ct_transforms.json        ours; _xfm.tfm and _xfm.h5 for ITK, Slicer
    sub-X[_acq-A]_space-T2w_desc-{mr,ct}_poi.json       landmarks of both, in the MR's world
    sub-X[_acq-A]_space-T2w_residuals.tsv               one row per landmark
    sub-X[_acq-A]_space-T2w_registration.{png,json}     the picture; the record, written last

Two contrasts of one patient are registered each for itself, so their 1 mm twins carry the
contrast too and never share a name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spinect.errors import InputError
from spinect.io.bids import parse_name
from spinect.workflows.names import stem_of

ISO: Final = "_res-iso"
CT: Final = "_ct.nii.gz"
VERTEBRAE: Final = "_desc-vertebrae_dseg.nii.gz"
SUBREGIONS: Final = "_desc-subregions_dseg.nii.gz"
VALID: Final = "_desc-valid_mask.nii.gz"
MR_POINTS: Final = "_desc-mr_poi.json"
CT_POINTS: Final = "_desc-ct_poi.json"
RESIDUALS: Final = "_residuals.tsv"
PICTURE: Final = "_registration.png"
RECORD: Final = "_registration.json"
TABLE: Final = "registration.tsv"


@dataclass(frozen=True)
class Names:
    """The parts that all names of one pair share.

    Attributes:
        prefix: What tells the series apart, such as "sub-1_acq-sag".
        space: The MR, such as "T2w".
    """

    prefix: str
    space: str

    @classmethod
    def of(cls, mr: Path) -> "Names":
        """From an MR's file name; one that is not of a dataset keeps its whole stem."""
        stem = stem_of(mr)
        try:
            name = parse_name(mr.name)
        except InputError:
            return cls(stem, "mr")
        return cls(stem.removesuffix(f"_{name.suffix}"), name.suffix)

    @property
    def stem(self) -> str:
        """Of everything that lies in the MR's space."""
        return f"{self.prefix}_space-{self.space}"

    @property
    def transforms(self) -> str:
        """Of the transforms."""
        return f"{self.prefix}_from-{self.space}_to-ct"
