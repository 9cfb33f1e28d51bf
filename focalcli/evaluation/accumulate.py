"""From matches to COCO's precision and recall, as COCOeval.accumulate computes them, bit for bit.

Precision can rise only where an object is found, so the curves are worked out at the matches alone: what lies between
them is counted, not walked through.

Shapes: T thresholds, R = 101 recalls, K classes, A = 4 area ranges (any, small, medium, large), M = 3 limits of
detections (1, 10, 100); N ranked detections.
Source: pycocotools' cocoeval.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from focalcli.coco import Bools, Dataset, Floats, Ints
from focalcli.evaluation.matching import IOU_THRESHOLDS, MAX_DETS, Matches, Ranked, choose, overlaps, queue

RECALLS = np.linspace(0.0, 1.0, 101)
AREA_RANGES = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
LIMITS = (1, 10, MAX_DETS)


def precision_and_recall(dataset: Dataset, ranked: Ranked, labels: list[int]) -> tuple[Floats, Floats, Matches]:
    """Precision (T, R, K, A) at 100 detections and recall (T, K, A, M), K being `labels`; -1 without objects.

    The matches are those of any area.
    """
    waiting = queue(ranked, overlaps(ranked, dataset, float(IOU_THRESHOLDS[0])))
    precision = -np.ones((len(IOU_THRESHOLDS), len(RECALLS), len(labels), len(AREA_RANGES)))
    recall = -np.ones((len(IOU_THRESHOLDS), len(labels), len(AREA_RANGES), len(LIMITS)))
    found_area = ranked.boxes[:, 2] * ranked.boxes[:, 3]
    of_any_area = None
    for number, (low, high) in enumerate(AREA_RANGES):
        ignored = dataset.iscrowd | (dataset.area < low) | (dataset.area > high)
        objects = np.bincount(dataset.box_label[~ignored], minlength=len(dataset.categories))
        matches = choose(waiting, ignored, dataset.iscrowd, IOU_THRESHOLDS)
        of_any_area = of_any_area or matches
        curves = Curves(ranked, matches, (found_area >= low) & (found_area <= high))
        for k, label in enumerate(labels):
            if not objects[label]:
                continue
            for t in range(len(IOU_THRESHOLDS)):
                hits = curves.hits(t, label)
                precision[t, :, k, number] = interpolated(hits.counted, int(objects[label]))
                for m, limit in enumerate(LIMITS):
                    recall[t, k, number, m] = np.count_nonzero(hits.rank < limit) / objects[label]
    return precision, recall, of_any_area


def interpolated(counted: Ints, objects: int) -> Floats:
    """(R,) the best precision at each recall or a higher one, 0 beyond the last.

    Args:
        counted: (n,) detections that are a hit or a miss, up to and with each hit.
    """
    result = np.zeros(len(RECALLS))
    if len(counted):
        hits = np.arange(1, len(counted) + 1)
        best = np.maximum.accumulate((hits / (counted + np.spacing(1)))[::-1])[::-1]
        place = np.searchsorted(hits / objects, RECALLS, side="left")
        reached = place < len(hits)
        result[reached] = best[place[reached]]
    return result


class Hits(NamedTuple):
    """(n,) the detections of a class that find an object, surest first.

    Attributes:
        found: place in Ranked. rank: among those of its image and class.
        counted: detections that are a hit or a miss, up to and with this one.
    """

    found: Ints
    rank: Ints
    counted: Ints


class Curves:
    """The hits of every threshold and class."""

    def __init__(self, ranked: Ranked, matches: Matches, inside: Bools) -> None:
        """`inside`: (N,) detections that are a miss where they match nothing."""
        label = ranked.label[matches.found]
        self._classes = len(ranked.starts) - 1
        group = matches.threshold * self._classes + label
        starts = np.searchsorted(group, np.arange(len(IOU_THRESHOLDS) * self._classes + 1))
        before = np.concatenate([[0], np.cumsum(inside)])
        counted = before[matches.found + 1] - before[ranked.starts[label]]
        # what `inside` alone gets wrong: a hit of another size counts, a match with an ignored object does not
        change = (~matches.ignored).astype(np.int64) - inside[matches.found]
        changed = np.concatenate([[0], np.cumsum(change)])
        counted += changed[1:] - changed[starts[group]]

        hit = np.flatnonzero(~matches.ignored)
        self._starts = np.searchsorted(hit, starts)
        self._found, self._rank, self._counted = matches.found[hit], ranked.rank[matches.found[hit]], counted[hit]

    def hits(self, threshold: int, label: int) -> Hits:
        place = threshold * self._classes + label
        rows = slice(self._starts[place], self._starts[place + 1])
        return Hits(self._found[rows], self._rank[rows], self._counted[rows])
