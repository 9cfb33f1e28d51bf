"""What a checkpoint says of the run that it belongs to, and when another run may not go on from it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torchvision

from focalcli import __version__
from focalcli.anchors import AnchorSpec
from focalcli.coco import Category, Dataset
from focalcli.errors import FocalError
from focalcli.training import checkpoint
from focalcli.training.augment import Augment
from focalcli.training.data import InputSize
from focalcli.training.predict import Thresholds
from focalcli.training.schedule import Schedule
from focalcli.training.step import Objective

# how a run is computed, watched and saved: a resumed one may change them
FREE = ("accumulate", "patience", "eval_every", "save_minutes", "save_steps", "keep")


@dataclass(frozen=True)
class Network:
    """What build_model needs, apart from the classes."""

    backbone: str
    width: int
    head_depth: int
    head_norm: str
    frozen_batch_norm: bool
    frozen_eps: float


@dataclass(frozen=True)
class Sampling:
    """How often a picture is shown; sampler is shuffle (with repeats, see repeat_factors) or class_aware."""

    sampler: str = "shuffle"
    repeat_threshold: float = 0.0
    repeat_power: float = 0.5


@dataclass(frozen=True)
class Setup:
    """Everything that decides a run's result, in plain values."""

    network: Network
    weights: str
    trainable_layers: int
    spec: AnchorSpec
    size: InputSize
    augment: Augment
    sampling: Sampling
    objective: Objective
    prior: float | Sequence[float]
    schedule: Schedule
    thresholds: Thresholds
    batch_size: int
    workers: int
    precision: str
    seed: int
    cache: str | None = None  # folder of decoded pictures
    compile: bool = False  # the backbone, by torch.compile


def describe(
    setup: Setup, classes: Sequence[Category], train_set: Dataset, val_set: Dataset, recipe: Mapping[str, Any]
) -> dict[str, Any]:
    """The checkpoint's meta, but for the progress."""
    return {
        "classes": [asdict(category) for category in classes],
        "network": asdict(setup.network),
        "anchors": {"sizes": list(setup.spec.sizes), "ratios": list(setup.spec.ratios)},
        "input": asdict(setup.size),
        "thresholds": asdict(setup.thresholds),
        "loss": asdict(setup.objective) | {"prior": setup.prior},
        "training": {
            "trainable_layers": setup.trainable_layers,
            "augment": asdict(setup.augment),
            **asdict(setup.sampling),
            "batch_size": setup.batch_size,
            "seed": setup.seed,
            "schedule": asdict(setup.schedule),
        },
        "data": {"train": _data_facts(train_set), "val": _data_facts(val_set)},
        "recipe": dict(recipe),
        "versions": versions(),
    }


def _data_facts(dataset: Dataset) -> dict[str, Any]:
    return {
        "path": str(dataset.path.resolve()),
        "image_root": str(dataset.image_root.resolve()),
        "sha256": dataset.sha256,
        "n_images": len(dataset.image_ids),
        "objects": dict(zip(dataset.class_names, dataset.objects_per_class.tolist(), strict=True)),
        "images": dict(zip(dataset.class_names, dataset.images_per_class.tolist(), strict=True)),
    }


def refuse_other_run(saved: checkpoint.Checkpoint, meta: Mapping[str, Any]) -> None:
    """Raises FocalError when anything that decides the weights is not as in the run to resume.

    Left free: paths, workers, cache, precision, compile, thresholds, and FREE.
    """
    if saved.meta["format"] != checkpoint.FORMAT:
        raise FocalError(
            f"{saved.path}: cannot be resumed, an earlier focal wrote it (format {saved.meta['format']})",
            f"evaluate it, or finish it with the versions {saved.meta.get('versions', 'unknown')}",
        )

    def decisive(meta: Mapping[str, Any]) -> dict[str, Any]:
        training = dict(meta.get("training", {}))
        schedule = training.pop("schedule", {})
        return {
            **{key: meta.get(key) for key in ("classes", "network", "anchors", "input", "loss")},
            **{f"data.{split}": meta.get("data", {}).get(split, {}).get("sha256") for split in ("train", "val")},
            **training,
            **{f"schedule.{key}": value for key, value in schedule.items() if key not in FREE},
        }

    old, new = decisive(saved.meta), decisive(json.loads(json.dumps(meta)))
    differs = [key for key in new if old.get(key) != new[key]]
    if differs:
        raise FocalError(
            f"{saved.path}: cannot be resumed, the run it belongs to had other {', '.join(differs)}",
            "resume with the recipe and data that it was started with, or start anew under another name",
        )


def versions() -> dict[str, str]:
    return {
        "focal": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
