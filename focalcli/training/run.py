"""One training run from start to end, and a trained detector from a checkpoint: joins the other files of this folder.

Nothing here knows a recipe: cli.py unpacks it. Everything that a later evaluation or resume needs travels in the
checkpoint's meta: classes with COCO ids, anchors, sizes, thresholds, loss, counts of the training set, versions.
"""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from focalcli import __version__, ap
from focalcli.anchors import AnchorSpec
from focalcli.coco import Category, Dataset
from focalcli.detections import Detections
from focalcli.errors import FocalError
from focalcli.training import checkpoint, loop
from focalcli.training.data import Augment, BatchKeys, InputSize, Pictures, repeat_factors, train_loader
from focalcli.training.model import Detector, build_model, first_line, freeze, load_weights
from focalcli.training.predict import Thresholds, predict

CLASS_METRICS_KEPT = "AP"  # what metrics.jsonl keeps of each class at every evaluation


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
class Setup:
    """Everything that decides a run's result, in plain values."""

    network: Network
    weights: str
    trainable_layers: int
    spec: AnchorSpec
    size: InputSize
    augment: Augment
    repeat_threshold: float
    objective: loop.Objective
    prior: float | Sequence[float]
    schedule: loop.Schedule
    thresholds: Thresholds
    batch_size: int
    workers: int
    precision: str
    seed: int


@dataclass(frozen=True)
class Trained:
    """A detector as a checkpoint describes it."""

    model: Detector
    classes: tuple[Category, ...]
    spec: AnchorSpec
    size: InputSize
    thresholds: Thresholds
    meta: Mapping[str, Any]


def trained_classes(train: Dataset) -> tuple[Category, ...]:
    """The classes to train: every category with an object in train. A category without any is a ghost (TRAPS 13).

    Raises:
        FocalError: no object at all.
    """
    classes = tuple(c for c, n in zip(train.categories, train.objects_per_class, strict=True) if n)
    if not classes:
        raise FocalError(
            f"{train.path}: no objects to train on", "expected at least one usable box that is not a crowd"
        )
    return classes


def labels_of(dataset: Dataset, classes: Sequence[Category], trained_on: str) -> np.ndarray:
    """(K of the dataset,) index into `classes` of each category, by name; -1 for a category without objects.

    Raises:
        FocalError: the dataset has objects of other classes, lacks one of `classes`, or has one twice.
    """
    index = {category.name: label for label, category in enumerate(classes)}
    times = Counter(category.name for category in dataset.categories)
    if twice := [name for name in index if times[name] > 1]:
        ids = [category.id for category in dataset.categories if category.name == twice[0]]
        raise FocalError(
            f"{dataset.path}: categories {', '.join(map(repr, ids))} are all named {twice[0]!r}",
            "classes are matched by name: merge them or rename all but one (`focal explain F202`)",
        )
    unknown = [
        c.name for c, n in zip(dataset.categories, dataset.objects_per_class, strict=True) if n and c.name not in index
    ]
    missing = sorted(index.keys() - {category.name for category in dataset.categories})
    if unknown or missing:
        said = [f"it has {_names(unknown)}, unknown to the model"] * bool(unknown)
        said += [f"it lacks {_names(missing)}"] * bool(missing)
        raise FocalError(
            f"{dataset.path}: other classes than {trained_on}: {'; '.join(said)}",
            f"the trained classes are {_names(list(index))}; classes are matched by name",
        )
    return np.array([index.get(category.name, -1) for category in dataset.categories])


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more


def pick_device(name: str) -> torch.device:
    """cpu, cuda or auto (CUDA when there is one).

    Raises:
        FocalError: cuda was asked for and is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise FocalError("--device cuda: torch sees no CUDA device", "check `nvidia-smi`, or leave --device auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def autocast_type(device: torch.device, precision: str) -> torch.dtype | None:
    """bfloat16 where the device computes in it, None (fp32) elsewhere; `precision` fp32 or bf16 decides by force.

    A CPU without AVX512-BF16 or AMX emulates bf16, which is slower than fp32.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    has_bf16 = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", bool)() or getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    )
    return torch.bfloat16 if has_bf16 else None


