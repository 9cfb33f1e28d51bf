"""Recipe -> training: datasets, plain values and the run's folder. The one place that knows both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from focalcli.anchors import AnchorSpec
from focalcli.coco import Category, Dataset
from focalcli.errors import FocalError
from focalcli.files import write_whole
from focalcli.recipe import Recipe, absolute, as_dict, dump
from focalcli.recipe.schema import ANNOTATIONS
from focalcli.recommend.per_class import by_name, foreground_of, varied_alpha
from focalcli.splits import load_split, refuse_missing_pictures, split_file
from focalcli.training import loop, run, trial
from focalcli.training.augment import Augment
from focalcli.training.classes import labels_of, trained_classes
from focalcli.training.data import InputSize
from focalcli.training.description import Network, Sampling, Setup
from focalcli.training.device import pick_device
from focalcli.training.model import frozen_eps_of
from focalcli.training.predict import Thresholds
from focalcli.training.ranks import joined, local_device
from focalcli.training.schedule import Schedule
from focalcli.training.step import Objective
from focalcli.training.tensorboard import require_tensorboard


def train(
    recipe: Recipe,
    runs: Path,
    *,
    device: str,
    resume: bool,
    title: str,
    again: str,
    display: Callable[[Path, bool], Any],
    tensorboard: bool = False,
) -> int:
    """Train as a recipe says, in runs/<name>; returns the exit code: 0, or 128 + n when signal n stopped it.

    Args:
        device: auto, cpu or cuda. title: the comment on top of the recipe that the run keeps.
        again: the command that resumes the run, for the user. display: render.progress.TrainingDisplay.
        tensorboard: keep TensorBoard's event file too.

    Raises:
        FocalError: bad input or environment, or the training diverged (exit code 3).
    """
    if tensorboard:
        require_tensorboard()
    train_set, val_set, setup, target = _unpacked(recipe, device)
    resolved = absolute(recipe)
    with joined(target) as ranks, ExitStack() as stack:
        folder = ranks.once(lambda: stack.enter_context(run_folder(resolved, runs, title=title, resume=resume)))
        shown: Any = loop.Silent()
        if ranks.first:
            shown = stack.enter_context(display(folder, resume))
            where = f"{target.type}{f' x {ranks.size} processes' if ranks.size > 1 else ''}"
            shown.started(setup, train_set, val_set, where, recipe.schedule.lr, recipe.schedule.base_batch)
        try:
            end = run.train(
                setup, train_set, val_set, folder,
                recipe=as_dict(resolved), device=target, resume=resume, display=shown, ranks=ranks,
                tensorboard=tensorboard,
            )  # fmt: skip
        except loop.Interrupted as stopped:
            shown.note(f"{stopped}; go on with `{again}`")
            return stopped.exit_code
        if ranks.first:
            shown.finished(end, setup.schedule.best)
    return 0


def dry_run(recipe: Recipe, *, device: str) -> trial.Forecast:
    """What training as a recipe says will cost, from a few real steps; nothing is written.

    Raises:
        FocalError: what `train` would raise before and in its first steps.
    """
    train_set, val_set, setup, target = _unpacked(recipe, device)
    return trial.dry_run(setup, train_set, val_set, target)


def overfit(recipe: Recipe, *, device: str, told: Callable[[int, float, float], None]) -> trial.Overfit:
    """Whether a recipe's network and loss can learn a few of its pictures by heart; nothing is written.

    Args:
        told: called with step, loss and AP50 now and then.
    """
    train_set, _, setup, target = _unpacked(recipe, device)
    return trial.overfit(setup, train_set, target, told)


def _unpacked(recipe: Recipe, device: str) -> tuple[Dataset, Dataset, Setup, Any]:
    train_set, val_set = dataset_of(recipe, "train"), dataset_of(recipe, "val")
    labels_of(val_set, trained_classes(train_set), str(train_set.path))  # refuses other classes
    return train_set, val_set, setup_of(recipe, train_set), local_device(pick_device(device))


def dataset_of(recipe: Recipe, split: str) -> Dataset:
    """The recipe's "train" or "val" dataset.

    Raises:
        FocalError: data.path, the split or a picture is not there, or the file is not a COCO dataset.
    """
    wanted = getattr(recipe.data, split)
    images = getattr(recipe.data, f"{split}_images")
    if wanted.endswith(ANNOTATIONS):
        file = recipe.resolve(wanted)
    else:
        folder = recipe.resolve(recipe.data.path)
        if not recipe.data.path or not folder.is_dir():
            raise FocalError(
                f"data.path: {folder if recipe.data.path else 'nothing'}: no such dataset folder",
                "set it on the command line: data.path=FOLDER (a COCO dataset with annotations/train.json)",
            )
        file = split_file(folder, wanted)
    dataset = load_split(file, recipe.resolve(images) if images else None)
    refuse_missing_pictures(dataset, f"data.{split}_images=DIR")
    return dataset


def setup_of(recipe: Recipe, train_set: Dataset) -> Setup:
    """Everything that training needs from a recipe.

    Raises:
        FocalError: a mapping of alpha, gamma or prior names a class that is not trained, or leaves one out.
    """
    data, model, loss, schedule = recipe.data, recipe.model, recipe.loss, recipe.schedule
    classes = trained_classes(train_set)
    weights = model.weights
    if weights not in ("coco", "imagenet", "none"):
        weights = str(recipe.resolve(weights))
    spec = AnchorSpec(tuple(recipe.anchors.sizes), tuple(recipe.anchors.ratios))
    size = InputSize(recipe.input.min_size, recipe.input.max_size)
    objects = [n for n in train_set.objects_per_class.tolist() if n]  # of each trained class
    return Setup(
        network=Network(
            backbone=model.backbone,
            width=model.width,
            head_depth=model.head_depth,
            head_norm=model.head_norm,
            frozen_batch_norm=model.batch_norm == "frozen" or (model.batch_norm == "auto" and weights != "none"),
            frozen_eps=frozen_eps_of(weights, model.head_norm),
        ),
        weights=weights,
        trainable_layers=5 if weights == "none" else model.trainable_layers,  # a random layer must not stay random
        spec=spec,
        size=size,
        augment=Augment(
            flip=data.flip,
            vertical_flip=data.vertical_flip,
            scale=(data.scale_jitter[0], data.scale_jitter[1]),
            brightness=data.brightness,
            contrast=data.contrast,
            saturation=data.saturation,
            crop=data.crop,
        ),
        sampling=Sampling(data.sampler, data.repeat_threshold, data.repeat_power),
        objective=Objective(
            alpha=varied_alpha(
                per_class(loss.alpha, classes, "loss.alpha"),
                loss.alpha_by,
                objects,
                loss.beta,
                lambda: foreground_of(train_set, spec, size.min_size, size.max_size),
            ),
            gamma=per_class(loss.gamma, classes, "loss.gamma"),
            box=loss.box,
            box_weight=loss.box_weight,
        ),
        prior=per_class(loss.prior, classes, "loss.prior"),
        schedule=Schedule(
            epochs=schedule.epochs,
            lr=schedule.lr * schedule.batch_size / schedule.base_batch,
            optimizer=schedule.optimizer,
            weight_decay=schedule.weight_decay,
            momentum=schedule.momentum,
            warmup_steps=schedule.warmup_steps,
            decay=schedule.decay,
            milestones=schedule.milestones,
            lr_gamma=schedule.lr_gamma,
            clip_norm=schedule.clip_norm,
            accumulate=schedule.accumulate,
            ema=schedule.ema,
            patience=schedule.patience,
            save_minutes=schedule.save_minutes,
            save_steps=schedule.save_steps,
            keep=schedule.keep,
            eval_every=recipe.eval.every,
            best=recipe.eval.best,
        ),
        thresholds=Thresholds(recipe.eval.score_threshold, recipe.eval.nms_iou, recipe.eval.max_detections),
        batch_size=schedule.batch_size,
        workers=data.workers,
        precision=schedule.precision,
        seed=schedule.seed,
        cache=data.cache and str(recipe.resolve(data.cache)),
        compile=schedule.compile,
    )


def per_class(value: float | Mapping[str, float], classes: Sequence[Category], key: str) -> float | list[float]:
    """One number, or one for each class in order; `default` serves the classes that a mapping does not name."""
    return by_name(value, [category.name for category in classes], key)


@contextmanager
def run_folder(recipe: Recipe, runs: Path, *, title: str, resume: bool) -> Iterator[Path]:
    """runs/<name> with the recipe in it; what ends before its first step leaves everything as it was.

    Args:
        recipe: as it runs, with absolute paths. title: the comment on top of it.

    Raises:
        FocalError: it holds another run that this one would overwrite, or, to resume, no checkpoint.
    """
    folder = runs / recipe.name
    last = folder / "checkpoints" / "last.safetensors"
    if resume and not last.is_file():
        raise FocalError(f"{folder}: nothing to resume, there is no {last}", "train without --resume first")
    if not resume and any(folder.glob("checkpoints/*.safetensors")):
        raise FocalError(
            f"{folder}: holds a run already", f"go on with --resume, choose another name=..., or delete {folder}"
        )
    file, metrics = folder / "recipe.yaml", folder / "metrics.jsonl"
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        before = file.read_bytes() if file.is_file() else None
        trained = metrics.stat().st_size if metrics.is_file() else 0
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(file, dump(recipe, header=title).encode(), "--runs")
    except OSError as error:
        raise FocalError(
            f"{folder}: cannot be written to ({error.strerror})", "choose another place with --runs DIR"
        ) from None
    try:
        yield folder
    except BaseException:
        if (metrics.stat().st_size if metrics.is_file() else 0) == trained:
            _undo(folder, file, before, made)
        raise


def _undo(folder: Path, file: Path, before: bytes | None, made: Sequence[Path]) -> None:
    """Put the recipe back, and take away all that a run writes before its first step and the folders `made` for it."""
    if before is not None:
        file.write_bytes(before)
    else:
        file.unlink()
    if made:
        for name in ("train.log", "env.json", "dataset.json", "metrics.jsonl"):
            (folder / name).unlink(missing_ok=True)
        for place in (folder / "checkpoints", *made):
            with suppress(OSError):  # something else is in it
                place.rmdir()
