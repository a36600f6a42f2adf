"""Hounsfield units and MR signal of tissues."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from spinect.phantom.anatomy import make_subject
from spinect.phantom.contrast import (
    bone_mask,
    ct_hu,
    ct_scan,
    draw_ct,
    draw_mr,
    draw_name,
    mr_signal,
    surface_shares,
    thick_shell,
)
from spinect.phantom.maps import Subject
from spinect.phantom.tissue_values import TISSUES
from spinect.phantom.tissues import Tissue as T

SIZE = (24, 24, 24)


def rng(seed=0):
    return np.random.default_rng(seed)


def torch_rng(seed=0):
    return torch.Generator().manual_seed(seed)


def person(trabecular=150.0, fat=0.45):
    return Subject(seed=1, age=55.0, sex="F", marrow_fat=fat, trabecular_hu=trabecular)


def block(tissue, distance=12.7):
    """A cube of one tissue; soft tissue lies far from bone, marrow deep inside."""
    deep = -distance if tissue in (T.MARROW, T.OTHER_MARROW, T.CORTEX) else distance
    return torch.full((1, *SIZE), int(tissue), dtype=torch.uint8), torch.full((1, *SIZE), deep)


def hu_of(tissue, subject=None, seed=0):
    cube, distance = block(tissue)
    recipe = draw_ct(subject or person(), rng(seed))
    thin = torch.zeros_like(cube, dtype=torch.bool)
    return ct_hu(cube, distance, [recipe], thick=thin, generator=torch_rng(seed))


def bone_sphere():
    """A ball of bone of radius 14 mm: tissue and exact signed distance."""
    at = torch.stack(torch.meshgrid(*[torch.arange(40.0)] * 3, indexing="ij")) - 19.6
    distance = (at.norm(dim=0) - 14).clamp(-12.7, 12.7)
    tissue = torch.where(distance < 0, int(T.MARROW), int(T.MUSCLE)).byte()
    return tissue[None], distance[None]


def test_every_tissue_has_a_row():
    assert set(TISSUES) == set(T)


@pytest.mark.parametrize("tissue", [T.FAT, T.MUSCLE, T.CSF, T.NUCLEUS, T.CORD, T.LIVER])
def test_soft_tissue_reads_its_table(tissue):
    means = [float(hu_of(tissue, seed=s).mean()) for s in range(12)]
    row = TISSUES[tissue]
    plain = [m for m in means if abs(m - row.hu) < 4 * row.hu_sd + 8]
    assert len(plain) >= (6 if tissue == T.LIVER else 12)  # contrast medium lifts the liver


def test_air_and_metal_are_exact():
    assert torch.allclose(hu_of(T.AIR), torch.tensor(-1000.0), atol=1e-3)
    assert torch.allclose(hu_of(T.METAL), torch.tensor(3000.0), atol=1e-2)


def test_marrow_reads_the_subject_and_has_texture():
    means = [float(hu_of(T.MARROW, person(hu), seed=3).mean()) for hu in (60.0, 150.0, 260.0)]
    np.testing.assert_allclose(means, (60, 150, 260), atol=12)
    assert 8 < float(hu_of(T.MARROW).std()) < 40


def test_bone_loses_hu_and_gains_fat_with_age():
    people = [make_subject(seed).subject for seed in range(60)]
    age = np.array([p.age for p in people])
    hu = np.array([p.trabecular_hu for p in people])
    fat = np.array([p.marrow_fat for p in people])
    assert -3.1 < np.polyfit(age, hu, 1)[0] < -1.3
    assert np.corrcoef(age, fat)[0, 1] > 0.5
    assert np.corrcoef(hu, fat)[0, 1] < -0.3


def test_outer_layer_of_a_body_reads_the_measured_quartiles():
    """Real vertebrae read 220-570 HU there, posterior elements more than bodies."""
    tissue, distance = bone_sphere()
    layer = (distance < 0) & (distance > -1.5)
    values = []
    for seed in range(24):
        subject = person(trabecular=float(rng(seed).uniform(60, 180)))
        thick = torch.full_like(tissue, seed % 2 == 0, dtype=torch.bool)  # half is posterior
        recipe = draw_ct(subject, rng(seed))
        hu = ct_hu(tissue, distance, [recipe], thick=thick, generator=torch_rng(seed))
        values.append(hu[layer])
    low, high = torch.cat(values).quantile(torch.tensor([0.25, 0.75])).tolist()
    assert 170 < low < 320
    assert 450 < high < 680


def test_batch_members_do_not_mix():
    tissue, distance = bone_sphere()
    recipes = [draw_ct(person(hu), rng(1)) for hu in (80.0, 240.0)]
    hu = ct_hu(
        tissue.repeat(2, 1, 1, 1),
        distance.repeat(2, 1, 1, 1),
        recipes,
        thick=torch.zeros(2, *tissue.shape[1:], dtype=torch.bool),
        generator=torch_rng(),
    )
    deep = distance[0] < -6
    assert float(hu[0][deep].mean()) == pytest.approx(80, abs=15)
    assert float(hu[1][deep].mean()) == pytest.approx(240, abs=15)


def test_contrast_works_on_slices():
    tissue, distance = bone_sphere()
    tissue, distance = tissue[:, 20], distance[:, 20]
    thin = torch.zeros_like(tissue, dtype=torch.bool)
    hu = ct_hu(tissue, distance, [draw_ct(person(), rng())], thick=thin, generator=torch_rng())
    assert hu.shape == (1, 40, 40)
    recipe = draw_mr("T1w", person(), rng())
    water, fat = mr_signal(tissue, distance, [recipe], thick=thin, generator=torch_rng())
    assert water.shape == fat.shape == (1, 40, 40)


def test_ct_scan_adds_noise_of_the_stated_strength():
    clean = torch.zeros(1, 30, 30, 30)
    spreads = [float(ct_scan(clean, rng(s), torch_rng(s)).std()) for s in range(20)]
    assert 14 < np.median(spreads) < 41
    assert abs(float(ct_scan(clean, rng(1), torch_rng(1)).mean())) < 5


def test_surface_shares_are_those_of_a_gaussian():
    distance = torch.linspace(-4, 4, 81)
    inner, sigma = torch.full_like(distance, 0.7), 0.5
    shell, beyond = surface_shares(distance, inner, 0.2, sigma)
    exact = norm.cdf((distance + 0.7) / sigma) - norm.cdf((distance - 0.2) / sigma)
    np.testing.assert_allclose(shell, exact, atol=0.02)
    np.testing.assert_allclose(beyond, norm.cdf((distance - 0.2) / sigma), atol=0.01)


def image_of(name, tissue, seed=0, subject=None):
    """Mean composed signal of one tissue."""
    cube, distance = block(tissue)
    thin = torch.zeros_like(cube, dtype=torch.bool)
    recipe = draw_mr(name, subject or person(), rng(seed))
    water, fat = mr_signal(cube, distance, [recipe], thick=thin, generator=torch_rng(seed))
    return float((water - fat if recipe.opposed else water + fat).abs().mean())


@pytest.mark.parametrize(
    ("name", "brighter", "darker"),
    [
        ("T1w", T.FAT, T.MARROW),
        ("T1w", T.MARROW, T.CSF),
        ("T1w", T.FAT, T.MUSCLE),
        ("T2w", T.CSF, T.MARROW),
        ("T2w", T.FAT, T.MUSCLE),
        ("T2w", T.CSF, T.CORD),
        ("T2w", T.MARROW, T.LIGAMENT),
        ("STIR", T.CSF, T.FAT),
        ("STIR", T.CSF, T.MARROW),
        ("STIR", T.MUSCLE, T.FAT),
        ("water", T.MUSCLE, T.FAT),
        ("water", T.CSF, T.MARROW),
        ("water", T.MUSCLE, T.MARROW),
        ("fat", T.FAT, T.MUSCLE),
        ("inphase", T.FAT, T.GAS),
        ("PDw", T.FAT, T.LIGAMENT),
        ("PDw", T.NUCLEUS, T.ANNULUS),
        ("T2starw", T.CSF, T.CORD),
        ("T2starw", T.NUCLEUS, T.MARROW),
        ("T2starw", T.MUSCLE, T.MARROW),
    ],
)
def test_order_of_tissues_in_each_contrast(name, brighter, darker):
    wins = sum(image_of(name, brighter, s) > image_of(name, darker, s) for s in range(12))
    assert wins >= 9


def test_fatty_marrow_is_brighter_on_t1_and_darker_on_water():
    lean, fatty = person(fat=0.25), person(fat=0.60)
    for seed in range(6):
        t1 = [image_of("T1w", T.MARROW, seed, p) for p in (lean, fatty)]
        water = [image_of("water", T.MARROW, seed, p) for p in (lean, fatty)]
        assert t1[1] > t1[0]
        assert water[1] < water[0]


def test_cortex_is_a_dark_rim_around_the_bone():
    tissue, distance = bone_sphere()
    thick = torch.ones_like(tissue, dtype=torch.bool)
    recipe = draw_mr("T1w", person(), rng(2))
    water, fat = mr_signal(tissue, distance, [recipe], thick=thick, generator=torch_rng())
    image = water + fat
    rim = image[(distance > -0.6) & (distance < 0)].mean()
    assert rim < 0.7 * image[distance < -4].mean()


def test_contrasts_are_drawn_as_often_as_the_recipe_says():
    generator = rng()
    names = [draw_name(generator) for _ in range(4000)]
    shares = {n: names.count(n) / 4000 for n in set(names)}
    assert shares["T2w"] == pytest.approx(0.30, abs=0.03)
    assert shares["T1w"] == pytest.approx(0.20, abs=0.03)
    assert shares["STIR"] == pytest.approx(0.12, abs=0.03)
    assert shares["random"] == pytest.approx(0.25, abs=0.03)
    assert set(shares) == {"T1w", "T2w", "STIR", "random", "water", "fat", "inphase", "opposed"}
    dixon = sum(shares[n] for n in ("water", "fat", "inphase", "opposed"))
    assert dixon == pytest.approx(0.13, abs=0.03)


def test_masks_of_bone_and_thick_shells():
    tissue = torch.tensor([T.MARROW, T.CORTEX, T.OTHER_MARROW, T.MUSCLE], dtype=torch.uint8)
    assert bone_mask(tissue).tolist() == [True, True, True, False]
    subregions = torch.tensor([50, 42, 0, 0], dtype=torch.uint8)
    assert thick_shell(tissue, subregions).tolist() == [False, True, True, False]
