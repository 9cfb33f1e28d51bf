"""evaluation.compare: differences between two detectors whose true abilities are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_detections import dataset_of

from focalcli.coco import Dataset
from focalcli.detections import Detections
from focalcli.evaluation import Comparison, compare, measure

IMAGES = 80


def detector(dataset: Dataset, skills: tuple[float, ...], seed: int) -> Detections:
    """Finds so many of the objects of each class; the rest of its boxes lie beside them."""
    rng = np.random.default_rng(seed)
    hit = rng.random(len(dataset.boxes)) < np.array(skills)[dataset.box_label]
    boxes = dataset.boxes + np.where(hit[:, None], 0.0, [0, 200, 0, 0])
    scores = np.where(hit, rng.beta(4, 2, len(hit)), rng.beta(2, 4, len(hit)))
    return Detections(dataset.box_image, dataset.box_label, boxes, scores)


def pictures(tmp_path: Path, images: int = IMAGES) -> Dataset:
    boxes = [(k % 2, [90 * k, 10, 50, 50], n) for n in range(images) for k in range(6)]
    return dataset_of(tmp_path, boxes, images=images, names=("a", "b", "ghost"))


def compared(dataset: Dataset, before: Detections, after: Detections, rounds: int) -> Comparison:
    return compare(measure(dataset, before, rounds=rounds), measure(dataset, after, rounds=rounds))


def test_a_detector_is_no_better_than_itself(tmp_path):
    """Every round's difference is 0, which the intervals of two tables would not show."""
    dataset = pictures(tmp_path)
    same = detector(dataset, (0.7, 0.7), seed=1)
    result = compared(dataset, same, same, rounds=50)
    assert result.mean.AP.interval == (0.0, 0.0) and result.mean.AP.difference == 0
    for entry in (result.mean, *result.classes[:2]):
        assert entry.AP.p_value == 1 and entry.AP.adjusted == 1 and not entry.AP.real
    assert result.seemingly_real("AP") == 0


def test_a_class_that_gained_is_told_from_one_that_did_not(tmp_path):
    """Drawn with skill 0.5 against 0.8 on class a, and 0.7 twice on class b."""
    dataset = pictures(tmp_path)
    result = compared(dataset, detector(dataset, (0.5, 0.7), 1), detector(dataset, (0.8, 0.7), 2), rounds=200)
    a, b, ghost = result.classes
    assert a.AP50.real and a.AP50.interval[0] > 0 and a.AP50.interval[0] < a.AP50.difference < a.AP50.interval[1]
    assert not b.AP50.real and b.AP50.interval[0] <= 0 <= b.AP50.interval[1]
    assert ghost.AP.difference is None and ghost.AP.interval is None and not ghost.AP.real
    assert [entry.name for entry in result.by_evidence("AP50")] == ["a", "b", "ghost"]
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert content["classes"][0]["AP50"]["real"] is True and content["bootstrap_rounds"] == 200


def test_a_detector_that_got_worse_has_a_difference_below_0(tmp_path):
    """The ends of the interval are not cut at 0, as those of an AP are."""
    dataset = pictures(tmp_path)
    good, bad = detector(dataset, (0.9, 0.9), 1), detector(dataset, (0.3, 0.3), 2)
    assert compared(dataset, good, bad, rounds=50).mean.AP50.interval[1] < 0


@pytest.mark.parametrize(("images", "p_value"), [(4, None), (5, None), (6, 2**-5), (7, 2**-6)])
def test_a_class_in_five_pictures_is_never_really_different(tmp_path, images, p_value):
    """Five coins fall the same way in one of 16 throws, 2^(1-5): however clear it looks, it is not below 0.05."""
    dataset = pictures(tmp_path, images=images)
    nothing, everything = detector(dataset, (0.0, 0.7), 1), detector(dataset, (1.0, 0.7), 1)
    a = compared(dataset, nothing, everything, rounds=100).classes[0].AP50
    assert a.difference == pytest.approx(1.0) and a.p_value == p_value and not (images < 6 and a.real)


def test_with_many_classes_few_equal_ones_look_different(tmp_path):
    """20 classes of the same skill in both: one is expected with p < 0.05; after Holm none should be left."""
    boxes = [(k, [30 * k, 10, 20, 20], n) for n in range(30) for k in range(20)]
    dataset = dataset_of(tmp_path, boxes, images=30, names=tuple(f"class {k}" for k in range(20)))
    result = compared(dataset, detector(dataset, (0.6,) * 20, 1), detector(dataset, (0.6,) * 20, 2), rounds=200)
    assert result.seemingly_real("AP50") <= 4 and not any(entry.AP50.real for entry in result.classes)
    for entry in result.classes:
        inside = entry.AP50.interval[0] <= 0 <= entry.AP50.interval[1]
        assert inside == (entry.AP50.p_value >= 0.05) and entry.AP50.adjusted >= entry.AP50.p_value


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_other_way_round_is_the_same_with_the_other_sign(tmp_path_factory, one, other):
    dataset = pictures(tmp_path_factory.mktemp("d"), images=8)
    a, b = detector(dataset, (0.5, 0.9), one), detector(dataset, (0.6, 0.6), other)
    there, back = compared(dataset, a, b, rounds=30), compared(dataset, b, a, rounds=30)
    for x, y in zip(there.classes[:2], back.classes[:2], strict=True):
        assert x.AP50.difference == pytest.approx(-y.AP50.difference) and x.AP50.p_value == pytest.approx(
            y.AP50.p_value
        )
