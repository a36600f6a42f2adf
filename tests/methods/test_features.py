"""The feature loss: closed values, and whom its gradient reaches."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from spinect.errors import ConfigError
from spinect.methods.features import feature_loss
from spinect.methods.registry import build
from spinect.protocols import Batch

RESIDUAL = {"channels": (8, 12), "blocks": (1, 1), "decoder_blocks": (1,), "head": 8}


@pytest.mark.parametrize("ndim", [2, 3])
def test_equal_images_and_other_lengths_give_nothing(ndim):
    """A vector counts by its direction; a cell without features equals itself."""
    made = [torch.randn(2, 5, *[4] * ndim), torch.randn(2, 7, *[2] * ndim)]
    made[0][:, :, 0] = 0
    inside = torch.ones(2, 1, *[8] * ndim)
    assert feature_loss(made, [each.clone() for each in made], inside) == 0
    longer = [3 * each for each in made]
    assert feature_loss(made, longer, inside) == pytest.approx(0, abs=1e-7)


def test_the_value_of_a_few_cells():
    """Tap 1: (3, 4) / 5 against (1, 0) in a whole cell, and (0, 1) against (1, 0) in a quarter.

    Their mean errors are (0.4 + 0.8) / 2 and (1 + 1) / 2. Tap 2: (-2,) against (5,) everywhere.
    """
    made = torch.tensor([[3.0, 0.0], [4.0, 2.0]]).view(1, 2, 1, 2)
    true = torch.tensor([[9.0, 1.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    inside = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0]]).view(1, 1, 2, 4)
    first = (1 * 0.6 + 0.25 * 1.0) / 1.25
    other = torch.full((1, 1, 2, 4), -2.0), torch.full((1, 1, 2, 4), 5.0)
    assert feature_loss([made], [true], inside).item() == pytest.approx(first)
    both = feature_loss([made, other[0]], [true, other[1]], inside)
    assert both.item() == pytest.approx((first + 2) / 2)


def test_gradients_are_finite_where_there_are_no_features():
    made = torch.zeros(1, 3, 2, 2, requires_grad=True)
    feature_loss([made], [torch.randn(1, 3, 2, 2)], torch.ones(1, 1, 4, 4)).backward()
    assert made.grad.isfinite().all()
    assert feature_loss([made], [made], torch.zeros(1, 1, 4, 4)) == 0  # nothing is known


class Eyes:
    """Two taps of a frozen convolution."""

    def __init__(self, ndim):
        torch.manual_seed(1)
        self.conv = getattr(torch.nn, f"Conv{ndim}d")(1, 4, 3, padding=1).requires_grad_(False)

    def __call__(self, ct):
        fine = self.conv(ct).relu()
        return [fine, fine[..., ::2, ::2].cos() if ct.ndim == 4 else fine[..., ::2, ::2, ::2].cos()]


def regression(ndim, weight=0.5):
    torch.manual_seed(0)
    weights = {"features": weight, "l1": 0, "gradient": 0}
    fields = {"ndim": ndim, "heads": ("ct",), "network": RESIDUAL, "weights": weights}
    return build("regression", fields)


def batch_of(ndim):
    torch.manual_seed(2)
    condition = torch.rand(2, 3, *[8] * ndim)
    inside = (torch.rand(2, 1, *[8] * ndim) > 0.2).float()
    return Batch(condition=condition, inside=inside, target=condition[:, :1] * 2 - 1)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_term_is_the_loss_of_both_images_with_air_around_them(ndim):
    method, batch = regression(ndim), batch_of(ndim)
    method.features = eyes = Eyes(ndim)
    ((part, loss),) = method.losses(batch)
    made = method._outputs(batch.condition)["ct"]
    images = [torch.where(batch.inside > 0, image, -1.0) for image in (made, batch.target)]
    expected = 0
    for a, b in zip(*map(eyes, images), strict=True):
        weight = F.interpolate(batch.inside, a.shape[2:], mode="area")
        unit = [x / x.norm(dim=1, keepdim=True).clamp(min=1e-6) for x in (a, b)]
        error = (unit[0] - unit[1]).abs() * weight
        expected += error.sum() / (4 * weight.sum()) / 2
    assert part == "network"
    torch.testing.assert_close(method.terms["features"], expected.detach())
    torch.testing.assert_close(loss, 0.5 * expected)


def test_gradients_reach_the_method_and_never_the_frozen_network():
    method = regression(2)
    method.features = eyes = Eyes(2)
    ((_, loss),) = method.losses(batch_of(2))
    loss.backward()
    grads = [p.grad for p in method.network.parameters() if p.grad is not None]
    assert any(g.abs().max() > 0 for g in grads)
    assert all(p.grad is None for p in eyes.conv.parameters())


def test_what_is_outside_changes_nothing():
    method, batch = regression(2), batch_of(2)
    method.features = Eyes(2)
    other = replace(batch, target=torch.where(batch.inside > 0, batch.target, 0.7))
    losses = [next(method.losses(each))[1] for each in (batch, other)]
    assert losses[0] > 0
    assert losses[0] == losses[1]


def test_a_method_that_holds_a_network_does_not_own_it():
    plain, method = regression(2), regression(2)
    method.features = Eyes(2)
    assert method.state_dict().keys() == plain.state_dict().keys()
    assert len(list(method.parameters())) == len(list(plain.parameters()))
    condition = batch_of(2).condition
    assert torch.equal(method.predict(condition), plain.predict(condition))


def test_a_weight_without_a_network_or_a_ct_is_refused():
    with pytest.raises(
        ConfigError, match=r"features is 0.5, but no frozen .* set features: {bundle"
    ):
        next(regression(2).losses(batch_of(2)))
    with pytest.raises(ConfigError, match="compares CTs: it needs the head ct"):
        build("segmentation", {"weights": {"features": 1.0}})
    assert regression(2, weight=0).features is None
