"""The history of fakes that a critic is shown."""

import pytest
import torch

from spinect.methods.gan import ImagePool


def numbered(first, count):
    """Images that are told apart by their value."""
    return torch.arange(first, first + count, dtype=torch.float32).reshape(-1, 1, 1, 1)


def test_it_fills_up_before_it_exchanges():
    """What comes while there is room is returned as it came; never more than `size` are kept."""
    torch.manual_seed(0)
    pool = ImagePool(5)
    assert torch.equal(pool(numbered(0, 3)), numbered(0, 3))
    assert torch.equal(pool(numbered(3, 2)), numbered(3, 2))
    for start in range(5, 40, 5):
        pool(numbered(start, 5))
        assert len(pool.images) == 5


def test_half_of_what_it_returns_is_older():
    """2000 coins within 3 standard deviations; an exchanged image is stored, and none twice."""
    torch.manual_seed(0)
    pool = ImagePool(50)
    pool(numbered(0, 50))
    given = numbered(50, 2000)
    out = pool(given)
    share = (out != given).float().mean().item()
    assert share == pytest.approx(0.5, abs=3 * (0.25 / 2000) ** 0.5)
    everything = torch.cat([out, torch.stack(pool.images)]).flatten().sort().values
    assert torch.equal(everything, torch.arange(2050.0))


def test_what_it_returns_has_no_graph_and_is_not_the_givers():
    """A later change in place of the given images leaves the stored ones alone."""
    pool = ImagePool(2)
    given = torch.zeros(2, 1, 4, 4, requires_grad=True)
    out = pool(given * 1)
    assert not out.requires_grad
    assert out.grad_fn is None
    with torch.no_grad():
        given += 7
    assert all((image == 0).all() for image in pool.images)


def test_its_images_are_state_in_training_alone():
    """A restored pool goes on as the first would have; in evaluation there is nothing to keep."""
    pool, other = ImagePool(4), ImagePool(4)
    pool(torch.randn(4, 2, 3, 3))
    other.load_state_dict(pool.state_dict())
    later = torch.randn(6, 2, 3, 3)
    torch.manual_seed(1)
    expected = pool(later)
    torch.manual_seed(1)
    assert torch.equal(other(later), expected)
    assert not any(value.is_floating_point() for value in pool.state_dict().values())
    assert [value.numel() for value in pool.eval().state_dict().values()] == [0]
    other.load_state_dict(pool.state_dict())
    assert other.images == []
