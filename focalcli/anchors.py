"""RetinaNet's anchors and their assignment to boxes, exactly as torchvision does it, without torch.

The grid, the resize and the matcher follow torchvision's AnchorGenerator, GeneralizedRCNNTransform and Matcher (0.5,
0.4, low-quality matches allowed) to the last anchor, ties included; tests/test_anchors.py holds the two together. The
matcher looks only at anchors that can overlap a box enough to matter, so a picture costs what its boxes cost, not what
its 200,000 anchors cost. Both the audit and training use it.

Source: Lin et al. 2017, arXiv:1708.02002, sec. 4 (anchors on P3 to P7, IoU 0.5 and 0.4).
Shapes: I images, B boxes, L = 5 levels, A anchor shapes per cell. Pixels are those of the resized picture. Anchor
indices count levels, then rows, then columns, then shapes, as the concatenated output of a RetinaNet head does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from focalcli.errors import FocalError

Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

LEVELS = ("P3", "P4", "P5", "P6", "P7")
FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.4
PAD = 32  # torchvision pads a batch to multiples of this
BOXES_AT_ONCE = 20_000  # bounds the memory of one pass: 45 shapes each, a few hundred bytes a shape


@dataclass(frozen=True)
class AnchorSpec:
    """The anchor shapes of the five levels.

    Attributes:
        sizes: base side of the anchors of P3 to P7, in pixels at network size; each level also has the sizes
            2^(1/3) and 2^(2/3) times as large, cut to whole pixels as torchvision cuts them.
        ratios: height / width.
    """

    sizes: tuple[float, ...] = (32, 64, 128, 256, 512)
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        if len(self.sizes) != len(LEVELS) or min(self.sizes) <= 0 or not self.ratios or min(self.ratios) <= 0:
            raise FocalError(
                f"anchors: sizes {list(self.sizes)} and ratios {list(self.ratios)} do not make an anchor grid",
                "expected five positive sizes, one for each of P3 to P7, and at least one positive ratio",
            )

    @property
    def level_sizes(self) -> tuple[tuple[int, int, int], ...]:
        """The three sizes of each level, in the form that torchvision's AnchorGenerator takes."""
        return tuple((int(s), int(s * 2 ** (1.0 / 3)), int(s * 2 ** (2.0 / 3))) for s in self.sizes)

    @property
    def per_cell(self) -> int:
        return 3 * len(self.ratios)

    @cached_property
    def shapes(self) -> Floats32:
        """(L, A, 4) xyxy of the anchors around (0, 0), rounded to whole pixels."""
        h_ratios = np.sqrt(np.array(self.ratios, dtype=np.float32))
        w_ratios = np.float32(1.0) / h_ratios
        levels = []
        for sizes in self.level_sizes:
            scales = np.array(sizes, dtype=np.float32)
            ws, hs = (w_ratios[:, None] * scales).ravel(), (h_ratios[:, None] * scales).ravel()
            levels.append(np.round(np.stack([-ws, -hs, ws, hs], axis=1) / np.float32(2.0)))
        return np.stack(levels)


def network_size(wh: Ints, min_size: int, max_size: int) -> Ints:
    """(I, 2) width and height after the resize: short side min_size unless the long side would pass max_size."""
    short, long = wh.min(axis=1), wh.max(axis=1)
    scale = np.minimum(min_size / short, max_size / long)
    return np.floor(wh * scale[:, None]).astype(np.int64)


