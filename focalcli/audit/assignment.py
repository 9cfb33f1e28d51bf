"""Which anchors the objects get, per class and level, were each picture trained in a batch of its own.

Exactly torchvision's assignment (anchors.py); crowds take no part, and pictures of unknown size cannot.
Shapes: I images, B boxes, K classes, L = 5 levels, M anchors that are not background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from focalcli import anchors
from focalcli.anchors import FOREGROUND_IOU, LEVELS, AnchorSpec, Matches
from focalcli.audit.report import ClassAnchors, SplitAnchors
from focalcli.coco import Dataset, Floats, Ints


@dataclass(frozen=True)
class Assignment:
    """The positives of one split.

    Attributes:
        best_iou: (B,) of every box of the dataset with its best anchor, NaN where it took no part.
    """

    split: SplitAnchors
    classes: tuple[ClassAnchors, ...]
    best_iou: Floats


def assign(dataset: Dataset, spec: AnchorSpec, min_size: int, max_size: int) -> Assignment:
    """Count what each class gets. min_size, max_size: network size in pixels, as torchvision's transform takes them."""
    known = (dataset.image_wh > 0).all(axis=1)
    # a strip of 1 x 10,000 px has no pixel left across after the resize, so no anchors either
    known[known] = (anchors.network_size(dataset.image_wh[known], min_size, max_size) > 0).all(axis=1)
    index = np.cumsum(known) - 1  # dataset image -> row of the grid
    wh = dataset.image_wh[known]
    network = anchors.network_size(wh, min_size, max_size)
    grid = anchors.grids(anchors.padded(network))

    used = known[dataset.box_image] & ~dataset.iscrowd
    image, label = index[dataset.box_image[used]], dataset.box_label[used]
    boxes = anchors.resize_boxes(dataset.boxes_xyxy[used], wh[image], network[image])
    found = anchors.match(boxes, image, grid, spec)

    total = int(anchors.anchors_per_image(spec, grid).sum())
    positives = int(found.positive.sum())
    ignored = len(found.box) - positives
    best_iou = np.full(len(dataset.boxes), np.nan)
    best_iou[used] = found.best_iou
    split = SplitAnchors(
        images=int(known.sum()),
        images_without_size=int((~known).sum()),
        positives=positives,
        ignored=ignored,
        negatives=total - positives - ignored,
        background_per_positive=(total - positives - ignored) / positives if positives else None,
        levels=_shares(found.level[found.positive]),
    )
    side = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    return Assignment(split, _classes(found, label, side, grid, total - ignored, len(dataset.categories)), best_iou)


def _classes(found: Matches, label: Ints, side: Floats, grid: Ints, trained: int, k: int) -> tuple[ClassAnchors, ...]:
    """One row per class. label, side: (B,). trained: anchors that enter the loss."""
    box, level = found.box[found.positive], found.level[found.positive]
    stride = np.sqrt(grid[found.image[found.positive], level, 2:].prod(axis=1))  # geometric mean of the two axes
    cells = side[box] / stride
    per_box = np.bincount(box, minlength=len(label))
    reached = found.best_iou >= FOREGROUND_IOU

    # grouped by class once: a mask per class would cost K passes over the anchors
    box_groups = np.split(np.argsort(label, kind="stable"), np.cumsum(np.bincount(label, minlength=k))[:-1])
    owner = label[box]
    anchor_groups = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner, minlength=k))[:-1])
    rows = []
    for ours, mine in zip(box_groups, anchor_groups, strict=True):
        rows.append(
            ClassAnchors(
                boxes=len(ours),
                positives=len(mine),
                negatives=trained - len(mine),
                foreground=len(mine) / (trained - len(mine)) if trained > len(mine) else None,
                positives_per_box=_median(per_box[ours]),
                reached=float(reached[ours].mean()) if len(ours) else None,
                rescued=int(((per_box[ours] > 0) & ~reached[ours]).sum()),
                unreached=int((per_box[ours] == 0).sum()),
                levels=_shares(level[mine]),
                cells=tuple(_median(cells[mine][level[mine] == lv]) for lv in range(len(LEVELS))),
                cells_per_side=_median(cells[mine]),
            )
        )
    return tuple(rows)


def _median(values: Floats | Ints) -> float | None:
    return float(np.median(values)) if len(values) else None


def _shares(level: Ints) -> tuple[float | None, ...]:
    """Share of the anchors on each level; all None without anchors."""
    if not len(level):
        return (None,) * len(LEVELS)
    return tuple((np.bincount(level, minlength=len(LEVELS)) / len(level)).tolist())
