"""One training of the protocol: what is the same for every arm, and what came of it.

Model, steps and scoring are focal's own (training/, evaluation/). A dataset is decoded once; the batches of a seed are
flipped and matched once and seen by every arm of that seed in the same order, from the same first weights but for the
bias of the prior.

Shapes: K classes.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from focalcli import coco, evaluation
from focalcli.anchors import AnchorSpec
from focalcli.focal_loss import equilibrium, loss_at_rest
from focalcli.recommend.per_class import repeat_factors
from focalcli.training import augment
from focalcli.training.data import Batch, Collate, InputSize, Pictures, Sample
from focalcli.training.model import Detector, build_model, freeze, load_weights
from focalcli.training.predict import Thresholds, predict
from focalcli.training.sampling import Key, Repeat
from focalcli.training.schedule import Schedule, make_optimizer
from focalcli.training.step import Objective, Stepper

CPU = torch.device("cpu")
PRIOR_RANGE = (1e-4, 0.2)  # as focal recommend clips it
LEAST_SCORE = 0.001  # arms differ in how high they score: at 0.05 some would lose boxes that others keep


@dataclass(frozen=True)
class Budget:
    """What every arm gets. trainable_layers: of the backbone's five stages, from the top."""

    steps: int = 400
    batch_size: int = 8
    lr: float = 7e-4
    weight_decay: float = 0.05
    warmup_steps: int = 40
    clip_norm: float = 10.0
    backbone: str = "mobilenet_v2"
    width: int = 48
    head_depth: int = 1
    trainable_layers: int = 3


@dataclass(frozen=True)
class Loss:
    """What an arm changes.

    Attributes:
        alpha, gamma: one number or K. prior: None is where each class's bias rests (equilibrium).
        box_weight: of the box loss; None keeps its share in the first loss what it is with alpha 0.25 and gamma 2.
        repeat_threshold: of repeat-factor sampling; 0 is a plain shuffle.
    """

    alpha: float | tuple[float, ...]
    gamma: float | tuple[float, ...]
    prior: float | None = None
    box_weight: float | None = None
    repeat_threshold: float = 0.0


RETINANET = Loss(0.25, 2.0)


