"""The scanner against closed formulas."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spinect.phantom.fields import along, blur_axis, interpolation, smooth_field, smoothing
from spinect.phantom.scanner import (
    Saturation,
    Scan,
    Window,
    acquire,
    back_skin,
    draw_scan,
    shifted,
    slice_centres,
    store,
    upsample,
)

# Nothing but slices: no coil, shift, blur, noise or windowing to speak of.
PLAIN = Scan(
    spacing=4.0,
    thickness=4.0,
    resolution=(0.2, 0.2),
    fat_shift=0.0,
    coil_depth=1e9,
    coil_variation=0.0,
    snr=1e9,
    window=Window(levels=10**7),
)


def torch_rng(seed=0):
    return torch.Generator().manual_seed(seed)


def scanned(water, scan, fat=None, skin=0.0, seed=0):
    fat = torch.zeros_like(water) if fat is None else fat
    return acquire(water, fat, scan, skin=skin, generator=torch_rng(seed))


def random_image(shape=(40, 24, 28), seed=0):
    return torch.rand(shape, generator=torch_rng(seed))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_average_and_keep_the_mean(axis):
    image = random_image((40, 40, 40)) + 0.5
    scan = replace(PLAIN, slice_axis=axis, upsample=False)
    slices = scanned(image, scan)
    assert slices.shape[axis] == 10
    assert slices.numel() == image.numel() // 4
    ratio = slices.mean() / slices.max() * float(slices.max() > 0)
    assert ratio > 0
    back = scanned(image, replace(scan, upsample=True))
    assert back.shape == image.shape
    # Stored values are relative to the top: undo it with the known mean.
    assert float(back.mean() / slices.mean()) == pytest.approx(1, rel=0.02)
    other = tuple(a for a in range(3) if a != axis)
    inner = slices.mean(other)[1:-1]
    assert float(inner.std() / inner.mean()) < 0.05


def test_thick_slices_of_white_noise_have_less_variance():
    image = random_image((80, 20, 20)) + 1
    spread = [
        float(x.std() / x.mean())
        for x in (scanned(image, replace(PLAIN, spacing=s, thickness=s)) for s in (1.0, 5.0))
    ]
    assert spread[1] < 0.6 * spread[0]


def test_slice_centres_are_centred_and_jitter_alternates():
    centres = slice_centres(80, 1.0, PLAIN)
    assert centres.mean() == pytest.approx(39.5)
    np.testing.assert_allclose(np.diff(centres), 4)
    jittered = slice_centres(80, 1.0, replace(PLAIN, jitter=1.0)) - centres
    np.testing.assert_allclose(jittered[::2], -0.5)
    np.testing.assert_allclose(jittered[1::2], 0.5)


@pytest.mark.parametrize("kernel", ["linear", "cubic"])
def test_upsampling_restores_a_ramp(kernel):
    centres = slice_centres(40, 1.0, PLAIN)
    ramp = torch.from_numpy(centres / 40).float()[:, None, None].expand(-1, 3, 3).contiguous()
    full = upsample(ramp, 40, replace(PLAIN, kernel=kernel), 1.0)
    inner = slice(6, 34)
    np.testing.assert_allclose(full[inner, 0, 0], np.arange(40)[inner] / 40, atol=1e-5)


def test_fat_moves_and_water_stays():
    water, fat = torch.zeros(8, 30, 30), torch.zeros(8, 30, 30)
    water[:, 8, 15], fat[:, 20, 15] = 1, 1
    scan = replace(PLAIN, spacing=1.0, thickness=1.0, fat_shift=3.0, fat_axis=0)
    image = scanned(water, scan, fat)[4]
    assert image[:, 15].topk(2).indices.sort().values.tolist() == [8, 23]


@pytest.mark.parametrize("voxels", [-2.0, 0.3, 1.7])
def test_shift_moves_the_centre_of_mass_by_its_fraction(voxels):
    line = torch.zeros(1, 41)
    line[0, 20] = 1
    moved = shifted(line, voxels, 1)
    assert float((moved * torch.arange(41)).sum()) == pytest.approx(20 + voxels, abs=1e-5)


def test_opposed_phase_is_dark_where_water_equals_fat():
    water, fat = torch.ones(8, 20, 20), torch.zeros(8, 20, 20)
    fat[:, :, 10:] = 1.0
    image = scanned(water, replace(PLAIN, spacing=1.0, thickness=1.0, opposed=True), fat)
    assert image[:, :, 14:].max() < 0.01
    assert image[:, :, :6].min() > 0.9


def test_coil_falls_by_e_over_its_depth():
    scan = replace(PLAIN, coil_depth=50.0, coil_floor=0.0)
    image = scanned(torch.ones(8, 120, 20), scan, skin=10.0)
    assert float(image[4, 90, 10] / image[4, 40, 10]) == pytest.approx(math.exp(-1), rel=1e-3)
    assert float(image[4, 5, 10] / image[4, 10, 10]) == pytest.approx(1)


def test_saturation_darkens_what_lies_in_front():
    band = Saturation(depth_mm=60.0, edge_mm=3.0, factor=0.1)
    image = scanned(torch.ones(8, 120, 20), replace(PLAIN, saturation=band))
    assert float(image[4, 100, 10] / image[4, 20, 10]) == pytest.approx(0.1, rel=0.02)


def test_air_has_the_floor_of_rician_noise():
    """Magnitude of complex noise: mean sigma sqrt(pi / 2), SD sigma sqrt(2 - pi / 2)."""
    image = torch.zeros(20, 60, 60)
    image[:, :30] = 1
    scan = replace(PLAIN, spacing=1.0, thickness=1.0, snr=10.0, upsample=False)
    scan = replace(scan, window=Window(levels=10**7, clipped=0.25))  # 1 is about the signal
    stored = scanned(image, scan)
    air = stored[:, 34:]
    assert float(air.mean() / air.std()) == pytest.approx(
        math.sqrt(math.pi / 2) / math.sqrt(2 - math.pi / 2), rel=0.03
    )
    body = stored[:, :26]
    assert float(air.mean()) == pytest.approx(0.1 * math.sqrt(math.pi / 2), rel=0.15)
    assert body.max() <= 1


def test_window_has_floor_clip_gamma_and_grey_levels():
    ramp = torch.linspace(0, 1, 1001)
    stored = store(ramp, Window(floor=0.125, clipped=0.1, gamma=1.0, levels=255))
    assert float(stored[0]) == pytest.approx(32 / 255)
    assert float((stored == 1).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal((stored * 255).round() / 255, stored)
    assert (stored.diff() >= 0).all()
    bent = store(ramp, Window(gamma=2.0, levels=10**7))
    torch.testing.assert_close(bent, ramp**2, atol=1e-4, rtol=0)


def test_frames_are_constant_planes():
    scan = replace(PLAIN, frames=((1, 0), (2, 1)))
    image = scanned(random_image(), scan)
    assert image[:, 0].min() == image[:, 0].max() == 1
    assert image[:, :, -1].min() == 1
    assert image[:, 5].std() > 0


def test_ghosts_and_wrap_put_signal_into_air():
    body = torch.zeros(8, 60, 40)
    body[:, 45:] = 1
    clean = scanned(body, PLAIN)
    ghosts = scanned(body, replace(PLAIN, ghost=0.2, fat_axis=1))
    wrapped = scanned(body, replace(PLAIN, wrap_mm=10.0, fat_axis=1))
    assert clean[:, :40].max() < 1e-3
    assert ghosts[:, :40].max() > 0.05
    assert wrapped[:, :8].min() > 0.2


def test_back_skin_is_the_first_body_voxel():
    tissue = torch.zeros(30, 50, 40, dtype=torch.uint8)
    tissue[:, 13:] = 3
    assert back_skin(tissue) == 13
    assert back_skin(torch.zeros_like(tissue)) == 0


def test_drawn_scans_follow_the_recipe():
    rng = np.random.default_rng(0)
    scans = [draw_scan("T2w", rng) for _ in range(1500)]

    def share(check):
        return sum(map(check, scans)) / len(scans)

    assert share(lambda s: s.slice_axis == 0) == pytest.approx(0.7, abs=0.04)
    assert share(lambda s: s.saturation is not None) == pytest.approx(0.4, abs=0.04)
    assert share(lambda s: s.kernel == "linear") == pytest.approx(0.5, abs=0.04)
    assert all(0.9 <= s.spacing <= 5 and 0.8 <= s.thickness / s.spacing <= 1 for s in scans)
    assert all(5 <= s.snr <= 60 and s.jitter <= 1 for s in scans)
    assert not any(draw_scan("water", rng).saturation for _ in range(50))


@pytest.mark.parametrize("kind", ["gaussian", "box", "sinc"])
def test_smoothing_rows_sum_to_one(kind):
    matrix = smoothing(np.linspace(-3, 33, 12), 30, 2.5, kind)
    torch.testing.assert_close(matrix.sum(1), torch.ones(12))


def test_operators_act_along_their_axis():
    x = random_image((5, 6, 7))
    matrix = torch.rand(4, 6, generator=torch_rng(1))
    torch.testing.assert_close(along(x, matrix, 1), torch.einsum("ij,ajb->aib", matrix, x))
    torch.testing.assert_close(
        along(x, interpolation([0.5, 2.25], 7), 2)[..., 1], 0.75 * x[..., 2] + 0.25 * x[..., 3]
    )
    flat = blur_axis(torch.ones(3, 9), 1.5, 1)
    torch.testing.assert_close(flat, torch.ones(3, 9))


def test_smooth_fields_have_unit_variance_and_their_length():
    field = smooth_field((64, 64, 64), 4.0, torch_rng(), batch=3)
    assert field.shape == (3, 64, 64, 64)
    assert float(field.std()) == pytest.approx(1, abs=0.05)
    line = field.flatten(0, 2)
    near = float((line[:, 1:] * line[:, :-1]).mean())
    far = float((line[:, 12:] * line[:, :-12]).mean())
    assert near > 0.7
    assert abs(far) < 0.1
