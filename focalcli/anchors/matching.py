"""The matcher: which anchors go to which boxes.

Shapes: as in anchors/__init__.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from focalcli.anchors.grid import LEVELS, AnchorSpec, Floats32, Ints, anchors_per_image, first_anchor

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.4
BOXES_AT_ONCE = 20_000  # bounds the memory of one pass: 45 shapes each, a few hundred bytes a shape


@dataclass(frozen=True)
class Matches:
    """Every anchor that is not background, sorted by image and anchor.

    Attributes:
        image, anchor, level: (M,) whose anchor, its index within the picture, its level 0 to 4.
        box: (M,) index of the box that it overlaps most.
        positive: (M,) True where it is a positive of that box, False where it is ignored (0.4 <= IoU < 0.5).
        iou: (M,) overlap with its box.
        best_iou: (B,) overlap of each box with its best anchor.
    """

    image: Ints
    anchor: Ints
    level: Ints
    box: Ints
    positive: npt.NDArray[np.bool_]
    iou: Floats32
    best_iou: Floats32


@dataclass(frozen=True)
class MatchCounts:
    """Matches, counted for each box.

    Attributes:
        positives: (B, L) anchors of each level that are positives of the box.
        ignored: (B, L) anchors of each level that are ignored and overlap this box most.
        best_iou: (B,) overlap of each box with its best anchor.
    """

    positives: npt.NDArray[np.int32]
    ignored: npt.NDArray[np.int32]
    best_iou: Floats32

    @classmethod
    def zeros(cls, boxes: int) -> MatchCounts:
        counts = np.zeros((2, boxes, len(LEVELS)), dtype=np.int32)
        return cls(counts[0], counts[1], np.zeros(boxes, dtype=np.float32))


def match(boxes: Floats32, box_image: Ints, grid: Ints, spec: AnchorSpec) -> Matches:
    """Assign anchors to boxes as torchvision's Matcher does, for any number of pictures at once.

    One case differs on purpose: a box that no anchor touches at all gets none here; torchvision then makes *every*
    anchor of IoU 0 a positive of the picture's first box.

    Args:
        boxes: (B, 4) xyxy at network size, positive width and height, crowds left out.
        box_image: (B,) index into grid.
        grid: (I, L, 4) as from grids().
    """
    parts, best_iou = [], np.zeros(len(boxes), dtype=np.float32)
    for chunk, found in match_in_parts(boxes, box_image, grid, spec):
        best_iou[chunk] = found.best_iou
        parts.append(replace(found, box=chunk[found.box]))
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return Matches(none, none, none, none, none.astype(np.bool_), none.astype(np.float32), best_iou)
    names = ("image", "anchor", "level", "box", "positive", "iou")
    return Matches(*(np.concatenate([getattr(found, name) for found in parts]) for name in names), best_iou)


def match_in_parts(boxes: Floats32, box_image: Ints, grid: Ints, spec: AnchorSpec) -> Iterator[tuple[Ints, Matches]]:
    """match() by about BOXES_AT_ONCE boxes at a time, never parting those of one picture.

    Yields:
        (b,) which boxes, and their matches, whose `box` and `best_iou` count within these b.
    """
    order = np.argsort(box_image, kind="stable")  # keeps the file's order within a picture: it decides ties
    image, start = box_image[order], 0
    while start < len(order):
        last = image[min(start + BOXES_AT_ONCE, len(order)) - 1]
        stop = int(np.searchsorted(image, last, side="right"))
        yield order[start:stop], _match_sorted(boxes[order[start:stop]], image[start:stop], grid, spec)
        start = stop


def _match_sorted(boxes: Floats32, image: Ints, grid: Ints, spec: AnchorSpec) -> Matches:
    """match() for boxes sorted by image."""
    box, anchor, level, iou, best_iou = _overlaps(boxes, grid[image], spec)
    key = image[box] * int(anchors_per_image(spec, grid).max()) + anchor
    order = np.argsort(key, kind="stable")  # one anchor's pairs come together, and keep the order of their boxes
    box, anchor, level, iou, key = box[order], anchor[order], level[order], iou[order], key[order]
    start = np.flatnonzero(np.diff(key, prepend=-1))
    group = np.repeat(np.arange(len(start)), np.diff(start, append=len(key)))
    rescued = np.zeros(len(start), dtype=np.bool_)
    rescued[group[iou == best_iou[box]]] = True  # the best anchors of some box stay positive, however low their IoU

    # the best box of each anchor: highest IoU, then the first box, as torch.max breaks ties
    best = np.flatnonzero(iou == np.maximum.reduceat(iou, start)[group])
    first = best[np.flatnonzero(np.diff(group[best], prepend=-1))]
    box, anchor, level, iou = box[first], anchor[first], level[first], iou[first]
    _find_true_owner(
        box, anchor, level, iou, np.flatnonzero(rescued & (iou < BACKGROUND_IOU)), boxes, image, grid, spec
    )
    positive = (iou >= FOREGROUND_IOU) | rescued
    keep = (iou >= BACKGROUND_IOU) | rescued
    return Matches(image[box][keep], anchor[keep], level[keep], box[keep], positive[keep], iou[keep], best_iou)


def _overlaps(boxes: Floats32, grid: Ints, spec: AnchorSpec) -> tuple[Ints, Ints, Ints, Floats32, Floats32]:
    """Every (box, anchor) pair with IoU >= 0.4, and the best pairs of each box whatever their IoU.

    For one box and one anchor shape the IoU falls with the distance of the centres, along each axis. So the cell
    nearest to the box's centre has the shape's best IoU, and an IoU of at least t needs the cell to lie in a rectangle
    around it, whose half sides follow from the areas.

    Returns:
        box, anchor, level, iou: (P,) the pairs. best_iou: (B,) the best IoU of each box.
    """
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    cx, cy = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    rows, columns, stride_y, stride_x = (grid[:, :, k, None].astype(np.float64) for k in range(4))  # (B, L, 1)
    aw, ah = 2 * spec.shapes[None, :, :, 2], 2 * spec.shapes[None, :, :, 3]  # (1, L, A)

    near_x = np.clip(np.rint(cx[:, None, None] / stride_x), 0, columns - 1)
    near_y = np.clip(np.rint(cy[:, None, None] / stride_y), 0, rows - 1)
    over_x = _overlap_1d(boxes[:, 0], boxes[:, 2], near_x * stride_x, aw)  # (B, L, A)
    over_y = _overlap_1d(boxes[:, 1], boxes[:, 3], near_y * stride_y, ah)
    both = (w * h)[:, None, None] + aw * ah
    inter = over_x * over_y
    shape_best = inter / (both - inter)
    reach = np.minimum(BACKGROUND_IOU, shape_best.max(axis=(1, 2))) * (1 - 1e-5)  # slack for float32 rounding
    b, lv, a = np.nonzero((shape_best >= reach[:, None, None]) & (shape_best > 0))

    least = reach[b] / (1 + reach[b]) * both[b, lv, a]  # the intersection that IoU >= reach needs
    half_x = (w[b] + aw[0, lv, a]) / 2 - least / over_y[b, lv, a] + 0.01  # and 0.01 px for rounding
    half_y = (h[b] + ah[0, lv, a]) / 2 - least / over_x[b, lv, a] + 0.01
    stride_x, stride_y = stride_x[b, lv, 0], stride_y[b, lv, 0]
    x0 = np.maximum(np.ceil((cx[b] - half_x) / stride_x), 0).astype(np.int64)
    x1 = np.minimum(np.floor((cx[b] + half_x) / stride_x), columns[b, lv, 0] - 1).astype(np.int64)
    y0 = np.maximum(np.ceil((cy[b] - half_y) / stride_y), 0).astype(np.int64)
    y1 = np.minimum(np.floor((cy[b] + half_y) / stride_y), rows[b, lv, 0] - 1).astype(np.int64)
    nx, ny = np.maximum(x1 - x0 + 1, 0), np.maximum(y1 - y0 + 1, 0)

    pair = np.repeat(np.arange(len(b)), nx * ny)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(nx * ny) - nx * ny, nx * ny)
    gx, gy = x0[pair] + within % nx[pair], y0[pair] + within // nx[pair]
    box, level, shape = b[pair], lv[pair], a[pair]
    shifts = np.stack([gx * grid[box, level, 3], gy * grid[box, level, 2]], axis=1).astype(np.float32)
    iou = _iou(boxes[box], np.concatenate([shifts, shifts], axis=1) + spec.shapes[level, shape])
    best_iou = np.zeros(len(boxes), dtype=np.float32)
    np.maximum.at(best_iou, box, iou)
    keep = (iou >= np.minimum(np.float32(BACKGROUND_IOU), best_iou[box])) & (iou > 0)
    anchor = first_anchor(grid, spec)[box, level] + (gy * grid[box, level, 1] + gx) * spec.per_cell + shape
    return box[keep], anchor[keep], level[keep], iou[keep], best_iou


def _overlap_1d(low: Any, high: Any, centre: Any, side: Any) -> Any:
    """(B, L, A) length that [low, high] shares with an interval of this side around the centre."""
    return np.maximum(
        np.minimum(high[:, None, None], centre + side / 2) - np.maximum(low[:, None, None], centre - side / 2), 0
    )


def _iou(a: Floats32, b: Floats32) -> Floats32:
    """IoU of paired xyxy boxes, in torchvision's order of float32 operations so that ties are the same ties."""
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    side = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), np.float32(0))
    inter = side[:, 0] * side[:, 1]
    return inter / (area_a + area_b - inter)


