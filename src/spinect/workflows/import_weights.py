"""Weights that others published, as bundles.

``graf2023``: the 3D image-mode diffusion network of Graf et al. 2023, arXiv 2308.09345,
``T2_to_CT_iso_diffusion_img.pt`` of Zenodo record 8221159. That network works on axes R, I, P,
ours on R, A, S. Its kernels are turned instead of the images, which is exact: a swap of axes
commutes with every convolution, and so does a mirror, as the padding is the same on both sides and
the sizes that are halved (kernel 4, stride 2, padding 1) are even. The position ramps rise to the
feet and to the back there. Weights cannot mend that, since a ramp is 0 beyond the border whichever
way it runs; the bundle's channels say it ("max_ramps_rip").
"""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from spinect.bundle import save_bundle
from spinect.card import Card, Preprocessing, TrainingFacts, file_sha256
from spinect.errors import BundleError, InputError
from spinect.methods.registry import build

# Our names -> theirs, applied in this order.
_NAMES: Final = (
    (r"^stem\b", "init_conv"),
    (r"^time\.layers\b", "time_mlp"),
    (r"^time_mlp\.2\b", "time_mlp.3"),
    (r"^time_mlp\.0\b", "time_mlp.1"),
    (r"^(down|up)\.(\d+)\.first\b", r"\1s.\2.0"),
    (r"^(down|up)\.(\d+)\.second\b", r"\1s.\2.1"),
    (r"^(down|up)\.(\d+)\.resize\b", r"\1s.\2.2"),
    (r"^middle_first\b", "mid_block1"),
    (r"^middle_last\b", "mid_block2"),
    (r"^tail\b", "final_res_block"),
    (r"^out\b", "final_conv"),
    (r"\.first\b", ".block1.proj"),
    (r"\.first_norm\b", ".block1.norm"),
    (r"\.last\b", ".block2.proj"),
    (r"\.last_norm\b", ".block2.norm"),
    (r"\.modulate\b", ".mlp.1"),
    (r"\.shortcut\b", ".res_conv"),
)
# The network, the same once more inside its average, and the average.
_LIVE, _SHADOW, _AVERAGE = "generator.", "ema.online_model.", "ema.ema_model."
_RECORD: Final = "Zenodo record 8221159"
_LIMITS: Final = (
    "Sagittal T2w MR only, which it was trained on.",
    "Its group norms take their statistics over the tile. The tile is the patch of its training, "
    "32 x 128 x 128 voxels of 1 mm; the public code takes whole volumes, so its answers differ.",
    "Positions run over the whole volume; the public code starts them anew in each half of a large "
    "one, and pads with mid grey what is padded with air here.",
    "HU end at -1000 and 1000; the public code does not clip.",
    "Trained without dropped conditions: no guidance.",
    "Whether it reaches the published figures was not tested here.",
)


def import_graf2023(
    file: Path,
    folder: Path | None = None,
    *,
    ema: bool = False,
    sampler: Literal["ancestral", "graf2023"] = "ancestral",
    width: int = 64,
) -> Path:
    """The public 3D weights of Graf et al. 2023 as a bundle.

    Args:
        file: State dict with `generator.*`, or its copies `ema.*`, perhaps after `diffusion_net.`.
        folder: Of the bundle; None is a folder of the bundle's name where the program runs.
        ema: Take the averaged copy instead of the network that the authors sample with.
        sampler: "graf2023" draws as the public code does: wrong sign, estimates not clamped.
        width: Features of the finest level; 64 in the public file.
    Returns:
        The bundle's folder.
    Raises:
        InputError: The file cannot be read, or holds more than tensors.
        BundleError: Keys or shapes of another network; an average that was never updated.
        OutputError: `folder` exists and is not a bundle.
    """
    name = "graf2023-ddim-image-3d" + "-published" * (sampler == "graf2023")
    config = _config(sampler, width)
    with torch.device("meta"):  # shapes alone: every tensor comes from the file
        method: Any = build("diffusion", config)
    copy, tensors = _chosen(_read(file), file, ema)
    _check(_shapes(method.network.state_dict()), tensors, file)
    ours = {key: _turned(tensors[_theirs(key)]) for key in method.network.state_dict()}
    method.network.load_state_dict(ours, assign=True)
    card = Card(
        name=name,
        summary="Synthetic CT from T2w spine MR by diffusion in 3D: public weights of Graf et al.",
        method="diffusion",
        config=config,
        modes=("sample", "mc"),
        channels="max_ramps_rip",
        preprocessing=Preprocessing(
            hu_low=-1000.0, hu_high=1000.0, tile=(32, 128, 128), flip_average=False
        ),
        training=TrainingFacts(
            data={"from": _RECORD, "sha256 of the file": file_sha256(file), "copy": copy}
        ),
        licence=f"as {_RECORD} says, which you have to check; the authors' code is MIT",
        citation=f"Graf et al., 2023, arXiv 2308.09345; weights: {_RECORD}",
        limits=_LIMITS,
    )
    target = Path(name) if folder is None else folder
    save_bundle(target, method, card, "float32")
    return target