class Material:
    """A dataset of the protocol in memory, and the batches of the seed asked for last."""

    def __init__(self, folder: Path, spec: AnchorSpec, budget: Budget) -> None:
        self.train, self.val = (coco.load(folder / "annotations" / f"{split}.json") for split in ("train", "val"))
        self.spec, self.budget = spec, budget
        width, height = self.train.image_wh.max(axis=0).tolist()
        self.size = InputSize(min(width, height), max(width, height))
        still = augment.Augment(flip=0.0, scale=(1.0, 1.0))
        pictures = Pictures(self.train, np.arange(len(self.train.categories)), self.size, still)
        self.samples = [pictures[Key(index, None)] for index in range(len(self.train.image_ids))]
        self.foreground = self._foreground()
        self._batches: tuple[Any, list[Batch]] = (None, [])

    def box_weight(self, loss: Loss) -> float:
        """What the box loss is multiplied by."""
        if loss.box_weight is not None:
            return loss.box_weight
        own, theirs = (
            loss_at_rest(np.maximum(self.foreground, 1e-9), alpha=each.alpha, gamma=each.gamma)
            for each in (loss, RETINANET)
        )
        return own / theirs

    def _foreground(self) -> np.ndarray:
        """(K,) positive anchors of each class over all its others, as training assigns them."""
        whole = Collate(self.spec)(self.samples)
        positives = np.bincount(whole.positive_label.numpy(), minlength=len(self.train.categories))
        return positives / (whole.anchors_per_image * len(self.samples) - positives)

    def batches(self, seed: int, repeat_threshold: float) -> list[Batch]:
        """The pictures of every step: epochs of a shuffle, each flipped left-right and up-down by chance."""
        if self._batches[0] != (seed, repeat_threshold):
            rng, budget = np.random.default_rng((seed, 1)), self.budget
            sampler = Repeat(repeat_factors(self.train, repeat_threshold))
            epochs = -(-budget.steps * budget.batch_size // sampler.length)
            order = np.concatenate([sampler.order(rng) for _ in range(epochs)])
            flips = rng.random((len(order), 2)) < 0.5
            collate = Collate(self.spec)
            starts = range(0, budget.steps * budget.batch_size, budget.batch_size)
            steps = [slice(start, start + budget.batch_size) for start in starts]
            made = [
                collate([self._flipped(i, *flip) for i, flip in zip(order[step], flips[step].tolist(), strict=True)])
                for step in steps
            ]
            self._batches = (seed, repeat_threshold), made
        return self._batches[1]

    def _flipped(self, index: int, across: bool, down: bool) -> Sample:
        sample = self.samples[index]
        chance = augment.Draw(across=across, down=down)
        pixels, boxes = augment.flipped(sample.image, sample.boxes, chance)
        crowds = augment.flipped(sample.image, sample.crowds, chance)[1]
        return Sample(np.ascontiguousarray(pixels), boxes, sample.labels, crowds, index)

    def prior(self, loss: Loss) -> list[float]:
        """(K,) the score that each class starts with."""
        classes = len(self.foreground)
        if loss.prior is not None:
            return [loss.prior] * classes
        alpha, gamma = (np.broadcast_to(value, classes).tolist() for value in (loss.alpha, loss.gamma))
        rests = [
            equilibrium(max(f, 1e-9), 1.0, alpha=a, gamma=g)
            for f, a, g in zip(self.foreground.tolist(), alpha, gamma, strict=True)
        ]
        return np.clip(rests, *PRIOR_RANGE).tolist()


def new_model(material: Material, prior: list[float], seed: int, weights: str) -> Detector:
    """The protocol's network with the first weights of a seed; weights: `imagenet`, or a file of the backbone's."""
    budget, classes = material.budget, len(material.train.categories)
    torch.manual_seed(seed)
    model = build_model(
        backbone=budget.backbone, num_classes=classes, anchors_per_cell=material.spec.per_cell,
        prior=prior, width=budget.width, head_depth=budget.head_depth, frozen_batch_norm=True,
    )  # fmt: skip
    load_weights(model, weights, budget.backbone, "none")
    freeze(model, budget.backbone, budget.trainable_layers)
    model.to(memory_format=torch.channels_last)
    return model


def run(material: Material, loss: Loss, seed: int, weights: str, keep: Path | None = None) -> dict[str, Any]:
    """Train and score; AP in 0..1.

    Args:
        weights: see new_model. keep: where the trained weights are saved.
    """
    started, budget = time.process_time(), material.budget
    model = new_model(material, material.prior(loss), seed, weights)
    schedule = Schedule(
        epochs=1, lr=budget.lr, optimizer="adamw", weight_decay=budget.weight_decay, warmup_steps=budget.warmup_steps
    )
    objective = Objective(loss.alpha, loss.gamma, box_weight=material.box_weight(loss))
    optimizer = make_optimizer(model, schedule)
    stepper = Stepper(model, optimizer, objective, device=CPU, clip_norm=budget.clip_norm)
    model.train()
    for number, batch in enumerate(material.batches(seed, loss.repeat_threshold)):
        update = stepper.step([batch], schedule.lr_at(number, budget.steps), number)
        if not update.updated:
            return {"diverged": number, "cpu_seconds": time.process_time() - started}
    if keep is not None:
        keep.parent.mkdir(parents=True, exist_ok=True)
        aside = keep.with_suffix(f".{os.getpid()}.part")
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, aside)
        aside.replace(keep)
    return {**scored(model, material, material.val), "cpu_seconds": time.process_time() - started}


def scored(model: Detector, material: Material, truth: coco.Dataset) -> dict[str, Any]:
    """AP, AP50, those of the rare third of the classes (by training objects), the worst class's AP, and ECE."""
    found = predict(
        model, truth, np.arange(len(material.train.categories)), material.spec, material.size,
        Thresholds(score=LEAST_SCORE), device=CPU, batch_size=16, workers=0,
    )  # fmt: skip
    train = dict(zip(material.train.class_names, material.train.objects_per_class.tolist(), strict=True))
    table = evaluation.evaluate(truth, found, n_train=train)
    rarest_first = sorted(table.classes, key=lambda entry: train[entry.name])
    rare = rarest_first[: -(-len(rarest_first) // 3)]
    return {
        "AP": table.summary["AP"],
        "AP50": table.summary["AP50"],
        "rare_AP": float(np.mean([entry.AP for entry in rare])),
        "rare_AP50": float(np.mean([entry.AP50 for entry in rare])),
        "worst_AP": min(entry.AP for entry in table.classes),
        "worst_AP50": min(entry.AP50 for entry in table.classes),
        "ECE": evaluation.calibration(truth, found).overall.ECE,
        "classes": {entry.name: entry.AP50 for entry in rarest_first},
    }
