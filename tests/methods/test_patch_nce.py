"""Contrast of patches: closed formulas, torch's cross-entropy, and where places may lie."""

import math

import pytest
import torch
import torch.nn.functional as F

from spinect.methods.patch_nce import TEMPERATURE, draw_positions, inside_at, patch_nce

TAU = TEMPERATURE


def unit(*shape, seed=0):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return F.normalize(x, dim=-1)


def nce(query, key, valid=None, temperature=TAU):
    valid = torch.ones(query.shape[:2], dtype=torch.bool) if valid is None else valid
    return patch_nce(query, key, valid, temperature)


def test_orthonormal_rows():
    """Own key at cosine 1, all others at 0: log(1 + (P - 1) exp(-1 / tau))."""
    rows = torch.eye(64)[None]
    expected = math.log1p(63 * math.exp(-1 / TAU))
    assert expected == pytest.approx(3.94e-5, rel=1e-3)
    assert nce(rows, rows).item() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("places", [64, 256])
def test_equal_vectors(places):
    """Nothing tells them apart: log P. The same for vectors of length 0."""
    rows = unit(1, 1, 32).expand(2, places, 32)
    torch.testing.assert_close(nce(rows, rows), torch.full((2,), math.log(places)))
    torch.testing.assert_close(nce(0 * rows, rows), torch.full((2,), math.log(places)))


def test_random_unit_vectors():
    """In 256 dimensions cosines have variance 1 / 256: about log P + 1 / (2 256 tau**2)."""
    values = nce(unit(8, 256, 256), unit(8, 256, 256, seed=1))
    assert values.mean().item() == pytest.approx(5.89, abs=0.05)


def test_it_is_the_cross_entropy_of_the_cosines():
    """Of each image, with the diagonal as the label."""
    query, key = unit(2, 50, 16), unit(2, 50, 16, seed=1)
    logits = query @ key.transpose(1, 2) / 0.2
    expected = [F.cross_entropy(one, torch.arange(50)) for one in logits]
    torch.testing.assert_close(nce(query, key, None, 0.2), torch.stack(expected), rtol=1e-6, atol=0)


def test_images_do_not_mix():
    """A batch is its images, whatever stands beside them; the order of places does not matter."""
    query, key = unit(3, 40, 8), unit(3, 40, 8, seed=1)
    together = nce(query, key)
    alone = torch.cat([nce(query[i : i + 1], key[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(nce(query[:, order], key[:, order]), together)
    assert (nce(query[:, order], key) - together).abs().min() > 1e-3


def test_the_key_gets_no_gradient():
    query, key = unit(1, 9, 4).requires_grad_(), unit(1, 9, 4, seed=1).requires_grad_()
    nce(query, key).sum().backward()
    assert query.grad.abs().max() > 0
    assert key.grad is None


def test_rows_that_are_no_places_do_not_count():
    """As if they were not there, with their gradients; an image without places gives 0."""
    query, key = unit(2, 12, 8).requires_grad_(), unit(2, 12, 8, seed=1)
    valid = torch.zeros(2, 12, dtype=torch.bool)
    valid[0, [1, 4, 5, 9]] = True
    values = nce(query, key, valid)
    kept = nce(query[:1, valid[0]], key[:1, valid[0]])
    torch.testing.assert_close(values[0], kept[0])
    assert values[1] == 0
    values.sum().backward()
    assert query.grad.isfinite().all()
    assert query.grad[~valid].abs().max() == 0
    assert query.grad[0, valid[0]].abs().min() > 0


def test_places_of_a_whole_image_are_shared_and_fresh():
    """No place twice; the same in all images; others in the next call; at most what there are."""
    inside = torch.ones(3, 1, 8, 8)
    sizes = [torch.Size((8, 8)), torch.Size((4, 4))]
    torch.manual_seed(0)
    first, second = draw_positions(inside, sizes, 20), draw_positions(inside, sizes, 20)
    for (places, valid), count in zip(first, (20, 16), strict=True):
        assert places.shape == valid.shape == (3, count)
        assert valid.all()
        assert places[0].unique().numel() == count
        assert torch.equal(places[0], places[2])
    assert not torch.equal(first[0][0], second[0][0])
    torch.manual_seed(0)
    assert torch.equal(draw_positions(inside, sizes, 20)[0][0], first[0][0])


def test_places_lie_inside_and_everywhere_inside():
    """Uniform over what is inside: each of 24 places in about every third draw of 8."""
    inside = torch.zeros(2, 1, 6, 8)
    inside[0, 0, :, 2:6] = 1  # 24 places
    inside[1, 0, 0, :3] = 1  # 3 places, fewer than wanted
    hits = torch.zeros(2, 48)
    torch.manual_seed(0)
    for _ in range(600):
        ((places, valid),) = draw_positions(inside, [torch.Size((6, 8))], 8)
        assert valid.sum(dim=1).tolist() == [8, 3]
        for image in range(2):
            hits[image, places[image, valid[image]]] += 1
    mask = inside.flatten(1) > 0
    assert hits[~mask].max() == 0
    assert hits[0][mask[0]].min() > 150
    assert hits[0][mask[0]].max() < 250
    assert (hits[1][mask[1]] == 600).all()


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_tap_of_another_size_knows_what_is_inside(ndim):
    """Coarser: by the middle of each cell. Padded: nothing in the border."""
    half = torch.zeros(1, 1, *[8] * ndim)
    half[:, :, :4] = 1
    assert inside_at(half, torch.Size([2] * ndim)).flatten().tolist() == (
        [True] * 2 ** (ndim - 1) + [False] * 2 ** (ndim - 1)
    )
    padded = inside_at(half, torch.Size([14] * ndim))
    inner = (0, *[slice(3, 11)] * ndim)
    assert torch.equal(padded[inner], half[0, 0] > 0)
    assert padded.sum() == half.sum()
