"""What a check can find; every code stands here once, with its severity and meaning."""

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
Mend = Literal["unit-to-mm", "affine-to-mm", "qform-from-sform", "dseg-table"]


class Code(NamedTuple):
    """What a code stands for."""

    severity: Severity
    meaning: str


CODES: Final[dict[str, Code]] = {
    # files and names
    "participants": Code("error", "participants.tsv is missing or cannot be read"),
    "participant-twice": Code("error", "a participant is listed twice"),
    "participant-folder": Code("error", "a listed participant has no folder"),
    "participant-unlisted": Code("error", "a folder is not listed in participants.tsv"),
    "split-unknown": Code("error", "a split that is not train, validation or test"),
    "split-missing": Code("warning", "a participant without a split is used nowhere"),
    "name": Code("warning", "a file whose name is not understood is used nowhere"),
    "format": Code("warning", "an image in a format that is read nowhere in a dataset"),
    "name-other-subject": Code("error", "a file in another patient's folder"),
    "name-clash": Code("error", "two files stand for the same image"),
    "mr-missing": Code("error", "a patient without MR"),
    "ct-missing": Code("error", "a patient without CT"),
    "masks-missing": Code("warning", "a CT without vertebra mask"),
    "reference-missing": Code("warning", "the image that a mask or CT belongs to is not there"),
    "dseg-table": Code("warning", "the names of a mask's labels are missing or incomplete"),
    # grids and units
    "unreadable": Code("error", "a file that cannot be read"),
    "unit-wrong": Code("error", "the header's unit makes the voxels impossible, mm would not"),
    "unit-not-mm": Code("warning", "a unit that many programs pass over"),
    "orientation-missing": Code("warning", "the header says nothing of the orientation"),
    "sform-qform": Code("warning", "sform and qform disagree; the sform is used"),
    "header": Code("warning", "something else that was mended while reading"),
    "size": Code("error", "vertebrae of impossible distance: the voxel size is wrong"),
    "grid": Code("error", "a mask or CT lies on another grid than its image"),
    # orientation
    "head-feet": Code("error", "the vertebrae run against the header's head and feet"),
    "front-back": Code("error", "the bodies lie behind the spinous processes"),
    "left-right": Code("error", "the left processes lie on the header's right"),
    "level-order": Code("error", "vertebrae are not in their order along the spine"),
    "not-determinable": Code("note", "directions that the masks cannot prove"),
    # contents
    "nan": Code("error", "voxels that are NaN or infinite"),
    "constant": Code("error", "an image of one value"),
    "ct-is-mr": Code("error", "a CT that looks like an MR"),
    "ct-not-hu": Code("error", "a CT whose values are not HU"),
    "ct-padding": Code("warning", "the border of a CT is filled with something that is not air"),
    "mr-is-ct": Code("error", "an MR that looks like a CT or a label map"),
    "stack": Code("warning", "an MR of few slices, or of several stacks"),
    "mask-empty": Code("error", "a mask without a voxel"),
    "labels-not-whole": Code("error", "labels with fractions, or below 0"),
    "labels-unknown": Code("error", "labels that the scheme does not have"),
    "mask-off-bone": Code("error", "a vertebra mask that does not lie on the CT's bone"),
    # leakage
    "duplicate": Code("error", "one image under two names"),
    "two-patients": Code("error", "the same image under two patients of one split"),
    "leak": Code("error", "the same image, or the same person, on two sides of the split"),
    "seed-split": Code("error", "a phantom seed on a side where it does not belong"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: Key of `CODES`.
        file: Path relative to the dataset folder.
        text: What is wrong, with the values.
        todo: What to do.
        mend: What `--fix` would do; None where only a person can know.
    """

    code: str
    file: str
    text: str
    todo: str
    mend: Mend | None = None

    @property
    def severity(self) -> Severity:
        """Of the code."""
        return CODES[self.code].severity

    def as_json(self) -> dict[str, Any]:
        """Machine-readable."""
        return {
            "code": self.code,
            "severity": self.severity,
            "file": self.file,
            "text": self.text,
            "todo": self.todo,
            "fixable": self.mend is not None,
        }


@dataclass(frozen=True)
class Report:
    """Everything that was found in a dataset, errors first."""

    patients: int
    files: int
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """How many findings of one severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def ok(self) -> bool:
        """No errors; warnings and notes may be there."""
        return self.count("error") == 0

    @property
    def summary(self) -> str:
        """One line."""
        return (
            f"{self.patients} patients, {self.files} files: {self.count('error')} errors, "
            f"{self.count('warning')} warnings, {self.count('note')} notes"
        )

    def as_json(self) -> dict[str, Any]:
        """Machine-readable."""
        return {
            "patients": self.patients,
            "files": self.files,
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "notes": self.count("note"),
            "findings": [finding.as_json() for finding in self.findings],
        }
