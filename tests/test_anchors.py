"""The anchor grid and matcher are torchvision's, to the last anchor."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcli import anchors, coco
from focalcli.anchors import AnchorSpec, counting, matching

OCTAVES = AnchorSpec((16, 32, 64, 128, 256))


@lru_cache(maxsize=4)
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


def torchvision_counts(boxes: np.ndarray, spec: AnchorSpec, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """(B, L) positives of each box, and ignored anchors of which it is the best box."""
    import torch
    from torchvision.models.detection._utils import Matcher
    from torchvision.ops import box_iou

    iou = box_iou(torch.from_numpy(boxes), torchvision_anchors(spec, width, height))
    matches = Matcher(0.5, 0.4, allow_low_quality_matches=True)(iou)
    grid = anchors.grids(np.array([[width, height]]))
    level = np.repeat(np.arange(5), anchors.anchors_per_level(spec, grid)[0])
    owner = iou.max(dim=0).indices.numpy()
    counts = []
    for which in ((matches >= 0).numpy(), (matches == Matcher.BETWEEN_THRESHOLDS).numpy()):
        place = owner[which] * 5 + level[which]
        counts.append(np.bincount(place, minlength=5 * len(boxes)).reshape(-1, 5))
    assert np.array_equal(owner[(matches >= 0).numpy()], matches[matches >= 0].numpy())
    return counts[0], counts[1]


def our_matches(boxes: np.ndarray, image: np.ndarray, spec: AnchorSpec, batch_wh: np.ndarray) -> list[np.ndarray]:
    """torchvision_matches of each picture, from the sparse matcher."""
    grid = anchors.grids(batch_wh)
    found = anchors.match(boxes, image, grid, spec)
    result = []
    for index, count in enumerate(anchors.anchors_per_image(spec, grid)):
        here = found.image == index
        dense = np.full(count, -1)
        first = np.searchsorted(np.sort(image), index)
        dense[found.anchor[here]] = np.where(found.positive[here], found.box[here] - first, -2)
        result.append(dense)
    return result


def both_ways() -> dict[str, Callable[..., anchors.MatchCounts]]:
    """Of counting: numpy's, and machine code where numba is."""
    ways = {"numpy": counting.count_with_numpy}
    if importlib.util.find_spec("numba"):
        from focalcli.anchors import compiled

        ways["compiled"] = compiled.count
    return ways


@pytest.fixture(params=["numpy", "compiled"], scope="module")
def count(request):
    """Each of the ways to count; they must do what torchvision does."""
    if request.param == "compiled":
        pytest.importorskip("numba")
    return both_ways()[request.param]


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


SPECS = [AnchorSpec(), OCTAVES, AnchorSpec((24, 48, 96, 160, 256), (0.4, 1.0, 1.7))]
WIDTH, HEIGHT = 320, 224


@st.composite
def box_lists(draw) -> np.ndarray:
    """(B, 4) boxes in a picture of WIDTH x HEIGHT: whole pixels make many ties, tiny boxes many low-quality matches."""
    side = st.floats(0.5, 300, width=32)
    box = st.tuples(st.floats(0, 300, width=32), st.floats(0, 200, width=32), side, side)
    raw = draw(st.lists(box, min_size=1, max_size=12))
    boxes = np.array([(x, y, min(x + w, WIDTH), min(y + h, HEIGHT)) for x, y, w, h in raw], dtype=np.float32)
    if draw(st.booleans()):
        boxes = np.round(boxes)
    return boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]


@settings(max_examples=150, deadline=None)
@given(boxes=box_lists(), spec=st.sampled_from(SPECS))
def test_random_boxes_match_as_in_torchvision(boxes, spec):
    """torchvision Matcher(0.5, 0.4, allow_low_quality_matches=True), anchor by anchor."""
    image = np.zeros(len(boxes), dtype=np.int64)
    (ours,) = our_matches(boxes, image, spec, np.array([[WIDTH, HEIGHT]]))
    if len(boxes):
        assert np.array_equal(ours, torchvision_matches(boxes, spec, WIDTH, HEIGHT))


