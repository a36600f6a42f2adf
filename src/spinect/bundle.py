"""Saving and loading bundles; their cards are read by ``spinect.card``, which needs no torch."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from spinect.card import (
    CARD,
    README,
    TENSORS,
    Card,
    DType,
    file_sha256,
    find_bundle,
    model_card,
    read_card,
    verify,
)
from spinect.errors import BundleError, OutputError
from spinect.methods.registry import build
from spinect.protocols import Method


@dataclass(frozen=True)
class Bundle:
    """A loaded model: its card, its method (an ``nn.Module`` in eval mode) and its folder."""

    card: Card
    method: Method
    folder: Path


def save_bundle(folder: Path, method: Method, card: Card, dtype: DType = "float16") -> Card:
    """Write `method` as a bundle; the folder appears complete or not at all.

    Args:
        folder: Where to; an older bundle there is replaced, any other folder is refused.
        method: The network, put into evaluation mode; only its ``state_dict`` is stored.
        card: Its card; `sha256` and `dtype` are filled in here.
        dtype: Storage type of floating tensors of rank 2 and more; others stay as they are.
    Returns:
        The card as written.
    Raises:
        OutputError: `folder` exists and is not a bundle.
        BundleError: A tensor is not finite, or not after the cast to `dtype`.
    """
    if folder.exists() and not (folder / CARD).is_file():
        raise OutputError(f"{folder} exists and is not a bundle: choose another folder")
    kept = {}
    for key, tensor in _module(method).eval().state_dict().items():
        stored = tensor.detach().cpu()
        if stored.is_floating_point() and stored.ndim > 1:  # vectors are few and want precision
            stored = stored.to(getattr(torch, dtype))
        if not bool(torch.isfinite(stored).all()):
            raise BundleError(f"tensor {key} is not finite as {stored.dtype}: try float32")
        kept[key] = stored.contiguous().clone()
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / TENSORS).write_bytes(save(kept))
    digest = file_sha256(partial / TENSORS)
    written = Card.model_validate(card.model_dump() | {"sha256": digest, "dtype": dtype})
    text = yaml.safe_dump(written.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    (partial / CARD).write_text(text, encoding="utf-8")
    (partial / README).write_text(model_card(written), encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return written


def load_bundle(name_or_path: str | Path, device: Any = "cpu") -> Bundle:
    """Load a bundle by name (shipped, or below SPINECT_MODELS) or by folder.

    Tensors are checked against the card's sha256 and arrive as float32 in eval mode.

    Raises:
        BundleError: Unknown name, broken card, wrong hash, tensors missing, extra or misshapen.
    """
    folder = find_bundle(name_or_path)
    card = read_card(folder)
    verify(folder)
    with torch.random.fork_rng(devices=[]):  # the initial weights must not use up the user's draws
        method = build(card.method, card.config)
    module = _module(method)
    try:
        stored = load_file(folder / TENSORS, device="cpu")
    except SafetensorError as error:
        raise BundleError(f"{folder / TENSORS}: not a safetensors file: {error}") from error
    own = module.state_dict()
    complaints = {
        "missing": sorted(own.keys() - stored.keys()),
        "unknown": sorted(stored.keys() - own.keys()),
        "of another shape": sorted(
            k for k in own.keys() & stored.keys() if own[k].shape != stored[k].shape
        ),
    }
    for what, keys in complaints.items():
        if keys:
            shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
            raise BundleError(
                f"{folder / TENSORS}: tensors {what} for method {card.method}: {shown}. "
                "The card's config does not belong to these tensors"
            )
    module.load_state_dict(stored)
    module.eval().to(device)
    return Bundle(card, method, folder)


def _module(method: Any) -> Any:
    """A method seen as the ``nn.Module`` that it also is."""
    if not isinstance(method, torch.nn.Module):
        raise BundleError(f"{type(method).__name__} is not a torch module and has no tensors")
    return method
