"""The page of an evaluation: nothing from outside, every image inside, pictures that are true."""

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from spinect.errors import ConfigError
from spinect.evaluation.measures import Value
from spinect.evaluation.tables import Column, Method, make_table, tidy
from spinect.geometry import Volume
from spinect.report.evaluation import (
    Block,
    CaseView,
    Evaluation,
    choose_renderer,
    surfaces,
    write_evaluation,
)
from spinect.report.evaluation.pictures import error_map, plane
from spinect.report.evaluation.plots import agreement, box_plot, volume_plot
from spinect.report.evaluation.surfaces import SIDES, depth_view, pyvista_views, shape_of
from spinect.report.scene import Scene

COLUMN = Column("dice", "vertebra")


def rows_of(values):
    """Tidy rows from method -> patient -> Dice."""
    return [
        row
        for method, own in values.items()
        for patient, value in own.items()
        for row in tidy([Value("vertebra", "", "dice", value, "none" if value != value else "")],
                        method=method, protocol="strict", space="iso", patient=patient,
                        case=f"{patient}_T2w")
    ]  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(3)
    return rows_of({m: {f"sub-{k}": float(rng.uniform(0.7, 0.9)) for k in range(6)}
                    for m in ("one & only", "<two>")})  # fmt: skip


@pytest.fixture(scope="module")
def scene(tiny_pair):
    off = tiny_pair.ct.with_data(tiny_pair.ct.data + 100)
    return Scene(tiny_pair.mr, off, tiny_pair.vertebrae, tiny_pair.subregions, tiny_pair.ct,
                 tiny_pair.vertebrae)  # fmt: skip


@pytest.fixture(scope="module")
def page(rows, scene, tmp_path_factory):
    methods = ["one & only", "<two>"]
    table = make_table(rows, [COLUMN], [Method(name) for name in methods], notes=["phantom <data>"])
    lone = make_table(rows, [COLUMN], [Method("<two>")], notes=["phantom <data>", "of one"])
    view = CaseView("<two>", "sub-1_T2w", "worst", scene, {"Dice": "0.7"})
    bare = CaseView("<two>", "sub-2_T2w", "no CT", Scene(scene.image))
    evaluation = Evaluation(
        title="Test & page",
        phantom=True,
        blocks=[Block("Headline", "text", table), Block("Again", "text", lone)],
        rows=rows,
        methods=methods,
        plotted=[COLUMN],
        views=[view, bare],
        problems=[("one & only", "sub-9_T2w", "no result <at all>")],
        warnings=["a <script>alert(1)</script>"],
        facts={"dataset": "x"},
        renderer="matplotlib",
    )
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_evaluation(evaluation, path)
    return path.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Tags with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_nothing_is_asked_of_the_network(page):
    bare = re.sub(r"data:image/[^\"]+", "", page)
    for outside in ("http:", "https:", "//", "@import", "url("):
        assert outside not in bare
    for tag, held in Reader(page).tags:
        assert tag not in ("link", "iframe", "object", "embed", "form", "base")
        for name in ("src", "href"):
            if name in held:
                assert held[name].startswith(("data:image/", "#")), (tag, held[name][:60])


def test_every_image_is_embedded_and_can_be_read(page):
    images = [held["src"] for tag, held in Reader(page).tags if tag == "img"]
    assert len(images) == 1 + 5 + 2 + 1  # box plot; layers; error map and surfaces; lone MR
    for source in images:
        kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", source).groups()
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        image.load()
        assert image.format.lower() == kind
        assert min(image.size) > 50
    assert all(held.get("alt") for tag, held in Reader(page).tags if tag == "img")


def test_policy_allows_its_own_style_and_script_only(page):
    policy = next(held["content"] for tag, held in Reader(page).tags
                  if held.get("http-equiv") == "Content-Security-Policy")  # fmt: skip
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    for tag, held in Reader(page).tags:
        assert not any(name == "style" or name.startswith("on") for name in held), (tag, held)