@settings(max_examples=100, deadline=None)
@given(boxes=box_lists(), spec=st.sampled_from(SPECS))
def test_random_boxes_are_counted_as_in_torchvision(count, boxes, spec):
    """The same, counted for each box and level; the best IoU is that of torchvision's box_iou to the last bit."""
    from torch import from_numpy
    from torchvision.ops import box_iou

    found = count(boxes, np.zeros(len(boxes), dtype=np.int64), anchors.grids(np.array([[WIDTH, HEIGHT]])), spec)
    if len(boxes):
        positives, ignored = torchvision_counts(boxes, spec, WIDTH, HEIGHT)
        assert np.array_equal(found.positives, positives) and np.array_equal(found.ignored, ignored)
        iou = box_iou(from_numpy(boxes), torchvision_anchors(spec, WIDTH, HEIGHT))
        assert np.array_equal(found.best_iou, iou.max(dim=1).values.numpy())


def many_boxes(pictures: int, boxes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, the pictures that they lie on in no order, and grids of several sizes."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, pictures, boxes)
    corner = rng.uniform(0, 250, (boxes, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(2, 150, (boxes, 2))], axis=1).astype(np.float32)
    return xyxy, image, anchors.grids(rng.choice([256, 320, 416], (pictures, 2)))


def test_pictures_matched_together_are_matched_as_alone(monkeypatch):
    """Chunks never part a picture and never mix two."""
    boxes, image, grid = many_boxes(30, 400)
    together = anchors.match(boxes, image, grid, OCTAVES)
    monkeypatch.setattr(matching, "BOXES_AT_ONCE", 7)
    apart = anchors.match(boxes, image, grid, OCTAVES)
    for name in ("image", "anchor", "level", "box", "positive", "iou", "best_iou"):
        assert np.array_equal(getattr(together, name), getattr(apart, name))


def test_counts_are_those_of_the_matches(count):
    """Of pictures in any order, some of them without boxes; the caller's order of boxes is kept."""
    boxes, image, grid = many_boxes(300, 400)
    assert len(np.unique(image)) < 300
    found = anchors.match(boxes, image, grid, OCTAVES)
    counted = count(boxes, image, grid, OCTAVES)
    for which, counts in ((found.positive, counted.positives), (~found.positive, counted.ignored)):
        assert np.array_equal(counts.sum(axis=1), np.bincount(found.box[which], minlength=400))
        assert np.array_equal(counts.sum(axis=0), np.bincount(found.level[which], minlength=5))
    assert np.array_equal(counted.best_iou, found.best_iou)


def test_nothing_to_count_counts_nothing(count):
    """No boxes, no pictures, and a box that no anchor touches: torchvision gives that one every anchor of IoU 0."""
    none = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64)
    for pictures in (0, 2):
        assert count(*none, anchors.grids(np.full((pictures, 2), 64)), AnchorSpec()).positives.shape == (0, 5)
    far = np.array([[5000, 5000, 5001, 5001]], dtype=np.float32)
    found = count(far, np.zeros(1, dtype=np.int64), anchors.grids(np.array([[64, 64]])), AnchorSpec())
    assert found.positives.sum() == found.ignored.sum() == found.best_iou.sum() == 0


def resized(dataset: coco.Dataset, rows: np.ndarray, min_size: int, max_size: int):
    """Boxes of a dataset at network size, their pictures, and the padded size of every picture."""
    new_wh = anchors.network_size(dataset.image_wh, min_size, max_size)
    image = dataset.box_image[rows]
    boxes = anchors.resize_boxes(dataset.boxes_xyxy[rows], dataset.image_wh[image], new_wh[image])
    return boxes, image, anchors.padded(new_wh)


@pytest.mark.parametrize("name", ["bccd", "face_mask", "deeppcb_600"])
def test_real_pictures_match_as_in_torchvision(shared, name):
    """Every val picture at 320 px, anchor by anchor."""
    dataset = coco.load(shared / name / "annotations" / "val.json")
    boxes, image, batch = resized(dataset, np.argsort(dataset.box_image, kind="stable"), 320, 533)
    ours = our_matches(boxes, image, OCTAVES, batch)
    for index in np.unique(image):
        expected = torchvision_matches(boxes[image == index], OCTAVES, *map(int, batch[index]))
        assert np.array_equal(ours[index], expected), dataset.file_names[index]


