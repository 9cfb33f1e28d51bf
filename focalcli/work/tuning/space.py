"""What `focal tune` may change: alpha, gamma, the weight of the box loss, of rare classes, and their pictures' repeats.

    Point -> the recipe's keys

alpha and gamma also decide how loud the classification loss is beside the box loss: five times louder with
cross-entropy than with (0.25, 2). Every point keeps the balance that the recipe begins with, times its own `box`: on
small sets that balance moved AP by up to ten points (tests/bench/evidence/results/pilots.csv).

The weight of class k's positives against its negatives, alpha / (1 - alpha), is multiplied by (typical count / count)
to the power `strength`, within a quarter and four times: 0 treats all classes alike, 1 is inverse frequency (too much,
find Cui et al. 2019, arXiv:1901.05555). Where the recipe's prior is a value for each class it is put where the bias
rests under the new alpha and gamma; a single number stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from focalcli.coco import Dataset
from focalcli.errors import FocalError
from focalcli.recommend import rule
from focalcli.recommend.per_class import alphas, frequency_weights
from focalcli.recommend.schedule import repeat_threshold

GAMMA = (0.0, 5.0, 0.25)  # lowest, highest, step: the range of Lin et al. 2017, table 1b
ALPHA = (0.1, 0.9, 0.05)
STRENGTH = (0.0, 1.0, 0.25)
BOX_POWERS = (-2, 2)  # of two: a quarter to four times the balance of the recipe
SOME_REPEATS = 0.1  # a threshold beside none and what `focal recommend` says


class Rest(Protocol):
    """What follows from alpha and gamma: see search.AtRest."""

    def priors(self, alpha: Any, gamma: float) -> Mapping[str, float] | None:
        """The prior of each class, or None where the recipe's own stays."""

    def box_weight(self, alpha: Any, gamma: float) -> float:
        """The box weight with which the two losses begin as the recipe's do."""


@dataclass(frozen=True)
class Point:
    """A place in the space. box: factor on the box weight that keeps the recipe's balance."""

    alpha: float
    gamma: float
    strength: float = 0.0
    repeat_threshold: float = 0.0
    box: float = 1.0

    @property
    def name(self) -> str:
        """What it is called in tables."""
        words = [f"alpha {self.alpha:g}, gamma {self.gamma:g}"]
        if self.box != 1:
            words.append(f"box loss times {self.box:g}")
        if self.strength:
            words.append(f"rare classes by {self.strength:g}")
        if self.repeat_threshold:
            words.append(f"repeats below {self.repeat_threshold:g}")
        return ", ".join(words)


PAPER = Point(*rule.RETINANET)
BALANCED_CE = Point(0.75, 0.0)  # table 1a: the best alpha without focusing


@dataclass(frozen=True)
class Space:
    """The space of one dataset.

    Attributes:
        objects: of each class in training. strengths, repeats: whether they are worth trying on it.
    """

    objects: Mapping[str, int]
    strengths: bool
    repeats: tuple[float, ...]

    @classmethod
    def of(cls, train_set: Dataset) -> Space:
        """Strength where classes are imbalanced, repeats where a class is on few pictures.

        Raises:
            FocalError: no objects.
        """
        counts = {
            name: int(count)
            for name, count in zip(train_set.class_names, train_set.objects_per_class, strict=True)
            if count
        }
        if not counts:
            raise FocalError(f"{train_set.path}: no objects to train on", "give a training set with annotations")
        facts = rule.Facts(tuple(counts.values()))
        advised = repeat_threshold(train_set, facts)
        rarest = min(int(n) for n in train_set.images_per_class if n) / max(1, len(train_set.image_ids))
        repeats = {0.0, advised, *([SOME_REPEATS] if rarest < SOME_REPEATS < advised else [])}
        return cls(counts, facts.has_rare_classes, tuple(sorted(repeats)))

    def first_points(self) -> tuple[Point, ...]:
        """What every search begins with: what `focal recommend` says, the paper's pair, and cross-entropy."""
        if not self.strengths:
            return PAPER, BALANCED_CE
        recommended = replace(PAPER, strength=rule.STRENGTH, repeat_threshold=max(self.repeats))
        return recommended, PAPER, BALANCED_CE

    def suggest(self, trial: Any) -> Point:
        """The next point of an Optuna trial."""
        return Point(
            alpha=round(trial.suggest_float("alpha", ALPHA[0], ALPHA[1], step=ALPHA[2]), 3),
            gamma=round(trial.suggest_float("gamma", GAMMA[0], GAMMA[1], step=GAMMA[2]), 3),
            strength=trial.suggest_float("strength", STRENGTH[0], STRENGTH[1], step=STRENGTH[2])
            if self.strengths
            else 0.0,
            repeat_threshold=trial.suggest_categorical("repeat_threshold", list(self.repeats))
            if len(self.repeats) > 1
            else 0.0,
            box=2.0 ** trial.suggest_int("box", *BOX_POWERS),
        )

    def parameters(self, point: Point) -> dict[str, float]:
        """What Optuna calls the point: the nearest one on the grid, without what is not searched here."""
        values = asdict(point)
        for name, (low, high, step) in (("alpha", ALPHA), ("gamma", GAMMA), ("strength", STRENGTH)):
            values[name] = round(low + step * round((min(max(values[name], low), high) - low) / step), 3)
        values["box"] = round(min(max(math.log2(point.box), BOX_POWERS[0]), BOX_POWERS[1]))
        values["repeat_threshold"] = min(self.repeats, key=lambda t: abs(t - values["repeat_threshold"]))
        if not self.strengths:
            del values["strength"]
        if len(self.repeats) == 1:
            del values["repeat_threshold"]
        return values

    def keys(self, point: Point, rest: Rest) -> dict[str, Any]:
        """Dotted recipe keys of a point."""
        alpha: Any = point.alpha
        if point.strength:
            weights = frequency_weights(list(self.objects.values()), point.strength, rule.MOST_WEIGHT)
            heavier = alphas(point.alpha, weights)
            alpha = {name: float(f"{value:.3g}") for name, value in zip(self.objects, heavier, strict=True)}
        priors = rest.priors(alpha, point.gamma)
        prior = {} if priors is None else {"loss.prior": dict(priors)}
        return {
            "loss.alpha": alpha,
            "loss.alpha_by": "none",  # the strength is in its place
            "loss.gamma": point.gamma,
            "loss.box_weight": float(f"{rest.box_weight(alpha, point.gamma) * point.box:.3g}"),
            "data.repeat_threshold": point.repeat_threshold,
            **prior,
        }
