"""One training run from start to end, and a trained detector from a checkpoint: joins the other files of this folder.

Nothing here knows a recipe: work/unpack.py does. Everything that a later evaluation or resume needs travels in the
checkpoint's meta: classes with COCO ids, anchors, sizes, thresholds, loss, counts of the training set, versions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from focalcli import evaluation
from focalcli.anchors import AnchorSpec
from focalcli.coco import Category, Dataset
from focalcli.detections import Detections
from focalcli.errors import FocalError, nearest
from focalcli.files import write_whole
from focalcli.recommend.per_class import repeat_factors
from focalcli.training import checkpoint, loop
from focalcli.training.cache import PictureCache
from focalcli.training.classes import labels_of, names_in_words, trained_classes
from focalcli.training.compiling import compile_backbone
from focalcli.training.data import InputSize, Pictures, canvas_of, train_loader
from focalcli.training.described import refuse_misfit
from focalcli.training.description import Network, Setup, describe, refuse_other_run, versions
from focalcli.training.device import autocast_type, device_name, pick_device, scaler_of
from focalcli.training.model import Detector, build_model, freeze, load_weights, place
from focalcli.training.predict import Abandoned, Thresholds, joined, no_detections, predict, predicted
from focalcli.training.ranks import Ranks
from focalcli.training.sampling import BatchKeys, ClassAware, Repeat
from focalcli.training.schedule import make_optimizer
from focalcli.training.step import Stepper

__all__ = ["Prepared", "Trained", "detect", "detected", "load_trained", "pick_device", "prepare", "score", "train"]

CLASS_METRICS_KEPT = "AP"  # what metrics.jsonl keeps of each class at every evaluation
ALWAYS_DEFINED = ("AP", "AP50", "AP75", "AR1", "AR10", "AR100")  # wherever there is an object
CLASSES_SHOWN = 12
WORDS = 200  # letters of what PyTorch says; it goes on with every tensor that there is


@dataclass(frozen=True)
class Trained:
    """A detector as a checkpoint describes it.

    Attributes:
        scaling: what makes its scores chances, where `focal calibrate` has put that into the checkpoint.
    """

    model: Detector
    classes: tuple[Category, ...]
    spec: AnchorSpec
    size: InputSize
    thresholds: Thresholds
    meta: Mapping[str, Any]
    scaling: evaluation.ClassScaling | None = None


@dataclass(frozen=True)
class Prepared:
    """A training before its first step."""

    stepper: Stepper
    keys: BatchKeys
    pictures: Pictures
    loader: DataLoader


def prepare(
    setup: Setup, model: Detector, train_set: Dataset, labels: np.ndarray, device: torch.device, ranks: Ranks
) -> Prepared:
    """Everything that takes steps, for a model that holds the weights to start from (in the first process at least).

    Args:
        labels: (K of the file,) as from labels_of.
    """
    schedule = setup.schedule
    autocast = autocast_type(device, setup.precision)
    freeze(model, setup.network.backbone, setup.trainable_layers)
    place(model, device)
    if setup.compile:
        compile_backbone(model, device)
    stepper = Stepper(
        model, make_optimizer(model, schedule), setup.objective, device=device, autocast=autocast,
        scaler=scaler_of(device, autocast), clip_norm=schedule.clip_norm, ema_decay=schedule.ema, ranks=ranks,
    )  # fmt: skip
    sampling = setup.sampling
    if sampling.sampler == "class_aware":
        sampler: Repeat | ClassAware = ClassAware(train_set, labels)
    else:
        sampler = Repeat(repeat_factors(train_set, sampling.repeat_threshold, sampling.repeat_power))
    keys = BatchKeys(
        sampler, setup.batch_size, setup.seed, schedule.epochs, scale=setup.augment.scale,
        wide=train_set.image_wh[:, 0] >= train_set.image_wh[:, 1], parts=schedule.accumulate,
        canvas=lambda chosen, factor: canvas_of(train_set.image_wh[chosen], setup.size, factor),
        rank=ranks.rank, ranks=ranks.size,
    )  # fmt: skip
    pictures = Pictures(train_set, labels, setup.size, setup.augment)
    loader = train_loader(pictures, keys, setup.spec, setup.workers, device.type == "cuda")
    return Prepared(stepper, keys, pictures, loader)


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
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    tensorboard: bool = False,
) -> loop.Progress:
    """Run or resume a training in `folder`; leaves checkpoints/, metrics.jsonl, results.csv, env.json and dataset.json.

    Args:
        recipe: the resolved recipe as plain data, kept in the checkpoint.
        ranks: this process, when several train together: only the first one touches `folder`.
        tensorboard: keep TensorBoard's event file in `folder` too.

    Raises:
        FocalError: bad input, or the training diverged (exit code 3). loop.Interrupted: stopped by a signal, saved.
    """
    classes = trained_classes(train_set)
    train_labels, val_labels = (labels_of(data, classes, str(train_set.path)) for data in (train_set, val_set))
    if not val_set.objects_per_class.any():
        raise FocalError(f"{val_set.path}: no objects to evaluate on", "data.val needs at least one usable box")
    meta = describe(setup, classes, train_set, val_set, recipe)
    refuse_undefined_best(setup.schedule.best, classes, val_set, meta)
    checkpoints = folder / "checkpoints"

    def found() -> checkpoint.Checkpoint:
        state = checkpoint.load_last(checkpoints)
        refuse_other_run(state, meta)
        return state

    model = new_model(setup, len(classes))
    progress, state = loop.Progress(), None
    if resume:
        state = ranks.once(found)
        model.load_state_dict(state.weights)
        progress = loop.Progress(**state.meta["progress"])
        display.note(f"resuming {state.path} after step {progress.step}")
    elif loaded := ranks.once(lambda: fill_model(setup, model)):
        display.note(loaded)
    ready = prepare(setup, model, train_set, train_labels, device, ranks)
    stepper = ready.stepper
    if state is not None:
        checkpoint.restore_optimizer(stepper.optimizer, state.optimizer)
        if stepper.ema is not None:
            stepper.ema.load(state.model)
        if stepper.scaler is not None and state.meta.get("scaler"):
            stepper.scaler.load_state_dict(state.meta["scaler"])
    if setup.cache is not None:
        alike = setup.augment.scale == (1.0, 1.0) and not setup.augment.crop  # every showing is of one size
        ready.pictures.cache = PictureCache(Path(setup.cache), train_set, setup.size if alike else None)
        display.note(ranks.once(ready.pictures.cache.prepare))
    expected = dict(zip((c.name for c in classes), ready.keys.objects_per_epoch(train_set, train_labels), strict=True))
    display.note(f"an epoch shows {_counts_in_words(expected)}")
    if ranks.first:
        env = {"device": device_name(device), "autocast": str(stepper.autocast), "processes": ranks.size}
        _write_json(folder / "env.json", env | versions())
        facts = {"classes": meta["classes"], "objects_per_epoch": expected}
        _write_json(folder / "dataset.json", meta["data"] | facts)

    def evaluate(stopped: Callable[[], bool]) -> dict[str, Any] | None:
        def look(*_: int) -> None:
            if stopped():
                raise Abandoned

        own, error = None, None
        with nullcontext() if stepper.ema is None else stepper.ema.in_place():
            ranks.align(model)
            try:
                own = predict(
                    model, val_set, categories_of(val_labels, len(classes)), setup.spec, setup.size, setup.thresholds,
                    device=device, autocast=stepper.autocast, workers=setup.workers, progress=look, ranks=ranks,
                )  # fmt: skip
            except FocalError as raised:
                error = raised
            except Abandoned:
                pass
        ranks.raise_any(error)
        parts = ranks.gathered(own)
        if any(part is None for part in parts):
            return None
        return ranks.once(lambda: _figures(score(val_set, joined(parts), meta)))

    def save(name: str, where: loop.Progress) -> None:
        average = None if stepper.ema is None else stepper.ema.tensors
        scaler = {} if stepper.scaler is None else {"scaler": stepper.scaler.state_dict()}
        content = {**meta, "progress": asdict(where), **scaler}
        to_resume = {"optimizer": stepper.optimizer, "keep": setup.schedule.keep} if name == "last" else {}
        path = checkpoints / f"{name}.safetensors"
        ranks.once(lambda: checkpoint.save(path, model, content, average=average, **to_resume))

    return loop.fit(
        stepper, ready.loader, ready.keys, setup.schedule, progress=progress, evaluate=evaluate, save=save,
        image_ids=train_set.image_ids, log=folder / "metrics.jsonl", display=display, tensorboard=tensorboard,
    )  # fmt: skip


def refuse_undefined_best(best: str, classes: Sequence[Category], val_set: Dataset, meta: Mapping[str, Any]) -> None:
    """Raises FocalError when the metric that shall choose the best checkpoint has no value on the validation set."""
    kind, _, name = best.partition(":")
    if kind == "class":
        names = [category.name for category in classes]
        if name not in names:
            near = nearest(name, names)
            hint = f"did you mean class:{near}?" if near else f"the trained classes are {names_in_words(names)}"
            raise FocalError(f"eval.best: no class {name!r} with objects in the training set", hint)
        counts = dict(zip(val_set.class_names, val_set.objects_per_class, strict=True))
        if not counts[name]:
            raise FocalError(
                f"eval.best: {val_set.path} has no object of {name!r} to score", "choose AP or another class"
            )
    elif best not in ALWAYS_DEFINED and score(val_set, no_detections(), meta).summary[best] is None:
        raise FocalError(
            f"eval.best: {best} is undefined on {val_set.path}: it has no such objects",
            "choose AP or another metric",
        )


def _figures(table: evaluation.ApTable) -> dict[str, Any]:
    return {**table.summary, "classes": {c.name: getattr(c, CLASS_METRICS_KEPT) for c in table.classes}}


def load_trained(path: Path, device: torch.device) -> Trained:
    """The detector of a checkpoint file or run folder.

    Raises:
        FocalError: no such checkpoint, cut short, of another version, or its tensors do not fit its description.
    """
    saved = checkpoint.load(path)
    try:
        refuse_misfit(saved.meta)
        spec = AnchorSpec(**{key: tuple(value) for key, value in saved.meta["anchors"].items()})
        classes = tuple(Category(**entry) for entry in saved.meta["classes"])
        model = _build(Network(**saved.meta["network"]), len(classes), spec, 0.01)
        model.load_state_dict(saved.model)
        if broken := [name for name, tensor in saved.model.items() if not tensor.isfinite().all()]:
            raise ValueError(f"{broken[0]} holds NaN or infinity")
        size, thresholds = InputSize(**saved.meta["input"]), Thresholds(**saved.meta["thresholds"])
        maps = saved.meta.get("calibration")
        scaling = maps and evaluation.ClassScaling.from_dict(maps["maps"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise FocalError(
            f"{saved.path}: its tensors or description do not fit together ({' '.join(str(error).split())[:WORDS]})",
            "the file was changed after focal wrote it; use another checkpoint of the run",
        ) from None
    place(model, device)
    return Trained(model, classes, spec, size, thresholds, saved.meta, scaling)


def detect(trained: Trained, dataset: Dataset, **options: Any) -> Detections:
    """All that `detected` gives of these arguments, as one."""
    return joined([no_detections(), *detected(trained, dataset, **options)])


def detected(
    trained: Trained,
    dataset: Dataset,
    *,
    device: torch.device,
    batch_size: int,
    workers: int,
    progress: Callable[[int, int], None] | None = None,
    unreadable: Callable[[int, FocalError], None] | None = None,
    raw_scores: bool = False,
) -> Iterator[Detections]:
    """Detections of a trained model on a dataset with the same classes, a batch at a time: see predict.predicted.

    Which they are is decided by raw scores, calibrated or not: thresholds, suppression and the best of a picture.

    Args:
        raw_scores: leave out the checkpoint's calibration.

    Raises:
        FocalError: the class map differs, or a picture cannot be read.
    """
    labels = labels_of(dataset, trained.classes, "the checkpoint's")
    for found in predicted(
        trained.model,
        dataset,
        categories_of(labels, len(trained.classes)),
        trained.spec,
        trained.size,
        trained.thresholds,
        device=device,
        autocast=autocast_type(device, "auto"),
        batch_size=batch_size,
        workers=workers,
        progress=progress,
        unreadable=unreadable,
    ):
        if trained.scaling is None or raw_scores:
            yield found
        else:
            yield trained.scaling.of_detections(found.rounded(), dataset.class_names)


def score(dataset: Dataset, detections: Detections, meta: Mapping[str, Any]) -> evaluation.ApTable:
    """The AP table with the counts that the checkpoint's training set had; ghost categories are left out.

    Scores what the saved file will hold (`rounded`), so that scoring that file again gives the same numbers.
    """
    counts = meta["data"]["train"]
    names = {entry["name"] for entry in meta["classes"]}
    labels = [label for label, category in enumerate(dataset.categories) if category.name in names]
    return evaluation.evaluate(
        dataset, detections.rounded(), n_train=counts["objects"], images_train=counts["images"], labels=labels
    )


def new_model(setup: Setup, num_classes: int) -> Detector:
    """The setup's network with the random weights of its seed."""
    torch.manual_seed(setup.seed)
    return _build(setup.network, num_classes, setup.spec, setup.prior)


def fill_model(setup: Setup, model: Detector) -> str | None:
    """Load the setup's weights into the model; what came of it in words, None when it starts from random ones."""
    loaded = load_weights(model, setup.weights, setup.network.backbone, setup.network.head_norm)
    return loaded and _loaded_in_words(loaded)


def _build(network: Network, num_classes: int, spec: AnchorSpec, prior: float | Sequence[float]) -> Detector:
    return build_model(num_classes=num_classes, anchors_per_cell=spec.per_cell, prior=prior, **asdict(network))


def categories_of(labels: np.ndarray, num_classes: int) -> np.ndarray:
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


def _counts_in_words(counts: Mapping[str, float]) -> str:
    """The most frequent classes first, and at the end the rarest."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = ordered if len(ordered) <= CLASSES_SHOWN else [*ordered[: CLASSES_SHOWN - 3], *ordered[-3:]]
    words = [f"{name} {count:,.0f}" for name, count in shown]
    if len(shown) < len(ordered):
        words.insert(-3, f"{len(ordered) - len(shown)} more")
    return ", ".join(words)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode(), "--runs")
