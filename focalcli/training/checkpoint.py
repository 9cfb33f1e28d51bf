"""A checkpoint: one .safetensors file with the model's tensors, the optimizer's, and everything else as JSON.

One file, because one rename is atomic: it is written beside its place and moved there, so a kill at any moment leaves
the old one or the new one. Nothing in it is pickled, so loading executes nothing. The tensors of the model that is
evaluated carry torchvision's names. What only a resume needs is prefixed: the optimizer's, and the weights that it
steps where the model is their moving average (`best` has neither: plain torchvision loads it).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from focalcli.errors import FocalError

FORMAT = 2
READABLE = (1, FORMAT)  # of 1 there is nothing to resume: see description.refuse_other_run
OPTIMIZER = "optimizer/"
WEIGHTS = "optimizer/weights/"
STRAY_SECONDS = 600  # no save takes as long: what lies aside then was left by a kill


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        meta: plain JSON: classes, anchors, sizes, thresholds, loss, versions, progress (see description.describe).
        model: what is evaluated. weights: what the optimizer steps; the same, unless the model is a moving average.
        optimizer: its state, empty when there is nothing to resume from.
    """

    path: Path
    meta: dict[str, Any]
    model: dict[str, Tensor]
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def save(
    path: Path,
    model: torch.nn.Module,
    meta: dict[str, Any],
    optimizer: torch.optim.Optimizer | None = None,
    average: Mapping[str, Tensor] | None = None,
    keep: int = 1,
) -> None:
    """Write a checkpoint aside and move it into place.

    Args:
        optimizer: with it, a run can go on from the file.
        average: the moving average of the model's tensors, which is what is evaluated.
        keep: how many such files stay; from 2 on under `step-N` too, by the step in meta's progress.

    Raises:
        FocalError: the disk is full or not writable; what stood at `path` before is still there.
    """
    tensors = dict(model.state_dict() if average is None else average)
    if optimizer is not None:
        if average is not None:
            tensors |= {f"{WEIGHTS}{name}": tensor for name, tensor in model.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{OPTIMIZER}{index}.{key}": value for key, value in state.items() if value is not None}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, tensors, {"format": FORMAT, **meta})
        if keep > 1:
            _keep_copy(path, meta["progress"]["step"], keep)
        for stray in path.parent.glob(f".{path.name}.*"):
            if time.time() - stray.stat().st_mtime > STRAY_SECONDS:
                stray.unlink()
    except (OSError, SafetensorError) as error:
        raise _unwritten(path, error) from None


def replace_meta(path: Path, meta: Mapping[str, Any]) -> None:
    """Write a checkpoint again with another meta; its tensors, the optimizer's too, stay what they are to the last bit.

    A `step-N` that shares its file keeps the meta that it has.

    Raises:
        FocalError: as load and save.
    """
    path = find(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
        _write(path, tensors, meta)
    except (OSError, SafetensorError) as error:
        raise _unwritten(path, error) from None


def _write(path: Path, tensors: dict[str, Tensor], meta: Mapping[str, Any]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, aside, {"focal": json.dumps(meta)})
        with aside.open("rb+") as written:  # Windows syncs only what is open for writing
            os.fsync(written.fileno())
        os.replace(aside, path)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _unwritten(path: Path, error: Exception) -> FocalError:
    return FocalError(
        f"{path}: cannot be written ({error})", "the checkpoint before it is still there; free some space"
    )


def _keep_copy(path: Path, step: int, keep: int) -> None:
    """Give the file a second name, which the next save leaves alone, and take the oldest such names away."""
    copy = path.with_name(f"step-{step}.safetensors")
    aside = path.with_name(f".{copy.name}.{os.getpid()}")
    try:
        aside.unlink(missing_ok=True)
        try:
            os.link(path, aside)
        except OSError:  # not every file system has links
            shutil.copyfile(path, aside)
        os.replace(aside, copy)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)  # a link replaced by another of the same file stays
    for old in steps_kept(path.parent)[keep:]:
        old.unlink()


def steps_kept(folder: Path) -> list[Path]:
    """The files step-N of a folder, latest first."""
    found = {path: re.fullmatch(r"step-(\d+)\.safetensors", path.name) for path in folder.glob("step-*")}
    return sorted((path for path, match in found.items() if match), key=lambda path: -int(found[path][1]))


def load_last(folder: Path) -> Checkpoint:
    """The checkpoint `last` of a run, to go on from.

    Raises:
        FocalError: it cannot be read; the hint names the newest one that can.
    """
    last = folder / "last.safetensors"
    try:
        return load(last)
    except FocalError as error:
        unreadable = error
    for path in steps_kept(folder):
        try:
            step = load(path).meta["progress"]["step"]
        except FocalError:
            continue
        copying = f"cp {shlex.quote(str(path))} {shlex.quote(str(last))}"
        raise FocalError(unreadable.message, f"the newest readable one is of step {step}: `{copying}`, then --resume")
    raise unreadable


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
    except (SafetensorError, OSError, json.JSONDecodeError, RecursionError) as error:
        raise FocalError(
            f"{path}: not a readable checkpoint, or cut short ({error})",
            "copy it again, or use another one of the run's checkpoints",
        ) from None
    if not isinstance(meta, dict) or "format" not in meta:
        raise FocalError(
            f"{path}: tensors without focal's description", "weights from elsewhere go into a recipe: model.weights"
        )
    if meta["format"] not in READABLE:
        raise FocalError(
            f"{path}: checkpoint format {meta['format']}, this focal reads formats {READABLE[0]} to {FORMAT}",
            f"written with the versions {meta.get('versions', 'unknown')}: use that focal or train again",
        )
    model = {name: tensor for name, tensor in tensors.items() if not name.startswith(OPTIMIZER)}
    weights = {name.removeprefix(WEIGHTS): t for name, t in tensors.items() if name.startswith(WEIGHTS)}
    state = {name: t for name, t in tensors.items() if name.startswith(OPTIMIZER) and not name.startswith(WEIGHTS)}
    optimizer = {name.removeprefix(OPTIMIZER): tensor for name, tensor in state.items()}
    return Checkpoint(path, meta, model, weights or model, optimizer)


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimizer of the same parameters the state that save() wrote."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
