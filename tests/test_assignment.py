"""The audit's figures about anchors follow from torchvision's assignment, picture by picture."""

from __future__ import annotations

import ast
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_anchors import torchvision_counts

from focalcli import anchors, coco
from focalcli.anchors import AnchorSpec
from focalcli.audit import assignment
from focalcli.audit.assignment import assign


def picture(number: int, width: int = 320, height: int = 320) -> dict:
    return {"id": number, "file_name": f"{number}.jpg", "width": width, "height": height}


@pytest.fixture
def drawn(write_coco):
    """Random boxes of three classes on six pictures of two sizes; nothing on the last, nothing of the third class."""
    rng = np.random.default_rng(3)
    boxes = []
    for _ in range(40):
        x, y, w, h = *rng.uniform(0, 200, 2), *np.exp(rng.uniform(1.5, 4.7, 2))
        place = {"image_id": int(rng.integers(1, 6)), "category_id": int(rng.choice([1, 2], p=[0.8, 0.2]))}
        boxes.append({"bbox": [x, y, w, h], "area": w * h, **place})
    images = [picture(number, 320, 320 + 64 * (number % 2)) for number in range(1, 7)]
    categories = [{"id": 1, "name": "many"}, {"id": 2, "name": "few"}, {"id": 3, "name": "none"}]
    return coco.load(write_coco(boxes, images, categories))


def test_every_figure_is_torchvisions(drawn):
    """AnchorGenerator, box_iou and Matcher: positives and ignored anchors per class and level, and per picture."""
    network = anchors.network_size(drawn.image_wh, 320, 533)
    grid = anchors.grids(anchors.padded(network))
    positives, ignored = np.zeros((2, len(drawn.boxes), 5), dtype=np.int64)
    for index in range(5):
        here = drawn.box_image == index
        old_wh = drawn.image_wh[drawn.box_image[here]]
        boxes = anchors.resize_boxes(drawn.boxes_xyxy[here], old_wh, network[drawn.box_image[here]])
        sizes = map(int, anchors.padded(network)[index])
        positives[here], ignored[here] = torchvision_counts(boxes, AnchorSpec(), *sizes)

    found = assign(drawn, AnchorSpec(), 320, 533)
    total = anchors.anchors_per_level(AnchorSpec(), grid).sum(axis=0)
    by_level = np.stack([positives.sum(axis=0), ignored.sum(axis=0)], axis=1)
    assert found.split.by_level == tuple((p, i, t - p - i) for (p, i), t in zip(by_level.tolist(), total, strict=True))
    sums = tuple(map(sum, zip(*found.split.by_level, strict=True)))
    assert sums == (found.split.positives, found.split.ignored, found.split.negatives)
    per_image = np.bincount(drawn.box_image, weights=positives.sum(axis=1), minlength=6)
    assert per_image[5] == 0
    assert found.split.positives_per_image == tuple(np.percentile(per_image, [5, 25, 50, 75, 95]))
    for label, row in enumerate(found.classes):
        ours = drawn.box_label == label
        assert (row.positives, row.ignored) == (positives[ours].sum(), ignored[ours].sum())
        assert row.negatives == sums[0] + sums[2] - row.positives
    assert found.classes[2].ignored == 0 and found.classes[0].ignored > 0


def test_cells_are_medians_over_positives(drawn):
    """Definition of `cells`: box side / stride, once for each positive. The pictures keep their size here."""
    found = assign(drawn, AnchorSpec(), 320, 533)
    counts = anchors.count(
        drawn.boxes_xyxy.astype(np.float32), drawn.box_image, anchors.grids(drawn.image_wh), AnchorSpec()
    )
    strides = anchors.grids(drawn.image_wh)[:, :, 2:].prod(axis=2) ** 0.5
    side = np.sqrt(np.prod(np.diff(drawn.boxes_xyxy.reshape(-1, 2, 2), axis=1), axis=(1, 2)))
    for label in (0, 1):
        values: list[list[float]] = [[], [], [], [], []]
        for box in np.flatnonzero(drawn.box_label == label):
            for level, times in enumerate(counts.positives[box]):
                values[level] += [side[box] / strides[drawn.box_image[box], level]] * times
        wanted = [np.median(level) if level else None for level in values]
        assert found.classes[label].cells == pytest.approx(wanted)
        assert found.classes[label].cells_per_side == pytest.approx(np.median(np.concatenate(values)))


@given(st.lists(st.tuples(st.floats(0, 50, width=16), st.integers(1, 4), st.integers(0, 3)), max_size=12))
def test_medians_of_repeated_values(rows):
    """numpy.median of each group's values written out; a group without any has none."""
    columns = np.array(rows).reshape(-1, 3)
    values, (times, group) = columns[:, 0], columns[:, 1:].T.astype(np.int64)
    written_out = [np.repeat(values[group == g], times[group == g]) for g in range(5)]
    wanted = [np.median(each) if len(each) else None for each in written_out]
    assert assignment._medians(values, times, group, 5) == wanted


def test_all_anchors_are_counted(write_coco):
    """640 x 480 at 800 px is padded to 1088 x 800: P3 has 136 x 100 cells, then 68 x 50, 34 x 25, 17 x 13, 9 x 7."""
    found = assign(coco.load(write_coco([])), AnchorSpec(), 800, 1333).split
    cells = (13600, 3400, 850, 221, 63)
    assert found.by_level == tuple((0, 0, 2 * 9 * count) for count in cells)  # two pictures, nine shapes
    assert found.positives_per_image == (0.0,) * 5 and found.background_per_positive is None


def test_pictures_whose_objects_meet_no_anchor_are_told_from_empty_ones(write_coco):
    """TRAPS 20 [M]: a square of 16 px meets RetinaNet's anchors at IoU 0.25, one of 64 px meets them well."""
    boxes = [
        {"bbox": [x, x, side, side], "image_id": image} for image, x, side in ((1, 96, 64), (1, 20, 16), (2, 20, 16))
    ]
    data = coco.load(write_coco(boxes, [picture(number) for number in (1, 2, 3)]))
    found = assign(data, AnchorSpec(), 320, 533).split
    assert (found.images, found.images_only_rescued, found.images_without_positive) == (3, 1, 0)


def test_pictures_whose_objects_touch_no_anchor_are_counted(write_coco):
    """Anchors of 2 and 3 px lie on every 8th px: nothing of them between 2 and 6."""
    boxes = [{"bbox": [3.5, 3.5, 1, 1], "image_id": 1}, {"bbox": [7, 7, 2, 2], "image_id": 2}]
    data = coco.load(write_coco(boxes, [picture(number) for number in (1, 2, 3)]))
    found = assign(data, AnchorSpec((2, 2, 2, 2, 2)), 320, 533)
    assert (found.split.images_only_rescued, found.split.images_without_positive) == (0, 1)
    assert found.classes[0].unreached == 1


def test_no_picture_of_known_size_leaves_all_undefined(write_coco):
    """None is undefined, never NaN."""
    split = assign(coco.load(write_coco(images=[picture(1, 0, 0), picture(2, 0, 0)])), AnchorSpec(), 800, 1333).split
    assert (split.images, split.images_without_size, split.positives_per_image) == (0, 2, None)
    assert split.by_level == ((0, 0, 0),) * 5 and split.levels == (None,) * 5


def test_rows_hold_plain_numbers(drawn):
    """JSON takes no numpy scalars; written as Python, they are no literals."""
    found = assign(drawn, AnchorSpec(), 320, 533)
    for row in map(asdict, (found.split, *found.classes)):
        assert ast.literal_eval(repr(row)) == row
