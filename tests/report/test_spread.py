"""The spread in pictures: its bounds, its pooling, and that it is there where draws are."""

import io
import math
import re

import numpy as np
import pytest
from PIL import Image

from spinect.geometry import Volume
from spinect.report import Page, Scene, write_html
from spinect.report.figures import preview_png
from spinect.report.spread import SPREAD_HU, bar_png, paint_spread, pooled


def test_bounds_are_those_of_two_tissues_at_even_odds():
    """Muscle of 55 HU or bone of 200 HU; muscle or what the CT window shows white."""
    assert (np.std([55, 200]), np.std([55, 850])) == SPREAD_HU


def test_colour_begins_at_the_lower_bound_and_grows():
    low, high = SPREAD_HU
    painted = paint_spread(np.array([[0, low - 0.1, low, (low + high) / 2, high, 2000]]))
    opacity = painted[0, :, 3]
    assert opacity[:2].tolist() == [0, 0]
    assert 0 < opacity[2] < opacity[3] < opacity[4] < 1  # the picture below is never hidden
    assert opacity[4] == opacity[5]
    luminance = painted[0, 2:5, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0.1).all()


@pytest.mark.parametrize(("spacing", "voxels"), [(1.0, 3), (0.5, 5), (2.0, 1), (4.0, 1)])
def test_pooled_over_three_millimetres(spacing, voxels):
    """One voxel of spread s among zeros becomes s / sqrt(n^3) over an odd number n of voxels."""
    data = np.zeros((15, 15, 15), np.float32)
    data[7, 7, 7] = 100
    made = pooled(Volume(data, np.diag([spacing] * 3 + [1]), "mr")).data
    assert np.count_nonzero(made > 0.5) == voxels**3
    assert made.max() == pytest.approx(100 / math.sqrt(voxels**3), rel=1e-3)
    assert np.isfinite(made).all()


def test_pooling_keeps_the_mean_variance_and_lessens_its_error():
    rng = np.random.default_rng(0)
    std = 50 * np.sqrt(rng.chisquare(9, (24, 24, 24)) / 9).astype(np.float32)
    made = pooled(Volume(std, np.eye(4), "mr")).data
    assert np.square(made).mean() == pytest.approx(2500, rel=0.02)
    assert std.std() / 50 == pytest.approx(1 / math.sqrt(18), rel=0.05)  # 24 %
    assert made.std() / 50 == pytest.approx(1 / math.sqrt(18 * 27), rel=0.1)


@pytest.fixture(scope="module")
def drawn(tiny_pair):
    """Large spread in the upper half of the body, little below."""
    std = np.full(tiny_pair.ct.data.shape, 20, np.float32)
    std[:, :, 60:] = 300
    spread = Volume(std, tiny_pair.ct.affine, "mr")
    return Scene(
        tiny_pair.mr, tiny_pair.ct, tiny_pair.vertebrae, tiny_pair.subregions, spread=spread
    )


def colourful(png):
    """Which pixels of a picture are far from grey."""
    with Image.open(io.BytesIO(png)) as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
    return np.abs(picture - picture.mean(2, keepdims=True)).max(2) > 25


def test_the_preview_has_a_column_that_is_coloured_where_draws_differ(drawn, tiny_pair):
    coloured = colourful(preview_png(drawn, "x", dpi=60, planes=("sagittal",)))
    quarter = coloured.shape[1] // 4
    column = coloured[:, 2 * quarter : 3 * quarter]  # after MR and CT
    rows = np.flatnonzero(column.any(1))
    high, low = np.array_split(column[int(0.2 * len(column)) : int(0.75 * len(column))], 2)
    assert high.mean() > 0.3 > 5 * low.mean()
    assert rows.max() > 0.8 * len(column)  # the colour bar
    bare = Scene(tiny_pair.mr, tiny_pair.ct)
    without = colourful(preview_png(bare, "x", dpi=60, planes=("sagittal",)))
    assert without.mean() < 0.02  # the letters


def test_the_page_has_the_layer_its_bar_and_its_legend(drawn, tiny_pair, tmp_path):
    rows = [{"name": "L3", "spread_hu": 88.4, "confidence": 0.9, "draws_found": 1.0}]
    write_html(drawn, Page("x", rows), tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text()
    assert len(re.findall(r'"spread": "data:image/png', text)) == 13
    assert 'class="bar"' in text
    assert "Spread of the draws, HU, pooled over 3 mm; below 72 HU not shown" in text
    assert "<th>spread HU</th>" in text
    assert "<td>88</td>" in text
    write_html(Scene(tiny_pair.mr, tiny_pair.ct), Page("x"), tmp_path / "bare.html")
    bare = (tmp_path / "bare.html").read_text()
    assert '"spread":' not in bare
    assert 'id="doubt"' not in bare


def test_the_bar_is_a_picture():
    with Image.open(io.BytesIO(bar_png())) as image:
        assert image.size[0] > 5 * image.size[1]
