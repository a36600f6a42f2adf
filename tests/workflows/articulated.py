"""A small spine of boxes and ellipsoids whose vertebrae move against each other, as files."""

from dataclasses import dataclass

import numpy as np

from spinect.geometry import Grid, Volume
from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import apply, invert, rigid
from spinect.io import write_poi, write_table, write_volume

LEVELS = {24: 20.0, 23: 52.0, 22: 84.0, 21: 116.0}  # L5 to L2: height of the body, mm
SPINOUS = np.array([0.0, -42.0, -8.0])  # from the body's centre
SIDE = np.array([16.0, -24.0, -2.0])


def spine(step_deg=3.0, shift=(4.0, -6.0, 5.0), turn=(0.05, 0.03, 0.08)):
    """Vertebra -> (4, 4) ct_from_mr: the whole is turned, each level bends by some degrees more."""
    middle = np.array([0.0, 0.0, 68.0])
    whole = rigid(turn, shift, middle)
    motions = {}
    for number, (vertebra, height) in enumerate(LEVELS.items()):
        bend = np.deg2rad(step_deg) * (number - 1.5) * np.array([0.8, 0.4, 0.5])
        motions[vertebra] = whole @ rigid(bend, 0.0, (0.0, 0.0, height))
    return motions


def points(motions=None):
    """Body, spinous process and two transverse processes of each; moved when motions are given."""
    found = {}
    for vertebra, height in LEVELS.items():
        body = np.array([0.0, 0.0, height])
        own = {50: body, 42: body + SPINOUS, 43: body + SIDE * (-1, 1, 1), 44: body + SIDE}
        motion = np.eye(4) if motions is None else motions[vertebra]
        found |= {(vertebra, part): apply(motion, p) for part, p in own.items()}
    return Landmarks(found)


def draw(grid, kind, motions=None):
    """The spine on a grid: image of its kind, vertebra ids, subregion ids."""
    world = grid.world(np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1))
    rng = np.random.default_rng(5)
    image = np.where(world[..., 1] > -66, 40.0, -1000.0) if kind == "ct" else 300.0
    image = image + 8 * rng.normal(size=grid.shape)
    vertebrae, subregions = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
    for vertebra, height in LEVELS.items():
        own = world if motions is None else apply(invert(motions[vertebra]), world)
        x, y, z = np.moveaxis(own - (0.0, 0.0, height), -1, 0)
        body = (x / 20) ** 2 + (y / 15) ** 2 < 1
        body &= np.abs(z) < 12
        spinous = (np.abs(x) < 4) & (np.abs(y + 42) < 10) & (np.abs(z + 8) < 8)
        wings = (np.abs(x) < 22) & (np.abs(y + 24) < 5) & (np.abs(z + 2) < 5)
        for part, where in ((50, body), (42, spinous), (41, wings & ~spinous)):
            vertebrae[where], subregions[where] = vertebra, part
        bone = body | spinous | wings
        image[bone] += 300 if kind == "ct" else 200
    return (
        Volume(image.astype(np.float32), grid.affine, kind),
        Volume(vertebrae, grid.affine, "labels"),
        Volume(subregions, grid.affine, "labels"),
    )


def mr_grid():
    """Sagittal slices of 4 mm, 1.2 mm in plane, stored as a scanner does."""
    affine = np.diag([4.0, 1.2, 1.2, 1.0])
    affine[:3, 3] = [-30.0, -66.0, -10.0]
    return Grid((16, 84, 130), affine).reoriented("PSR")


def ct_grid():
    """1.5 mm, wider than the MR."""
    affine = np.diag([1.5, 1.5, 2.0, 1.0])
    affine[:3, 3] = [-48.0, -80.0, -30.0]
    return Grid((64, 84, 92), affine)


@dataclass
class Files:
    """Paths of one subject."""

    root: object
    name: str

    @property
    def mr(self):
        return self.root / self.name / "anat" / f"{self.name}_T2w.nii.gz"

    @property
    def mr_points(self):
        return self.mr.with_name(f"{self.name}_T2w_poi.json")

    @property
    def ct(self):
        return self.root / self.name / "ct" / f"{self.name}_ct.nii.gz"

    @property
    def ct_points(self):
        return self.ct.with_name(f"{self.name}_ct_poi.json")

    def mask(self, desc):
        return self.ct.with_name(f"{self.name}_desc-{desc}_dseg.nii.gz")

    @property
    def done(self):
        return self.root / "derivatives" / "registered" / self.name / f"{self.name}_space-T2w"

    def end(self, end):
        return self.done.with_name(self.done.name + end)


def write_subject(root, name, motions):
    """One subject of a dataset folder; masks beside the CT only."""
    files = Files(root, name)
    ct, vertebrae, subregions = draw(ct_grid(), "ct", motions)
    write_volume(draw(mr_grid(), "mr")[0], files.mr)
    write_poi(points(), files.mr_points)
    write_volume(ct, files.ct)
    write_poi(points(motions), files.ct_points)
    write_volume(vertebrae, files.mask("vertebrae"))
    write_volume(subregions, files.mask("subregions"))
    return files


def write_study(root, names=("sub-1",), motions=None):
    """A dataset folder with some such subjects, all for training."""
    rows = [{"participant_id": name, "split": "train"} for name in names]
    made = [write_subject(root, name, motions or spine()) for name in names]
    write_table(rows, root / "participants.tsv")
    return made