def check_counts(file: Path, step: int) -> None:
    """Every step-th picture at RetinaNet's own 800 px against torchvision; ours are counted all at once."""
    dataset = coco.load(file)
    boxes, image, batch = resized(dataset, np.flatnonzero(~dataset.iscrowd), 800, 1333)
    ours = {way: count(boxes, image, anchors.grids(batch), AnchorSpec()) for way, count in both_ways().items()}
    pictures = sorted(np.unique(image)[::step], key=lambda index: tuple(batch[index]))  # anchors are made once a size
    assert pictures
    for index in pictures:
        here = image == index
        positives, ignored = torchvision_counts(boxes[here], AnchorSpec(), *map(int, batch[index]))
        for way, found in ours.items():
            assert np.array_equal(found.positives[here], positives), (way, dataset.file_names[index])
            assert np.array_equal(found.ignored[here], ignored), (way, dataset.file_names[index])


SPLITS = [
    f"{name}/annotations/{split}.json"
    for name, splits in (("bccd", "train val test"), ("face_mask", "train val"), ("deeppcb_600", "train val"))
    for split in splits.split()
]


@pytest.mark.parametrize("file", SPLITS)
def test_real_pictures_are_counted_as_in_torchvision(shared, file):
    """Some pictures of every split; the next test takes every one."""
    check_counts(shared / file, 40)


@pytest.mark.slow
@pytest.mark.parametrize("file", SPLITS)
def test_every_real_picture_is_counted_as_in_torchvision(shared, file):
    """bccd, face_mask and deeppcb whole: 1,812 pictures."""
    check_counts(shared / file, 1)


def test_many_boxes_are_counted_by_machine_code_where_numba_is(monkeypatch):
    """And by numpy elsewhere, with the same counts; few boxes are never worth the import."""
    pytest.importorskip("numba")
    from focalcli.anchors import compiled

    called = []
    machine = compiled.count
    monkeypatch.setattr(compiled, "count", lambda *args: called.append(args) or machine(*args))
    args = (*many_boxes(30, 400), OCTAVES)
    few = anchors.count(*args)
    assert not called
    monkeypatch.setattr(counting, "COMPILED_FROM", 400)
    many = anchors.count(*args)
    assert len(called) == 1
    monkeypatch.delattr(anchors, "compiled")
    monkeypatch.setitem(sys.modules, "focalcli.anchors.compiled", None)  # as if its import failed
    without = anchors.count(*args)
    assert len(called) == 1
    for name in ("positives", "ignored", "best_iou"):
        assert np.array_equal(getattr(few, name), getattr(many, name))
        assert np.array_equal(getattr(few, name), getattr(without, name))


def test_machine_code_needs_no_place_to_keep_it(monkeypatch):
    """numba/core/caching.py: RuntimeError where neither the package's folder nor the user's cache can be written."""
    pytest.importorskip("numba")
    from focalcli.anchors import compiled

    njit = compiled.numba.njit

    def nowhere(signature, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available for file 'x.py'")
        return njit(signature, **options)

    monkeypatch.setattr(compiled.numba, "njit", nowhere)
    assert compiled._machine_code("f4(f4)", python_calls=True)(lambda value: value + value)(1.5) == 3


def test_a_square_of_22_px_meets_the_default_anchors_at_iou_047():
    """TRAPS 20 [M]: best IoU of a square with the default anchors is 0.25 at 16 px, 0.47 at 22, 0.56 at 24."""
    grid = anchors.grids(np.array([[320, 320]]))
    for side, expected in ((16, 0.25), (22, 0.47), (24, 0.56)):
        box = np.array([[160 - side / 2, 160 - side / 2, 160 + side / 2, 160 + side / 2]], dtype=np.float32)
        best = anchors.match(box, np.zeros(1, dtype=np.int64), grid, AnchorSpec()).best_iou[0]
        assert best == pytest.approx(expected, abs=0.01)
