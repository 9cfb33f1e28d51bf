"""How large the boxes of each class are, in the file and at network size, and how far they are from square.

Boxes are taken as training sees them: clipped to their picture, crowds left out. Pictures of unknown size have no
network size; their boxes are in the figures of the file only.
Source of small, medium and large: https://cocodataset.org/#detection-eval (area 32^2 and 96^2).
Shapes: B boxes, I images, K classes.
"""

from __future__ import annotations

import numpy as np

from focalcli.anchors import network_size
from focalcli.audit.figures import AREA_EDGES, ASPECT_EDGES, PERCENTILES, SIDE_EDGES, ClassScale
from focalcli.coco import Bools, Dataset, Floats

BORDER_PX = 1.0  # nearer to the border than this a box ends at it
AREAS_FROM = (AREA_EDGES[0], float(np.nextafter(AREA_EDGES[1], np.inf)))  # 96^2 itself is medium


def class_scales(dataset: Dataset, min_size: int, max_size: int) -> tuple[ClassScale, ...]:
    """One row per class. min_size, max_size: network size in pixels, as torchvision's transform takes them."""
    corners = np.ascontiguousarray(dataset.boxes_xyxy.T)
    w, h = corners[2] - corners[0], corners[3] - corners[1]
    side = np.sqrt(w * h)
    columns = (
        dataset.area,
        side,
        side * _resize(dataset, min_size, max_size)[dataset.box_image],
        h / np.maximum(w, h / ASPECT_EDGES[-1]),  # without an overflow for a box of no width to speak of
        _ends_at_border(corners, dataset),
    )
    # grouped by class once: a mask per class would cost K passes over the boxes
    label = dataset.box_label.astype(np.min_scalar_type(len(dataset.categories)))  # numpy sorts short integers faster
    order = np.argsort(label, kind="stable")
    order = order[~dataset.iscrowd[order]]
    cuts = np.cumsum(dataset.objects_per_class)[:-1]
    nothing = _class_scale(*(column[:0].copy() for column in columns))  # most classes of LVIS in a small split
    groups = zip(*(np.split(column[order], cuts) for column in columns), strict=True)
    return tuple(_class_scale(*group) if len(group[0]) else nothing for group in groups)


def _class_scale(area: Floats, side: Floats, side_at_network: Floats, aspect: Floats, at_border: Bools) -> ClassScale:
    """side_at_network is NaN in pictures of unknown size."""
    side_at_network = side_at_network[np.isfinite(side_at_network)]
    for column in (area, side, side_at_network, aspect):
        column.sort()
    return ClassScale(
        in_file=_between(area, AREAS_FROM),
        at_network=_between(side_at_network**2, AREAS_FROM),
        side=percentiles(side),
        side_at_network=percentiles(side_at_network),
        aspect=percentiles(aspect),
        sides=_between(side_at_network, SIDE_EDGES[1:-1]) if len(side_at_network) else (),
        aspects=_between(aspect, ASPECT_EDGES[1:-1]) if len(aspect) else (),
        at_border=int(at_border.sum()),
    )


def _ends_at_border(corners: Floats, dataset: Dataset) -> Bools:
    """(B,) True within BORDER_PX of the border of a picture of known size. corners: (4, B)."""
    x0, y0, x1, y1 = corners
    width, height = dataset.image_wh.T  # 0 where it is unknown
    near_x = (x0 <= BORDER_PX) | (x1 >= (width - BORDER_PX)[dataset.box_image])
    near_y = (y0 <= BORDER_PX) | (y1 >= (height - BORDER_PX)[dataset.box_image])
    return (near_x | near_y) & (width > 0)[dataset.box_image]


def _resize(dataset: Dataset, min_size: int, max_size: int) -> Floats:
    """(I,) factor on a box's side, sqrt of those on width and height; NaN without a size, or a pixel left."""
    wh = np.maximum(dataset.image_wh, 1)
    network = network_size(wh, min_size, max_size)
    known = (dataset.image_wh > 0).all(axis=1) & (network > 0).all(axis=1)
    return np.where(known, np.sqrt((network / wh).prod(axis=1)), np.nan)


def _between(values: Floats, edges: tuple[float, ...]) -> tuple[int, ...]:
    """How many sorted values lie below the first edge, from each edge up to the next, and from the last one on."""
    ends = np.searchsorted(values, edges, side="left").tolist()
    return tuple(high - low for low, high in zip([0, *ends], [*ends, len(values)], strict=True))


def percentiles(values: Floats) -> tuple[float, ...] | None:
    """PERCENTILES of sorted values, linear between two of them as numpy's are; None without values."""
    if not len(values):
        return None
    place = np.array(PERCENTILES) / 100 * (len(values) - 1)
    low = place.astype(np.int64)
    low_values, high_values = values[low], values[np.minimum(low + 1, len(values) - 1)]
    return tuple((low_values + (place - low) * (high_values - low_values)).tolist())
