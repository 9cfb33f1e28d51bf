"""Maps that make scores chances, fitted on one set of detections and applied to others.

All rise all the way, so the detections of a class stay in their order and its AP stays what it is: temperature divides
the logit, platt shifts it too, isotonic follows the share of hits. A thousandth part of the score itself is mixed in,
so that scores which differ by 1e-5 differ by 1e-8 or more afterwards, however flat the map is there.

A class with few detections has a map of its own only in part: with n of them it weighs n / (n + SHRINKAGE), and the map
of all classes the rest.

Shapes: n detections, K classes. Scores are 0..1.
Sources: Guo et al. 2017, arXiv:1706.04599, sec. 4.2 (temperature); Platt 1999, "Probabilistic Outputs for Support
Vector Machines" (shift, and targets that are not quite 0 and 1); Zadrozny & Elkan 2002, "Transforming classifier scores
into accurate multiclass probability estimates" (isotonic, by pooling adjacent violators).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from focalcli.coco import Bools, Floats, Ints
from focalcli.detections import Detections
from focalcli.errors import FocalError

Method = Literal["platt", "temperature", "isotonic"]
FEWEST = 50  # detections, and a tenth of it of hits and of misses, that a fit needs
SHRINKAGE = 100  # detections at which a class's own map weighs half
_OWN_SHARE = 0.001  # of the score in a map: what keeps it rising
_SURE = 1e-7  # from 0 and 1, where the logit has no end


@dataclass(frozen=True)
class Scaling:
    """A rising map of scores.

    Attributes:
        temperature: divides the logit; above 1 it makes scores less sure. None for an isotonic map.
        points: (score, chance) pairs of an isotonic map, both rising; between them it is a straight line.
        shift: added to the divided logit; 0 where only a temperature was fitted.
    """

    temperature: float | None = None
    points: tuple[tuple[float, float], ...] = ()
    shift: float = 0.0

    def apply(self, scores: Floats) -> Floats:
        """(n,) what the scores become."""
        values = np.asarray(scores, dtype=np.float64)
        if self.temperature is not None:
            rising = np.array([_chance(value, self.temperature, self.shift) for value in values.tolist()])
        else:
            rising = np.interp(values, *np.array(self.points).T)
        return (1 - _OWN_SHARE) * rising + _OWN_SHARE * values

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for a checkpoint."""
        return {
            "temperature": self.temperature,
            "shift": self.shift,
            "points": [list(point) for point in self.points],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Scaling:
        """The inverse of to_dict."""
        points = tuple((at, chance) for at, chance in content["points"])
        if content["temperature"] is None and not points:
            raise ValueError("a map of scores has neither a temperature nor points")
        return cls(content["temperature"], points, content["shift"])


@dataclass(frozen=True)
class ClassScaling:
    """A map for each class.

    Attributes:
        common: fitted on all classes. own: class name -> its own map, and what it weighs beside the common one, 0..1.
    """

    common: Scaling
    own: Mapping[str, tuple[Scaling, float]] = field(default_factory=dict)

    def apply(self, scores: Floats, label: Ints, names: Sequence[str]) -> Floats:
        """(n,) what the scores become; equal ones of a class stay equal.

        Args:
            label: (n,) index into `names`, (K,).
        """
        result = np.empty(len(scores))
        for index in np.unique(label).tolist():
            rows = label == index
            values, place = np.unique(scores[rows], return_inverse=True)
            mapped = self.common.apply(values)
            if names[index] in self.own:
                scaling, weight = self.own[names[index]]
                mapped = weight * scaling.apply(values) + (1 - weight) * mapped
            result[rows] = mapped[place]
        return result

    def of_detections(self, detections: Detections, names: Sequence[str]) -> Detections:
        """The same detections with chances for scores, in the same order.

        Args:
            names: (K,) of the dataset's categories.
        """
        return replace(detections, scores=self.apply(detections.scores, detections.label, names), calibrated=True)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for a checkpoint."""
        own = {name: {**scaling.to_dict(), "weight": weight} for name, (scaling, weight) in self.own.items()}
        return {"common": self.common.to_dict(), "classes": own}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ClassScaling:
        """The inverse of to_dict."""
        own = {name: (Scaling.from_dict(entry), entry["weight"]) for name, entry in content["classes"].items()}
        return cls(Scaling.from_dict(content["common"]), own)


def fit(scores: Floats, hit: Bools, method: Method) -> Scaling:
    """The map under which these scores are nearest to their chances.

    Args:
        scores: (n,) 0..1. hit: (n,) True where the detection was right.

    Raises:
        FocalError: too few detections, nearly all right or all wrong, or the sure ones are right no more often.
    """
    hits = int(np.count_nonzero(hit))
    if len(scores) < FEWEST or min(hits, len(scores) - hits) < FEWEST // 10:
        raise FocalError(
            f"{len(scores)} detections, {hits} of them right, are too few to fit scores to; expected at least "
            f"{FEWEST}, with {FEWEST // 10} right and {FEWEST // 10} wrong",
            "calibrate on a larger split, or on all classes together",
        )
    values = np.asarray(scores, dtype=np.float64)
    if method == "isotonic":
        return _isotonic(values, hit)
    return Scaling(temperature=_temperature(values, hit)) if method == "temperature" else _platt(values, hit)


def fit_classes(
    scores: Floats, hit: Bools, label: Ints, names: Sequence[str], method: Method, per_class: bool
) -> ClassScaling:
    """One map for all, and for each class that has enough detections a map of its own.

    Args:
        label: (n,) index into `names`, (K,). per_class: False leaves only the one for all.

    Raises:
        FocalError: as fit, for all classes together.
    """
    common, own = fit(scores, hit, method), {}
    for index in np.unique(label).tolist() if per_class else ():
        rows = label == index
        try:
            own[names[index]] = fit(scores[rows], hit[rows], method), int(rows.sum()) / (int(rows.sum()) + SHRINKAGE)
        except FocalError:
            continue  # it has the common map
    return ClassScaling(common, own)


def _temperature(scores: Floats, hit: Bools) -> float:
    """That of the least negative log-likelihood, which is convex in 1 / temperature, so that its slope is bisected."""
    logit = _logit(scores)
    low, high = np.log(0.05), np.log(20.0)  # of 1 / temperature
    for _ in range(60):
        middle = (low + high) / 2
        slope = float(np.sum((_sigmoid(np.exp(middle) * logit) - hit) * logit))
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-middle))


def _platt(scores: Floats, hit: Bools) -> Scaling:
    """Factor and shift of the logit with the least negative log-likelihood, by Newton's method with halved steps."""
    columns = np.stack([_logit(scores), np.ones(len(scores))])  # (2, n)
    hits = int(np.count_nonzero(hit))
    target = np.where(hit, (hits + 1) / (hits + 2), 1 / (len(hit) - hits + 2))  # finite where scores tell all apart

    def loss(at: Floats) -> float:
        logit = at @ columns
        return float(np.sum(np.logaddexp(0, logit) - target * logit))

    at = np.array([1.0, 0.0])
    for _ in range(100):
        chance = _sigmoid(at @ columns)
        curvature = (columns * (chance * (1 - chance))) @ columns.T
        step = np.linalg.lstsq(curvature, columns @ (chance - target), rcond=None)[0]
        before = loss(at)
        while np.abs(step).max() > 1e-9 and loss(at - step) > before:
            step /= 2
        at = at - step
        if np.abs(step).max() < 1e-9:
            break
    if at[0] <= 0:
        raise FocalError(
            "sure detections are right no more often than unsure ones, so no rising map makes their scores chances",
            "look at the detector first: `focal eval --why`",
        )
    return Scaling(temperature=float(1 / at[0]), shift=float(at[1]))


def _isotonic(scores: Floats, hit: Bools) -> Scaling:
    """Neighbours whose shares of hits fall are pooled until none do; a pool stands at its mean score."""
    order = np.argsort(scores, kind="stable")
    values, first = np.unique(scores[order], return_index=True)
    sizes = np.diff(np.append(first, len(order)))
    hits = np.add.reduceat(hit[order].astype(np.float64), first)
    pools: list[list[float]] = []  # size, hits, sum of scores
    for size, n_hits, value in zip(sizes.tolist(), hits.tolist(), values.tolist(), strict=True):
        pools.append([size, n_hits, size * value])
        while len(pools) > 1 and pools[-2][1] * pools[-1][0] >= pools[-1][1] * pools[-2][0]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    points = [(total / size, n_hits / size) for size, n_hits, total in pools]
    return Scaling(points=tuple(points))


def _chance(score: float, temperature: float, shift: float) -> float:
    """One at a time: numpy may round the exponential of a number in two ways, by where it stands in an array, and so
    part detections of the same score."""
    near = min(max(score, _SURE), 1 - _SURE)
    logit = math.log(near / (1 - near)) / temperature + shift
    return 1 / (1 + math.exp(min(-logit, 700.0)))


def _logit(scores: Floats) -> Floats:
    near = np.clip(scores, _SURE, 1 - _SURE)
    return np.log(near / (1 - near))


def _sigmoid(values: Floats) -> Floats:
    return np.exp(-np.logaddexp(0, -values))