def _config(sampler: str, width: int) -> dict[str, Any]:
    """Of the method, as the weights were trained."""
    network = {"kind": "sa_unet", "width": width, "attention": False, "skips": "mean"}
    return {
        "ndim": 3,
        "in_channels": 4,
        "predicts": "x0",
        "network": network,
        "loss": "l1",
        "schedule": "ddpm_cosine",
        "regress_share": 0.0,
        "sampler": sampler,
        "steps": 25,
        "eta": 1.0,
        "clamp": sampler != "graf2023",
    }


def _read(file: Path) -> dict[str, Any]:
    """What a file holds by key, without the prefix of a Lightning checkpoint; no code is run."""
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            f"{file}: not a file of tensors alone, and nothing else is loaded since a pickle can "
            "run code: save the state dict with torch.save(model.state_dict(), FILE)"
        ) from error
    held = held.get("state_dict", held) if isinstance(held, Mapping) else held
    if not isinstance(held, Mapping) or not all(isinstance(key, str) for key in held):
        raise InputError(
            f"{file}: a state dict maps names to tensors; this is {type(held).__name__}"
        )
    return {key.removeprefix("diffusion_net."): value for key, value in held.items()}


def _chosen(held: Mapping[str, Any], file: Path, ema: bool) -> tuple[str, dict[str, Tensor]]:
    """Name and tensors of the copy that was asked for, under the network's own names."""
    copies: dict[str, dict[str, Tensor]] = {_LIVE: {}, _SHADOW: {}, _AVERAGE: {}}
    for key, value in held.items():
        prefix = next((p for p in copies if key.startswith(p)), None)
        if prefix is not None and isinstance(value, Tensor):
            copies[prefix][key.removeprefix(prefix)] = value
        elif key not in ("ema.initted", "ema.step"):
            raise BundleError(f"{file}: {key} is not of {_LIVE}* or ema.*: another kind of file")
    if ema:
        _refuse_stale(held, file)
    wanted = [_AVERAGE] if ema else [_LIVE, _SHADOW]
    for prefix in wanted:
        if copies[prefix]:
            return prefix.removesuffix("."), copies[prefix]
    there = ", ".join(f"{p}*" for p, tensors in copies.items() if tensors) or "nothing of it"
    hint = "leave --ema out" if ema else "for the averaged copy add --ema"
    raise BundleError(f"{file}: no tensors {' or '.join(f'{p}*' for p in wanted)}, "
                      f"there is {there}: {hint}")  # fmt: skip


def _refuse_stale(held: Mapping[str, Any], file: Path) -> None:
    """An average that was never updated holds the random weights that training began with."""
    said = {key: held.get(f"ema.{key}") for key in ("initted", "step")}
    numbers = {k: float(v) for k, v in said.items() if isinstance(v, Tensor) and v.numel() == 1}
    if numbers.get("initted", 0) <= 0 or numbers.get("step", 0) <= 0:
        told = ", ".join(f"ema.{k} {numbers.get(k, 'missing')}" for k in said)
        raise BundleError(
            f"{file}: the averaged copy was never updated ({told}), as in all models trained with "
            "the authors' 3D code, and holds random initial weights: leave --ema out"
        )


def _theirs(key: str) -> str:
    """Their name of one of our tensors."""
    for pattern, name in _NAMES:
        key = re.sub(pattern, name, key)
    return key


def _shapes(own: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """What the file must hold; kernels are as long along every axis."""
    return {_theirs(key): tuple(value.shape) for key, value in own.items()}


def _check(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, Tensor], file: Path) -> None:
    """Exactly these keys, in exactly these shapes."""
    complaints = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unknown": sorted(found.keys() - wanted.keys()),
        "of another shape": [
            f"{key} {tuple(found[key].shape)}, not {shape}"
            for key, shape in wanted.items()
            if key in found and tuple(found[key].shape) != shape
        ],
    }
    for what, keys in complaints.items():
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise BundleError(
                f"{file}: tensors {what}: {', '.join(keys[:3])}{more}; this is not the 3D network "
                f"of Graf et al. 2023 as published in {_RECORD}"
            )


def _turned(kernel: Tensor) -> Tensor:
    """A kernel over R, I, P as one over R, A, S, two axes swapped and mirrored; others as are."""
    if kernel.ndim != 5:
        return kernel.float()
    return kernel.float().permute(0, 1, 2, 4, 3).flip(3, 4).contiguous()
