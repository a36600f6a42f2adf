"""What many tests share: a tiny phantom-like subject, and an engine that needs no network."""

import importlib.util
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample, to_iso
from spinect.io import write_volume

# A shell that runs the tests in the background has them, and all their children, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def make_tiny_pair():
    """MR (sagittal, 4 mm slices), and CT, vertebrae and subregions at 1 mm, in one world."""
    shape = (48, 90, 110)
    affine = np.eye(4)
    affine[:3, 3] = [-24.0, -60.0, -55.0]
    x, y, z = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    rng = np.random.default_rng(7)
    mr = 300 + 40 * rng.normal(size=shape)
    ct = np.full(shape, 50.0)
    air = y < 8
    mr[air], ct[air] = np.abs(10 * rng.normal(size=int(air.sum()))), -1000
    canal = (np.abs(x - 24) < 8) & (np.abs(y - 36) < 6)
    mr[canal], ct[canal] = 900, 15
    vertebrae, subregions = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for number, centre in ((24, 20), (23, 54), (22, 88)):
        body = ((x - 24) / 19) ** 2 + ((y - 60) / 15) ** 2 < 1
        body &= np.abs(z - centre) < 12
        spinous = (np.abs(x - 24) < 4) & (np.abs(y - 20) < 9) & (np.abs(z - centre + 4) < 8)
        vertebrae[body | spinous] = number
        subregions[body], subregions[spinous] = 50, 42
        mr[body], mr[spinous] = 500, 420
        ct[body], ct[spinous] = 220, 480
    iso = {
        "ct": Volume(ct.astype(np.float32), affine, "ct"),
        "vertebrae": Volume(vertebrae, affine, "labels"),
        "subregions": Volume(subregions, affine, "labels"),
    }
    fine = Volume(mr.astype(np.float32), affine, "mr")
    grid: Grid = fine.grid.with_spacing([4.0, 0.8, 0.8]).reoriented("PIR")
    return SimpleNamespace(mr=resample(fine, grid), **iso)


@pytest.fixture(scope="session")
def tiny_pair():
    return make_tiny_pair()


def _sampled(ct, native, iso, options, layer):
    """Layers of a Monte-Carlo run: 5 HU of spread everywhere, an interval of 8 HU."""
    there = resample(ct, iso)
    made = {
        "std": Volume(np.full(iso.shape, 5, np.float32), iso.affine, "mr"),
        "lower": there.with_data(there.data - 4),
        "upper": there.with_data(there.data + 4),
        "medoid": there,
    }
    return {
        name: layer(resample(volume, native), volume, {"samples": options.samples, "is": name})
        for name, volume in made.items()
    }


class FakeEngine:
    """Answers with the truth of the tiny pair, on the grids that a real engine would use."""

    device = "cpu"

    def __init__(self, pair, wait_s=0.0):
        from spinect.workflows.record import ModelRecord  # imports torch: only who needs it pays

        self.models = (ModelRecord(name="fake", sha256="0" * 64),)
        self.pair, self.wait_s, self.calls = pair, wait_s, 0

    def need(self, _grid, _options):
        from spinect.workflows.engine import Need

        return Need(2**20)

    def process(self, image, options, watch):
        from spinect.workflows.engine import Layer, Result

        self.calls += 1
        iso = to_iso(image).grid
        made = {}
        with watch.stage("translate"):
            for step in range(5):
                time.sleep(self.wait_s / 5)
                if watch.share:
                    watch.share((step + 1) / 5)
            if options.kind == "mr":
                made["ct_iso"] = resample(self.pair.ct, iso)
                made["ct"] = resample(self.pair.ct, image.grid)
            if options.mode == "mc":
                made["layers"] = _sampled(self.pair.ct, image.grid, iso, options, Layer)
        if options.segmenter != "none":
            with watch.stage("segment"):
                for name in ("vertebrae", "subregions"):
                    labels = getattr(self.pair, name)
                    made[name] = resample(labels, image.grid)
                    made[f"{name}_iso"] = resample(labels, iso)
        rows = [
            {"id": 22, "name": "L3", "level_source": "guess", "level_p": 0.5, "confidence": 0.9},
            {"id": 23, "name": "L4", "level_source": "guess", "level_p": 0.5, "confidence": 0.7},
        ]
        return Result(**made, rows=rows, warnings=("L3: the level is a guess",))


@pytest.fixture
def engine(tiny_pair):
    return FakeEngine(tiny_pair)


@pytest.fixture
def mr_file(tmp_path, tiny_pair):
    folder = tmp_path / "in"
    folder.mkdir()
    return write_volume(tiny_pair.mr, folder / "sub-1_T2w.nii.gz")


@pytest.fixture(scope="session")
def dicom():
    """The module that writes small DICOM files, for tests that have pydicom."""
    pytest.importorskip("pydicom")
    path = Path(__file__).parent / "io" / "dicom_maker.py"
    spec = importlib.util.spec_from_file_location("dicom_maker", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def benchmark_script():
    """Imports a script of benchmarks/ by its name; scripts find each other as when they run."""
    folder = str(Path(__file__).parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)
