"""Losses against closed forms; what is known in part counts for what it says."""

import math

import pytest
import torch
import torch.nn.functional as F

from spinect.anatomy import (
    CLASS_NOT_VERTEBRA,
    CLASS_UNKNOWN,
    CLASS_VERTEBRA,
    CLASSES,
    VERTEBRA_CLASSES,
)
from spinect.errors import LabelError
from spinect.methods.losses import (
    centre_loss,
    class_losses,
    gradient_loss,
    l1_loss,
    l2_loss,
    offset_loss,
)
from spinect.methods.registry import build
from spinect.protocols import Batch

COUNT = len(CLASSES)


@pytest.fixture(autouse=True)
def _same_labels_every_time():
    torch.manual_seed(0)


def image(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_l1_is_a_weighted_mean():
    """Weights 1 and 4, errors 1 and 0.5: (1 + 4 * 0.5) / 5."""
    pred, target = torch.tensor([[1.0, 0.5]]), torch.zeros(1, 2)
    assert l1_loss(pred, target, torch.tensor([[1.0, 4.0]])).item() == pytest.approx(0.6)


def test_l2_is_a_weighted_mean():
    """Weights 1 and 4, errors 1 and 0.5: (1 + 4 * 0.25) / 5."""
    pred, target = torch.tensor([[1.0, 0.5]]), torch.zeros(1, 2)
    assert l2_loss(pred, target, torch.tensor([[1.0, 4.0]])).item() == pytest.approx(0.4)


@pytest.mark.parametrize(("weights", "expected"), [((1, 0), -1.0), ((0, 1), -0.4)])
def test_of_two_values_l1_learns_the_median_and_l2_the_mean(weights, expected):
    """A blank MR whose CT is air in 7 of 10 images and bone in 3: -1, or 0.3 - 0.7."""
    torch.manual_seed(0)
    network = {"channels": (4,), "blocks": (0,), "decoder_blocks": (), "head": 4}
    l1, l2 = weights
    fields = {"l1": l1, "l2": l2, "near_bone": 1, "gradient": 0}
    method = build(
        "regression",
        {"ndim": 2, "in_channels": 1, "heads": ["ct"], "network": network, "weights": fields},
    )
    values = torch.tensor([-1.0] * 7 + [1.0] * 3).reshape(10, 1, 1, 1)
    target = values.expand(10, 1, 4, 4)
    batch = Batch(torch.zeros(10, 1, 4, 4), torch.ones(10, 1, 4, 4), target)
    optimiser = torch.optim.Adam(method.parameters(), 2e-2)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 1e-3, total_iters=400)
    for _ in range(400):
        optimiser.zero_grad()
        ((_, loss),) = method.losses(batch)
        loss.backward()
        optimiser.step()
        decay.step()
    middle = method.predict(batch.condition[:1])
    torch.testing.assert_close(middle, torch.full_like(middle, expected), rtol=0, atol=0.02)
    assert set(method.terms) == ({"l1", "gradient"} | ({"l2"} if l2 else set()))


def test_gradient_loss_of_a_ramp():
    """An error that rises by 0.25 per voxel along one axis and by 0.5 along another."""
    grid = torch.meshgrid(torch.arange(5.0), torch.arange(4.0), torch.arange(3.0), indexing="ij")
    pred = (0.25 * grid[0] - 0.5 * grid[2])[None, None] + 7
    loss = gradient_loss(pred, torch.zeros_like(pred), torch.ones_like(pred))
    assert loss.item() == pytest.approx(0.75)


def test_gradient_loss_ignores_pairs_across_the_edge_of_view():
    """A jump between inside and outside is no error."""
    pred = torch.zeros(1, 1, 6, 6)
    pred[..., 3:] = 100
    inside = torch.zeros(1, 1, 6, 6)
    inside[..., :3] = 1
    assert gradient_loss(pred, torch.zeros_like(pred), inside).item() == 0


