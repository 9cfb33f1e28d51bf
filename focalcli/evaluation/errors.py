"""What each wrong detection got wrong, and what putting it right would be worth: the error types of TIDE.

A detection that is no hit at IoU 0.5 has one error, the first that fits:
    localisation    right class, but IoU from 0.1 to below 0.5 with the object it overlaps most
    classification  IoU of at least 0.5 with an object of another class
    duplicate       right class and place, but a surer detection has the object
    background      IoU of at most 0.1 with every object
    both            the rest: wrong class and wrong place
An object that nothing finds and no classification or localisation error would have found is missed.

The worth of a type is the AP50 that a class would gain if all errors of that type, in all classes, were put right:
classification and localisation errors become hits (one for each object that was not found, the surest; the others go
away), the other detections go away, missed objects are not asked for. The gains of the types do not add up.

Shapes: N ranked detections, B boxes, K classes.
Source: Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection Errors", arXiv:2008.08115, sec. 2.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from focalcli.coco import Bools, Dataset, Id, Ints
from focalcli.detections import Detections
from focalcli.evaluation.accumulate import interpolated
from focalcli.evaluation.matching import (
    IOU_THRESHOLDS,
    Outcome,
    Pairs,
    Ranked,
    choose,
    outcome,
    overlaps,
    queue,
    rank,
    rank_in_group,
)

TYPES = ("classification", "localisation", "both", "duplicate", "background", "missed")
FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1
_CLS, _LOC, _BOTH, _DUP, _BKG, _MISS = range(6)
_NONE = -1  # a hit, or a detection on a crowd


@dataclass(frozen=True)
class ClassErrors:
    """One class.

    Attributes:
        n_val: objects. hits: of them found at IoU 0.5, at any score.
        counts: error type -> detections that this class was called for (missed: objects of it).
        gains: error type -> AP50 that putting it right would add; None where there is no object.
    """

    name: str
    category_id: Id
    n_val: int
    hits: int
    counts: dict[str, int]
    gains: dict[str, float | None]


@dataclass(frozen=True)
class Errors:
    """Of every class, and of their mean.

    Attributes:
        gains: error type -> what the mean AP50 would gain; None where no class has an object.
        false_positives_without_objects: detections of classes that have no object, which AP does not see.
    """

    classes: tuple[ClassErrors, ...]
    counts: dict[str, int]
    gains: dict[str, float | None]
    false_positives_without_objects: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with the IoU cuts."""
        return {"foreground_iou": FOREGROUND_IOU, "background_iou": BACKGROUND_IOU, **asdict(self)}


def find_errors(dataset: Dataset, detections: Detections, labels: list[int] | None = None) -> Errors:
    """The errors of the best 100 detections of each image and class.

    Args:
        labels: look only at these indices into dataset.categories.
    """
    chosen = list(range(len(dataset.categories))) if labels is None else sorted(set(labels))
    ranked = rank(dataset, detections, chosen)
    pairs = overlaps(ranked, dataset, BACKGROUND_IOU, same_class=False)
    same = ranked.label[pairs.found] == dataset.box_label[pairs.truth]
    own = pairs.only(same & (pairs.iou >= FOREGROUND_IOU))
    at_half = outcome(ranked, choose(queue(ranked, own), dataset.iscrowd, dataset.iscrowd, IOU_THRESHOLDS[:1]))
    objects = ~dataset.iscrowd[pairs.truth]
    own, other = pairs.only(objects & same), pairs.only(objects & ~same)
    kind, aim = _types(ranked, at_half, own, other)

    wanted = ~dataset.iscrowd & np.isin(dataset.box_label, chosen)
    found = np.zeros(len(dataset.boxes), dtype=np.bool_)
    found[at_half.truth[at_half.hit]] = True
    aimed_at = np.zeros_like(found)
    aimed_at[aim[aim >= 0]] = True
    missed = wanted & ~found & ~aimed_at

    n_val = np.bincount(dataset.box_label[wanted], minlength=len(dataset.categories))
    gains = _gains(dataset, ranked, at_half, kind, aim, found, missed, n_val)
    classes = []
    for label in chosen:
        rows = slice(ranked.starts[label], ranked.starts[label + 1])
        counts = np.bincount(kind[rows] + 1, minlength=len(TYPES) + 1)[1:]
        counts[_MISS] = np.count_nonzero(missed & (dataset.box_label == label))
        category = dataset.categories[label]
        entry = ClassErrors(
            name=category.name,
            category_id=category.id,
            n_val=int(n_val[label]),
            hits=int(np.count_nonzero(at_half.hit[rows])),
            counts=dict(zip(TYPES, counts.tolist(), strict=True)),
            gains={name: gains[name][label] for name in TYPES},
        )
        classes.append(entry)
    return Errors(
        classes=tuple(classes),
        counts={name: sum(entry.counts[name] for entry in classes) for name in TYPES},
        gains={name: _mean([entry.gains[name] for entry in classes]) for name in TYPES},
        false_positives_without_objects=sum(sum(e.counts.values()) for e in classes if not e.n_val),
    )


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _types(ranked: Ranked, at_half: Outcome, own: Pairs, other: Pairs) -> tuple[Ints, Ints]:
    """(N,) the type of each detection, _NONE for hits; (N,) the object that a right class or place would have found."""
    own_iou, own_truth = _most(len(ranked), own)
    other_iou, other_truth = _most(len(ranked), other)
    kind = np.full(len(ranked), _BOTH)
    kind[np.maximum(own_iou, other_iou) <= BACKGROUND_IOU] = _BKG
    kind[own_iou >= FOREGROUND_IOU] = _DUP
    kind[other_iou >= FOREGROUND_IOU] = _CLS
    kind[(own_iou >= BACKGROUND_IOU) & (own_iou < FOREGROUND_IOU)] = _LOC
    kind[at_half.hit | at_half.ignored] = _NONE
    aim = np.where(kind == _CLS, other_truth, np.where(kind == _LOC, own_truth, -1))
    return kind, aim


