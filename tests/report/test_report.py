"""Pictures and pages: geometry against known points, content, and nothing from outside."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from spinect.anatomy import COLOURS
from spinect.geometry import Volume
from spinect.report import Comparison, Page, Scene, write_html, write_preview
from spinect.report.figures import NOTICE, side
from spinect.report.overlay import paint
from spinect.report.scene import PIXEL_MM, PLANES, grey_window

ROWS = (
    {"name": "L3", "level_source": "sacrum", "level_p": 0.97, "volume_mm3": 41233.0,
     "synthetic_hu_mean": 221.4, "cut_si": False, "cut_ap": False, "cut_lr": True,
     "confidence": 0.914},
    {"name": "L4", "level_source": "guess", "level_p": float("nan"), "volume_mm3": 1000.0,
     "synthetic_hu_mean": None, "cut_si": True, "cut_ap": False, "cut_lr": False,
     "confidence": 0.5},
)  # fmt: skip


@pytest.fixture(scope="module")
def scene(tiny_pair):
    return Scene(tiny_pair.mr, tiny_pair.ct, tiny_pair.vertebrae, tiny_pair.subregions)


def marked(point, axes="RAS"):
    """A volume that is bright at one point, mm, RAS+, and nowhere else."""
    affine = np.eye(4)
    affine[:3, 3] = [-20.0, -25.0, -30.0]
    data = np.zeros((41, 51, 61), np.float32)
    data[tuple(np.round(np.array(point) - affine[:3, 3]).astype(int))] = 100
    return Volume(data, affine, "mr").reoriented(axes)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SLA"])
@pytest.mark.parametrize("plane", PLANES)
def test_a_point_lands_where_the_convention_says(plane, axes):
    """Right of the patient on the left, front on the left or on top, head on top."""
    point = np.array([7.0, 11.0, 13.0])
    volume = marked(point, axes)
    scene = Scene(volume)
    fixed = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    picture = scene.cut(volume, plane, point[fixed])
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    low, high = np.array([-20.5, -25.5, -30.5]), np.array([20.5, 25.5, 30.5])
    x_axis, y_axis = {"sagittal": (1, 2), "coronal": (0, 2), "axial": (0, 1)}[plane]
    assert (column + 0.5) * PIXEL_MM == pytest.approx(high[x_axis] - point[x_axis], abs=1)
    assert (row + 0.5) * PIXEL_MM == pytest.approx(high[y_axis] - point[y_axis], abs=1)
    width, height = (high - low)[[x_axis, y_axis]]
    assert picture.shape[1] * PIXEL_MM == pytest.approx(width, abs=PIXEL_MM)
    assert picture.shape[0] * PIXEL_MM == pytest.approx(height, abs=PIXEL_MM)
    assert scene.pixel(plane, point) == pytest.approx((column, row), abs=1)


def test_planes_run_through_the_bodies(scene):
    x, y, z = scene.focus()
    assert abs(x) < 2  # the bodies are centred there
    assert y == pytest.approx(0, abs=2)
    assert z == pytest.approx(-1, abs=2)  # the middle one of three
    assert sorted(scene.centres) == [22, 23, 24]
    assert scene.cut(scene.vertebrae, "axial", z).max() == 23


def test_without_masks_the_middle_of_the_image_is_shown(tiny_pair):
    focus = Scene(tiny_pair.mr).focus()
    np.testing.assert_allclose(focus, tiny_pair.mr.grid.corners().mean(0), atol=1e-6)


def test_paint_colours_by_id_with_opaque_outlines():
    labels = np.zeros((9, 9), np.uint8)
    labels[2:7, 2:7] = 22
    picture = paint(labels, 0.4)
    assert picture[0, 0, 3] == 0
    assert picture[4, 4, 3] == pytest.approx(0.4)
    assert picture[2, 4, 3] == 1
    np.testing.assert_allclose(picture[4, 4, :3] * 255, COLOURS[22])


def test_grey_window_leaves_padding_out(tiny_pair):
    data = tiny_pair.mr.data.copy()
    low, high = grey_window(tiny_pair.mr)
    padded = np.pad(data, ((0, 200), (0, 0), (0, 0)), constant_values=data.min())
    again = grey_window(Volume(padded, tiny_pair.mr.affine, "mr"))
    assert again == pytest.approx((low, high), rel=0.02)
    assert grey_window(tiny_pair.ct) == (-250.0, 850.0)


def test_side_names_the_direction():
    assert side("sagittal", 12) == "R 12 mm"
    assert side("coronal", -3.2) == "P 3 mm"
    assert side("axial", 0.2) == "0 mm"


def test_preview_shows_image_ct_and_masks(scene, tmp_path):
    write_preview(scene, tmp_path / "p.png", "case")
    with Image.open(tmp_path / "p.png") as image:
        picture = np.asarray(image.convert("RGB")).astype(int)
    assert picture.shape[1] > 1200
    third = picture.shape[1] // 3
    colourful = np.abs(picture - picture.mean(2, keepdims=True)).max(2) > 40
    shares = [colourful[:, i * third : (i + 1) * third].mean() for i in range(3)]
    assert shares[2] > 10 * max(shares[0], shares[1])  # masks only in the last column


def test_the_page_shows_the_picture_of_the_file_and_copies_keep_nothing(scene, tmp_path):
    write_preview(scene, tmp_path / "p.png", "case")
    write_html(scene, Page("case"), tmp_path / "p.html")
    encoded = base64.b64encode((tmp_path / "p.png").read_bytes()).decode()
    assert encoded in (tmp_path / "p.html").read_text()
    assert scene.centres  # kept; those of other masks are others
    assert replace(scene, vertebrae=None).centres == {}


@pytest.fixture(scope="module")
def page(scene, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "case.html"
    content = Page(
        "case <1>",
        ROWS,
        ("L4: the level is a guess",),
        {"input": "case.nii.gz"},
        (Comparison("vertebra Dice", "0.91", "of the whole"),),
    )
    write_html(scene, content, path)
    return path.read_text()


def test_page_needs_nothing_from_outside(page):
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page)
    assert "http" not in re.sub(r"data:[^\"']*", "", page)
    assert "@import" not in page


def test_page_says_what_must_be_said(page):
    for text in (NOTICE, "not densitometry", "case &lt;1&gt;", "vertebra Dice", "case.nii.gz"):
        assert text in page
    assert page.index("L4: the level is a guess") < page.index("<h2>Preview")
    table = page[page.index("<h2>Vertebrae") :]
    assert "41.2" in table  # mL
    assert "head/feet" in table
    assert "nan" not in table
    assert re.search(r'class="text guess">guess', table)


def test_pictures_of_the_slider_fit_each_other(page):
    found = re.findall(r'"(image|ct|masks)": "data:image/(\w+);base64,([^"]+)"', page)
    assert len(found) == 3 * 13
    sizes = {Image.open(io.BytesIO(base64.b64decode(data))).size for _, _, data in found}
    assert len(sizes) == 1


def test_page_without_masks_or_ct(tiny_pair, tmp_path):
    write_html(Scene(tiny_pair.mr), Page("bare"), tmp_path / "bare.html")
    text = (tmp_path / "bare.html").read_text()
    assert "warning</strong>" not in text
    assert "<h2>Vertebrae" not in text
    assert 'id="ct"' not in text


def test_truth_gets_columns_of_its_own(tiny_pair, scene, tmp_path):
    with_truth = Scene(
        tiny_pair.mr, tiny_pair.ct, tiny_pair.vertebrae, tiny_pair.subregions,
        tiny_pair.ct, tiny_pair.vertebrae,
    )  # fmt: skip
    write_preview(with_truth, tmp_path / "truth.png", "case")
    write_preview(scene, tmp_path / "plain.png", "case")
    sizes = {}
    for name in ("truth", "plain"):
        with Image.open(tmp_path / f"{name}.png") as image:
            sizes[name] = image.size
    assert sizes["truth"][1] < sizes["plain"][1]  # five columns leave smaller pictures
