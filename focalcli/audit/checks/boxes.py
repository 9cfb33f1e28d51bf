"""Boxes that are odd, each by itself or beside another."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt

from focalcli.audit.checks.finding import few, make
from focalcli.audit.report import PLACES, Finding
from focalcli.coco import Dataset, Floats, Ints

SAME_BOX_IOU = 0.98
BORDER_PX = 1.0  # beyond it a box is not just rounded
CORNERS_AT_LEAST, CORNERS_BEYOND = 20, 0.1  # boxes, and the share of them beyond the border
THIN = 20.0  # long side / short side
WHOLE, WHOLE_AT_LEAST, WHOLE_SHARE = 0.98, 10, 0.5  # of the picture's area; of a class's boxes
SAME_LIST = 3  # boxes: two pictures with fewer can have the same ones by chance


def of_boxes(split: str, dataset: Dataset) -> Iterator[Finding]:
    """What the boxes alone show."""
    yield from _repeated(split, dataset)
    if dataset.boxes.size and (dataset.boxes <= 1).all():
        yield from _normalised(split, dataset)
        return  # whatever else they seem to be comes from that
    corners = list(_corners(split, dataset))
    yield from corners or _beyond_border(split, dataset)
    yield from _below_a_pixel(split, dataset)
    yield from _thin(split, dataset)
    yield from _area_too_large(split, dataset)
    yield from _whole_pictures(split, dataset)
    yield from _same_lists(split, dataset)


def _about(code: str, split: str, dataset: Dataset, message: str, rows: Ints) -> Finding:
    """A finding on these boxes, the first of which the message names."""
    return make(
        code,
        split,
        message,
        count=len(rows),
        image_ids=[dataset.image_ids[dataset.box_image[row]] for row in rows[:PLACES]],
        annotation_ids=[dataset.annotation_ids[row] for row in rows[:PLACES]],
    )


def _text(box: Floats) -> str:
    return f"[{', '.join(f'{value:g}' for value in box)}]"


def _repeated(split: str, dataset: Dataset) -> Iterator[Finding]:
    first, second, iou = coincident_pairs(dataset)
    same = dataset.box_label[first] == dataset.box_label[second]
    if same.any():
        one, two = (dataset.annotation_ids[rows[same][0]] for rows in (first, second))
        name = dataset.class_names[dataset.box_label[first[same][0]]]
        message = f"annotation {two} repeats {one} ({name!r}, IoU {iou[same][0]:.2f})"
        yield _about("F104", split, dataset, message, np.unique(second[same]))
    if not same.all():
        one, two = first[~same][0], second[~same][0]
        names = [dataset.class_names[dataset.box_label[row]] for row in (one, two)]
        ids = [dataset.annotation_ids[row] for row in (one, two)]
        message = f"annotations {ids[0]} and {ids[1]} frame one object as {names[0]!r} and as {names[1]!r}"
        yield _about("F113", split, dataset, message, np.unique(second[~same]))


def duplicate_pairs(dataset: Dataset) -> tuple[Ints, Ints, Floats]:
    """coincident_pairs of one class."""
    first, second, iou = coincident_pairs(dataset)
    same = dataset.box_label[first] == dataset.box_label[second]
    return first[same], second[same], iou[same]


def coincident_pairs(dataset: Dataset) -> tuple[Ints, Ints, Floats]:
    """(P,) first and second box, in the file's order, and IoU of every two that are the same, sorted by the second.

    Two boxes whose left edges are d apart have an IoU of at most 1 - d / w, w the width of the left one. So in each
    picture, sorted by x, a box needs to look only as far as 0.02 w.
    """
    rows = np.flatnonzero(~dataset.iscrowd)
    x, y, w, h = dataset.boxes[rows].T
    group = dataset.box_image[rows]
    order = np.lexsort((x, group))
    rows, x, y, w, h, group = (column[order] for column in (rows, x, y, w, h, group))
    left, found = np.arange(len(rows)), []
    step = 1
    while left.size:
        left = left[left + step < len(rows)]
        right = left + step
        near = (group[left] == group[right]) & (x[right] - x[left] <= (1 - SAME_BOX_IOU) * w[left])
        left, right = left[near], right[near]
        with np.errstate(all="ignore"):  # where sides are beyond all measure nothing is the same
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


def _normalised(split: str, dataset: Dataset) -> Iterator[Finding]:
    rows = np.arange(len(dataset.boxes))
    yield _about("F109", split, dataset, f"every box is like {_text(dataset.boxes[0])}: fractions, not pixels", rows)


def _corners(split: str, dataset: Dataset) -> Iterator[Finding]:
    """Right and lower corners lie right of and below the others; widths and heights of real boxes do so at random."""
    x, y, w, h = dataset.boxes.T
    width, height = dataset.image_wh[dataset.box_image].T
    as_corners = (w > x) & (h > y) & (w <= width + BORDER_PX) & (h <= height + BORDER_PX)
    if len(x) < CORNERS_AT_LEAST or not as_corners.all():
        return
    rows = np.flatnonzero((x + w > width + BORDER_PX) | (y + h > height + BORDER_PX))
    if rows.size >= CORNERS_BEYOND * len(x):
        row, size = rows[0], dataset.image_wh[dataset.box_image[rows[0]]]
        message = f"{_text(dataset.boxes[row])} in {size[0]} x {size[1]}; as [x1, y1, x2, y2] all {len(x):,} boxes fit"
        yield _about("F108", split, dataset, message, rows)


def _beyond_border(split: str, dataset: Dataset) -> Iterator[Finding]:
    x, y, w, h = dataset.boxes.T
    wh = dataset.image_wh[dataset.box_image]
    width, height = wh.T
    with np.errstate(over="ignore"):  # in pictures of unknown size a box can be of any
        beyond = np.maximum(np.maximum(-x, -y), np.maximum(x + w - width, y + h - height))
    rows = np.flatnonzero((width > 0) & (height > 0) & (beyond > BORDER_PX))
    if rows.size:
        text, (width, height) = _text(dataset.boxes[rows[0]]), wh[rows[0]]
        message = f"box {text} in {width} x {height}; the worst reaches {beyond[rows].max():,.1f} px beyond the border"
        yield _about("F107", split, dataset, message, rows)


def _below_a_pixel(split: str, dataset: Dataset) -> Iterator[Finding]:
    w, h = dataset.boxes[:, 2:].T
    rows = np.flatnonzero((w < 1) | (h < 1))
    if rows.size:
        w, h = dataset.boxes[rows[0], 2:]
        yield _about("F110", split, dataset, f"a box of {w:.3g} x {h:.3g} px", rows)


def _thin(split: str, dataset: Dataset) -> Iterator[Finding]:
    w, h = dataset.boxes[:, 2:].T
    long, short = np.maximum(w, h), np.minimum(w, h)
    rows = np.flatnonzero((long / THIN > short) & (short >= 1))
    if rows.size:
        w, h = dataset.boxes[rows[0], 2:]
        name = dataset.class_names[dataset.box_label[rows[0]]]
        yield _about("F111", split, dataset, f"{name!r}: a box of {w:.4g} x {h:.4g} px", rows)


def _area_too_large(split: str, dataset: Dataset) -> Iterator[Finding]:
    """Two pixels are left to those who count both ends of a side, and to rounding."""
    w, h = dataset.boxes[:, 2:].T
    rows = np.flatnonzero(dataset.area / (w + 2) > h + 2)
    if rows.size:
        w, h = dataset.boxes[rows[0], 2:]
        yield _about("F112", split, dataset, f"`area` is {dataset.area[rows[0]]:,.8g}, the box {w:.4g} x {h:.4g}", rows)


def _whole_pictures(split: str, dataset: Dataset) -> Iterator[Finding]:
    objects = ~dataset.iscrowd
    width, height = dataset.image_wh[dataset.box_image].T
    left, top, right, bottom = dataset.boxes_xyxy.T
    whole = objects & (width > 0) & ((right - left) * (bottom - top) >= WHOLE * width * height)
    counts = np.bincount(dataset.box_label[whole], minlength=len(dataset.categories))
    of_class = dataset.objects_per_class
    labels = np.flatnonzero((counts >= WHOLE_AT_LEAST) & (counts >= WHOLE_SHARE * of_class))
    if labels.size:
        words = [f"{dataset.class_names[label]!r} {counts[label]:,} of {of_class[label]:,}" for label in labels]
        rows = np.flatnonzero(whole & (dataset.box_label == labels[0]))[:PLACES]
        yield make(
            "F114",
            split,
            f"boxes that frame the whole picture: {few(words)}",
            count=len(labels),
            image_ids=[dataset.image_ids[dataset.box_image[row]] for row in rows],
            annotation_ids=[dataset.annotation_ids[row] for row in rows],
        )


def _same_lists(split: str, dataset: Dataset) -> Iterator[Finding]:
    n = len(dataset.image_ids)
    sums = np.zeros(n, dtype=np.uint64)
    np.add.at(sums, dataset.box_image, _box_hashes(dataset))  # whatever the order of the boxes
    many = np.flatnonzero(np.bincount(dataset.box_image, minlength=n) >= SAME_LIST)
    _, group, size = np.unique(sums[many], return_inverse=True, return_counts=True)
    first: dict[tuple[tuple[float, ...], ...], int] = {}
    repeats: dict[int, int] = {}
    candidates = many[size[group] > 1]
    rows = np.flatnonzero(np.isin(dataset.box_image, candidates))
    rows = rows[np.argsort(dataset.box_image[rows], kind="stable")]
    for of_image in np.split(rows, np.flatnonzero(np.diff(dataset.box_image[rows])) + 1) if rows.size else ():
        index = int(dataset.box_image[of_image[0]])
        values = zip(dataset.box_label[of_image].tolist(), *dataset.boxes[of_image].T.tolist(), strict=True)
        twin = first.setdefault(tuple(sorted(values)), index)
        if twin != index:
            repeats[index] = twin
    if repeats:
        index, twin = next(iter(repeats.items()))
        message = f"image {dataset.image_ids[index]!r} has the very boxes of image {dataset.image_ids[twin]!r}"
        ids = [dataset.image_ids[index] for index in islice(repeats, PLACES)]
        yield make("F115", split, message, count=len(repeats), image_ids=ids)


def _box_hashes(dataset: Dataset) -> npt.NDArray[np.uint64]:
    """(B,) equal for boxes with the same numbers and class, nearly always different for others."""
    mixed = dataset.box_label.astype(np.uint64)
    for column in dataset.boxes.T:
        mixed = (mixed ^ np.ascontiguousarray(column + 0.0).view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed
