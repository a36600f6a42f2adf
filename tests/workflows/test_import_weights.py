"""The public checkpoint of Graf et al. 2023 against a forward pass written from its description.

The file itself is not in the repository: state dicts of its keys and shapes hold random values.
"""

import math
import os
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from spinect.bundle import load_bundle
from spinect.card import read_card
from spinect.cli.main import app
from spinect.diffusion.schedule import cosine_levels
from spinect.errors import BundleError, InputError
from spinect.geometry import Volume
from spinect.inference import translate
from spinect.inference.noise import NoiseField
from spinect.workflows.import_weights import import_graf2023

# --- the published network, in plain torch on axes R, I, P -----------------------------------


def shapes(width=64):
    """Every key with its shape."""
    found = {}

    def layer(name, *shape):
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

    def block(name, a, b):
        layer(f"{name}.mlp.1", 2 * b, 4 * width)
        for part, inputs in (("block1", a), ("block2", b)):
            layer(f"{name}.{part}.proj", b, inputs, 3, 3, 3)
            layer(f"{name}.{part}.norm", b)
        if a != b:
            layer(f"{name}.res_conv", b, a, 1, 1, 1)

    dims = [width, width, 2 * width, 4 * width, 8 * width]
    layer("init_conv", width, 5, 7, 7, 7)
    layer("time_mlp.1", 4 * width, width)
    layer("time_mlp.3", 4 * width, 4 * width)
    for i in range(4):
        a, b = dims[i], dims[i + 1]
        block(f"downs.{i}.0", a, b)
        block(f"downs.{i}.1", b, b)
        block(f"ups.{3 - i}.0", b, a)
        block(f"ups.{3 - i}.1", a, a)
        if i < 3:
            layer(f"downs.{i}.2", b, b, 4, 4, 4)
    for i in range(3):
        layer(f"ups.{i}.2", dims[3 - i], dims[3 - i], 4, 4, 4)
    block("mid_block1", dims[4], dims[4])
    block("mid_block2", dims[4], dims[4])
    block("final_res_block", 2 * width, width)
    layer("final_conv", 1, width, 1, 1, 1)
    return found


