"""SynDiff: what trains what, the penalty's beat, no leak between modalities, draws."""

import contextlib

import pytest
import torch
from torch import nn

from spinect.errors import BundleError, ConfigError
from spinect.methods import syndiff
from spinect.methods.registry import build
from spinect.methods.translate import translate
from spinect.protocols import Batch

SMALL = {
    "generator": {"width": 8, "multiples": (1, 1), "blocks": 1, "attention": 1, "mapped": 16},
    "translator": {"width": 4, "blocks": 1},
    "noise_critic": {"width": 4, "halvings": 3},
    "patch_critic": {"width": 4, "halvings": 1},
}


def made(seed=0, **fields):
    torch.manual_seed(seed)
    return build("syndiff", SMALL | fields)


def images(seed, count=2, size=16):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(count, 1, size, size, generator=generator) - 1


def batch(mr=1, ct=2, count=2):
    """MR and CT of other patients, all of them known."""
    there = torch.ones(count, 1, 16, 16)
    return Batch(images(mr, count), there, images(ct, count), there)


def run(method, data, seed=3):
    """Losses and terms by part, without any step."""
    torch.manual_seed(seed)
    found = {}
    for part, loss in method.losses(data):
        found[part] = loss.item(), {name: term.item() for name, term in method.terms.items()}
    return found


def test_the_published_networks_have_their_parameters():
    with torch.device("meta"):
        method = build("syndiff", {})

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert [count(part) for part in method.generators.values()] == [
        39_725_250,
        39_725_250,
        7_825_153,
        7_825_153,
    ]
    assert [count(part) for part in method.noise_critics.values()] == [27_736_705] * 2
    assert [count(part) for part in method.patch_critics.values()] == [2_762_689] * 2
    assert method.divisor == 32


def test_losses_and_weights_are_those_published():
    """Names and order of the parts; their losses are the weighted sums of the terms."""
    method = made()
    found = run(method, batch())
    assert list(found) == ["noise_critics", "patch_critics", "generators"]
    weights = {"r1": 0.5, "l1": 0.5, "cycle": 0.5}
    for loss, terms in found.values():
        total = sum(weights.get(name.split("_")[0], 1.0) * term for name, term in terms.items())
        assert loss == pytest.approx(total, rel=1e-5)
    names = [sorted(terms) for _, terms in found.values()]
    assert names[0] == sorted(
        f"{n}_{m}" for n in ("noise_real", "noise_fake", "r1") for m in ("ct", "mr")
    )
    assert names[1] == sorted(f"patch_{n}_{m}" for n in ("real", "fake") for m in ("ct", "mr"))
    assert names[2] == sorted(
        f"{n}_{m}" for n in ("fool_noise", "fool_patch", "l1", "cycle") for m in ("ct", "mr")
    )


def test_it_starts_where_it_should():
    """Undecided critics of noise, ln 2 each; generators at 0, so that L1 is the mean of |x|."""
    found = run(made(), batch())
    for name in ("noise_real_ct", "noise_fake_ct", "noise_real_mr", "noise_fake_mr"):
        assert found["noise_critics"][1][name] == pytest.approx(0.693, abs=0.03)
    expected = images(2).abs().mean().item()
    assert found["generators"][1]["l1_ct"] == pytest.approx(expected, rel=1e-3)


def test_no_term_compares_mr_with_ct():
    """Each loss is f(MR) + g(CT): L(a, b) + L(c, d) = L(a, d) + L(c, b), whatever the images."""
    values = {}
    for pair in ((1, 2), (5, 6), (1, 6), (5, 2)):
        method = made()
        torch.manual_seed(0)
        for name, parameter in method.named_parameters():  # no longer undecided
            nn.init.normal_(parameter, 0.0, 0.2 if "noise_critics" in name else 0.05)
        data = batch(*pair)
        values[pair] = {part: loss for part, (loss, _) in run(method, data).items()}
    for part in made().parts:
        straight = values[1, 2][part] + values[5, 6][part]
        crossed = values[1, 6][part] + values[5, 2][part]
        assert straight == pytest.approx(crossed, abs=2e-6), part
        assert abs(values[1, 2][part] - values[1, 6][part]) > 1e-4  # it does see the CT
        assert abs(values[1, 2][part] - values[5, 2][part]) > 1e-4  # and the MR