def _most(n: int, pairs: Pairs) -> tuple[Ints, Ints]:
    """(n,) the highest IoU of each detection, 0 without any, and with which box, -1 without any."""
    order = np.lexsort((-pairs.truth, pairs.iou, pairs.found))  # the last of each detection is the one
    found, truth, value = (column[order] for column in pairs)
    last = np.r_[found[1:] != found[:-1], True][: len(found)]
    iou, which = np.zeros(n), np.full(n, -1)
    iou[found[last]], which[found[last]] = value[last], truth[last]
    return iou, which


def _gains(
    dataset: Dataset,
    ranked: Ranked,
    at_half: Outcome,
    kind: Ints,
    aim: Ints,
    found: Bools,
    missed: Bools,
    n_val: Ints,
) -> dict[str, list[float | None]]:
    """Error type -> (K,) what putting it right adds to the AP50 of each class."""
    counts = ~at_half.ignored
    base = _ap50(ranked.label, at_half.hit, counts, n_val)
    # of all that would have found the same object, only the surest may
    aimed = np.flatnonzero(aim >= 0)
    aimed = aimed[~found[aim[aimed]]]
    aimed = aimed[np.lexsort((-ranked.scores[aimed], aim[aimed]))]
    saves = np.zeros(len(ranked), dtype=np.bool_)
    saves[aimed[rank_in_group(aim[aimed]) == 0]] = True
    result = {}
    for number, name in enumerate(TYPES):
        if number == _MISS:
            asked_for = n_val - np.bincount(dataset.box_label[missed], minlength=len(n_val))
            fixed = _ap50(ranked.label, at_half.hit, counts, asked_for)
        elif number in (_CLS, _LOC):
            saved = saves & (kind == number)
            label = ranked.label.copy()
            label[saved] = dataset.box_label[aim[saved]]
            keep = counts & ((kind != number) | saved)
            by_class = np.lexsort((-ranked.scores, label)) if number == _CLS else slice(None)
            fixed = _ap50(label[by_class], (at_half.hit | saved)[by_class], keep[by_class], n_val)
        else:
            fixed = _ap50(ranked.label, at_half.hit, counts & (kind != number), n_val)
        result[name] = [
            None if before is None else (1.0 if after is None else after) - before  # None: nothing is left to find
            for before, after in zip(base, fixed, strict=True)
        ]
    return result


def _ap50(label: Ints, hit: Bools, counts: Bools, n_val: Ints) -> list[float | None]:
    """(K,) of detections sorted by class and then by score; None without objects."""
    label, hit = label[counts], hit[counts]
    starts = np.searchsorted(label, np.arange(len(n_val) + 1))
    result: list[float | None] = []
    for k, objects in enumerate(n_val.tolist()):
        places = np.flatnonzero(hit[starts[k] : starts[k + 1]]) + 1
        result.append(float(interpolated(places, objects).mean()) if objects else None)
    return result