def forward(w, x, time):
    """(1, 5, *S) and times (1,) to (1, 1, *S)."""

    def conv(name, h, **options):
        return F.conv3d(h, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def norm(name, h):
        return F.group_norm(h, 8, w[f"{name}.weight"], w[f"{name}.bias"])

    def block(name, h):
        y = norm(f"{name}.block1.norm", conv(f"{name}.block1.proj", h, padding=1))
        both = F.linear(F.silu(told), w[f"{name}.mlp.1.weight"], w[f"{name}.mlp.1.bias"])
        scale, shift = both[..., None, None, None].chunk(2, dim=1)
        y = F.silu(y * (scale + 1) + shift)
        y = norm(f"{name}.block2.norm", conv(f"{name}.block2.proj", y, padding=1))
        return F.silu(y) + (conv(f"{name}.res_conv", h) if f"{name}.res_conv.weight" in w else h)

    half = w["time_mlp.1.weight"].shape[1] // 2
    angle = time[:, None] * torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
    told = torch.cat([angle.sin(), angle.cos()], dim=1)
    told = F.gelu(F.linear(told, w["time_mlp.1.weight"], w["time_mlp.1.bias"]))
    told = F.linear(told, w["time_mlp.3.weight"], w["time_mlp.3.bias"])

    h = first = conv("init_conv", x, padding=3)
    kept = []
    for i in range(4):
        h = block(f"downs.{i}.1", block(f"downs.{i}.0", h))
        kept.append(h)
        if i < 3:
            h = conv(f"downs.{i}.2", h, stride=2, padding=1)
    h = block("mid_block2", block("mid_block1", h))
    for i in range(4):
        h = 0.5 * (h + kept.pop())
        h = block(f"ups.{i}.1", block(f"ups.{i}.0", h))
        if i < 3:
            name = f"ups.{i}.2"
            h = F.conv_transpose3d(h, w[f"{name}.weight"], w[f"{name}.bias"], stride=2, padding=1)
    return conv("final_conv", block("final_res_block", torch.cat([h, first], dim=1)))


def weights(width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for key, shape in shapes(width).items():
        noise = torch.randn(shape, generator=generator)
        norm = ".norm.weight" in key
        made[key] = 1 + 0.2 * noise if norm else noise / math.sqrt(max(1, noise[0].numel()))
    return made


def rip(image):
    """(..., R, A, S) to (..., R, I, P)."""
    return image.transpose(-1, -2).flip(-2, -1)


def ras(image):
    """(..., R, I, P) to (..., R, A, S)."""
    return image.flip(-2, -1).transpose(-1, -2)


def published_input(x_t, mr):
    """Noisy CT, MR and ramps over axes R, I, P, all (1, 1, *S) on those axes."""
    lines = [torch.linspace(0, 1, n) for n in mr.shape[2:]]
    ramps = [line[None, None] for line in torch.meshgrid(*lines, indexing="ij")]
    return torch.cat([x_t, mr, *ramps], dim=1)


def saved(path, tensors, prefix="generator.", **more):
    torch.save({prefix + key: value for key, value in tensors.items()} | more, path)
    return path


def compare(folder, w, size, time):
    """Our denoiser on R, A, S and theirs on R, I, P agree to 1e-4 of the largest value."""
    method = load_bundle(folder).method
    x, mr = (torch.randn(1, 1, *size) for _ in range(2))
    sigma = cosine_levels()[time].float()
    inputs = published_input(rip(x / (1 + sigma**2).sqrt()), rip(mr))
    condition = torch.cat([mr, ras(inputs[:, 2:])], dim=1)
    with torch.no_grad():
        theirs = ras(forward(w, inputs, torch.tensor([float(time)])))
        ours = method.denoise(x, sigma, condition)
    assert theirs.std() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())


def test_keys_and_shapes_are_those_of_the_publication():
    published = shapes()
    assert len(published) == 224
    assert sum(math.prod(shape) for shape in published.values()) == 87_307_841


@pytest.mark.parametrize("time", [0, 500, 960])
def test_a_turned_network_gives_the_turned_answer(tmp_path, time):
    """Three different sizes, so that no axis can be taken for another."""
    w = weights(8)
    file = saved(tmp_path / "file.pt", w)
    folder = import_graf2023(file, tmp_path / "bundle", sampler="graf2023", width=8)
    compare(folder, w, (16, 24, 40), time)


@pytest.mark.slow
def test_the_full_size_too(tmp_path):
    w = weights(64)
    file, folder = saved(tmp_path / "file.pt", w), tmp_path / "bundle"
    words = ["models", "import", str(file), "--format", "graf2023", "--sampler", "graf2023"]
    done = CliRunner().invoke(app, [*words, "-o", str(folder)])
    assert done.stdout == f"{folder}\n"
    compare(folder, w, (8, 16, 24), 960)


def test_a_volume_is_translated_as_published(tmp_path):
    """Scaling, ramps, times, sampler with its sign, HU: the whole way against a loop on R, I, P."""
    w = weights(8)
    file = saved(tmp_path / "file.pt", w)
    bundle = load_bundle(import_graf2023(file, tmp_path / "b", sampler="graf2023", width=8))
    size = bundle.card.preprocessing.tile
    assert size == (32, 128, 128)
    data = np.random.default_rng(0).gamma(2, 100, size).astype(np.float32)
    out = translate(
        Volume(data, np.eye(4), "mr"), bundle, mode="sample", steps=2, device="cpu",
        precision="fp32",
    )  # fmt: skip

    noise = [rip(torch.from_numpy(NoiseField(0).box((0, 0, 0), size, draw=0, step=i))[None, None])
             for i in range(2)]  # fmt: skip
    mr = rip(torch.from_numpy(data / data.max())[None, None]) * 2 - 1
    abar = (1 / (1 + cosine_levels() ** 2)).tolist()
    x = noise[0]
    with torch.no_grad():
        x0 = forward(w, published_input(x, mr), torch.tensor([500.0]))
        a, then = abar[500], abar[0]
        wrong = (math.sqrt(a) * x0 - x) / math.sqrt(1 - a)
        c1 = math.sqrt((1 - then) / (1 - a) * (1 - a / then))
        x = math.sqrt(then) * x0 + math.sqrt(1 - then - c1**2) * wrong + c1 * noise[1]
        x0 = forward(w, published_input(x, mr), torch.tensor([0.0]))
    wanted = 1000 * ras(x0)[0, 0].clamp(-1, 1).numpy()
    assert wanted.std() > 50
    # The driver lays tensors channels last, where torch sums a group norm in single precision.
    np.testing.assert_allclose(out.ct.data, wanted, atol=5)


# --- what is refused, and what the card says -------------------------------------------------


def test_the_card_says_what_a_user_must_know(tmp_path):
    folder = import_graf2023(saved(tmp_path / "f.pt", weights(8)), tmp_path / "b", width=8)
    card = read_card(folder)
    assert card.modes == ("sample", "mc")
    assert card.channels == "max_ramps_rip"
    settings = card.preprocessing
    assert (settings.hu_low, settings.hu_high, settings.spacing_mm) == (-1000, 1000, 1)
    assert not settings.flip_average
    assert "8221159" in card.licence
    assert any("group norms" in limit for limit in card.limits)
    assert (card.config["sampler"], card.config["steps"], card.config["eta"]) == (
        "ancestral", 25, 1.0,
    )  # fmt: skip
    assert card.training.data["copy"] == "generator"
    assert card.dtype == "float32"
    method = load_bundle(folder).method
    assert method.modes == ("sample", "mc")


@pytest.mark.parametrize(
    ("prefix", "copy"),
    [("generator.", "generator"), ("diffusion_net.generator.", "generator"),
     ("ema.online_model.", "ema.online_model")],
)  # fmt: skip
def test_the_live_network_is_found_wherever_it_stands(tmp_path, prefix, copy):
    w = weights(8)
    file = saved(tmp_path / "f.pt", w, prefix)
    folder = import_graf2023(file, tmp_path / "b", width=8)
    assert read_card(folder).training.data["copy"] == copy
    stored = load_bundle(folder).method.state_dict()["network.out.weight"]
    assert torch.equal(stored, w["final_conv.weight"])


def both(path, initted, step):
    """The network, and an average of other values."""
    average = {f"ema.ema_model.{k}": v for k, v in weights(8, seed=1).items()}
    state = {"ema.initted": torch.tensor([initted]), "ema.step": torch.tensor([step])}
    return saved(path, weights(8), **average, **state)


def test_an_average_is_taken_on_demand_and_only_if_it_was_updated(tmp_path):
    fresh = both(tmp_path / "fresh.pt", 1.0, 2000)
    folder = import_graf2023(fresh, tmp_path / "b", ema=True, width=8)
    stored = load_bundle(folder).method.state_dict()["network.out.weight"]
    assert torch.equal(stored, weights(8, seed=1)["final_conv.weight"])
    for initted, step in ((0.0, 0), (0.0, 50)):
        stale = both(tmp_path / "stale.pt", initted, step)
        with pytest.raises(BundleError, match="never updated"):
            import_graf2023(stale, tmp_path / "c", ema=True, width=8)
        import_graf2023(stale, tmp_path / "d", width=8)
    with pytest.raises(BundleError, match=r"ema\.initted missing"):
        import_graf2023(saved(tmp_path / "f.pt", weights(8)), tmp_path / "c", ema=True, width=8)
    alone = saved(tmp_path / "alone.pt", weights(8), "ema.ema_model.")
    with pytest.raises(BundleError, match="add --ema"):
        import_graf2023(alone, tmp_path / "c", width=8)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda w: w.pop("mid_block1.mlp.1.bias"), "missing: mid_block1.mlp.1.bias;"),
        (lambda w: w.update({"extra": torch.zeros(1)}), "unknown: extra;"),
        (
            lambda w: w.update({"downs.0.2.bias": torch.zeros(9)}),
            r"another shape: downs.0.2.bias \(9,\), not \(8,\)",
        ),
        (lambda w: w.update({"final_conv.bias": torch.tensor([torch.nan])}), "not finite"),
    ],
)
def test_tensors_of_another_network_are_refused_in_one_line(tmp_path, change, word):
    w = weights(8)
    change(w)
    with pytest.raises(BundleError, match=word) as caught:
        import_graf2023(saved(tmp_path / "f.pt", w), tmp_path / "b", width=8)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "b").exists()


