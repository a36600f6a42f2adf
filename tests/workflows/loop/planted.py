"""A study of small articulated spines, and oracles that stand for the models of a loop."""

import articulated as art
import numpy as np

from spinect.geometry import Volume
from spinect.geometry.landmarks import Landmarks
from spinect.io import read, write_json, write_poi, write_table, write_volume
from spinect.io.participants import read_rows
from spinect.workflows.loop import Models

GOOD, SHIFTED, WRONG, EMPTY, FAR, LOST = (f"sub-{n}" for n in range(1, 7))


def write_subject(root, name, motions):
    """T2w with landmarks, T1w without, and the true CT of the MR's pose."""
    files = art.write_subject(root, name, motions)
    mr = read(files.mr, "mr")
    write_volume(mr, files.mr.with_name(f"{name}_T1w.nii.gz"))
    truth = root / "derivatives" / "truth" / name / f"{name}_space-T1w_ct.nii.gz"
    write_volume(art.draw(mr.grid, "ct")[0], truth)
    return files


def write_study(root):
    """Six subjects; of the last one the T2w's landmarks are wrong."""
    names = (GOOD, SHIFTED, WRONG, EMPTY, FAR, LOST)
    for number, name in enumerate(names):
        files = write_subject(root, name, art.spine(shift=(4.0 - number, -6.0, 5.0)))
    rng = np.random.default_rng(3)
    spoilt = {k: p + rng.normal(0, 15, 3) for k, p in art.points().points.items()}
    inside = {k: np.clip(p, [-28, -60, -5], [26, 30, 140]) for k, p in spoilt.items()}
    write_poi(Landmarks(inside), files.mr_points)
    rows = [{"participant_id": name, "split": "train"} for name in names]
    write_table(rows, root / "participants.tsv")


class Oracle:
    """Knows the truth, and spoils it where a failure is planted.

    The true CT, but for EMPTY: no bone, until the model has learnt from T1w.
    The true masks, but for SHIFTED: named one level lower; WRONG: body and spinous process
    exchanged; FAR: neighbours apart to the left and right.
    """

    def __init__(self, dataset):
        self.dataset, self.trainings = dataset, []

    def train(self, dataset, contrast, folder):
        table = read_rows(dataset / "derivatives" / "registered" / "registration.tsv")
        pairs = [(row["mr"], row["outputs"]) for row in table]
        self.trainings.append((contrast, len(pairs)))
        write_json({"contrast": contrast, "pairs": pairs}, folder / "model" / "model.json")
        return folder / "model"

    def translate(self, case, mr, model):
        name = case.pair.participant
        truth = self.dataset / "derivatives" / "truth" / name / f"{name}_space-T1w_ct.nii.gz"
        ct = read(truth, "ct")
        assert ct.grid.matches(mr.grid)
        contrast = (model / "model.json").read_text()
        if name == EMPTY and '"contrast": "T2w"' in contrast:
            return ct.with_data(ct.data.clip(max=50))
        return ct

    def segment(self, case, ct):
        _, vertebrae, subregions = art.draw(ct.grid, "ct")
        ids, parts, name = vertebrae.data.copy(), subregions.data.copy(), case.pair.participant
        if ct.data.max() < 100:
            ids[:], parts[:] = 0, 0
        if name == SHIFTED:
            ids[ids > 0] += 1
        if name == WRONG:
            parts = np.choose((parts == 50) + 2 * (parts == 42), [parts, 42, 50]).astype(np.uint8)
        if name == FAR:
            ids, parts = _apart(ids, parts)
        return tuple(Volume(a, ct.grid.affine, "labels") for a in (ids, parts))

    @property
    def models(self):
        return Models(self.train, self.translate, self.segment)


def _apart(ids, parts):
    """Neighbours moved by 3 slices of 4 mm to the left and to the right."""
    axis = 2  # slices of the sagittal series
    moved = np.zeros_like(ids), np.zeros_like(parts)
    for number, vertebra in enumerate(art.LEVELS):
        own = ids == vertebra
        step = 3 if number % 2 else -3
        where = np.roll(own, step, axis)
        for source, target in zip((ids, parts), moved, strict=True):
            target[where] = np.roll(np.where(own, source, 0), step, axis)[where]
    return moved
