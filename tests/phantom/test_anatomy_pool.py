"""Pools on disk, the shape gates, and soft tissue around a foreign label map."""

import numpy as np
import pytest

from spinect.geometry import Grid
from spinect.phantom import pool
from spinect.phantom.anatomy import field_of_view_grid, levels, make_subject, rasterise
from spinect.phantom.canal import CANAL, DISC, add_canal, add_discs, columns
from spinect.phantom.gates import GATES, SPACING_GATE_MM, cut, measure
from spinect.phantom.maps import TissueMap
from spinect.phantom.subject import draw
from spinect.phantom.surroundings import surround
from spinect.phantom.tissues import Tissue


@pytest.fixture
def coarse(monkeypatch):
    """Pools at 3 mm, for speed."""
    monkeypatch.setattr(pool, "field_of_view_grid", lambda s: field_of_view_grid(s, 3.0))


@pytest.mark.usefixtures("coarse")
def test_a_pool_is_written_once(tmp_path):
    pool.build(tmp_path, [11, 12], region="cervical")
    first = TissueMap.load(tmp_path / "sub-11")
    assert first.subject.seed == 11
    assert set(np.unique(first.vertebrae)) >= {2, 3, 4, 5, 6, 7}
    stamp = (tmp_path / "sub-11" / "tissue.npy").stat().st_mtime_ns
    (tmp_path / "sub-12" / "map.json").unlink()  # as a killed run would leave it
    pool.build(tmp_path, [11, 12], region="cervical")
    assert (tmp_path / "sub-11" / "tissue.npy").stat().st_mtime_ns == stamp
    assert (tmp_path / "sub-12" / "map.json").exists()


def test_a_mixed_pool_has_the_promised_regions():
    chosen = [pool.choose(seed) for seed in range(2000)]
    plain = [region for region, shift in chosen if shift == 0]
    share = {region: plain.count(region) / len(chosen) for region in set(plain)}
    assert share == pytest.approx({"lumbar": 0.6, "thoracic": 0.2, "cervical": 0.1}, abs=0.03)


@pytest.mark.parametrize("seed", [1, 8, 14])
def test_vertebrae_have_real_proportions(seed):
    """The gates of docs/phantom.md, with 5 % room for a coarse grid and a small sample."""
    subject = make_subject(seed, "lumbar")
    made = rasterise(subject, field_of_view_grid(subject, 1.25))
    values: dict[str, list[float]] = {name: [] for name in GATES}
    for vertebra in range(19, 25):
        mask = np.asarray(made.vertebrae) == vertebra
        if mask.any() and not cut(mask):
            found = measure(mask, made.grid)
            for name, (held, _, _) in GATES.items():
                if vertebra in held:
                    values[name].append(getattr(found, name))
    for name, (_, low, high) in GATES.items():
        assert 0.95 * low <= np.median(values[name]) <= 1.05 * high, name
    centres = [np.array(subject.subject.centres[v]) for v in (20, 21, 22, 23, 24)]
    gaps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert SPACING_GATE_MM[0] <= np.median(gaps) <= SPACING_GATE_MM[1]


def test_disease_is_as_frequent_as_planned():
    builds = [draw(seed) for seed in range(300)]
    last = [b.shapes[-1].vertebra for b in builds]
    assert np.mean([v == 25 for v in last]) == pytest.approx(0.06, abs=0.035)
    assert np.mean([abs(b.scoliosis[0]) > 10 for b in builds]) == pytest.approx(0.10, abs=0.05)
    assert np.mean([bool(b.screws) for b in builds]) == pytest.approx(0.02, abs=0.02)
    assert np.mean([b.slip is not None for b in builds]) == pytest.approx(0.06, abs=0.03)
    assert np.mean([bool(b.fused) for b in builds]) == pytest.approx(0.04, abs=0.03)


def test_any_labelled_spine_can_be_surrounded():
    """Only labels, distance and levels go in: what data of real shapes can offer."""
    subject = make_subject(8, "lumbar")
    made = rasterise(subject, field_of_view_grid(subject, 2.5))
    grid: Grid = made.grid
    spine = [lv for lv in levels(subject) if 19 <= lv.vertebra <= 24]
    vertebrae = np.where(np.isin(made.vertebrae, range(19, 25)), made.vertebrae, 0).astype(np.uint8)
    solid = vertebrae > 0
    subregions = np.where(solid, made.subregions, 0).astype(np.uint8)
    add_canal(grid, subregions, solid, columns(grid, spine))
    add_discs(grid, subregions, solid, spine)
    distance = np.where(solid, np.minimum(made.bone_distance, -1), 20).astype(np.int8)
    tissue = surround(grid, vertebrae, subregions, distance, spine, np.random.default_rng(0))
    assert (tissue[solid] <= Tissue.BASIVERTEBRAL).all()
    assert np.isin(
        tissue[subregions == DISC], (Tissue.NUCLEUS, Tissue.ANNULUS, Tissue.CARTILAGE)
    ).all()
    sac = tissue[subregions == CANAL]
    assert np.isin(sac, (Tissue.CSF, Tissue.ROOTS, Tissue.CORD)).mean() > 0.97
    names = "AIR SKIN FAT MUSCLE LIGAMENT FLAVUM EPIDURAL_FAT CORD ARTERY VEIN"
    for expected in map(Tissue.__getitem__, names.split()):
        assert (tissue == expected).any(), expected.name
    same = surround(grid, vertebrae, subregions, distance, spine, np.random.default_rng(0))
    np.testing.assert_array_equal(tissue, same)
