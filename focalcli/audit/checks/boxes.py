"""Boxes that are odd, each by itself or beside another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from focalcli.audit.checks.finding import make
from focalcli.audit.report import PLACES, Finding
from focalcli.coco import Dataset, Floats, Ints

SAME_BOX_IOU = 0.98
BORDER_PX = 1.0  # beyond it a box is not just rounded


def duplicates(split: str, dataset: Dataset) -> Iterator[Finding]:
    first, second, iou = duplicate_pairs(dataset)
    if not len(first):
        return
    one, two = dataset.annotation_ids[first[0]], dataset.annotation_ids[second[0]]
    name = dataset.class_names[dataset.box_label[first[0]]]
    repeated = np.unique(second)
    yield make(
        "F104",
        split,
        f"annotation {two} repeats {one} ({name!r}, IoU {iou[0]:.2f})",
        count=len(repeated),
        image_ids=[dataset.image_ids[dataset.box_image[row]] for row in repeated[:PLACES]],
        annotation_ids=[dataset.annotation_ids[row] for row in repeated[:PLACES]],
    )


def duplicate_pairs(dataset: Dataset) -> tuple[Ints, Ints, Floats]:
    """(P,) first and second box, in the file's order, and IoU of every two that are the same, sorted by the second.

    Two boxes whose left edges are d apart have an IoU of at most 1 - d / w, w the width of the left one. So in each
    picture and class, sorted by x, a box needs to look only as far as 0.02 w.
    """
    rows = np.flatnonzero(~dataset.iscrowd)
    x, y, w, h = dataset.boxes[rows].T
    group = dataset.box_image[rows] * len(dataset.categories) + dataset.box_label[rows]
    order = np.lexsort((x, group))
    rows, x, y, w, h, group = (column[order] for column in (rows, x, y, w, h, group))
    left, found = np.arange(len(rows)), []
    step = 1
    while left.size:
        left = left[left + step < len(rows)]
        right = left + step
        near = (group[left] == group[right]) & (x[right] - x[left] <= (1 - SAME_BOX_IOU) * w[left])
        left, right = left[near], right[near]
        inter_w = np.minimum(x[left] + w[left], x[right] + w[right]) - x[right]
        inter_h = np.minimum(y[left] + h[left], y[right] + h[right]) - np.maximum(y[left], y[right])
        inter = np.maximum(inter_w, 0) * np.maximum(inter_h, 0)
        iou = inter / (w[left] * h[left] + w[right] * h[right] - inter)
        same = iou >= SAME_BOX_IOU
        found.append((rows[left[same]], rows[right[same]], iou[same]))
        step += 1
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return none, none, none.astype(np.float64)
    a, b, iou = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(np.maximum(a, b), kind="stable")
    return np.minimum(a, b)[order], np.maximum(a, b)[order], iou[order]


def beyond_border(split: str, dataset: Dataset) -> Iterator[Finding]:
    x, y, w, h = dataset.boxes.T
    wh = dataset.image_wh[dataset.box_image]
    beyond = np.max([-x, -y, x + w - wh[:, 0], y + h - wh[:, 1]], axis=0, initial=-np.inf)
    rows = np.flatnonzero((wh > 0).all(axis=1) & (beyond > BORDER_PX))
    if rows.size:
        box, (width, height) = dataset.boxes[rows[0]], wh[rows[0]]
        text = ", ".join(f"{value:g}" for value in box)
        yield make(
            "F107",
            split,
            f"box [{text}] in {width} x {height}; the worst reaches {beyond[rows].max():,.1f} px beyond the border",
            count=len(rows),
            image_ids=[dataset.image_ids[dataset.box_image[row]] for row in rows[:PLACES]],
            annotation_ids=[dataset.annotation_ids[row] for row in rows[:PLACES]],
        )
