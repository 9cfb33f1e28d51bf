"""Checkpoint + dataset -> Measured: the scores of a trained model, with what it was trained with beside them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from focalcli.coco import Dataset
from focalcli.errors import FocalError
from focalcli.recommend import Measured
from focalcli.splits import load_split, refuse_missing_pictures

Counting = Callable[[str, int], AbstractContextManager[Callable[[int, int], None]]]


def measure(
    source: Path,
    dataset: Dataset | None,
    *,
    most_images: int | None,
    device: str,
    counting: Counting,
    batch_size: int = 8,
    workers: int = 2,
) -> Measured:
    """Run a checkpoint's model over a dataset once.

    Args:
        source: a run folder or a .safetensors file. dataset: None is the training set of the run.
        most_images: see training.scores.measure. counting: shows the progress (render.progress.counting).

    Raises:
        FocalError: no readable checkpoint, no dataset, one of other classes, or a picture that cannot be read.
    """
    from focalcli.training import checkpoint, run, scores

    path = checkpoint.find(source)
    target = run.pick_device(device)
    trained = run.load_trained(path, target)
    data = _train_set(path, trained.meta) if dataset is None else dataset
    refuse_missing_pictures(data, "--images DIR")
    images = len(data.image_ids) if most_images is None else min(most_images, len(data.image_ids))
    with counting(f"scores of {path}", images) as progress:
        found, seen = scores.measure(
            trained, data, device=target, most_images=most_images, batch_size=batch_size, workers=workers,
            progress=progress,
        )  # fmt: skip
    loss = trained.meta["loss"]
    return Measured(str(path), str(data.path), seen, found, _plain(loss["alpha"]), _plain(loss["gamma"]))


def _plain(value: Any) -> float | tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, (list, tuple)) else float(value)


def _train_set(path: Path, meta: Any) -> Dataset:
    """The training set that the checkpoint remembers."""
    file, root = Path(meta["data"]["train"]["path"]), Path(meta["data"]["train"]["image_root"])
    if not file.is_file():
        raise FocalError(
            f"{path}: its training set {file} is no longer there",
            "put it back: the run's own training set is what its loss is about",
        )
    return load_split(file, root if root.is_dir() else None)
