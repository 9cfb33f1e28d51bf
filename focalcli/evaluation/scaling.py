"""Maps that make scores chances, fitted on one set of detections and applied to others.

Both rise all the way, so detections stay in their order and AP stays what it is: temperature divides the logit;
isotonic follows the share of hits, a hundredth part of the score mixed in where it would be flat.

Shapes: n detections. Scores are 0..1.
Sources: Guo et al. 2017, arXiv:1706.04599, sec. 4.2 (temperature); Zadrozny & Elkan 2002, "Transforming classifier
scores into accurate multiclass probability estimates" (isotonic, by pooling adjacent violators).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from focalcli.coco import Bools, Floats
from focalcli.errors import FocalError

Method = Literal["temperature", "isotonic"]
FEWEST = 50  # detections, and a tenth of it of hits and of misses, that a fit needs
_OWN_SHARE = 0.01  # of the score in an isotonic map: what keeps it rising
_SURE = 1e-7  # from 0 and 1, where the logit has no end


@dataclass(frozen=True)
class Scaling:
    """A rising map of scores.

    Attributes:
        temperature: divides the logit; above 1 it makes scores less sure. None for an isotonic map.
        points: (score, chance) pairs of an isotonic map, both rising; between them it is a straight line.
    """

    temperature: float | None = None
    points: tuple[tuple[float, float], ...] = ()

    def apply(self, scores: Floats) -> Floats:
        """(n,) what the scores become."""
        values = np.asarray(scores, dtype=np.float64)
        if self.temperature is not None:
            return _sigmoid(_logit(values) / self.temperature)
        at, chance = np.array(self.points).T
        return (1 - _OWN_SHARE) * np.interp(values, at, chance) + _OWN_SHARE * values

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for a checkpoint."""
        return {"temperature": self.temperature, "points": [list(point) for point in self.points]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Scaling:
        """The inverse of to_dict."""
        return cls(content["temperature"], tuple((at, chance) for at, chance in content["points"]))


def fit(scores: Floats, hit: Bools, method: Method) -> Scaling:
    """The map under which these scores are nearest to their chances.

    Args:
        scores: (n,) 0..1. hit: (n,) True where the detection was right.

    Raises:
        FocalError: too few detections, or nearly all right or all wrong.
    """
    hits = int(np.count_nonzero(hit))
    if len(scores) < FEWEST or min(hits, len(scores) - hits) < FEWEST // 10:
        raise FocalError(
            f"{len(scores)} detections, {hits} of them right, are too few to fit scores to; expected at least "
            f"{FEWEST}, with {FEWEST // 10} right and {FEWEST // 10} wrong",
            "calibrate on a larger split, or on all classes together",
        )
    return Scaling(temperature=_temperature(scores, hit)) if method == "temperature" else _isotonic(scores, hit)


def _temperature(scores: Floats, hit: Bools) -> float:
    """That of the least negative log-likelihood, which is convex in 1 / temperature, so that its slope is bisected."""
    logit = _logit(np.asarray(scores, dtype=np.float64))
    low, high = np.log(0.05), np.log(20.0)  # of 1 / temperature
    for _ in range(60):
        middle = (low + high) / 2
        slope = float(np.sum((_sigmoid(np.exp(middle) * logit) - hit) * logit))
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-middle))


def _isotonic(scores: Floats, hit: Bools) -> Scaling:
    """Neighbours whose shares of hits fall are pooled until none do; a pool stands at its mean score."""
    order = np.argsort(scores, kind="stable")
    values, first = np.unique(np.asarray(scores, dtype=np.float64)[order], return_index=True)
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


def _logit(scores: Floats) -> Floats:
    near = np.clip(scores, _SURE, 1 - _SURE)
    return np.log(near / (1 - near))


def _sigmoid(values: Floats) -> Floats:
    return 1 / (1 + np.exp(-values))
