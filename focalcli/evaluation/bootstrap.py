"""How far AP could be off by the luck of which images were drawn: the bootstrap over images.

Each round draws as many images as there are, with replacement; a detection and an object count as often as their image
was drawn. Detections are matched once, since a match never depends on another image, and each round is only a weighted
count along the same sorted list.

The same `seed` draws the same images, so the difference of two detectors on one dataset can be taken round by round
(the paired bootstrap).

Shapes: I images, K classes, b rounds, N ranked detections.
Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 6 and 13.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from focalcli.coco import Dataset, Floats, Ints
from focalcli.evaluation.accumulate import RECALLS
from focalcli.evaluation.matching import IOU_THRESHOLDS, Matches, Ranked

CONFIDENCE = 0.95
_BLOCK = 2_000_000  # detections x rounds counted together: 20 MB
Interval = tuple[float, float]


@dataclass(frozen=True)
class Replicates:
    """AP of each round, (b, K); NaN where the round drew no object of the class.

    Attributes:
        AP50: at IoU 0.5. AP: the mean over COCO's thresholds.
    """

    AP50: Floats
    AP: Floats

    def mean(self, name: str, classes: list[int]) -> Floats:
        """(b,) the mean over the classes that a round has objects of."""
        values = getattr(self, name)[:, classes]
        defined = ~np.isnan(values)
        count = defined.sum(axis=1)
        total = np.where(defined, values, 0.0).sum(axis=1)
        return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)


def interval(values: Floats, measured: float, *, least: float = 0.0) -> Interval | None:
    """The 95 % interval around `measured`; None where less than half of the rounds are defined.

    A round repeats images, and repeats raise the best precision of a class with few objects, in every round alike. That
    is no luck of the draw: the values are shifted until their mean is the measured one.

    Args:
        least: that the value can be; the most is 1.
    """
    defined = values[~np.isnan(values)]
    if len(defined) == 0 or 2 * len(defined) < len(values):
        return None
    ends = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) + (measured - defined.mean())
    low, high = np.clip(ends, least, 1.0).tolist()
    return low, high


def draws(images: int, rounds: int, seed: int) -> Ints:
    """(b, I) how often each image was drawn."""
    rng = np.random.default_rng(seed)
    counts = np.stack([np.bincount(rng.integers(images, size=images), minlength=images) for _ in range(rounds)])
    return counts.astype(np.min_scalar_type(int(counts.max())))


def replicates(dataset: Dataset, ranked: Ranked, matches: Matches, labels: list[int], weights: Ints) -> Replicates:
    """AP of each class in `labels` with every image counted `weights` times.

    Args:
        matches: of any area, at COCO's thresholds. weights: (b, I).
    """
    result = np.full((len(IOU_THRESHOLDS), len(weights), len(labels)), np.nan)
    classes = len(dataset.categories)
    group = matches.threshold * classes + ranked.label[matches.found]
    starts = np.searchsorted(group, np.arange(len(IOU_THRESHOLDS) * classes + 1))
    objects = np.flatnonzero(~dataset.iscrowd)
    for k, label in enumerate(labels):
        start, end = ranked.starts[label], ranked.starts[label + 1]
        image = ranked.image[start:end]
        holds = dataset.box_image[objects[dataset.box_label[objects] == label]]
        block = max(1, _BLOCK // max(1, len(image)))
        for first in range(0, len(weights), block):
            drawn = weights[first : first + block]
            n = drawn.take(holds, axis=1).sum(axis=1, dtype=np.int64)
            counted = np.cumsum(drawn.take(image, axis=1), axis=1, dtype=np.int32)
            for t in range(len(IOU_THRESHOLDS)):
                rows = slice(starts[t * classes + label], starts[t * classes + label + 1])
                place, ignored = matches.found[rows] - start, matches.ignored[rows]
                ap = _weighted_ap(drawn, image, counted, place[~ignored], place[ignored], np.maximum(n, 1))
                result[t, first : first + block, k] = np.where(n > 0, ap, np.nan)
    return Replicates(AP50=result[0], AP=result.mean(axis=0))


def _weighted_ap(drawn: Ints, image: Ints, counted: Ints, hits: Ints, ignored: Ints, objects: Ints) -> Floats:
    """(b,) AP of one class at one threshold: the mean over COCO's 101 recalls of the best precision there or beyond.

    Args:
        drawn: (b, I). image: (n,) of each detection of the class. counted: (b, n) detections so far, by weight.
        hits, ignored: places of those that found an object, and of those that found a crowd. objects: (b,) above 0.
    """
    if not len(hits):
        return np.zeros(len(drawn))
    found = np.cumsum(drawn.take(image[hits], axis=1), axis=1, dtype=np.int32)  # (b, hits)
    total = counted.take(hits, axis=1)
    if len(ignored):
        left_out = np.cumsum(drawn.take(image[ignored], axis=1), axis=1, dtype=np.int32)
        before = np.searchsorted(ignored, hits)
        total = total - np.pad(left_out, ((0, 0), (1, 0))).take(before, axis=1)
    precision = found / np.maximum(total, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = found / objects[:, None]
    reached = (recall * 100 + 0.5).astype(np.int64)  # the last of the 101 recalls that is not above this one
    reached -= RECALLS[reached] > recall
    steps = np.diff(reached, axis=1, prepend=-1)
    return (best * steps).sum(axis=1) / len(RECALLS)