def padded(size: Ints) -> Ints:
    """Width and height of the batch that pictures of this size travel in."""
    return -(-size // PAD) * PAD


def resize_boxes(boxes: npt.NDArray[Any], old_wh: Ints, new_wh: Ints) -> Floats32:
    """(B, 4) xyxy in pixels of the resized picture; float32 throughout, as in torchvision."""
    ratio = new_wh.astype(np.float32) / old_wh.astype(np.float32)
    return boxes.astype(np.float32) * np.concatenate([ratio, ratio], axis=-1)


def grids(batch_wh: Ints) -> Ints:
    """(I, L, 4) rows, columns, vertical and horizontal stride of the feature maps of a padded picture.

    P3 to P5 halve the picture rounding up, P6 and P7 are strided convolutions on top. The stride is the picture's side
    over the map's, rounded down: where 128 does not divide the side, P7's stride is not 128 (torchvision's way).
    """
    columns, rows = batch_wh[:, 0], batch_wh[:, 1]
    levels = []
    for level in range(7):
        columns, rows = -(-columns // 2), -(-rows // 2)
        if level >= 2:
            levels.append(np.stack([rows, columns, batch_wh[:, 1] // rows, batch_wh[:, 0] // columns], axis=1))
    return np.stack(levels, axis=1)


def anchors_of(spec: AnchorSpec, grid: Ints) -> Floats32:
    """(N, 4) xyxy of every anchor of one picture, in the order of the head's outputs. grid: (L, 4) as from grids()."""
    levels = []
    for (rows, columns, stride_y, stride_x), shapes in zip(grid, spec.shapes, strict=True):
        y, x = np.meshgrid(np.arange(rows) * stride_y, np.arange(columns) * stride_x, indexing="ij")
        shifts = np.stack([x.ravel(), y.ravel(), x.ravel(), y.ravel()], axis=1).astype(np.float32)
        levels.append((shifts[:, None] + shapes[None]).reshape(-1, 4))
    return np.concatenate(levels)


def anchors_per_image(spec: AnchorSpec, grid: Ints) -> Ints:
    """(I,) how many anchors each picture has. grid: (I, L, 4)."""
    return (grid[:, :, 0] * grid[:, :, 1]).sum(axis=1) * spec.per_cell


@dataclass(frozen=True)
class Matches:
    """Every anchor that is not background, sorted by image and anchor.

    Attributes:
        image, anchor, level: (M,) whose anchor, its index within the picture, its level 0 to 4.
        box: (M,) index of the box it is a positive of, -1 where the anchor is ignored (0.4 <= IoU < 0.5).
        iou: (M,) overlap with its best box.
        best_iou: (B,) overlap of each box with its best anchor.
    """

    image: Ints
    anchor: Ints
    level: Ints
    box: Ints
    iou: Floats32
    best_iou: Floats32

    @property
    def positive(self) -> npt.NDArray[np.bool_]:
        return self.box >= 0


def match(boxes: Floats32, box_image: Ints, grid: Ints, spec: AnchorSpec) -> Matches:
    """Assign anchors to boxes as torchvision's Matcher does, for any number of pictures at once.

    One case differs on purpose: a box that no anchor touches at all gets none here; torchvision then makes *every*
    anchor of IoU 0 a positive of the picture's first box.

    Args:
        boxes: (B, 4) xyxy at network size, positive width and height, crowds left out.
        box_image: (B,) index into grid.
        grid: (I, L, 4) as from grids().
    """
    order = np.argsort(box_image, kind="stable")  # keeps the file's order within a picture: it decides ties
    parts, best_iou = [], np.zeros(len(boxes), dtype=np.float32)
    for part in _whole_images(box_image[order]):
        chunk = order[part]
        found = _match_sorted(boxes[chunk], box_image[chunk], grid, spec)
        best_iou[chunk] = found.best_iou
        parts.append((found, np.append(chunk, -1)[found.box]))  # box -1 stays -1
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return Matches(none, none, none, none, none.astype(np.float32), best_iou)
    columns = [
        np.concatenate([getattr(found, name) for found, _ in parts]) for name in ("image", "anchor", "level", "iou")
    ]
    return Matches(columns[0], columns[1], columns[2], np.concatenate([box for _, box in parts]), columns[3], best_iou)


def _whole_images(sorted_image: Ints) -> list[slice]:
    """Slices of about BOXES_AT_ONCE boxes that never part the boxes of one picture."""
    cuts, start = [], 0
    while start < len(sorted_image):
        stop = min(start + BOXES_AT_ONCE, len(sorted_image))
        stop = int(np.searchsorted(sorted_image, sorted_image[stop - 1], side="right"))
        cuts.append(slice(start, stop))
        start = stop
    return cuts


def _match_sorted(boxes: Floats32, image: Ints, grid: Ints, spec: AnchorSpec) -> Matches:
    """match() for boxes sorted by image."""
    box, anchor, level, iou, best_iou = _overlaps(boxes, grid[image], spec)
    # the best box of each anchor: highest IoU, then the first box, as torch.max breaks ties
    order = np.lexsort((box, -iou, anchor, image[box]))
    box, anchor, level, iou = box[order], anchor[order], level[order], iou[order]
    first = np.ones(len(box), dtype=np.bool_)
    first[1:] = (anchor[1:] != anchor[:-1]) | (image[box[1:]] != image[box[:-1]])
    group = np.cumsum(first) - 1
    rescued = np.zeros(int(first.sum()), dtype=np.bool_)
    rescued[group[iou == best_iou[box]]] = True  # the best anchors of some box stay positive, however low their IoU

    box, anchor, level, iou = box[first], anchor[first], level[first], iou[first]
    _find_true_owner(
        box, anchor, level, iou, np.flatnonzero(rescued & (iou < BACKGROUND_IOU)), boxes, image, grid, spec
    )
    owner = np.where((iou >= FOREGROUND_IOU) | rescued, box, -1)
    keep = (iou >= BACKGROUND_IOU) | rescued
    return Matches(image[box][keep], anchor[keep], level[keep], owner[keep], iou[keep], best_iou)


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
    anchor = _first_anchor(grid, spec)[box, level] + (gy * grid[box, level, 1] + gx) * spec.per_cell + shape
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


def _first_anchor(grid: Ints, spec: AnchorSpec) -> Ints:
    """(I, L) index of the first anchor of each level."""
    count = grid[:, :, 0] * grid[:, :, 1] * spec.per_cell
    return np.cumsum(count, axis=1) - count


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
    cell, shape = np.divmod(anchor[rows] - _first_anchor(grid[img], spec)[np.arange(len(rows)), lv], spec.per_cell)
    gy, gx = np.divmod(cell, grid[img, lv, 1])
    shifts = np.stack([gx * grid[img, lv, 3], gy * grid[img, lv, 2]], axis=1).astype(np.float32)
    here = np.concatenate([shifts, shifts], axis=1) + spec.shapes[lv, shape]
    overlap = _iou(boxes[other], here[which])
    order = np.lexsort((other, -overlap, which))
    first = order[np.unique(which[order], return_index=True)[1]]
    box[rows], iou[rows] = other[first], overlap[first]
