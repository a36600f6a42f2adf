"""A phantom for methods that are to learn it by heart, and noise for those that are not."""

import pytest
import torch

from spinect.geometry.resample import resample
from spinect.phantom.pair import make_pair
from spinect.protocols import Batch


@pytest.fixture(scope="session")
def lessons():
    """Paired batches of one phantom: MR by its maximum, HU / 1000, at 1 mm."""
    pair = make_pair(42, "lumbar", ("T2w",))
    mr = torch.from_numpy(resample(pair.mr["T2w"], pair.truth.grid).data.copy()).float()
    ct = (torch.from_numpy(pair.truth_ct.data.copy()) / 1000).clamp(-1, 1).float()
    return lambda ndim: cut(mr / mr.max(), ct, ndim)


def cut(mr, ct, ndim):
    """Eight sagittal slices of 128 x 128 mm, or one block of 16 x 64 x 32 mm and its ramps."""
    middle = len(mr) // 2
    if ndim == 2:
        part = slice(middle - 16, middle + 16, 4), slice(20, 148), slice(90, 218)
        mr, ct = mr[part][:, None], ct[part][:, None]
    else:
        part = slice(middle - 8, middle + 8), slice(40, 104), slice(120, 152)
        mr, ct = mr[part][None, None], ct[part][None, None]
        lines = [torch.linspace(0, 1, n) for n in mr.shape[2:]]
        ramps = torch.stack(torch.meshgrid(*lines, indexing="ij"))[None]
        mr = torch.cat([mr, ramps], dim=1)
    return Batch(condition=mr, inside=torch.ones_like(ct), target=ct)


@pytest.fixture(scope="session")
def batch_for():
    """A paired batch of noise in the shape that a method takes, a fifth of it outside."""

    def made(method, count=2, size=32):
        generator = torch.Generator().manual_seed(1)
        shape = [size] * method.ndim
        condition = torch.rand(count, method.in_channels, *shape, generator=generator)
        target = torch.rand(count, 1, *shape, generator=generator) * 2 - 1
        inside = (torch.rand(count, 1, *shape, generator=generator) > 0.2).float()
        return Batch(condition=condition, inside=inside, target=target)

    return made