def train(
    setup: Setup,
    train_set: Dataset,
    val_set: Dataset,
    folder: Path,
    *,
    recipe: Mapping[str, Any],
    device: torch.device,
    resume: bool,
    display: loop.Display,
) -> loop.Progress:
    """Run or resume a training in `folder`; leaves checkpoints/, metrics.jsonl, results.csv, env.json and dataset.json.

    Args:
        recipe: the resolved recipe as plain data, kept in the checkpoint.

    Raises:
        FocalError: bad input, or the training diverged (exit code 3). loop.Interrupted: stopped by a signal, saved.
    """
    classes = trained_classes(train_set)
    train_labels, val_labels = (labels_of(data, classes, str(train_set.path)) for data in (train_set, val_set))
    if not val_set.objects_per_class.any():
        raise FocalError(f"{val_set.path}: no objects to evaluate on", "data.val needs at least one usable box")
    torch.manual_seed(setup.seed)
    model = _new_model(setup.network, len(classes), setup.spec, setup.prior)
    meta = describe(setup, classes, train_set, val_set, recipe)
    last = folder / "checkpoints" / "last.safetensors"
    progress, state = loop.Progress(), None
    if resume:
        state = checkpoint.load(last)
        _refuse_other_run(state, meta)
        model.load_state_dict(state.model)
        progress = loop.Progress(**state.meta["progress"])
        display.note(f"resuming {last} after step {progress.step}")
    elif loaded := load_weights(model, setup.weights, setup.network.backbone, setup.network.head_norm):
        display.note(_loaded_in_words(loaded))
    freeze(model, setup.network.backbone, setup.trainable_layers)
    model.to(device, memory_format=torch.channels_last)
    optimizer = loop.make_optimizer(model, setup.schedule)
    if state is not None:
        checkpoint.restore_optimizer(optimizer, state.optimizer)

    factors = repeat_factors(train_set, setup.repeat_threshold)
    wide = train_set.image_wh[:, 0] >= train_set.image_wh[:, 1]
    keys = BatchKeys(factors, setup.batch_size, setup.seed, setup.augment, setup.schedule.epochs, wide)
    pictures = Pictures(train_set, train_labels, setup.size, setup.augment)
    autocast = autocast_type(device, setup.precision)
    _write_json(folder / "env.json", {"device": _device_name(device), "autocast": str(autocast), **_versions()})
    _write_json(folder / "dataset.json", meta["data"] | {"classes": meta["classes"]})

    def evaluate() -> dict[str, Any]:
        found = predict(
            model, val_set, _categories(val_labels, len(classes)), setup.spec, setup.size, setup.thresholds,
            device=device, autocast=autocast, workers=setup.workers,
        )  # fmt: skip
        table = score(val_set, found, meta)
        return {**table.summary, "classes": {c.name: getattr(c, CLASS_METRICS_KEPT) for c in table.classes}}

    def save(name: str, where: loop.Progress) -> None:
        path = folder / "checkpoints" / f"{name}.safetensors"
        checkpoint.save(path, model, {**meta, "progress": asdict(where)}, optimizer if name == "last" else None)

    return loop.fit(
        model, train_loader(pictures, keys, setup.spec, setup.workers, device.type == "cuda"), keys,
        setup.objective, setup.schedule, device=device, autocast=autocast, optimizer=optimizer, progress=progress,
        evaluate=evaluate, save=save, image_ids=train_set.image_ids, log=folder / "metrics.jsonl", display=display,
    )  # fmt: skip


