"""Which detection finds which object: COCO's greedy matching, for all images, classes and thresholds at once.

Within a cell (one image and one class) the surest detection chooses first, and takes the free object that it overlaps
most. What it prefers does not depend on what others do, so the pairs that overlap enough are sorted by preference once,
and round r lets the r-th detection of every cell choose, at every threshold, in one pass over arrays. The choices are
those of COCOeval.evaluateImg to the last one, ties included.

Shapes: D detections, N of them ranked, B boxes, P pairs, T thresholds. Boxes are xywh in pixels.
Source: pycocotools' cocoeval.py and maskApi.c (bbIou); https://cocodataset.org/#detection-eval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from focalcli.coco import Bools, Dataset, Floats, Ints
from focalcli.detections import Detections

MAX_DETS = 100  # per image and class: COCO looks at the best 100 and at no other
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_MOST = 1 - 1e-10  # of a threshold: COCOeval's own, so that 1.0 can be reached
_BLOCK_PAIRS = 500_000  # looked at together, which is 30 MB


@dataclass(frozen=True)
class Ranked:
    """The detections that COCO looks at, by class, and surest first within it.

    Attributes:
        index: (N,) into Detections; equal scores stand in the order of the images' ids, then in that of the file.
        label, image, scores, boxes: (N, ...) of these detections; boxes and scores as float64.
        rank: (N,) place among those of the same image and class, from 0.
        starts: (K + 1,) those of class k stand at starts[k] to starts[k + 1].
        beyond: detections past the best MAX_DETS of their image and class.
    """

    index: Ints
    label: Ints
    image: Ints
    scores: Floats
    boxes: Floats
    rank: Ints
    starts: Ints
    beyond: int

    def __len__(self) -> int:
        return len(self.index)


class Pairs(NamedTuple):
    """(P,) detections and boxes that overlap: place in Ranked, index into Dataset.boxes, IoU as COCO computes it."""

    found: Ints
    truth: Ints
    iou: Floats

    def only(self, keep: Bools) -> Pairs:
        """Those of `keep`, (P,)."""
        return Pairs(self.found[keep], self.truth[keep], self.iou[keep])


class Matches(NamedTuple):
    """(E,) what was matched, by threshold and then by place in Ranked.

    Attributes:
        threshold: index into the thresholds. found: place in Ranked. truth: index into Dataset.boxes.
        ignored: the object is a crowd or out of the area range, so the detection is neither hit nor miss.
    """

    threshold: Ints
    found: Ints
    truth: Ints
    ignored: Bools


def image_order(dataset: Dataset) -> Ints:
    """(I,) place of each image in the order of their ids, by which COCOeval breaks ties of score."""
    ids = dataset.image_ids
    place = np.empty(len(ids), dtype=np.int64)
    place[sorted(range(len(ids)), key=lambda index: (isinstance(ids[index], str), ids[index]))] = np.arange(len(ids))
    return place


def rank(dataset: Dataset, detections: Detections, labels: list[int]) -> Ranked:
    """The best MAX_DETS detections of each image and class in `labels`."""
    place = image_order(dataset)[detections.image]
    chosen = np.zeros(len(dataset.categories), dtype=np.bool_)
    chosen[labels] = True
    index = _sorted_by(place, np.flatnonzero(chosen[detections.label]))
    index = index[np.argsort(-detections.scores[index], kind="stable")]
    index = _sorted_by(detections.label, index)
    within = _sorted_by(detections.label[index], _sorted_by(place[index], np.arange(len(index))))
    places = np.empty_like(within)
    places[within] = rank_in_group(detections.label[index[within]] * len(dataset.image_ids) + place[index[within]])
    seen = places < MAX_DETS
    index, places = index[seen], places[seen]
    label = detections.label[index]
    return Ranked(
        index=index,
        label=label,
        image=detections.image[index],
        scores=detections.scores[index].astype(np.float64),
        boxes=detections.boxes[index].astype(np.float64),  # a float32 area can fall on the other side of 32^2
        rank=places,
        starts=np.searchsorted(label, np.arange(len(dataset.categories) + 1)),
        beyond=int((~seen).sum()),
    )


def _sorted_by(key: Ints, rows: Ints) -> Ints:
    """`rows` in the order of key[rows], equals as they stand; numpy sorts short integers ten times faster."""
    short = key[rows].astype(np.min_scalar_type(int(key.max(initial=0))))
    return rows[np.argsort(short, kind="stable")]


def rank_in_group(group: Ints) -> Ints:
    """(N,) how many of the same group stand before, where each group stands together."""
    rows = np.arange(len(group))
    return rows - np.maximum.accumulate(np.where(_starts_anew(group), rows, 0))


def overlaps(ranked: Ranked, dataset: Dataset, least_iou: float, *, same_class: bool = True) -> Pairs:
    """Every detection and box of an image, and of a class, whose IoU is at least `least_iou`, by place in Ranked.

    With a crowd COCO divides by the detection's area alone, so that a part of it counts as all of it.
    """
    if not len(dataset.boxes):
        return Pairs(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))
    width = len(dataset.categories) if same_class else 1
    found_cell = ranked.image * width + (ranked.label if same_class else 0)
    truth_cell = dataset.box_image * width + (dataset.box_label if same_class else 0)
    by_cell = np.argsort(truth_cell, kind="stable")
    sorted_cells = truth_cell[by_cell]
    cells, begins, sizes = np.unique(sorted_cells, return_index=True, return_counts=True)
    near = np.searchsorted(cells, found_cell).clip(max=len(cells) - 1)
    first, count = begins[near], np.where(cells[near] == found_cell, sizes[near], 0)
    parts = []
    for rows in _blocks(count):
        found = np.repeat(rows, count[rows])
        within = np.arange(len(found)) - np.repeat(np.cumsum(count[rows]) - count[rows], count[rows])
        parts.append(_near(ranked, dataset, found, by_cell[first[found] + within], least_iou))
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _blocks(count: Ints) -> Iterator[Ints]:
    """Rows that have any pair, in blocks of not much more than _BLOCK_PAIRS pairs; at least one block."""
    rows = np.flatnonzero(count)
    cuts = np.flatnonzero(np.diff(np.cumsum(count[rows]) // _BLOCK_PAIRS)) + 1
    yield from np.split(rows, cuts)


def _near(ranked: Ranked, dataset: Dataset, found: Ints, truth: Ints, least_iou: float) -> Pairs:
    """Those of the pairs that overlap enough, by the operations of maskApi.c (bbIou), to the last bit."""
    sides = []
    for axis in (0, 1):
        low, size = ranked.boxes[:, axis], ranked.boxes[:, axis + 2]
        box_low, box_size = dataset.boxes[:, axis], dataset.boxes[:, axis + 2]
        side = np.minimum((low + size)[found], (box_low + box_size)[truth]) - np.maximum(low[found], box_low[truth])
        meet = side > 0
        found, truth = found[meet], truth[meet]
        sides = [*(earlier[meet] for earlier in sides), side[meet]]
    common = sides[0] * sides[1]
    area = ranked.boxes[found, 2] * ranked.boxes[found, 3]
    box_area = dataset.boxes[truth, 2] * dataset.boxes[truth, 3]
    iou = common / np.where(dataset.iscrowd[truth], area, area + box_area - common)
    near = iou >= least_iou
    return Pairs(found[near], truth[near], iou[near])


class Queue(NamedTuple):
    """The order in which detections choose, and what each of them prefers.

    Attributes:
        pairs: by round, then by detection, then the higher IoU first, of equals the later box of the file.
        detection: (P,) which of the choosers, counted in that order. rounds: where the pairs of each round begin, and
            the end.
    """

    pairs: Pairs
    detection: Ints
    rounds: Ints


def queue(ranked: Ranked, pairs: Pairs) -> Queue:
    """The r-th detection of each image and class that has any pair chooses in round r."""
    first = _starts_anew(pairs.found)
    choosers = pairs.found[first]
    cell = ranked.image[choosers] * (int(ranked.label.max(initial=0)) + 1) + ranked.label[choosers]
    order = np.lexsort((ranked.rank[choosers], cell))
    turn = np.empty_like(order)
    turn[order] = rank_in_group(cell[order])
    turn = turn[np.cumsum(first) - 1]
    order = np.lexsort((-pairs.truth, -pairs.iou, pairs.found, turn))
    pairs, turn = pairs.only(order), turn[order]
    rounds = np.searchsorted(turn, np.arange(int(turn.max(initial=-1)) + 2))
    return Queue(pairs, np.cumsum(_starts_anew(pairs.found)), rounds)


def _starts_anew(values: Ints) -> Bools:
    """(n,) True where a value is not the one before it."""
    first = np.ones(len(values), dtype=np.bool_)
    first[1:] = values[1:] != values[:-1]
    return first


def choose(waiting: Queue, ignored: Bools, crowd: Bools, thresholds: Floats) -> Matches:
    """Let every detection choose, the surest of each image and class first.

    Args:
        ignored: (B,) boxes that are taken only where no other is free. crowd: (B,) those that are never used up.
        thresholds: (T,) the IoU that a match needs.
    """
    order = np.argsort(2 * waiting.detection + ignored[waiting.pairs.truth], kind="stable")
    found, truth, iou = waiting.pairs.only(order)
    first = _starts_anew(found)
    near = iou[:, None] >= np.minimum(thresholds, _MOST)  # (P, T)
    number = np.arange(len(found), dtype=np.int32)[:, None]
    taken = np.zeros((len(ignored), len(thresholds)), dtype=np.bool_)
    chosen: list[Ints] = [np.zeros((2, 0), dtype=np.int64)]
    for start, end in pairwise(waiting.rounds.tolist()):
        free = near[start:end] & ~taken[truth[start:end]]
        pair = np.where(free, number[start:end], np.int32(len(found)))
        best = np.minimum.reduceat(pair, np.flatnonzero(first[start:end]), axis=0)  # (detections of this round, T)
        which, threshold = np.nonzero(best < len(found))
        best = best[which, threshold]
        taken[truth[best], threshold] = ~crowd[truth[best]]
        chosen.append(np.stack([best, threshold]))
    pair, threshold = np.concatenate(chosen, axis=1)
    order = np.lexsort((found[pair], threshold))
    pair, threshold = pair[order], threshold[order]
    return Matches(threshold, found[pair], truth[pair], ignored[truth[pair]])


class Outcome(NamedTuple):
    """(N,) what became of each ranked detection at one threshold.

    Attributes:
        truth: index into Dataset.boxes, -1 where it matched nothing. ignored: it matched a crowd: neither hit nor miss.
        hit: it found an object.
    """

    truth: Ints
    ignored: Bools
    hit: Bools


def outcome(ranked: Ranked, matches: Matches, threshold: int = 0) -> Outcome:
    """At IOU_THRESHOLDS[threshold], which is 0.5 without it."""
    rows = slice(*np.searchsorted(matches.threshold, [threshold, threshold + 1]))
    truth = np.full(len(ranked), -1)
    truth[matches.found[rows]] = matches.truth[rows]
    ignored = np.zeros(len(ranked), dtype=np.bool_)
    ignored[matches.found[rows]] = matches.ignored[rows]
    return Outcome(truth, ignored, (truth >= 0) & ~ignored)