class Mischief:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_file_with_code_is_refused_and_does_not_run(tmp_path):
    trap = tmp_path / "trap"
    plain = tmp_path / "plain.pkl"
    plain.write_bytes(pickle.dumps(Mischief(trap), protocol=2))
    torch.save({"generator.a": Mischief(trap)}, tmp_path / "zip.pt")
    (tmp_path / "text.pt").write_text("weights")
    (tmp_path / "empty.pt").write_bytes(b"")
    for name in ("plain.pkl", "zip.pt", "text.pt", "empty.pt"):
        with pytest.raises(InputError, match="tensors alone") as caught:
            import_graf2023(tmp_path / name, tmp_path / "b")
        assert "\n" not in str(caught.value)
    assert not trap.exists()
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(InputError, match="this is Tensor"):
        import_graf2023(tmp_path / "tensor.pt", tmp_path / "b")
    with pytest.raises(InputError, match="No such file"):
        import_graf2023(tmp_path / "gone.pt", tmp_path / "b")
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(BundleError, match=r"layer\.weight is not of generator"):
        import_graf2023(tmp_path / "other.pt", tmp_path / "b")


def test_the_command(tmp_path):
    """Errors in one line; options of import alone are refused elsewhere."""
    file = saved(tmp_path / "f.pt", weights(8))
    run = CliRunner()
    done = run.invoke(app, ["models", "import", str(file), "--format", "graf2023"])
    assert done.exit_code == 1  # the public file has 64 features, this one 8
    assert "another shape: time_mlp.1.weight (32, 8), not (256, 64)" in done.stderr
    assert run.invoke(app, ["models", "import", str(file)]).exit_code == 1
    done = run.invoke(app, ["models", "list", "--ema"])
    assert done.exit_code == 1
    assert "belong to spinect models import" in done.stderr
