"""What tissues look like: Hounsfield units in CT, water and fat signal in MR.

All functions work on batches (B, *S) with two or three spatial axes, on any device.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spinect.phantom.fields import blur, smooth_field
from spinect.phantom.maps import Subject
from spinect.phantom.tissue_values import BONE, TISSUES
from spinect.phantom.tissues import PELVIC
from spinect.phantom.tissues import Tissue as T
from spinect.phantom.withheld import WITHHELD, WithheldName

ContrastName = (
    Literal["T1w", "T2w", "STIR", "water", "fat", "inphase", "opposed", "random"] | WithheldName
)
_SPINAL: Final = len(T) - len(PELVIC)  # tissues whose values come from a subject's first draws
_SOFT_TEXTURE_HU: Final = 6.0  # low-frequency SD within soft tissue
_TRABECULAR_TEXTURE: Final = (14.0, 16.0)  # HU, SD of the coarse (shared with MR) and fine texture
_SHELL_SPREAD: Final = 0.4  # SD of the logarithm of the shell's thickness over one bone
_SHELL_MM: Final = 8.0  # correlation length of that
_OUTSIDE_BONE_HU: Final = 20.0  # soft tissue seen through the surface of a bone voxel
CONV_SIGMA_MM: Final = 0.4  # part of the PSF that is a convolution; the rest is analytic at bone


@dataclass(frozen=True)
class CtRecipe:
    """What a CT of one subject looks like; `draw_ct` makes one."""

    hu: tuple[float, ...]  # per tissue
    body_shell_mm: float  # thickness of the cortical shell of the body
    posterior_shell_mm: float
    psf_fwhm_mm: float


@dataclass(frozen=True)
class MrRecipe:
    """One contrast with its drawn values; `draw_mr` makes one. MR signal of CSF or fat is 1."""

    name: ContrastName
    water: tuple[float, ...]  # signal of the pure water of each tissue
    fat: float  # signal of pure fat
    fat_fraction: tuple[float, ...]  # per tissue
    opposed: bool  # fat is subtracted and the magnitude taken
    rim_inside_mm: tuple[float, float]  # dark cortex: body, posterior elements
    rim_outside_mm: float  # periosteum and ligament drawn into the dark rim
    blotch: float  # SD of the marrow's fat fraction
    blotch_mm: float  # their correlation length
    texture: float  # relative SD of every tissue, low frequency
    grain: float  # relative SD of every tissue but liquor and discs, over grain_mm
    grain_mm: float
    disc_spread: float  # how far discs differ from each other


def _drawn(
    rng: np.random.Generator, draw: Callable[[np.random.Generator, int], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """One number for each tissue; those of a pelvis are drawn aside.

    A tissue that is added must not change what a seed gives for the spine.
    """
    aside = copy.deepcopy(rng).spawn(1)[0]
    return np.concatenate([draw(rng, _SPINAL), draw(aside, len(PELVIC))])


def draw_ct(subject: Subject, rng: np.random.Generator) -> CtRecipe:
    """Tissue values and resolution of one CT of `subject`."""
    means, spreads = (np.array([getattr(TISSUES[t], k) for t in T]) for k in ("hu", "hu_sd"))
    hu = means + spreads * _drawn(rng, lambda r, n: r.standard_normal(n))
    if rng.random() < 0.35:  # contrast medium
        arterial = rng.uniform(120, 250)
        hu[T.ARTERY], hu[T.VEIN] = arterial, arterial * rng.uniform(0.5, 0.95)
        hu[T.KIDNEY], hu[T.LIVER] = rng.uniform(110, 190), rng.uniform(80, 120)
        hu[T.HEART] = arterial * rng.uniform(0.6, 0.9)
    hu[T.MARROW] = subject.trabecular_hu
    hu[T.OTHER_MARROW] = 0.7 * subject.trabecular_hu + rng.normal(0, 20)
    hu[T.CORTEX] = hu[T.OTHER_CORTEX] = rng.uniform(1200, 1800)
    hu[T.COMPACT] = np.clip(hu[T.COMPACT], 1050, 1350)
    hu[T.HIP_MARROW] = np.clip(hu[T.HIP_MARROW], 170, 280)
    return CtRecipe(
        hu=tuple(hu.tolist()),
        body_shell_mm=rng.uniform(0.25, 0.45),
        posterior_shell_mm=rng.uniform(0.4, 0.9),
        psf_fwhm_mm=rng.uniform(1.1, 1.8),
    )


def ct_hu(
    tissue: Tensor,
    bone_distance_mm: Tensor,
    recipes: Sequence[CtRecipe],
    *,
    thick: Tensor,
    generator: torch.Generator,
    spacing_mm: float = 1.0,
) -> Tensor:
    """Noise-free HU, unclipped.

    The cortical shell is thinner than a voxel, so its share is the analytic integral of the point
    spread function along the surface normal, not a label.

    Args:
        tissue: (B, *S) uint8, `Tissue`.
        bone_distance_mm: (B, *S) signed distance to the bone surface, negative inside.
        recipes: One per batch member.
        thick: (B, *S) bool, where the shell is that of posterior elements.
        generator: Draws textures; its device is that of the tensors.
        spacing_mm: Voxel size.
    Returns:
        (B, *S) float32.
    """
    device, size = tissue.device, tissue.shape[1:]
    base = _table([r.hu for r in recipes], device)
    shell_hu = base[:, T.CORTEX].clone()
    base[:, T.CORTEX], base[:, T.OTHER_CORTEX] = base[:, T.MARROW], base[:, T.OTHER_MARROW]
    hu = lookup(base, tissue)
    bone = bone_mask(tissue)
    batch = len(recipes)
    coarse = smooth_field(size, 12.0 / spacing_mm, generator, batch)
    fine = smooth_field(size, 2.5 / spacing_mm, generator, batch)
    trabecular = coarse.mul(_TRABECULAR_TEXTURE[0]).add_(fine, alpha=_TRABECULAR_TEXTURE[1])
    hu += torch.where(bone, trabecular, coarse.mul_(_SOFT_TEXTURE_HU))
    hu = torch.where((tissue == T.AIR) | (tissue == T.METAL), lookup(base, tissue), hu)
    uneven = smooth_field(size, _SHELL_MM / spacing_mm, generator, batch)
    uneven = uneven.mul_(_SHELL_SPREAD).exp_()
    for b, recipe in enumerate(recipes):
        sigma = math.sqrt(max((recipe.psf_fwhm_mm / 2.355) ** 2 - CONV_SIGMA_MM**2, 0.02))
        shell, outside = surface_shares(
            bone_distance_mm[b],
            _thickness(thick[b], recipe.body_shell_mm, recipe.posterior_shell_mm).mul_(uneven[b]),
            0.0,
            sigma,
        )
        soft = torch.where(bone[b], _OUTSIDE_BONE_HU - hu[b], 0.0) * outside
        hu[b] += soft + (shell_hu[b] - hu[b]) * shell
    return blur(hu, CONV_SIGMA_MM / spacing_mm)


def ct_scan(
    hu: Tensor, rng: np.random.Generator, generator: torch.Generator, spacing_mm: float = 1.0
) -> Tensor:
    """A CT as it is read: noise of SD 15-40 HU, and streaks in 5 %.

    Shapes: hu (B, *S), noise-free -> (B, *S).
    """
    noise = torch.randn(hu.shape, generator=generator, device=hu.device)
    grain = rng.uniform(0.4, 0.9) / spacing_mm  # voxels: noise of a CT is not white
    noise = blur(noise, grain)
    out = hu + noise * (rng.uniform(15, 40) / noise.std().clamp(min=1e-6))
    if rng.random() < 0.05:
        out += _streaks(hu, rng)
    return out.clamp_(min=-1024)


def _streaks(hu: Tensor, rng: np.random.Generator) -> Tensor:
    """Horizontal (left-right) streaks of 20-80 HU whose strength changes from slice to slice."""
    front, height = hu.shape[-2:]
    rows = np.cumsum(rng.standard_normal((front, height)), 0)
    rows = rng.uniform(20, 80) * np.sin(rows) * (rng.random(height) < 0.3)
    streaks = torch.from_numpy(rows.astype(np.float32)).to(hu.device)
    return streaks.expand_as(hu)


def draw_mr(name: ContrastName, subject: Subject, rng: np.random.Generator) -> MrRecipe:
    """Tissue values of one MR contrast for `subject`, inside the recipe's ranges x U(0.75, 1.3)."""
    column = {"T1w": "t1", "T2w": "t2", "STIR": "stir", "random": "t2"}.get(name, "gre")
    look = WITHHELD.get(name)
    ranges = np.array(look.water if look else [getattr(TISSUES[t], column) for t in T])
    water = ranges[:, 0] + np.ptp(ranges, axis=1) * _drawn(rng, lambda r, n: r.random(n))
    water *= _drawn(rng, lambda r, n: r.uniform(0.75, 1.3, n))
    spans = {"T1w": (0.9, 1.1), "T2w": (0.5, 0.95), "STIR": (0.0, 0.08), "water": (0.05, 0.25)}
    low, high = look.fat if look else spans.get(name, (0.7, 1.2))
    fat = rng.uniform(low, high)
    fraction = np.array([TISSUES[t].fat for t in T])
    fraction[T.MARROW] = subject.marrow_fat
    fraction[T.OTHER_MARROW] = min(0.9, subject.marrow_fat + rng.uniform(0, 0.15))
    fraction[T.MUSCLE] = rng.uniform(0.02, 0.12)
    fraction[T.HIP_MARROW] = float(np.clip(subject.marrow_fat + 0.2, 0.55, 0.85))
    if name == "fat":
        water *= rng.uniform(0.02, 0.1)
    if name == "random":
        water = _drawn(rng, lambda r, n: r.uniform(0.03, 1.2, n))
        fat = rng.uniform(0.0, 1.2)
        water[T.CORTEX] = rng.uniform(0, 0.35 if rng.random() < 0.85 else 1.0)
        water[[T.AIR, T.GAS, T.LUNG]] = rng.uniform(0, 0.05, 3)
        fraction[T.MARROW] = rng.uniform(0.1, 0.8)
    water[T.COMPACT] = water[T.CORTEX]
    if name in ("T1w", "T2w", "STIR") and rng.random() < 0.1:  # slow or refocused flow
        water[[T.ARTERY, T.VEIN]] = rng.uniform(0.4, 1.0, 2)
    calm = 0.3 if subject.part == "pelvis" else 1.0  # a full bladder shows every grain
    rim = rng.uniform(0, 0.6) if column == "gre" and not look else rng.uniform(0.8, 1.5)
    return MrRecipe(
        name=name,
        water=tuple(water.tolist()),
        fat=float(fat),
        fat_fraction=tuple(fraction.tolist()),
        opposed=name == "opposed",
        rim_inside_mm=(rng.uniform(0.3, 0.6) * rim, rng.uniform(0.5, 1.3) * rim),
        rim_outside_mm=rng.uniform(0.0, 0.7) * rim,
        blotch=rng.uniform(0.02, 0.12),
        blotch_mm=rng.uniform(10, 25),
        texture=rng.uniform(0.03, 0.12),
        grain=calm * rng.uniform(0.02, 0.18),
        grain_mm=rng.uniform(2.5, 8),
        disc_spread=rng.uniform(0.0, 0.5),
    )


