"""The anchor grid and matcher are torchvision's, to the last anchor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcli import anchors, coco
from focalcli.anchors import AnchorSpec

DATA = Path(__file__).parents[2] / "shared" / "data"
OCTAVES = AnchorSpec((16, 32, 64, 128, 256))


def torchvision_anchors(spec: AnchorSpec, width: int, height: int):
    """torchvision's own anchors for a padded picture, as (N, 4)."""
    import torch
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    maps, h, w = [], height, width
    for level in range(7):
        h, w = -(-h // 2), -(-w // 2)
        if level >= 2:
            maps.append(torch.zeros(1, 1, h, w))
    generator = AnchorGenerator(spec.level_sizes, (spec.ratios,) * 5)
    return generator(ImageList(torch.zeros(1, 3, height, width), [(height, width)]), maps)[0]


def torchvision_matches(boxes: np.ndarray, spec: AnchorSpec, width: int, height: int) -> np.ndarray:
    """(N,) box of each anchor, -1 background, -2 ignored, from torchvision's box_iou and Matcher."""
    import torch
    from torchvision.models.detection._utils import Matcher
    from torchvision.ops import box_iou

    iou = box_iou(torch.from_numpy(boxes), torchvision_anchors(spec, width, height))
    return Matcher(0.5, 0.4, allow_low_quality_matches=True)(iou).numpy()


def our_matches(boxes: np.ndarray, image: np.ndarray, spec: AnchorSpec, batch_wh: np.ndarray) -> list[np.ndarray]:
    """The same, per picture, from the sparse matcher."""
    grid = anchors.grids(batch_wh)
    found = anchors.match(boxes, image, grid, spec)
    result = []
    for index, count in enumerate(anchors.anchors_per_image(spec, grid)):
        here = found.image == index
        dense = np.full(count, -1)
        first = np.searchsorted(np.sort(image), index)
        dense[found.anchor[here]] = np.where(found.box[here] < 0, -2, found.box[here] - first)
        result.append(dense)
    return result


@pytest.mark.parametrize("size", [(320, 320), (448, 320), (1344, 800), (32, 32), (160, 96)])
def test_anchors_are_torchvisions(size):
    """torchvision AnchorGenerator, sizes whose P7 stride is not 128 included."""
    grid = anchors.grids(np.array([size]))
    expected = torchvision_anchors(AnchorSpec(), *size).numpy()
    assert np.array_equal(anchors.anchors_of(AnchorSpec(), grid[0]), expected)
    assert anchors.anchors_per_image(AnchorSpec(), grid)[0] == len(expected)


@pytest.mark.parametrize("wh", [(640, 480), (375, 500), (1000, 200), (333, 77)])
def test_resize_is_torchvisions(wh):
    """torchvision GeneralizedRCNNTransform: size after the resize, and boxes in it, bit for bit."""
    import torch
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    transform = GeneralizedRCNNTransform(320, 533, [0, 0, 0], [1, 1, 1]).eval()
    box = torch.tensor([[1.3, 2.7, wh[0] - 3.1, wh[1] - 0.4]])
    image, target = transform.resize(torch.zeros(3, wh[1], wh[0]), {"boxes": box})
    ours = anchors.network_size(np.array([wh]), 320, 533)
    assert tuple(ours[0]) == (image.shape[2], image.shape[1])
    assert np.array_equal(anchors.resize_boxes(box.numpy(), np.array([wh]), ours), target["boxes"].numpy())


def box_strategy():
    side = st.floats(0.5, 300, width=32)
    return st.tuples(st.floats(0, 300, width=32), st.floats(0, 200, width=32), side, side)


@settings(max_examples=150, deadline=None)
@given(
    raw=st.lists(box_strategy(), min_size=1, max_size=12),
    whole=st.booleans(),
    spec=st.sampled_from([AnchorSpec(), OCTAVES, AnchorSpec((24, 48, 96, 160, 256), (0.4, 1.0, 1.7))]),
)
def test_random_boxes_match_as_in_torchvision(raw, whole, spec):
    """torchvision Matcher: whole pixels make many ties, tiny boxes many low-quality matches."""
    width, height = 320, 224
    boxes = np.array([(x, y, min(x + w, width), min(y + h, height)) for x, y, w, h in raw], dtype=np.float32)
    if whole:
        boxes = np.round(boxes)
    boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    if not len(boxes):
        return
    image = np.zeros(len(boxes), dtype=np.int64)
    (ours,) = our_matches(boxes, image, spec, np.array([[width, height]]))
    assert np.array_equal(ours, torchvision_matches(boxes, spec, width, height))


def test_pictures_matched_together_are_matched_as_alone():
    """Chunks never part a picture and never mix two."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 30, 400)
    corner = rng.uniform(0, 250, (400, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 150, (400, 2))], axis=1).astype(np.float32)
    sizes = rng.choice([256, 320, 416], (30, 2))
    grid = anchors.grids(sizes)
    together = anchors.match(boxes, image, grid, OCTAVES)
    old, anchors.BOXES_AT_ONCE = anchors.BOXES_AT_ONCE, 7
    try:
        apart = anchors.match(boxes, image, grid, OCTAVES)
    finally:
        anchors.BOXES_AT_ONCE = old
    for name in ("image", "anchor", "level", "box", "iou", "best_iou"):
        assert np.array_equal(getattr(together, name), getattr(apart, name))


@pytest.mark.skipif(not DATA.is_dir(), reason="shared real data is not here")
@pytest.mark.parametrize("name", ["bccd", "face_mask", "deeppcb_600"])
def test_real_pictures_match_as_in_torchvision(name):
    """Every val picture at 320 px: counts of positives, ignored and their owners equal torchvision's."""
    dataset = coco.load(DATA / name / "annotations" / "val.json")
    new_wh = anchors.network_size(dataset.image_wh, 320, 533)
    boxes = anchors.resize_boxes(dataset.boxes_xyxy, dataset.image_wh[dataset.box_image], new_wh[dataset.box_image])
    order = np.argsort(dataset.box_image, kind="stable")
    boxes, image, batch = boxes[order], dataset.box_image[order], anchors.padded(new_wh)
    ours = our_matches(boxes, image, OCTAVES, batch)
    for index in range(0, len(batch)):
        if (image == index).any():
            expected = torchvision_matches(boxes[image == index], OCTAVES, *map(int, batch[index]))
            assert np.array_equal(ours[index], expected), dataset.file_names[index]


def test_a_square_of_22_px_meets_the_default_anchors_at_iou_047():
    """TRAPS 20 [M]: best IoU of a square with the default anchors is 0.25 at 16 px, 0.47 at 22, 0.56 at 24."""
    grid = anchors.grids(np.array([[320, 320]]))
    for side, expected in ((16, 0.25), (22, 0.47), (24, 0.56)):
        box = np.array([[160 - side / 2, 160 - side / 2, 160 + side / 2, 160 + side / 2]], dtype=np.float32)
        best = anchors.match(box, np.zeros(1, dtype=np.int64), grid, AnchorSpec()).best_iou[0]
        assert best == pytest.approx(expected, abs=0.01)
