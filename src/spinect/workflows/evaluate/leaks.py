"""Leaks into an evaluation: images and seeds of the training side, and a dataset trained on."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from spinect.card import Card, list_bundles
from spinect.io.bids import find_patients
from spinect.io.participants import read_rows, read_scans
from spinect.workflows.check.leakage import check_sides, fingerprint
from spinect.workflows.check.loading import open_item
from spinect.workflows.evaluate.results import Method
from spinect.workflows.evaluate.truth import Cohort


def find_leaks(dataset: Path, cohort: Cohort) -> dict[str, str]:
    """Series whose image, or whose seed, belongs to the training side."""
    rows = read_rows(dataset / "participants.tsv", ("participant_id", "split"))
    scans = read_scans(dataset, [row["participant_id"] for row in rows])
    wrong = {f.text.split()[0]: f.text for f in check_sides(rows, scans) if f.code == "seed-split"}
    leaked = {s.name: f"leak: {wrong[s.participant]}" for s in cohort.series
              if s.participant in wrong}  # fmt: skip
    return leaked | _same_voxels(dataset, cohort)


def _same_voxels(dataset: Path, cohort: Cohort) -> dict[str, str]:
    """Scored series whose voxels, however stored, also lie with a patient of the training side."""
    trained = {name for name, side in cohort.sides.items() if side == "train"}
    scored = {s.mr: s.name for s in cohort.series if s.participant not in trained}
    if not trained or not scored:
        return {}
    patients = find_patients(dataset)
    images = [(p.name, item) for p in patients for item in p.images("anat")]
    seen: dict[str, str] = {}
    for name, item in images:
        if name in trained and (mark := fingerprint(name, open_item(dataset, item))):
            seen[mark.voxels] = mark.file
    leaked: dict[str, str] = {}
    for name, item in images:
        mark = fingerprint(name, open_item(dataset, item)) if item.path in scored else None
        if mark and mark.voxels in seen:
            leaked[scored[item.path]] = (
                f"leak: {item.path.name} has the same voxels as {seen[mark.voxels]}, which is on "
                "the training side: remove one of them"
            )
    return leaked


def trained_here(dataset: Path, methods: Mapping[str, Method]) -> list[str]:
    """Methods with a model whose card lists this dataset folder among its training data."""
    cards = {card.sha256: card for card in list_bundles() if card.sha256}
    used: dict[str, set[str]] = defaultdict(set)
    for method in methods.values():
        for sha256 in method.models:
            used[sha256].add(method.name)
    mine = listing_hash(dataset)
    return [
        f"leak: {', '.join(sorted(used[sha]))} used {cards[sha].name}, whose card names a folder "
        "with exactly the files of this dataset as training data"
        for sha in sorted(used.keys() & cards.keys())
        if mine in _pools(cards[sha])
    ]


def _pools(card: Card) -> set[str]:
    return {str(facts.get("sha256")) for facts in card.training.data.values()
            if isinstance(facts, Mapping)}  # fmt: skip


def listing_hash(folder: Path) -> str:
    """Names and sizes of all files of a folder, as the card of a trained model records them."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
    return digest.hexdigest()
