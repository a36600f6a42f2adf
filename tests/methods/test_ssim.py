"""Structural similarity as a loss, against torchmetrics."""

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from spinect.methods.ssim import ssim_loss

SIZES = {2: (40, 33), 3: (14, 17, 12)}


def pair(ndim, dtype=torch.float32):
    generator = torch.Generator().manual_seed(ndim)
    target = torch.rand(2, 1, *SIZES[ndim], generator=generator, dtype=dtype) * 2 - 1
    noise = torch.randn(target.shape, generator=generator, dtype=dtype)
    return (0.7 * target + 0.2 * noise).clamp(-1, 1), target


@pytest.mark.parametrize("ndim", [2, 3])
def test_it_is_torchmetrics_on_images_shifted_by_one(ndim):
    """Value and gradient, where everything is inside."""
    pred, target = pair(ndim, torch.float64)
    pred.requires_grad_()
    inside = torch.ones_like(target)
    ours = ssim_loss(pred, target, inside)
    theirs = 1 - structural_similarity_index_measure(pred + 1, target + 1, data_range=2.0)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    (grad,) = torch.autograd.grad(ours, pred)
    (expected,) = torch.autograd.grad(theirs, pred)
    torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("ndim", [2, 3])
def test_what_is_outside_does_not_matter(ndim):
    """Neither its value nor its gradient; the map's mean over the inside, air beyond it."""
    pred, target = pair(ndim)
    inside = torch.ones_like(target)
    inside[:, :, : SIZES[ndim][0] // 2] = 0
    pred.requires_grad_()
    loss = ssim_loss(pred, target, inside)
    other = torch.where(inside > 0, target, 0.77)
    torch.testing.assert_close(ssim_loss(pred, other, inside), loss, rtol=0, atol=0)
    loss.backward()
    assert (pred.grad[inside == 0] == 0).all()
    assert pred.grad[inside > 0].abs().max() > 0
    aired = [torch.where(inside > 0, image, -1.0).detach() + 1 for image in (pred, target)]
    _, similarity = structural_similarity_index_measure(
        *aired, data_range=2.0, return_full_image=True, reduction="none"
    )
    expected = 1 - similarity[inside > 0].mean()
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-4, atol=1e-6)


def test_equal_images_and_nothing_inside_cost_nothing():
    pred, target = pair(2)
    inside = torch.ones_like(target)
    assert ssim_loss(target, target, inside).item() == pytest.approx(0, abs=1e-6)
    assert ssim_loss(pred, target, 0 * inside).item() == 0