def draw_name(rng: np.random.Generator) -> ContrastName:
    """A contrast with the probabilities of the training recipe."""
    names: tuple[ContrastName, ...] = (
        "T2w", "T1w", "STIR", "water", "fat", "inphase", "opposed", "random",
    )  # fmt: skip
    return names[rng.choice(8, p=(0.30, 0.20, 0.12, 0.08, 0.015, 0.02, 0.015, 0.25))]


def mr_signal(
    tissue: Tensor,
    bone_distance_mm: Tensor,
    recipes: Sequence[MrRecipe],
    *,
    thick: Tensor,
    generator: torch.Generator,
    spacing_mm: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Signal of water and of fat before the scanner; the image is |water +- shifted fat|.

    Args: as for `ct_hu`.
    Returns:
        Two (B, *S) float32 images.
    """
    device, size = tissue.device, tissue.shape[1:]
    water_table, fraction = (
        _table([getattr(r, k) for r in recipes], device) for k in ("water", "fat_fraction")
    )
    cortex = water_table[:, T.CORTEX].clone()
    for table in (water_table, fraction):  # the shell is analytic: below it lies marrow
        table[:, T.CORTEX], table[:, T.OTHER_CORTEX] = table[:, T.MARROW], table[:, T.OTHER_MARROW]
    fat_table = fraction * torch.tensor([[r.fat] for r in recipes], device=device)
    water, fat = lookup(water_table * (1 - fraction), tissue), lookup(fat_table, tissue)
    for b, recipe in enumerate(recipes):
        # Blotches trade water for fat in bone; the clamps keep both parts positive.
        change = smooth_field(size, recipe.blotch_mm / spacing_mm, generator)[0]
        change.clamp_(-2.5, 2.5).mul_(recipe.blotch).mul_(bone_mask(tissue[b]))
        own = float(fraction[b, T.MARROW].clamp(0.05, 0.95))
        low = smooth_field(size, 30.0 / spacing_mm, generator)[0]
        nucleus = tissue[b] == T.NUCLEUS
        grain = smooth_field(size, recipe.grain_mm / spacing_mm, generator)[0].clamp_(-2.5, 2.5)
        gain = low.clamp(-3, 3).mul_(recipe.texture).add_(1).add_(grain, alpha=recipe.grain)
        gain[nucleus] = torch.exp(recipe.disc_spread * low[nucleus])
        fat[b] *= torch.add(gain, change * gain, alpha=1 / own).clamp_(min=0.05)
        water[b] *= gain.addcmul_(change, gain, value=-1 / (1 - own)).clamp_(min=0.05)
        shell, _ = surface_shares(
            bone_distance_mm[b],
            _thickness(thick[b], *recipe.rim_inside_mm),
            recipe.rim_outside_mm,
            0.4 * spacing_mm,
        )
        water[b] += (cortex[b] - water[b]) * shell
        fat[b] *= 1 - shell
    return water, fat


def thick_shell(tissue: Tensor, subregions: Tensor) -> Tensor:
    """True where the cortical shell is thick: posterior elements, sacral wings, other bone.

    Shapes: tissue and subregions uint8, any shape, as in `TissueMap`.
    """
    posterior = (subregions >= 41) & (subregions <= 48)
    other = torch.zeros_like(posterior)
    for kind in (T.OTHER_CORTEX, T.OTHER_MARROW, T.COMPACT, T.HIP_MARROW):
        other |= tissue == kind
    return posterior | other


def surface_shares(
    distance: Tensor, inner: Tensor, outer: float, sigma: float
) -> tuple[Tensor, Tensor]:
    """Shares of a Gaussian PSF that fall into a shell and beyond it, at a plane surface.

    Args:
        distance: Signed distance to the surface, mm, negative inside; any shape.
        inner: Thickness of the shell below the surface, mm, the same shape.
        outer: How far the shell reaches out of the surface, mm.
        sigma: Of the PSF, mm.
    Returns:
        Share of the shell -inner..outer and share of what lies beyond outer.
    """
    # A logistic curve stands for the normal cumulative distribution (error below 0.01).
    scale = 1.702 / sigma
    beyond = (distance - outer).mul_(scale).sigmoid_()
    return (distance + inner).mul_(scale).sigmoid_().sub_(beyond), beyond


def _thickness(thick: Tensor, body: float, posterior: float) -> Tensor:
    return thick.to(torch.float32).mul_(posterior - body).add_(body)


def lookup(table: Tensor, tissue: Tensor) -> Tensor:
    """Values (B, K) read at tissue numbers (B, *S) -> (B, *S)."""
    out = torch.empty(tissue.shape, dtype=table.dtype, device=tissue.device)
    for row, numbers, values in zip(table, tissue, out, strict=True):
        torch.index_select(row, 0, numbers.reshape(-1).int(), out=values.view(-1))
    return out


def bone_mask(tissue: Tensor) -> Tensor:
    """True in labelled and other bone; any shape."""
    table = torch.zeros(len(T), dtype=torch.bool, device=tissue.device)
    table[list(BONE)] = True
    return table.index_select(0, tissue.reshape(-1).int()).view(tissue.shape)


def _table(rows: Sequence[tuple[float, ...]], device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32, device=device)
