"""evaluation.compare: differences between two detectors whose true abilities are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tiny_detections import dataset_of

from focalcli import evaluation
from focalcli.coco import Dataset
from focalcli.detections import Detections

IMAGES = 80


def detector(dataset: Dataset, skills: tuple[float, float], seed: int) -> Detections:
    """Finds so many of the objects of each class; the rest of its boxes lie beside them."""
    rng = np.random.default_rng(seed)
    hit = rng.random(len(dataset.boxes)) < np.array(skills)[dataset.box_label]
    boxes = dataset.boxes + np.where(hit[:, None], 0.0, [0, 200, 0, 0])
    scores = np.where(hit, rng.beta(4, 2, len(hit)), rng.beta(2, 4, len(hit)))
    return Detections(dataset.box_image, dataset.box_label, boxes, scores)


def pictures(tmp_path: Path) -> Dataset:
    boxes = [(k % 2, [90 * k, 10, 50, 50], n) for n in range(IMAGES) for k in range(6)]
    return dataset_of(tmp_path, boxes, images=IMAGES, names=("a", "b", "ghost"))


def test_a_detector_is_no_better_than_itself(tmp_path):
    """Every round's difference is 0, which the intervals of two tables would not show."""
    dataset = pictures(tmp_path)
    same = detector(dataset, (0.7, 0.7), seed=1)
    mean = evaluation.compare(dataset, same, same, rounds=50).mean
    assert mean.AP.interval == (0.0, 0.0) and not mean.AP.real and mean.AP.difference == 0


def test_a_class_that_gained_is_told_from_one_that_did_not(tmp_path):
    """Drawn with skill 0.5 against 0.8 on class a, and 0.7 twice on class b."""
    dataset = pictures(tmp_path)
    result = evaluation.compare(dataset, detector(dataset, (0.5, 0.7), 1), detector(dataset, (0.8, 0.7), 2), rounds=200)
    a, b, ghost = result.classes
    assert a.AP50.real and a.AP50.interval[0] > 0 and a.AP50.interval[0] < a.AP50.difference < a.AP50.interval[1]
    assert not b.AP50.real and b.AP50.interval[0] <= 0 <= b.AP50.interval[1]
    assert ghost.AP.difference is None and ghost.AP.interval is None and not ghost.AP.real
    content = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert content["classes"][0]["AP50"]["real"] is True and content["bootstrap_rounds"] == 200


def test_a_detector_that_got_worse_has_a_difference_below_0(tmp_path):
    """The ends of the interval are not cut at 0, as those of an AP are."""
    dataset = pictures(tmp_path)
    good, bad = detector(dataset, (0.9, 0.9), 1), detector(dataset, (0.3, 0.3), 2)
    assert evaluation.compare(dataset, good, bad, rounds=50).mean.AP50.interval[1] < 0
