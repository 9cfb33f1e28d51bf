"""Precision and recall of one class along the score, at IoU 0.5, and the score to cut at.

Source: the F1 score is van Rijsbergen's (1979), with precision and recall weighted alike.
Shapes: n detections of a class that are a hit or a miss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from focalcli.coco import Bools, Floats, Id

MOST_POINTS = 200  # of a curve in a file or a drawing


@dataclass(frozen=True)
class OperatingPoint:
    """What a detector does when only detections with a score of at least `threshold` are kept.

    The threshold is that of the best F1. It was chosen on the data that it is reported on, so new data will be a little
    worse.
    """

    threshold: float
    precision: float
    recall: float
    F1: float


@dataclass(frozen=True)
class PrCurve:
    """One class: precision and recall where the score falls below each of `scores`, at most MOST_POINTS of them."""

    name: str
    category_id: Id
    scores: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}


def along_scores(scores: Floats, hit: Bools, objects: int) -> tuple[Floats, Floats, Floats]:
    """The different scores, falling, and precision and recall of all that score as much or more.

    Args:
        scores: (n,) falling. hit: (n,) True for hits. objects: at least 1.
    """
    last = np.flatnonzero(np.r_[scores[1:] != scores[:-1], True][: len(scores)])
    hits = np.cumsum(hit)[last]
    return scores[last], hits / (last + 1), hits / objects


def operating_point(scores: Floats, hit: Bools, objects: int) -> OperatingPoint | None:
    """That of the best F1, of equals the highest score; None where there is no object or no hit."""
    if not objects or not hit.any():
        return None
    threshold, precision, recall = along_scores(scores, hit, objects)
    f1 = np.divide(2 * precision * recall, precision + recall, out=np.zeros(len(recall)), where=recall > 0)
    best = int(f1.argmax())
    return OperatingPoint(float(threshold[best]), float(precision[best]), float(recall[best]), float(f1[best]))


def pr_curve(name: str, category_id: Id, scores: Floats, hit: Bools, objects: int) -> PrCurve:
    """The curve of a class with objects; of a long one, points at even steps of recall."""
    threshold, precision, recall = along_scores(scores, hit, objects)
    if len(threshold) > MOST_POINTS:
        steps = np.linspace(0.0, recall[-1], MOST_POINTS)
        chosen = np.unique(np.searchsorted(recall, steps, side="left").clip(max=len(recall) - 1))
        threshold, precision, recall = threshold[chosen], precision[chosen], recall[chosen]
    return PrCurve(name, category_id, tuple(threshold.tolist()), tuple(precision.tolist()), tuple(recall.tolist()))