def _find_true_owner(
    box: Ints, anchor: Ints, level: Ints, iou: Floats32, rows: Ints,
    boxes: Floats32, image: Ints, grid: Ints, spec: AnchorSpec,
) -> None:  # fmt: skip
    """Give rescued anchors of IoU < 0.4 to the box of their picture they overlap most, in place.

    torchvision restores such an anchor to *its* best box, which need not be the box it was rescued for; overlaps below
    0.4 were not listed for every box, so they are computed here, for the few anchors concerned.
    """
    start = np.searchsorted(image, image[box[rows]], side="left")
    count = np.searchsorted(image, image[box[rows]], side="right") - start
    which = np.repeat(np.arange(len(rows)), count)
    other = np.repeat(start, count) + np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)

    lv, img = level[rows], image[box[rows]]
    cell, shape = np.divmod(anchor[rows] - first_anchor(grid[img], spec)[np.arange(len(rows)), lv], spec.per_cell)
    gy, gx = np.divmod(cell, grid[img, lv, 1])
    shifts = np.stack([gx * grid[img, lv, 3], gy * grid[img, lv, 2]], axis=1).astype(np.float32)
    here = np.concatenate([shifts, shifts], axis=1) + spec.shapes[lv, shape]
    overlap = _iou(boxes[other], here[which])
    order = np.lexsort((other, -overlap, which))
    first = order[np.unique(which[order], return_index=True)[1]]
    box[rows], iou[rows] = other[first], overlap[first]
