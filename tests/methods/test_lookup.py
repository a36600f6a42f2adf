"""The baselines: what they answer, and what training makes of them."""

import numpy as np
import pytest
import torch

from spinect.errors import ConfigError
from spinect.methods.registry import build
from spinect.protocols import Batch


def trained(config, grey, ct, weight=None, updates=3000):
    """Knots after training on pairs of grey value and CT, all in one batch."""
    torch.manual_seed(0)
    method = build("lookup", {"in_channels": 1, "ndim": 2, **config})
    shape = (1, 1, 1, len(grey))
    grey, ct = (torch.as_tensor(a, dtype=torch.float32).reshape(shape) for a in (grey, ct))
    near = None if weight is None else torch.as_tensor(weight, dtype=torch.float32).reshape(shape)
    batch = Batch(grey, torch.ones(shape), target=ct, near_bone=near)
    optimiser = torch.optim.Adam(method.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates)
    for _ in range(updates):
        optimiser.zero_grad()
        ((_, loss),) = method.losses(batch)
        loss.backward()
        optimiser.step()
        schedule.step()
    return method


def test_one_bin_converges_to_the_median():
    """Not to the mean, which lies far off for skewed values."""
    rng = np.random.default_rng(0)
    ct = (rng.exponential(0.3, 501) - 0.8).clip(-1, 1)
    assert abs(np.median(ct) - ct.mean()) > 0.05
    method = trained({"bins": 1}, rng.uniform(0, 1.5, 501), ct)
    assert method.network.knots.numel() == 1
    out = method.predict(torch.rand(2, 1, 3, 4))
    assert out.shape == (2, 1, 3, 4)
    torch.testing.assert_close(out, torch.full_like(out, float(np.median(ct))), atol=2e-3, rtol=0)


def test_knots_converge_to_the_conditional_medians():
    """Grey values on the knots: each knot is the median of its own voxels."""
    rng = np.random.default_rng(1)
    place = rng.integers(0, 4, 800)
    ct = (rng.exponential(0.2, 800) + 0.3 * place - 0.9).clip(-1, 1)
    method = trained({"bins": 4}, place * 0.5, ct)
    medians = [float(np.median(ct[place == k])) for k in range(4)]
    found = method.predict(torch.tensor([0, 0.5, 1, 1.5]).reshape(1, 1, 1, 4)).flatten()
    torch.testing.assert_close(found, torch.tensor(medians), atol=5e-3, rtol=0)


@pytest.mark.parametrize(("weight", "median"), [(4.0, 0.5), (2.0, -0.5)])
def test_voxels_near_bone_count_more(weight, median):
    """Three voxels of -0.5 against one near bone: the median goes where more weight lies."""
    ct, near = [-0.5, -0.5, -0.5, 0.5], [0, 0, 0, 1]
    method = trained({"bins": 1, "near_bone": weight}, [0, 0, 0, 0], ct, near)
    found = method.predict(torch.zeros(1, 1, 1, 1)).item()
    assert found == pytest.approx(median, abs=0.01)


def test_between_knots_the_table_is_linear_and_beyond_them_flat():
    method = build("lookup", {"in_channels": 2, "bins": 3, "low": -1.0, "high": 1.0})
    with torch.no_grad():
        method.network.knots.copy_(torch.tensor([-0.8, 0.4, 0.6]) / 10)
    x = torch.tensor([-5.0, -1, -0.5, 0, 0.25, 1, 9])
    condition = torch.stack([x, torch.rand(7)]).reshape(1, 2, 1, 1, 7)  # the second is not seen
    found = method.predict(condition).flatten()
    expected = np.interp(x.numpy(), [-1, 0, 1], [-0.8, 0.4, 0.6])
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-6)


def test_a_table_the_wrong_way_round_is_refused():
    with pytest.raises(ConfigError, match=r"low 2\.0 is not below high 1\.0"):
        build("lookup", {"low": 2.0, "high": 1.0})


def test_it_learns_from_pairs_only():
    method = build("lookup", {"in_channels": 1})
    batch = Batch(torch.zeros(1, 1, 2, 2, 2), torch.ones(1, 1, 2, 2, 2))
    with pytest.raises(ConfigError, match="no CT"):
        next(method.losses(batch))