def test_what_is_outside_does_not_train():
    """Another MR outside its mask, another CT outside its own: the same losses."""
    data = batch()
    seen, known = torch.ones(2, 1, 16, 16), torch.ones(2, 1, 16, 16)
    seen[..., :5], known[:, :, 9:] = 0, 0
    values = []
    for other in (0.3, -0.8):
        mr = torch.where(seen > 0, data.condition, other)
        ct = torch.where(known > 0, data.target, other)
        values.append(run(made(), Batch(mr, seen, ct, target_inside=known)))
    assert values[0] == values[1]
    everywhere = run(made(), data)
    assert everywhere["generators"][1]["l1_ct"] != values[0]["generators"][1]["l1_ct"]


def test_a_paired_batch_is_taken_as_well():
    """Its mask is that of both."""
    data = batch()
    data.inside[..., :4] = 0
    ct = torch.where(data.inside > 0, data.target, 0.9)
    paired = run(made(), Batch(data.condition, data.inside, data.target))
    assert run(made(), Batch(data.condition, data.inside, ct)) == paired


def test_detached_fakes_change_no_update_of_the_critics(monkeypatch):
    """The published code lets the gradients run into the generators and clears them there."""
    found = []
    for detached in (True, False):
        method, data = made(), batch()
        torch.manual_seed(0)
        grads = []
        if not detached:
            monkeypatch.setattr(torch, "no_grad", contextlib.nullcontext)
        for part, loss in method.losses(data):
            method.zero_grad()
            loss.backward()
            if part != "generators":
                held = method.get_submodule(part).parameters()
                grads.append(torch.cat([p.grad.flatten() for p in held]))
            reached = any(p.grad is not None for p in method.generators.parameters())
            assert reached == (not detached or part == "generators")
        found.append(grads)
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