def test_cross_entropy_equals_torchs_where_all_is_known():
    """Exact labels inside; what is outside does not count."""
    logits, labels = image(2, COUNT, 4, 4, 4), torch.randint(0, COUNT, (2, 4, 4, 4))
    inside = (image(2, 1, 4, 4, 4, seed=1) > 0).double()
    ours, _ = class_losses(logits, labels.to(torch.uint8), inside)
    masked = torch.where(inside[:, 0] > 0, labels, -1)
    theirs = F.cross_entropy(logits, masked, ignore_index=-1)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("label", "allowed"),
    [
        (CLASS_VERTEBRA, set(VERTEBRA_CLASSES)),
        (CLASS_NOT_VERTEBRA, set(range(COUNT)) - set(VERTEBRA_CLASSES)),
    ],
)
def test_partial_labels_sum_what_they_allow(label, allowed):
    """-ln of the sum of the allowed probabilities; of equal logits, ln(10 / number allowed)."""
    labels = torch.full((1, 3, 3), label, dtype=torch.uint8)
    inside = torch.ones(1, 1, 3, 3)
    even, _ = class_losses(torch.zeros(1, COUNT, 3, 3), labels, inside)
    assert even.item() == pytest.approx(math.log(COUNT / len(allowed)), rel=1e-6)
    logits = image(1, COUNT, 3, 3)
    found, _ = class_losses(logits, labels, inside)
    p = logits.softmax(dim=1)[:, sorted(allowed)].sum(dim=1)
    torch.testing.assert_close(found, -p.log().mean())


def test_no_gradient_among_the_allowed_classes():
    """A voxel that surely is a vertebra learns nothing about which part of it."""
    logits = torch.full((1, COUNT, 1, 1), -40.0, dtype=torch.float64)
    logits[:, 2], logits[:, 5] = 1.0, 0.0
    logits.requires_grad_()
    label = torch.full((1, 1, 1), CLASS_VERTEBRA, dtype=torch.uint8)
    sum(class_losses(logits, label, torch.ones(1, 1, 1, 1))).backward()
    assert logits.grad.abs().max() < 1e-12


def test_dice_by_hand():
    """Three classes and "any vertebra" in four voxels, probabilities written out."""
    p = torch.full((1, COUNT, 4), 1e-30, dtype=torch.float64)
    p[0, 2] = torch.tensor([0.8, 0.5, 0.0, 0.1]).clamp(min=1e-30)
    p[0, 8] = torch.tensor([0.1, 0.5, 0.6, 0.0]).clamp(min=1e-30)
    p[0, 0] = 1 - p[0, 2] - p[0, 8]
    labels = torch.tensor([[2, 3, 8, CLASS_VERTEBRA]], dtype=torch.uint8)
    _, loss = class_losses(p.log()[..., None], labels[..., None], torch.ones(1, 1, 4, 1))
    body = 2 * 0.8 / (0.8 + 0.5 + 0.0 + 1)  # exact labels only
    arcus = 0.0  # there, and not found
    disc = 2 * 0.6 / (0.1 + 0.5 + 0.6 + 1)
    vertebra = 2 * (0.8 + 0.5 + 0.1) / (0.8 + 0.5 + 0.0 + 0.1 + 3)
    assert loss.item() == pytest.approx(1 - (body + arcus + disc + vertebra) / 4, rel=1e-6)


def test_a_sure_and_right_answer_costs_nothing_and_a_wrong_one_much():
    """Both bounds of Dice, and the cross-entropy of a logit gap of 20."""
    labels = torch.randint(0, COUNT, (1, 8, 8), dtype=torch.uint8)
    right = 40 * F.one_hot(labels.long(), COUNT).movedim(-1, 1).double()
    inside = torch.ones(1, 1, 8, 8)
    assert sum(class_losses(right, labels, inside)).item() == pytest.approx(0, abs=1e-6)
    entropy, dice = class_losses(right.roll(1, dims=1), labels, inside)
    assert entropy.item() == pytest.approx(40, rel=1e-6)
    assert dice.item() > 0.85  # only "any vertebra" is sometimes right


