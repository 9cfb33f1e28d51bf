"""Which anchors the objects get, per class and level, were each picture trained in a batch of its own.

Exactly torchvision's assignment (anchors/); crowds take no part, and pictures of unknown size cannot.
Shapes: I images, B boxes, K classes, L = 5 levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from focalcli import anchors
from focalcli.anchors import FOREGROUND_IOU, LEVELS, AnchorSpec, MatchCounts
from focalcli.anchors.grid import Floats32
from focalcli.audit.report import ClassAnchors, SplitAnchors
from focalcli.audit.scale import percentiles
from focalcli.coco import Bools, Dataset, Floats, Ints


@dataclass(frozen=True)
class Assignment:
    """The anchors of one split.

    Attributes:
        best_iou: (B,) of every box of the dataset with its best anchor, NaN where it took no part.
        positives: (B,) anchors that are positives of each box.
    """

    split: SplitAnchors
    classes: tuple[ClassAnchors, ...]
    best_iou: Floats
    positives: Ints


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
    counts = anchors.count(boxes, image, grid, spec)

    best_iou = np.full(len(dataset.boxes), np.nan)
    best_iou[used] = counts.best_iou
    positives = np.zeros(len(dataset.boxes), dtype=np.int64)
    positives[used] = counts.positives.sum(axis=1)
    split = _split(counts, image, grid, spec, images_without_size=int((~known).sum()))
    cells = _sides_in_cells(counts, boxes, image, grid)
    classes = _classes(counts, label, cells, split.positives + split.negatives, len(dataset.categories))
    return Assignment(split, classes, best_iou, positives)


def _split(counts: MatchCounts, image: Ints, grid: Ints, spec: AnchorSpec, images_without_size: int) -> SplitAnchors:
    """The whole split. image: (B,) index into grid."""
    positives, ignored = counts.positives.sum(axis=0), counts.ignored.sum(axis=0)
    negatives = anchors.anchors_per_level(spec, grid).sum(axis=0) - positives - ignored
    per_image = np.bincount(image, weights=counts.positives.sum(axis=1), minlength=len(grid))
    with_objects = np.bincount(image, minlength=len(grid)) > 0
    reached = np.bincount(image[counts.best_iou >= FOREGROUND_IOU], minlength=len(grid)) > 0
    p, i, n = int(positives.sum()), int(ignored.sum()), int(negatives.sum())
    return SplitAnchors(
        images=len(grid),
        images_without_size=images_without_size,
        images_only_rescued=int((with_objects & ~reached & (per_image > 0)).sum()),
        images_without_positive=int((with_objects & (per_image == 0)).sum()),
        positives=p,
        ignored=i,
        negatives=n,
        background_per_positive=n / p if p else None,
        levels=_shares(positives),
        by_level=tuple(zip(positives.tolist(), ignored.tolist(), negatives.tolist(), strict=True)),
        positives_per_image=percentiles(np.sort(per_image)),
    )


def _sides_in_cells(counts: MatchCounts, boxes: Floats32, image: Ints, grid: Ints) -> Floats:
    """(P,) box side / stride for each box and level with positives, in the order of counts.positives.nonzero()."""
    box, level = counts.positives.nonzero()
    side = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    stride = np.sqrt(grid[:, :, 2:].prod(axis=2))  # (I, L), the geometric mean of the two axes
    return side[box] / stride[image[box], level]


def _classes(counts: MatchCounts, label: Ints, cells: Floats, trained: int, k: int) -> tuple[ClassAnchors, ...]:
    """One row per class. label: (B,). cells: as from _sides_in_cells. trained: anchors that enter the loss."""

    def of_class(which: Bools) -> Ints:  # (K,) how many of these boxes; a mask per class would cost K passes
        return np.bincount(label[which], minlength=k)

    per_box = counts.positives.sum(axis=1)
    reached = counts.best_iou >= FOREGROUND_IOU
    boxes, n_reached = np.bincount(label, minlength=k), of_class(reached)
    rescued, unreached = of_class((per_box > 0) & ~reached), of_class(per_box == 0)
    ignored = np.bincount(label, weights=counts.ignored.sum(axis=1), minlength=k)
    box, level = counts.positives.nonzero()
    times, place = counts.positives[box, level], label[box] * len(LEVELS) + level
    on_level = np.bincount(place, weights=times, minlength=k * len(LEVELS)).reshape(k, len(LEVELS))
    positives_per_box = _medians(per_box, np.ones_like(per_box), label, k)
    cells_on_level = _medians(cells, times, place, k * len(LEVELS))
    cells_per_side = _medians(cells, times, label[box], k)
    rows = []
    for c in range(k):
        positives = int(on_level[c].sum())
        rows.append(
            ClassAnchors(
                boxes=int(boxes[c]),
                positives=positives,
                ignored=int(ignored[c]),
                negatives=trained - positives,
                foreground=positives / (trained - positives) if trained > positives else None,
                positives_per_box=positives_per_box[c],
                reached=float(n_reached[c] / boxes[c]) if boxes[c] else None,
                rescued=int(rescued[c]),
                unreached=int(unreached[c]),
                levels=_shares(on_level[c]),
                cells=tuple(cells_on_level[c * len(LEVELS) : (c + 1) * len(LEVELS)]),
                cells_per_side=cells_per_side[c],
            )
        )
    return tuple(rows)


def _medians(values: Floats | Ints, times: Ints, group: Ints, groups: int) -> list[float | None]:
    """The median of each group's values, of which each counts so many times, at least once; None of an empty group."""
    order = np.argsort(values)
    # by group, then value: numpy has a faster stable sort (radix) for 8 and 16 bits
    order = order[np.argsort(group[order].astype(np.min_scalar_type(groups)), kind="stable")]
    upto, size = np.cumsum(times[order]), np.bincount(group, weights=times, minlength=groups).astype(np.int64)
    start, filled = np.cumsum(size) - size, size > 0
    low, high = (
        values[order][np.searchsorted(upto, (start + middle)[filled], side="right")]
        for middle in ((size - 1) // 2, size // 2)  # one place where the size is odd
    )
    medians = np.zeros(groups)
    medians[filled] = (low + high) / 2
    return [value if some else None for value, some in zip(medians.tolist(), filled.tolist(), strict=True)]


def _shares(positives: Ints) -> tuple[float | None, ...]:
    """(L,) share of the positives on each level; all None without positives."""
    total = positives.sum()
    return tuple((positives / total).tolist()) if total else (None,) * len(LEVELS)