def load_trained(path: Path, device: torch.device) -> Trained:
    """The detector of a checkpoint file or run folder.

    Raises:
        FocalError: no such checkpoint, cut short, of another version, or its tensors do not fit its description.
    """
    saved = checkpoint.load(path)
    try:
        spec = AnchorSpec(**{key: tuple(value) for key, value in saved.meta["anchors"].items()})
        classes = tuple(Category(**entry) for entry in saved.meta["classes"])
        model = _new_model(Network(**saved.meta["network"]), len(classes), spec, 0.01)
        model.load_state_dict(saved.model)
        size, thresholds = InputSize(**saved.meta["input"]), Thresholds(**saved.meta["thresholds"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise FocalError(
            f"{saved.path}: its tensors or description do not fit together ({first_line(error)})",
            "the file was changed after focal wrote it; use another checkpoint of the run",
        ) from None
    return Trained(model.to(device, memory_format=torch.channels_last), classes, spec, size, thresholds, saved.meta)


def detect(
    trained: Trained,
    dataset: Dataset,
    *,
    device: torch.device,
    batch_size: int,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
) -> Detections:
    """Detections of a trained model on a dataset with the same classes.

    Raises:
        FocalError: the class map differs, or a picture cannot be read.
    """
    labels = labels_of(dataset, trained.classes, "the checkpoint's")
    return predict(
        trained.model,
        dataset,
        _categories(labels, len(trained.classes)),
        trained.spec,
        trained.size,
        trained.thresholds,
        device=device,
        autocast=autocast_type(device, "auto"),
        batch_size=batch_size,
        workers=workers,
        progress=progress,
    )


def score(dataset: Dataset, detections: Detections, meta: Mapping[str, Any]) -> ap.ApTable:
    """The AP table with the counts that the checkpoint's training set had; ghost categories are left out.

    Scores what the saved file will hold (`rounded`), so that scoring that file again gives the same numbers.
    """
    counts = meta["data"]["train"]
    names = {entry["name"] for entry in meta["classes"]}
    labels = [label for label, category in enumerate(dataset.categories) if category.name in names]
    return ap.evaluate(
        dataset, detections.rounded(), n_train=counts["objects"], images_train=counts["images"], labels=labels
    )


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
            "repeat_threshold": setup.repeat_threshold,
            "batch_size": setup.batch_size,
            "seed": setup.seed,
            "schedule": asdict(setup.schedule),
        },
        "data": {"train": _data_facts(train_set), "val": _data_facts(val_set)},
        "recipe": dict(recipe),
        "versions": _versions(),
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


def _refuse_other_run(saved: checkpoint.Checkpoint, meta: Mapping[str, Any]) -> None:
    """Raises FocalError when anything that decides the weights is not as in the run to resume.

    Left free: paths, workers, precision, thresholds, and how often it is evaluated.
    """

    def decisive(meta: Mapping[str, Any]) -> dict[str, Any]:
        training = dict(meta.get("training", {}))
        schedule = training.pop("schedule", {})
        return {
            **{key: meta.get(key) for key in ("classes", "network", "anchors", "input", "loss")},
            **{f"data.{split}": meta.get("data", {}).get(split, {}).get("sha256") for split in ("train", "val")},
            **training,
            **{f"schedule.{key}": value for key, value in schedule.items() if key != "eval_every"},
        }

    old, new = decisive(saved.meta), decisive(json.loads(json.dumps(meta)))
    differs = [key for key in new if old.get(key) != new[key]]
    if differs:
        raise FocalError(
            f"{saved.path}: cannot be resumed, the run it belongs to had other {', '.join(differs)}",
            "resume with the recipe and data that it was started with, or start anew under another name",
        )


def _new_model(network: Network, num_classes: int, spec: AnchorSpec, prior: float | Sequence[float]) -> Detector:
    return build_model(num_classes=num_classes, anchors_per_cell=spec.per_cell, prior=prior, **asdict(network))


def _categories(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(K,) index into the dataset's categories of each trained class: the inverse of labels_of."""
    inverse = np.zeros(num_classes, dtype=np.int64)
    inverse[labels[labels >= 0]] = np.flatnonzero(labels >= 0)
    return inverse


def _loaded_in_words(loaded: Any) -> str:
    text = f"weights from {loaded.source}: {len(loaded.taken)} tensors"
    for names, what in (
        (loaded.left_out, "did not fit and were left out"),
        (loaded.new, "not in the file, start anew"),
    ):
        if names:
            text += f"; {len(names)} {what}: {', '.join(names)}"
    return text


def _versions() -> dict[str, str]:
    return {
        "focal": __version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.machine()}"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
