"""Histogram distance against scipy; spectrum distance against a naive transform."""

import math

import numpy as np
import pytest
from scipy import ndimage, stats

from spinect.errors import ImageError
from spinect.evaluation.distribution import histogram, spectrum


@pytest.mark.parametrize("seed", range(3))
def test_histogram_equals_scipy(seed):
    rng = np.random.default_rng(seed)
    p, t = rng.normal(40, 300, (9, 8, 7)), rng.gumbel(0, 200, (9, 8, 7))
    mask = rng.random(t.shape) > 0.4
    expected = stats.wasserstein_distance(p[mask], t[mask])
    assert histogram(p, t, mask) == pytest.approx(expected, abs=1e-6)
    single = histogram(p.astype(np.float32), t.astype(np.float32), mask)
    assert single == pytest.approx(expected, abs=1e-4)


def test_histogram_of_shifted_and_shuffled_values():
    rng = np.random.default_rng(0)
    t = rng.normal(0, 100, (10, 11))
    assert histogram(t + 25, t) == pytest.approx(25)
    assert histogram(rng.permutation(t.ravel()).reshape(t.shape), t) == 0
    assert histogram(np.full_like(t, 3), np.full_like(t, -4)) == 7
    with pytest.raises(ImageError, match="empty"):
        histogram(t, t, np.zeros(t.shape, bool))


def naive(p, t, spacing):
    """The definition, frequency by frequency of the whole space."""
    shape = np.array(t.shape)
    tapers = [np.sin(np.pi * np.arange(1, n + 1) / (n + 1)) ** 2 for n in shape]
    window = tapers[0][:, None, None] * tapers[1][:, None] * tapers[2]
    length = (shape * spacing).max()
    powers = [{}, {}]
    for image, found in zip((p, t), powers, strict=True):
        power = np.abs(np.fft.fftn((image - image.mean()) * window)) ** 2
        for k in np.ndindex(*t.shape):
            signed = [i if 2 * i <= n else i - n for i, n in zip(k, shape, strict=True)]
            f = np.linalg.norm(np.array(signed) / (shape * spacing))
            shell = round(f * length - 1e-6)
            if 1 <= shell <= length / (2 * min(spacing)) + 1e-6:
                found.setdefault(shell, []).append(power[k])
    floor = (window**2).sum()
    decibel = [{k: 10 * np.log10(np.mean(v) + floor) for k, v in f.items()} for f in powers]
    return np.sqrt(np.mean([(decibel[0][k] - decibel[1][k]) ** 2 for k in decibel[1]]))


@pytest.mark.parametrize("shape", [(8, 9, 6), (13, 10, 7)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.6, 3.1)])
def test_spectrum_follows_its_definition(shape, spacing):
    rng = np.random.default_rng(1)
    p, t = rng.normal(0, 3, shape), ndimage.gaussian_filter(rng.normal(0, 300, shape), 1)
    ours = spectrum(p, t, np.ones(shape, bool), spacing)
    assert ours == pytest.approx(naive(p, t, spacing), abs=1e-6)


def test_spectrum_in_closed_cases():
    rng = np.random.default_rng(2)
    t = rng.normal(0, 1e4, (12, 14, 10))
    everywhere = np.ones(t.shape, bool)
    assert spectrum(t + 500, t, everywhere, 1.0) == pytest.approx(0, abs=1e-9)  # no mean
    assert spectrum(2 * t, t, everywhere, 1.0) == pytest.approx(20 * math.log10(2), abs=1e-5)
    assert spectrum(-t, t, everywhere, 1.0) == pytest.approx(0, abs=1e-9)
    assert spectrum(t[::-1], t, everywhere, 1.0) == pytest.approx(0, abs=1e-9)  # phases are free
    assert 60 < spectrum(t * 0 + 40, t, everywhere, 1.0) < 90  # 80 dB above the floor of 1 HU
    assert spectrum(t * 0 + 1, t * 0 - 1, everywhere, 1.0) == 0
    p = rng.normal(0, 1e4, t.shape)
    assert spectrum(p, t, everywhere, 0.3) == pytest.approx(spectrum(p, t, everywhere, 2.0))


def test_spectrum_looks_at_valid_voxels_of_the_box_alone():
    rng = np.random.default_rng(3)
    t = rng.normal(0, 100, (16, 16, 16))
    mask, valid = np.zeros(t.shape, bool), np.ones(t.shape, bool)
    mask[4, 4, 4], mask[11, 11, 11] = True, True
    p = t.copy()
    p[:4], p[5, 5, 5] = 3000, 3000
    valid[5, 5, 5] = False
    assert spectrum(p, t, mask, 1.0) > 1
    assert spectrum(p, t, mask, 1.0, valid) == pytest.approx(0, abs=1e-9)
    assert math.isnan(spectrum(p, t, mask, 1.0, valid & False))
    mask[4, 4, 4] = False
    assert math.isnan(spectrum(p, t, mask, 1.0))
    with pytest.raises(ImageError, match="empty"):
        spectrum(p, t, mask & False, 1.0)