def test_class_gradient_is_the_derivative():
    """The written-out backward pass against finite differences, with every kind of label."""
    kinds = torch.tensor([*range(COUNT), CLASS_NOT_VERTEBRA, CLASS_VERTEBRA, CLASS_UNKNOWN])
    labels = kinds[torch.randint(0, len(kinds), (2, 3, 4))].to(torch.uint8)
    inside = torch.ones(2, 1, 3, 4)
    inside[0, 0, 0] = 0
    logits = image(2, COUNT, 3, 4).requires_grad_()
    torch.autograd.gradcheck(lambda z: class_losses(z, labels, inside), (logits,))


def test_pieces_make_no_difference(monkeypatch):
    """The sums do not depend on how many voxels are taken at once."""
    logits, labels = image(1, COUNT, 9, 9), torch.randint(0, COUNT, (1, 9, 9), dtype=torch.uint8)
    inside = torch.ones(1, 1, 9, 9)
    whole = class_losses(logits, labels, inside)
    monkeypatch.setattr("spinect.methods.losses._CPU_PIECE", 7)
    torch.testing.assert_close(class_losses(logits, labels, inside), whole)


def test_nothing_known_costs_nothing():
    """Every label unknown, or nothing inside: zero loss, zero gradient, no NaN."""
    logits = image(1, COUNT, 4, 4).requires_grad_()
    labels = torch.full((1, 4, 4), CLASS_UNKNOWN, dtype=torch.uint8)
    sum(class_losses(logits, labels, torch.ones(1, 1, 4, 4))).backward()
    assert logits.grad.abs().max() == 0
    nothing = torch.zeros(1, 1, 4, 4)
    assert sum(class_losses(logits, labels * 0, nothing)).item() == 0
    assert offset_loss(image(1, 3, 4, 4), image(1, 3, 4, 4), nothing).item() == 0
    assert centre_loss(image(1, 1, 4, 4), image(1, 1, 4, 4).sigmoid(), nothing, 50).item() == 0


def test_an_impossible_label_is_refused():
    """Class 10 is one too many."""
    with pytest.raises(LabelError, match="0-9"):
        class_losses(
            torch.zeros(1, COUNT, 1, 1),
            torch.full((1, 1, 1), 10, dtype=torch.uint8),
            torch.ones(1, 1, 1, 1),
        )


@pytest.mark.parametrize("ndim", [2, 3])
def test_centre_loss_is_least_at_the_heatmap(ndim):
    """The gradient vanishes where the sigmoid is the target averaged over each cell."""
    target = image(1, 1, *[8] * ndim).sigmoid()
    pool = F.avg_pool2d if ndim == 2 else F.avg_pool3d
    logits = pool(target, 2).logit().requires_grad_()
    centre_loss(logits, target, torch.ones_like(target), 50.0).backward()
    assert logits.grad.abs().max() < 1e-6
    assert centre_loss(logits + 1, target, torch.ones_like(target), 50.0) > centre_loss(
        logits, target, torch.ones_like(target), 50.0
    )


@pytest.mark.parametrize("ndim", [2, 3])
def test_offset_loss_counts_where_there_is_a_vertebra(ndim):
    """A shift of (0.1, 0.2, 0.3) costs 0.6 wherever the truth is finite, nothing elsewhere."""
    target = torch.full((1, 3, *[8] * ndim), torch.nan)
    target[:, :, 2:5] = 0.5
    shift = torch.tensor([0.1, 0.2, 0.3]).reshape(1, 3, *[1] * ndim)
    pred = (0.5 + shift).expand(1, 3, *[4] * ndim).clone().requires_grad_()
    loss = offset_loss(pred, target, torch.ones(1, 1, *[8] * ndim))
    assert loss.item() == pytest.approx(0.6, rel=1e-5)
    loss.backward()
    assert pred.grad.isfinite().all()
    assert (pred.grad[:, :, 3] == 0).all()
    assert (pred.grad[:, :, 1] != 0).all()