def test_what_others_wrote_is_escaped(page):
    assert "<script>alert" not in page
    assert "a &lt;script&gt;alert(1)" in page
    assert "one &amp; only" in page
    assert "no result &lt;at all&gt;" in page


def test_it_says_what_it_is(page):
    assert "Not for diagnosis" in page
    assert "Phantom data" in page
    assert "1 result missing or not scored" in page
    assert "surfaces drawn by matplotlib" in page
    assert 'class="best"' in page


def test_a_note_of_every_table_is_said_once(page):
    assert page.count("phantom &lt;data&gt;") == 1
    assert page.count("<li>of one</li>") == 1


def test_sliders_point_at_their_layers(page):
    tags = Reader(page).tags
    layers = {held["id"] for tag, held in tags if tag == "img" and "id" in held}
    sliders = [held["data-layer"] for tag, held in tags if tag == "input"]
    assert sorted(sliders) == sorted(layers)
    assert len(sliders) == 4  # all layers but the MR; the case without CT has none
    # Without a script the layers stand side by side and no slider is shown.
    style = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)[0]
    assert ".controls { display: none; }" in style
    assert ".js .stack figure + figure { position: absolute" in style


def test_box_plot_without_values_is_none():
    assert box_plot(rows_of({"a": {"sub-1": float("nan")}}), COLUMN, ["a"]) is None
    assert box_plot(rows_of({"a": {"sub-1": 0.5}}), COLUMN, ["a"]) is not None


def test_lines_join_patients_while_they_are_few(monkeypatch):
    from spinect.report.evaluation import plots

    def colours(patients):
        made = {m: {f"sub-{k}": 0.1 + 0.01 * k + 0.2 * (m == "b") for k in range(patients)}
                for m in ("a", "b")}  # fmt: skip
        return box_plot(rows_of(made), COLUMN, ["a", "b"])

    few = colours(8)
    monkeypatch.setattr(plots, "LINED", 7)
    assert colours(8) != few


def test_agreement_of_single_values_is_the_plain_one():
    differences = np.random.default_rng(1).normal(2, 3, 25)
    found = agreement({f"p{k}": [d] for k, d in enumerate(differences)})
    half = 1.959964 * differences.std(ddof=1)
    assert (found.n, found.n_values) == (25, 25)
    assert found.bias == pytest.approx(differences.mean())
    assert (found.low, found.high) == pytest.approx((found.bias - half, found.bias + half))


def test_agreement_adds_the_variance_between_patients():
    """Balanced groups: between + within of the analysis of variance, by its textbook form."""
    rng = np.random.default_rng(2)
    values = rng.normal(0, 1, (12, 5)) + rng.normal(0, 4, (12, 1))
    found = agreement({f"p{k}": list(row) for k, row in enumerate(values)})
    within = values.var(axis=1, ddof=1).mean()
    between = values.mean(1).var(ddof=1) - within / 5
    assert found.high - found.bias == pytest.approx(1.959964 * np.sqrt(within + between))
    assert found.high - found.bias > 1.959964 * values.std(ddof=1)


def test_agreement_of_too_few_is_none():
    assert agreement({}) is None
    assert agreement({"a": [1.0], "b": [2.0]}) is None
    assert volume_plot([], "a") is None


def test_volumes_of_missing_results_are_no_points():
    def plot(note):
        values = [Value("vertebra", f"L{k}", metric, 1000.0 * k, note)
                  for k in range(1, 6) for metric in ("volume_true", "volume_error")]  # fmt: skip
        made = tidy(values, method="a", protocol="strict", space="iso", patient="p", case="p_T2w")
        return volume_plot(made, "a")

    assert plot("nothing was predicted") is not None
    assert plot("no result") is None


def blocks(wide):
    """A vertebra as a box of 2 * wide x 20 x 20 mm; front at high y."""
    data = np.zeros((40, 40, 40), np.uint8)
    data[20 - wide : 20 + wide, 10:30, 10:30] = 22
    return Volume(data, np.eye(4), "labels")


