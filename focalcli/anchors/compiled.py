"""The matcher of matching.py as machine code (numba), which counts and keeps nothing: for audits of many boxes.

It exists for its speed alone: COCO's 860,000 boxes take 1.3 s on 2 cores, and 22 s with numpy. The first call on a
machine compiles for 2 s more; what was compiled is kept beside this file, or in the user's cache directory.

Every IoU is the float32 of torchvision, operation by operation: no fastmath, and numba contracts nothing into fused
operations unless told to. tests/test_anchors.py holds both matchers to torchvision's.

Shapes: as in anchors/__init__.py; N anchors of the largest picture.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

from focalcli.anchors.grid import AnchorSpec, Floats32, Ints, anchors_per_image
from focalcli.anchors.matching import BACKGROUND_IOU, FOREGROUND_IOU, MatchCounts

ZERO = np.float32(0)
LOW, HIGH = np.float32(BACKGROUND_IOU), np.float32(FOREGROUND_IOU)


def count(boxes: Floats32, box_image: Ints, grid: Ints, spec: AnchorSpec) -> MatchCounts:
    """counting.count(), on all cores."""
    order = np.argsort(box_image, kind="stable")  # keeps the file's order within a picture: it decides ties
    image, of_box = np.unique(box_image, return_counts=True)  # pictures without boxes have nothing to count
    first = np.cumsum(np.append(0, of_box), dtype=np.int64)
    boxes, grid = np.ascontiguousarray(boxes[order]), np.ascontiguousarray(grid[image])
    counts = MatchCounts.zeros(len(boxes))
    most = int(anchors_per_image(spec, grid).max(initial=0))

    def part(start: int, stop: int) -> None:
        scratch = (np.zeros(most, np.float32), np.zeros(most, np.bool_), *np.empty((3, most), np.int64))
        pair_iou = np.empty(most, np.float32)
        _count(
            boxes, order, first[start : stop + 1], grid[start:stop], spec.shapes,
            counts.positives, counts.ignored, counts.best_iou, *scratch, pair_iou,
        )  # fmt: skip

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cuts = np.searchsorted(first, np.linspace(0, len(boxes), 4 * cores + 1)).tolist()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(part, cuts[:-1], cuts[1:]))
    return counts


def _machine_code(signature: str, *, python_calls: bool = False) -> Callable[[Any], Any]:
    """numba.njit of one signature; the machine code is kept for the next process where there is a place to write to.

    Wrappers that nobody calls are left out: they are a fifth of the compilation.
    """

    def compile(function: Any) -> Any:
        wrappers = {"no_cpython_wrapper": not python_calls, "no_cfunc_wrapper": True}
        options = {"error_model": "numpy", "nogil": True, **wrappers}
        try:
            return numba.njit(signature, cache=True, **options)(function)
        except (RuntimeError, OSError):  # numba's words for no such place
            return numba.njit(signature, **options)(function)

    return compile


@_machine_code("f4(f4,f4,f4,f4,f4,f4,f4,f4)")
def _iou(x0, y0, x1, y1, left, top, right, bottom):
    """IoU of a box and an anchor, as matching._iou has it."""
    inter = max(min(x1, right) - max(x0, left), ZERO) * max(min(y1, bottom) - max(y0, top), ZERO)
    return inter / ((x1 - x0) * (y1 - y0) + (right - left) * (bottom - top) - inter)


@_machine_code("Tuple((i8,f4))(f4,f4,f4,f4,i8[:,::1],f4[:,:,::1],i8[::1],f4[::1])")
def _overlaps(x0, y0, x1, y1, grid, shapes, pair_anchor, pair_iou):
    """List the anchors that one box may matter to, as matching._overlaps does and for its reasons.

    Args:
        grid: (L, 4). shapes: (L, A, 4). pair_anchor, pair_iou: (N,) to be filled.

    Returns:
        How many were listed, and the best IoU of the box.
    """
    w, h = x1 - x0, y1 - y0
    cx, cy = (x0 + x1) / 2.0, (y0 + y1) / 2.0
    pairs, best, reach = 0, ZERO, 0.0
    for listing in (False, True):
        start = 0
        for level in range(len(grid)):
            rows, columns, stride_y, stride_x = grid[level, 0], grid[level, 1], grid[level, 2], grid[level, 3]
            near_x = min(max(math.floor(cx / stride_x + 0.5), 0), columns - 1) * stride_x
            near_y = min(max(math.floor(cy / stride_y + 0.5), 0), rows - 1) * stride_y
            for shape in range(shapes.shape[1]):
                half_w, half_h = float(shapes[level, shape, 2]), float(shapes[level, shape, 3])
                over_x = min(x1, near_x + half_w) - max(x0, near_x - half_w)
                over_y = min(y1, near_y + half_h) - max(y0, near_y - half_h)
                if over_x <= 0 or over_y <= 0:
                    continue
                both, inter = w * h + 4 * half_w * half_h, over_x * over_y
                if not listing:
                    reach = max(reach, inter / (both - inter))
                    continue
                if inter < reach * (both - inter):
                    continue
                least = reach / (1 + reach) * both  # the intersection that IoU >= reach needs
                far_x = w / 2 + half_w - least / over_y + 0.01  # and 0.01 px for rounding
                far_y = h / 2 + half_h - least / over_x + 0.01
                x_from = max(math.ceil((cx - far_x) / stride_x), 0)
                x_to = min(math.floor((cx + far_x) / stride_x), columns - 1) + 1
                y_from = max(math.ceil((cy - far_y) / stride_y), 0)
                y_to = min(math.floor((cy + far_y) / stride_y), rows - 1) + 1
                for y in range(y_from, y_to):
                    shift_y = np.float32(y * stride_y)
                    top, bottom = shift_y + shapes[level, shape, 1], shift_y + shapes[level, shape, 3]
                    for x in range(x_from, x_to):
                        shift_x = np.float32(x * stride_x)
                        left, right = shift_x + shapes[level, shape, 0], shift_x + shapes[level, shape, 2]
                        iou = _iou(x0, y0, x1, y1, left, top, right, bottom)
                        best = max(best, iou)
                        if iou >= reach:
                            pair_anchor[pairs] = start + (y * columns + x) * shapes.shape[1] + shape
                            pair_iou[pairs] = iou
                            pairs += 1
            start += rows * columns * shapes.shape[1]
        reach = min(LOW, reach) * (1 - 1e-5)  # slack for float32 rounding
    return pairs, best


@_machine_code("i8(f4[:,::1],i8,i8,i8,i8[::1],f4[:,::1])")
def _true_owner(boxes, start, stop, anchor, grid, shapes):
    """The box from start to stop that an anchor overlaps most, the first if several do.

    Args:
        anchor: index within its level. grid: (4,) and shapes: (A, 4) of that level.
    """
    cell, shape = anchor // len(shapes), anchor % len(shapes)
    shift_x, shift_y = np.float32(cell % grid[1] * grid[3]), np.float32(cell // grid[1] * grid[2])
    left, right = shift_x + shapes[shape, 0], shift_x + shapes[shape, 2]
    top, bottom = shift_y + shapes[shape, 1], shift_y + shapes[shape, 3]
    owner, best = start, ZERO
    for box in range(start, stop):
        iou = _iou(boxes[box, 0], boxes[box, 1], boxes[box, 2], boxes[box, 3], left, top, right, bottom)
        if iou > best:
            owner, best = box, iou
    return owner


@_machine_code(
    "void(f4[:,::1],i8[::1],i8[::1],i8[:,:,::1],f4[:,:,::1],i4[:,::1],i4[:,::1],f4[::1],"
    "f4[::1],b1[::1],i8[::1],i8[::1],i8[::1],f4[::1])",
    python_calls=True,
)
def _count(
    boxes, row, first, grid, shapes, positives, ignored, best_iou,
    anchor_iou, rescued, owner, touched, pair_anchor, pair_iou,
):  # fmt: skip
    """Fill positives, ignored and best_iou for the boxes first[0] to first[-1], picture by picture.

    Args:
        boxes: (B, 4) sorted by picture. row: (B,) where positives, ignored and best_iou have each of them.
        first: (I + 1,) where the boxes of each picture start. grid: (I, L, 4).
        anchor_iou, rescued, owner: (N,) what the anchors of one picture have found; the first two come and go zeroed.
        touched: (N,) which anchors have found anything. pair_anchor, pair_iou: (N,) for _overlaps.
    """
    for image in range(len(first) - 1):
        start, stop, found = first[image], first[image + 1], 0
        for box in range(start, stop):
            x0, y0, x1, y1 = boxes[box, 0], boxes[box, 1], boxes[box, 2], boxes[box, 3]
            pairs, best = _overlaps(x0, y0, x1, y1, grid[image], shapes, pair_anchor, pair_iou)
            best_iou[row[box]] = best
            for pair in range(pairs):
                anchor, iou = pair_anchor[pair], pair_iou[pair]
                if iou < min(LOW, best) or iou == ZERO:
                    continue
                if anchor_iou[anchor] == ZERO:
                    touched[found] = anchor
                    found += 1
                if iou > anchor_iou[anchor]:  # of equal ones the first box stays, as with torch.max
                    anchor_iou[anchor], owner[anchor] = iou, box
                if iou == best:
                    rescued[anchor] = True

        for anchor in touched[:found]:
            level, before = 0, 0
            while anchor - before >= grid[image, level, 0] * grid[image, level, 1] * shapes.shape[1]:
                before += grid[image, level, 0] * grid[image, level, 1] * shapes.shape[1]
                level += 1
            box = owner[anchor]
            if anchor_iou[anchor] < LOW:  # boxes that it overlaps more may have listed only 0.4 and above
                box = _true_owner(boxes, start, stop, anchor - before, grid[image, level], shapes[level])
            if rescued[anchor] or anchor_iou[anchor] >= HIGH:
                positives[row[box], level] += 1
            else:
                ignored[row[box], level] += 1
            anchor_iou[anchor], rescued[anchor] = ZERO, False
