"""What to cite: the software, the two papers it implements, and the method of a model."""

from dataclasses import dataclass
from typing import Final

import spinect


@dataclass(frozen=True)
class Citation:
    """One entry; `kind` is the BibTeX type."""

    key: str
    kind: str
    author: str
    title: str
    year: int
    where: str = ""
    number: str = ""  # DOI, arXiv number or address

    def text(self) -> str:
        """One line for a list of references."""
        tail = ". ".join(part for part in (self.where, self.number) if part)
        authors = self.author.replace(" and ", "; ")
        return f"{authors} ({self.year}). {self.title}." + (f" {tail}." if tail else "")

    def bibtex(self) -> str:
        """One BibTeX entry."""
        fields = {"author": self.author, "title": "{" + self.title + "}", "year": str(self.year)}
        if self.where:
            fields["howpublished" if self.kind == "misc" else "journal"] = self.where
        if self.number:
            fields["note"] = self.number
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@{self.kind}{{{self.key},\n{body}\n}}"


CITATIONS: Final = (
    Citation(
        "spinect",
        "misc",
        "The spinect developers",
        "spinect: spine MR to synthetic CT and vertebra masks",
        2026,
        f"version {spinect.__version__}",
    ),
    Citation(
        "graf2023",
        "article",
        "Graf, Robert and Schmitt, Joachim and Schlaeger, Sarah and Möller, Hendrik Kristian and "
        "Sideri-Lampretsa, Vasiliki and Sekuboyina, Anjany and Krieg, Sandro Manuel and "
        "Wiestler, Benedikt and Menze, Bjoern and Rueckert, Daniel and Kirschke, Jan Stefan",
        "Denoising diffusion-based MRI to CT image translation enables automated spinal "
        "segmentation",
        2023,
        "European Radiology Experimental",
        "doi:10.1186/s41747-023-00385-2",
    ),
    Citation(
        "lyu2022",
        "misc",
        "Lyu, Qing and Wang, Ge",
        "Conversion Between CT and MRI Images Using Diffusion and Score-Matching Models",
        2022,
        "arXiv",
        "arXiv:2209.12104",
    ),
)


def as_text() -> str:
    """One line per entry."""
    return "\n".join(citation.text() for citation in CITATIONS)


def as_bibtex() -> str:
    """All entries as BibTeX."""
    return "\n\n".join(citation.bibtex() for citation in CITATIONS)