@pytest.mark.parametrize("draw", [lambda s: {side: depth_view(s, side) for side in SIDES},
                                  pyvista_views])  # fmt: skip
def test_surfaces_have_the_right_size_and_sign(draw):
    if draw is pyvista_views:
        pytest.importorskip("pyvista")
    large, small = (draw(shape_of(blocks(w), blocks(8)))["left"] for w in (10, 6))
    same = draw(shape_of(blocks(8), blocks(8)))
    back = same["back"]
    drawn = (back < 245).any(-1)
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    assert len(rows) == pytest.approx(40, abs=3)  # 20 mm at two pixels per mm
    assert len(columns) == pytest.approx(32, abs=3)
    middle = tuple(n // 2 for n in large.shape[:2])
    red, green, blue = (int(v) for v in large[middle])
    assert red > blue + 40  # the left face lies 2 mm outside the truth
    red, green, blue = (int(v) for v in small[middle])
    assert blue > red + 40  # and here 2 mm inside
    red, green, blue = (int(v) for v in same["left"][middle])
    assert abs(red - blue) < 40
    assert green > 0


def test_surfaces_show_head_above_feet_and_front_to_the_left():
    data = np.zeros((30, 40, 60), np.uint8)
    data[10:20, 10:30, 40:50] = 20  # a long one near the head
    data[10:20, 22:30, 8:20] = 24  # a short one in front, near the feet
    volume = Volume(data, np.eye(4), "labels")
    left = (depth_view(shape_of(volume, volume), "left") < 245).any(-1)
    half = left.shape[0] // 2
    assert left[:half].any(0).sum() > 1.5 * left[half:].any(0).sum()
    lower = np.flatnonzero(left[half:].any(0))
    assert lower.mean() < left.shape[1] / 2


def test_an_empty_side_has_no_surface():
    empty = Volume(np.zeros((40, 40, 40), np.uint8), np.eye(4), "labels")
    assert shape_of(empty, blocks(8)) is None
    assert shape_of(blocks(8), empty) is None


def test_renderer_is_chosen_once_and_never_quietly(monkeypatch):
    assert choose_renderer("matplotlib") == "matplotlib"
    assert choose_renderer("none") == "none"
    monkeypatch.setattr(surfaces.importlib.util, "find_spec", lambda _name: None)
    assert choose_renderer(None) == "matplotlib"
    with pytest.raises(ConfigError, match=r"spinect\[render\]"):
        choose_renderer("pyvista")
    monkeypatch.setattr(surfaces.importlib.util, "find_spec", lambda _name: object())
    assert choose_renderer(None) == "pyvista"


def colour_of(image, share):
    """Mean colour of a small square at a share of the picture's width and height."""
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"), float)
    row, column = (int(s * n) for s, n in zip(share, pixels.shape[:2], strict=True))
    return pixels[row - 3 : row + 3, column - 3 : column + 3].mean((0, 1))


@pytest.mark.parametrize(("shift", "channel"), [(200, 0), (-200, 2)])
def test_error_map_is_red_above_and_blue_below_the_truth(tiny_pair, shift, channel):
    off = tiny_pair.ct.with_data(tiny_pair.ct.data + np.float32(shift))
    image = error_map(Scene(tiny_pair.mr, off, truth_ct=tiny_pair.ct))
    colour = colour_of(image, (0.5, 0.35))
    assert colour[channel] > colour[2 - channel] + 60


def test_error_map_needs_both_cts(tiny_pair):
    assert error_map(Scene(tiny_pair.mr, tiny_pair.ct)) is None


def test_plane_depends_on_the_truth_alone(scene, tiny_pair):
    """Every method is shown in the same plane, also one that found nothing."""
    blank = tiny_pair.vertebrae.with_data(np.zeros_like(tiny_pair.vertebrae.data))
    other = Scene(scene.image, vertebrae=blank, truth_vertebrae=tiny_pair.vertebrae)
    assert plane(other) == plane(scene)
