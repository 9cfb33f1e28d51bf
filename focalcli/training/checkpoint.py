"""A checkpoint: one .safetensors file with the model's tensors, the optimizer's, and everything else as JSON.

One file, because one rename is atomic: it is written beside its place and moved there, so a kill at any moment leaves
the old one or the new one. Nothing in it is pickled, so loading executes nothing. The model's tensors carry
torchvision's names; the optimizer's are prefixed and can be left out (`best` has none: plain torchvision loads it).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from focalcli.errors import FocalError

FORMAT = 1
OPTIMIZER = "optimizer/"
STRAY_SECONDS = 600  # no save takes as long: what lies aside then was left by a kill


@dataclass(frozen=True)
class Checkpoint:
    """meta is plain JSON: classes, anchors, sizes, thresholds, loss, versions, step (see run.describe)."""

    path: Path
    meta: dict[str, Any]
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def save(
    path: Path, model: torch.nn.Module, meta: dict[str, Any], optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Write a checkpoint aside and move it into place.

    Raises:
        FocalError: the disk is full or not writable; what stood at `path` before is still there.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if optimizer is not None:
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {
                f"{OPTIMIZER}{index}.{key}": v.detach().cpu().contiguous() for key, v in state.items() if v is not None
            }
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, aside, {"focal": json.dumps({"format": FORMAT, **meta})})
        with aside.open("rb+") as written:  # Windows syncs only what is open for writing
            os.fsync(written.fileno())
        os.replace(aside, path)
        for stray in path.parent.glob(f".{path.name}.*"):
            if time.time() - stray.stat().st_mtime > STRAY_SECONDS:
                stray.unlink()
    except (OSError, SafetensorError) as error:
        raise FocalError(
            f"{path}: cannot be written ({error})", "the checkpoint before it is still there; free some space"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def find(path: Path, prefer: str = "best") -> Path:
    """The checkpoint file that a run folder or a file name means.

    Raises:
        FocalError: nothing there.
    """
    if path.is_dir():
        for name in dict.fromkeys((prefer, "best", "last")):
            for folder in (path / "checkpoints", path):
                if (folder / f"{name}.safetensors").is_file():
                    return folder / f"{name}.safetensors"
        raise FocalError(
            f"{path}: no checkpoint in this folder", "expected checkpoints/best.safetensors, as `focal train` leaves it"
        )
    if not path.is_file():
        raise FocalError(
            f"{path}: no such checkpoint", "give a run folder or a .safetensors file that `focal train` wrote"
        )
    return path


def load(path: Path) -> Checkpoint:
    """Read a checkpoint without executing anything in it.

    Raises:
        FocalError: missing, cut short, not focal's, or of a later format.
    """
    path = find(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("focal")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        meta = json.loads(text) if text is not None else None
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise FocalError(
            f"{path}: not a readable checkpoint, or cut short ({error})",
            "copy it again, or use another one of the run's checkpoints",
        ) from None
    if not isinstance(meta, dict) or "format" not in meta:
        raise FocalError(
            f"{path}: tensors without focal's description", "weights from elsewhere go into a recipe: model.weights"
        )
    if meta["format"] != FORMAT:
        raise FocalError(
            f"{path}: checkpoint format {meta['format']}, this focal reads format {FORMAT}",
            f"written with the versions {meta.get('versions', 'unknown')}: use that focal or train again",
        )
    model = {name: tensor for name, tensor in tensors.items() if not name.startswith(OPTIMIZER)}
    optimizer = {name.removeprefix(OPTIMIZER): t for name, t in tensors.items() if name.startswith(OPTIMIZER)}
    return Checkpoint(path, meta, model, optimizer)


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer of the same parameters the state that save() wrote."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
