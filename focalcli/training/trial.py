"""Before a long run: one real step to predict what it costs, and a minute on a few pictures to prove that it can learn.

Nothing here is written to the disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from focalcli.anchors import AnchorSpec
from focalcli.coco import Dataset
from focalcli.errors import ExitCode, FocalError
from focalcli.training.augment import Augment
from focalcli.training.classes import labels_of, trained_classes
from focalcli.training.data import Batch, Collate, InputSize, usable
from focalcli.training.description import Sampling, Setup, describe
from focalcli.training.metrics import peak_memory_bytes
from focalcli.training.predict import predict
from focalcli.training.ranks import Ranks
from focalcli.training.run import Prepared, categories_of, fill_model, new_model, prepare, score

TIMED_SECONDS, TIMED_STEPS = 10.0, 8
EVALUATED_AT_ONCE = 8

FEW = (4, 8)  # pictures to overfit
FEW_PX = 320  # their short side at most
OVERFIT_STEPS, OVERFIT_SECONDS = 500, 300.0
LOOK_EVERY = 25  # steps
LEARNED_AP50 = 0.9


@dataclass(frozen=True)
class Forecast:
    """What a run will cost on this machine.

    Attributes:
        loss: of the first step. steps: of the whole run. epochs, evaluations: how many of them.
        images_per_second: while training. seconds_per_epoch: of training. evaluation_seconds: of one, without scoring.
        seconds: of the whole run. memory_bytes: the most held by a step or an evaluation; None when unknown.
        parameters, trainable: numbers in the weights, and how many of them are trained.
    """

    loss: float
    steps: int
    epochs: int
    evaluations: int
    images_per_second: float
    seconds_per_epoch: float
    evaluation_seconds: float
    seconds: float
    memory_bytes: int | None
    parameters: int
    trainable: int


def dry_run(setup: Setup, train_set: Dataset, val_set: Dataset, device: torch.device) -> Forecast:
    """Take a few real steps (a warm-up, and as many as fit into some seconds), and predict the run from them.

    Loading is timed apart from computing: while the workers' first batches lie ready, a few steps would not show it.

    Raises:
        FocalError: bad input, no memory, or the first steps diverge (exit code 3).
    """
    classes = trained_classes(train_set)
    labels = labels_of(train_set, classes, str(train_set.path))
    model = new_model(setup, len(classes))
    fill_model(setup, model)
    ready = prepare(setup, model, train_set, labels, device, Ranks())
    model.train()
    losses, loading, computing = [], [], []
    batch_keys, started = iter(ready.keys), time.monotonic()
    schedule, steps = setup.schedule, ready.keys.steps_per_epoch * setup.schedule.epochs
    for number in range(min(steps, 1 + TIMED_STEPS)):
        before = time.monotonic()
        parts = [_load(ready, setup.spec, next(batch_keys)) for _ in range(schedule.accumulate)]
        loaded = time.monotonic()
        done = ready.stepper.step(parts, schedule.lr_at(number, steps), number)
        if not done.updated and not done.skipped:
            raise FocalError(
                f"training diverged at step {number + 1} of the trial: class loss {done.loss_cls:g}, "
                f"box loss {done.loss_box:g}, gradient norm {done.grad_norm:g}",
                "lower schedule.lr or set schedule.clip_norm=10",
                ExitCode.DIVERGED,
            )
        losses.append(done.loss_cls + done.loss_box)
        loading.append(loaded - before)
        computing.append(time.monotonic() - loaded)
        if number and time.monotonic() - started > TIMED_SECONDS:
            break
    timed = slice(1, None) if len(losses) > 1 else slice(None)
    per_step = _pace(float(np.mean(loading[timed])), float(np.mean(computing[timed])), setup.workers, device)
    evaluation = _evaluation_seconds(setup, ready, val_set, labels_of(val_set, classes, ""), len(classes), device)
    evaluations = sum(schedule.evaluates_after(epoch, 1) for epoch in range(1, schedule.epochs + 1))
    return Forecast(
        loss=losses[0],
        steps=steps,
        epochs=schedule.epochs,
        evaluations=evaluations,
        images_per_second=min(setup.batch_size, ready.keys.sampler.length) / per_step,
        seconds_per_epoch=per_step * ready.keys.steps_per_epoch,
        evaluation_seconds=evaluation,
        seconds=per_step * steps + evaluation * evaluations,
        memory_bytes=peak_memory_bytes(device),
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
    )


def _load(ready: Prepared, spec: AnchorSpec, keys: list) -> Batch:
    batch = Collate(spec)([ready.pictures[key] for key in keys])
    if isinstance(batch, FocalError):
        raise batch
    return batch


def _pace(loading: float, computing: float, workers: int, device: torch.device) -> float:
    """Seconds a step when loading and computing overlap; on a CPU both want the same cores."""
    if usable(workers) == 0:
        return loading + computing
    if device.type == "cpu":
        return computing + loading / (os.cpu_count() or 1)
    return max(computing, loading / usable(workers))


def _evaluation_seconds(
    setup: Setup, ready: Prepared, val_set: Dataset, labels: np.ndarray, num_classes: int, device: torch.device
) -> float:
    """Of the whole validation set, from its first batch."""
    batches = -(-len(val_set.image_ids) // EVALUATED_AT_ONCE)
    before = time.monotonic()
    predict(
        ready.stepper.model, val_set, categories_of(labels, num_classes), setup.spec, setup.size, setup.thresholds,
        device=device, autocast=ready.stepper.autocast, batch_size=EVALUATED_AT_ONCE, workers=0,
        ranks=Ranks(0, batches),
    )  # fmt: skip
    return (time.monotonic() - before) * batches


# --------------------------------------------------------------------------------------------------------- overfitting


@dataclass(frozen=True)
class Overfit:
    """What a short training on a few pictures came to.

    Attributes:
        pictures: how many, with how many objects of how many classes.
        curve: (step, AP50 on the same pictures). learned: it reached LEARNED_AP50.
        out_of_time: the machine was too slow for OVERFIT_STEPS.
    """

    pictures: int
    objects: int
    classes: int
    side_px: int
    curve: tuple[tuple[int, float], ...]
    seconds: float
    learned: bool
    out_of_time: bool


def overfit(
    setup: Setup, train_set: Dataset, device: torch.device, told: Callable[[int, float, float], None]
) -> Overfit:
    """Train on a few pictures, always the same and unvaried, until they are found again or the time is up.

    Network, weights, loss and optimizer are the setup's; pictures and anchors are made smaller together.

    Args:
        told: called with step, loss and AP50 at every look.

    Raises:
        FocalError: bad input, no memory, or it diverges (exit code 3).
    """
    labels = labels_of(train_set, trained_classes(train_set), str(train_set.path))
    few = subset(train_set, _chosen(train_set, labels))
    classes = trained_classes(few)
    few_labels = labels_of(few, classes, str(few.path))
    small = _smaller(setup, len(few.image_ids), [c.name for c in trained_classes(train_set)], [c.name for c in classes])
    model = new_model(small, len(classes))
    fill_model(small, model)
    ready = prepare(small, model, few, few_labels, device, Ranks())
    meta = describe(small, classes, few, few, {})
    keys = next(iter(ready.keys))
    batch = _load(ready, small.spec, [key._replace(seed=None) for key in keys])
    curve: list[tuple[int, float]] = []
    started = time.monotonic()
    for number in range(OVERFIT_STEPS):
        model.train()
        done = ready.stepper.step([batch], small.schedule.lr_at(number, OVERFIT_STEPS), number)
        if not done.updated and not done.skipped:
            raise FocalError(
                f"training diverged at step {number + 1} on {len(few.image_ids)} pictures",
                "lower schedule.lr, or look at the recipe's weights and loss",
                ExitCode.DIVERGED,
            )
        late = time.monotonic() - started > OVERFIT_SECONDS
        if (number + 1) % LOOK_EVERY and not late:
            continue
        found = predict(
            model, few, categories_of(few_labels, len(classes)), small.spec, small.size, small.thresholds,
            device=device, autocast=ready.stepper.autocast, workers=0,
        )  # fmt: skip
        ap50 = score(few, found, meta).summary["AP50"] or 0.0
        curve.append((number + 1, ap50))
        told(number + 1, done.loss_cls + done.loss_box, ap50)
        if ap50 >= LEARNED_AP50 or late:
            break
    objects = int(few.objects_per_class.sum())
    seconds = time.monotonic() - started
    learned = curve[-1][1] >= LEARNED_AP50
    side = small.size.min_size
    return Overfit(
        len(few.image_ids), objects, len(classes), side, tuple(curve), seconds, learned, late and not learned
    )


def _chosen(dataset: Dataset, labels: np.ndarray) -> np.ndarray:
    """Indices of a few pictures: each adds as many new classes as it can; of equals, the smallest object is large."""
    side = np.sqrt(dataset.boxes[:, 2] * dataset.boxes[:, 3])
    picture_side = np.sqrt(np.maximum(1, dataset.image_wh).prod(axis=1))
    wanted = ~dataset.iscrowd & (labels[dataset.box_label] >= 0)
    smallest = np.full(len(dataset.image_ids), np.inf)
    np.minimum.at(smallest, dataset.box_image[wanted], (side / picture_side[dataset.box_image])[wanted])
    smallest[np.isinf(smallest)] = -1  # no object: last
    holds = np.zeros((len(dataset.image_ids), len(dataset.categories)), dtype=np.bool_)
    holds[dataset.box_image[wanted], dataset.box_label[wanted]] = True
    chosen: list[int] = []
    seen = np.zeros(len(dataset.categories), dtype=np.bool_)
    while len(chosen) < min(FEW[1], int((smallest > 0).sum())):
        new = (holds & ~seen).sum(axis=1)
        new[chosen] = -1
        if new.max() <= 0 and len(chosen) >= FEW[0]:
            break
        left = np.flatnonzero(new == new.max())
        best = int(left[np.argmax(np.where(np.isin(left, chosen), -1, smallest[left]))])
        chosen.append(best)
        seen |= holds[best]
    return np.array(sorted(chosen))


def _smaller(setup: Setup, pictures: int, names: list[str], kept: list[str]) -> Setup:
    """The setup for a few pictures at once: no variation, no long schedule, small sides with anchors to match."""
    shrink = min(1.0, FEW_PX / setup.size.min_size)
    index = [names.index(name) for name in kept]

    def of_kept(value):
        return value if isinstance(value, (int, float)) else [value[i] for i in index]

    schedule = replace(
        setup.schedule, epochs=1, warmup_steps=min(20, setup.schedule.warmup_steps), accumulate=1, ema=0.0,
        decay="step", milestones=(0.8,), clip_norm=setup.schedule.clip_norm or 10.0,
    )  # fmt: skip
    objective = replace(setup.objective, alpha=of_kept(setup.objective.alpha), gamma=of_kept(setup.objective.gamma))
    return replace(
        setup,
        size=InputSize(round(setup.size.min_size * shrink), round(setup.size.max_size * shrink)),
        spec=replace(setup.spec, sizes=tuple(size * shrink for size in setup.spec.sizes)),
        augment=Augment(flip=0.0, scale=(1.0, 1.0)),
        sampling=Sampling(),
        objective=objective,
        prior=of_kept(setup.prior),
        schedule=schedule,
        batch_size=pictures,
        workers=0,
        compile=False,  # it would take longer than the steps
    )


def subset(dataset: Dataset, images: np.ndarray) -> Dataset:
    """The dataset of these pictures alone, (N,) ascending indices."""
    rows = np.flatnonzero(np.isin(dataset.box_image, images))
    return replace(
        dataset,
        image_ids=tuple(dataset.image_ids[i] for i in images),
        file_names=tuple(dataset.file_names[i] for i in images),
        image_wh=dataset.image_wh[images],
        annotation_ids=dataset.annotation_ids[rows],
        box_image=np.searchsorted(images, dataset.box_image[rows]),
        box_label=dataset.box_label[rows],
        boxes=dataset.boxes[rows],
        area=dataset.area[rows],
        iscrowd=dataset.iscrowd[rows],
    )