class Linear(nn.Module):
    """Score = <w, x_k> + <v, x_{k+1}>."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2 * size * size))

    def forward(self, x, _):
        return (x.flatten(1) @ self.weight)[:, None]


def test_the_penalty_of_a_linear_critic_is_its_squared_weights():
    """By x_k alone; and its gradient by the weights is that of finite differences."""
    method = made()
    method.noise_critics["ct"] = Linear(16)
    first = method.noise_critics["ct"].weight[:256]
    terms = run(method, batch())["noise_critics"][1]
    assert terms["r1_ct"] == pytest.approx(first.square().sum().item(), rel=1e-5)


def test_the_penalty_s_gradient_is_that_of_finite_differences():
    """Of one layer and a bend, so that the second derivative is not trivial."""

    class Bent(Linear):
        def forward(self, x, step):
            return torch.tanh(0.05 * super().forward(x, step))

    method = made().double()
    critic = method.noise_critics["ct"] = Bent(16).double()
    near, far = images(1).double(), images(2).double()
    step = torch.tensor([0, 2])

    def penalty():
        return method._penalty("ct", near, far, step)

    (slope,) = torch.autograd.grad(penalty(), critic.weight)
    for index in (3, 77, 300):
        around = []
        for sign in (1, -1):
            critic.weight.data[index] += sign * 1e-5
            around.append(penalty().item())
            critic.weight.data[index] -= sign * 1e-5
        assert slope[index].item() == pytest.approx((around[0] - around[1]) / 2e-5, rel=1e-5)


def test_the_penalty_comes_every_tenth_update():
    """From the first one on, also when micro-batches run side by side, and after a resume."""
    method = made(r1_every=3)
    due = []
    for update in range(7):
        if update == 4:
            state, method = method.state_dict(), made(seed=1, r1_every=3)
            method.load_state_dict(state)
        streams = [method.losses(batch(1 + micro)) for micro in range(2)]
        seen = []
        for stage in range(3):
            for stream in streams:
                next(stream)
                if stage == 0:
                    seen.append("r1_ct" in method.terms)
        for stream in streams:
            assert next(stream, None) is None
        assert seen[0] == seen[1]
        due.append(seen[0])
    assert due == [True, False, False, True, False, False, True]
    assert made().config.r1_every == 10


def test_draws_of_an_oracle_are_the_truth():
    """A denoiser that knows the image: the chain ends there, whatever the noise."""
    method, truth = made(), images(4, size=12)
    out = method.sample(lambda *_: truth, torch.empty(2, 1, 12, 12), None, torch.randn_like)
    assert torch.equal(out, truth)


def test_the_style_is_one_for_all_tiles_of_a_step_and_follows_the_seed():
    """The head of a field of its own; a volume has one style, a batch of images one each."""
    method = made()
    seen, asked = [], []

    def randn(like):
        asked.append(torch.randn(like.shape, generator=torch.Generator().manual_seed(len(asked))))
        return asked[-1]

    def generator(x, step, style):
        seen.append((step, style))
        return torch.zeros(len(x), 2, *x.shape[2:])

    method.generators["ct"].forward = generator

    def denoise(x, sigma):  # two tiles in one call, a third in another
        for tiles in (x.expand(2, -1, -1, -1), x):
            method.denoise(tiles, sigma, torch.zeros_like(tiles))
        return torch.zeros_like(x)

    method.sample(denoise, torch.empty(1, 1, 12, 12), 4, randn)
    assert [len(style) for _, style in seen] == [2, 1] * 4
    # Fields 0: the start; then style and fresh noise by turns; the last step adds no noise.
    assert len(asked) == 1 + 4 + 3
    for at, (step, style) in enumerate(seen):
        assert (step == 3 - at // 2).all()
        expected = asked[1 + 2 * (at // 2)].flatten()[:100]
        torch.testing.assert_close(style, expected.expand(len(style), 100))
    method.denoise(torch.zeros(1, 1, 8, 8), method.chain.levels[0], torch.zeros(1, 1, 8, 8))
    assert seen[-1][1].abs().max() == 0  # outside a draw
    small = torch.empty(3, 1, 4, 4)  # fewer numbers than a style: several fields
    assert syndiff._head(small, 100, torch.randn_like).shape == (3, 100)


def test_noise_enters_as_ddpm_scales_it():
    """The network sees unit noise first, then x_{k+1} / sqrt(1 + sigma**2), the MR beside it."""
    method = made(mr_range=(0.0, 1.5), in_channels=3)
    seen = []

    def generator(x, *_):
        seen.append(x)
        return torch.zeros(len(x), 2, *x.shape[2:])

    method.generators["ct"].forward = generator
    condition = torch.rand(1, 3, 200, 200) * 1.5
    torch.manual_seed(0)
    translate(method, condition, mode="sample")
    assert len(seen) == 4
    for x in seen:
        torch.testing.assert_close(x[:, 1:], condition[:, :1] / 0.75 - 1)
    spreads = [x[:, 0].std().item() for x in seen]  # x0 = 0: the marginals of the chain
    assert spreads == pytest.approx([1, 0.998284, 0.959856, 0.691560], rel=0.02)


def test_only_its_own_number_of_steps():
    method = made()
    like = torch.empty(1, 1, 8, 8)
    with pytest.raises(ConfigError, match="5 steps: this network learnt the 4 steps"):
        method.sample(lambda x, _: x, like, 5, torch.randn_like)
    with pytest.raises(BundleError, match="sample"):
        method.predict(like)


def test_wrong_batches_are_refused():
    """No CT; an MR that is not where it should be; patches that are too small."""
    data = batch()
    with pytest.raises(ConfigError, match="no CT"):
        next(made().losses(Batch(data.condition, data.inside)))
    far = Batch(1.4 * data.condition.abs(), data.inside, data.target)
    with pytest.raises(ConfigError, match=r"set method.mr_range .* \[0, 1.5\] for robust3"):
        next(made().losses(far))
    next(made(mr_range=[0, 1.5]).losses(far))
    with pytest.raises(ConfigError, match="until 32 voxels"):
        next(made(noise_critic={"halvings": 5}).losses(data))
    with pytest.raises(ConfigError, match="mr_range must rise"):
        made(mr_range=[1, 1])


def test_the_lean_method_answers_alike_and_cannot_be_trained():
    """A bundle holds the CT's diffusive generator alone."""
    method, lean = made(), made(seed=1, inference_only=True)
    state = method.state_dict()
    lean.load_state_dict({key: state[key] for key in lean.state_dict()})
    assert {key.split(".")[1] for key in lean.state_dict()} == {"ct"}
    assert lean.divisor == method.divisor
    drawn = []
    for one in (method, lean):
        torch.manual_seed(5)
        drawn.append(translate(one, images(1), mode="sample"))
    assert torch.equal(*drawn)
    with pytest.raises(ConfigError, match="inference_only"):
        next(lean.losses(batch()))


@pytest.mark.parametrize("count", [1, 5])
def test_blank_images_and_odd_batches_stay_finite(count):
    """Instance norm of nothing, groups of one."""
    method = made()
    there = torch.ones(count, 1, 16, 16)
    data = Batch(-there, there, -there)
    for _, loss in method.losses(data):
        method.zero_grad()
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
