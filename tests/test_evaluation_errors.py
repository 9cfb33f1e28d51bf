"""evaluation.errors, confusion, diagnosis and misread: what a detector got wrong, and what a file got wrong.

Numbers come from tidecv 1.0.1, TIDE's reference implementation, on the detections drawn here, or are worked by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_detections import dataset_of, detections_of

from focalcli import coco, evaluation
from focalcli.coco import Dataset
from focalcli.detections import Detections, load_detections
from focalcli.errors import FocalError

# ---------------------------------------------------------------------------------------------------------------- TIDE


def drawn(tmp_path: Path, seed: int) -> tuple[Dataset, Detections]:
    """160 objects of 4 classes in 40 pictures; 700 detections: near ones, some of a wrong class, and far ones."""
    rng = np.random.default_rng(seed)
    image, label = rng.integers(1, 41, 160), rng.integers(1, 5, 160)
    box = np.hstack([rng.integers(0, 200, (160, 2)), rng.integers(20, 120, (160, 2))]).astype(float)
    near = rng.integers(0, 160, 466)
    noise = rng.normal(0, 1, (466, 4)) * box[near][:, [2, 3, 2, 3]] * rng.choice([0.03, 0.12, 0.3], (466, 1))
    near_box = box[near] + np.round(noise)
    near_box[:, 2:] = np.maximum(near_box[:, 2:], 2)
    near_label = np.where(rng.random(466) < 0.75, label[near], rng.integers(1, 5, 466))
    far_box = np.hstack([rng.integers(0, 400, (234, 2)), rng.integers(20, 120, (234, 2))]).astype(float)
    found_image = np.r_[image[near], rng.integers(1, 41, 234)]
    found_label = np.r_[near_label, rng.integers(1, 5, 234)]
    scores = rng.permutation(700) / 700
    boxes = [(int(k) - 1, b.tolist(), int(i) - 1) for k, b, i in zip(label, box, image, strict=True)]
    dataset = dataset_of(tmp_path, boxes, 40, tuple("abcd"))
    return dataset, Detections(found_image - 1, found_label - 1, np.vstack([near_box, far_box]), scores)


@pytest.mark.parametrize(
    ("seed", "ap50", "counts", "gains"),
    [
        (0, 29.958788, (65, 107, 47, 134, 215, 10), (4.711693, 9.393819, 1.66267, 3.233012, 8.945251, 2.060771)),
        (1, 30.780304, (60, 118, 37, 136, 214, 7), (4.944455, 6.879318, 1.720455, 2.219205, 11.561854, 1.533474)),
        (2, 24.411841, (42, 141, 57, 125, 209, 6), (4.056419, 13.089637, 1.538576, 1.682452, 10.220085, 0.832179)),
        (3, 25.496598, (55, 118, 43, 141, 214, 10), (4.22427, 9.142719, 2.143706, 2.148382, 8.499608, 1.690057)),
    ],
)
def test_error_types_and_their_worth_are_those_of_tidecv(tmp_path, seed, ap50, counts, gains):
    """tidecv 1.0.1 on the same detections. Its recalls are n / 100 where COCO's are numpy's linspace: an AP moves by up
    to 0.1 points where a recall falls between the two."""
    dataset, detections = drawn(tmp_path, seed)
    errors = evaluation.find_errors(dataset, detections)
    assert tuple(errors.counts[name] for name in evaluation.TYPES) == counts
    assert [100 * errors.gains[name] for name in evaluation.TYPES] == pytest.approx(gains, abs=0.1)
    assert 100 * evaluation.evaluate(dataset, detections).summary["AP50"] == pytest.approx(ap50, abs=0.01)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ((0, [0, 0, 100, 40], 0.9), "localisation"),  # IoU 0.4
        ((1, [0, 0, 100, 90], 0.9), "classification"),  # IoU 0.9 with a cell
        ((1, [0, 0, 100, 40], 0.9), "both"),
        ((0, [0, 0, 100, 95], 0.5), "duplicate"),
        ((0, [400, 300, 50, 50], 0.9), "background"),
        ((2, [400, 300, 50, 50], 0.9), "background"),
    ],
)
def test_each_error_type_by_hand(tmp_path, found, kind):
    """Bolya et al. 2020, sec. 2.2: one cell of 100 x 100 px, found surely, and one more detection."""
    dataset = dataset_of(tmp_path, [(0, [0, 0, 100, 100])])
    errors = evaluation.find_errors(dataset, detections_of([(0, [0, 0, 100, 100], 0.99), found]))
    assert errors.counts == dict.fromkeys(evaluation.TYPES, 0) | {kind: 1}
    assert errors.classes[found[0]].counts[kind] == 1 and errors.classes[0].hits == 1
    assert errors.false_positives_without_objects == (found[0] > 0)


def test_the_worth_of_an_error_by_hand(tmp_path):
    """Two cells; one is found, the other is called a platelet. Put right, AP50 of the cells goes from 51/101 to 1, and
    nothing is missed, since the class alone was wrong."""
    dataset = dataset_of(tmp_path, [(0, [0, 0, 100, 100]), (0, [200, 0, 100, 100])])
    errors = evaluation.find_errors(dataset, detections_of([(0, [0, 0, 100, 100], 0.9), (1, [200, 0, 100, 100], 0.8)]))
    assert errors.counts["missed"] == 0 and errors.classes[1].gains["classification"] is None
    assert errors.classes[0].gains["classification"] == pytest.approx(50 / 101)
    assert errors.gains["classification"] == pytest.approx(50 / 101)
    json.dumps(errors.to_dict(), allow_nan=False)


def test_a_class_that_is_missed_altogether_would_gain_everything(tmp_path):
    """Nothing is left to find when its objects are not asked for."""
    errors = evaluation.find_errors(dataset_of(tmp_path, [(0, [0, 0, 100, 100])]), detections_of([]))
    assert errors.counts["missed"] == 1 and errors.classes[0].gains["missed"] == 1.0


def test_a_detection_on_a_crowd_is_no_error(tmp_path):
    """TRAPS 8."""
    dataset = dataset_of(tmp_path, [(0, [0, 0, 50, 50]), (0, [200, 0, 300, 300])], crowd={1})
    errors = evaluation.find_errors(dataset, detections_of([(0, [250, 50, 60, 60], 0.9), (0, [0, 0, 50, 50], 0.8)]))
    assert not any(errors.counts.values())


# ----------------------------------------------------------------------------------------------------------- confusion


def test_confusion_by_hand(tmp_path):
    """A cell found, a cell called platelet, a platelet not seen, a ghost in the background, a weak one not counted."""
    boxes = [(0, [0, 0, 50, 50]), (0, [100, 0, 50, 50]), (1, [200, 0, 50, 50])]
    dataset = dataset_of(tmp_path, boxes)
    rows = [
        (0, [0, 0, 50, 50], 0.9),
        (1, [100, 0, 50, 50], 0.8),
        (2, [400, 400, 50, 50], 0.7),
        (0, [300, 0, 9, 9], 0.1),
    ]
    result = evaluation.confusion(dataset, detections_of(rows), [0, 1, 2], [0.5, None, 0.6])
    assert result.names == ("cell", "platelet", "ghost", "background") and result.thresholds == (0.5, 0.55, 0.6)
    assert result.matrix == ((1, 1, 0, 0), (0, 0, 0, 1), (0, 0, 0, 0), (0, 0, 1, 0))


def test_rows_of_the_confusion_matrix_add_up_to_the_objects(tmp_path):
    """Every object is found, confused or missed, once; every detection stands in one cell."""
    dataset, detections = drawn(tmp_path, 0)
    matrix = np.array(evaluation.confusion(dataset, detections, [0, 1, 2, 3], [0.3] * 4).matrix)
    np.testing.assert_array_equal(matrix[:4].sum(axis=1), dataset.objects_per_class)
    kept = detections.label[detections.scores >= 0.3]
    np.testing.assert_array_equal(matrix[:, :4].sum(axis=0), np.bincount(kept, minlength=4))


def test_right_pairs_are_made_before_confused_ones(tmp_path):
    """A surer platelet on a cell must not take the cell from the detection that has it right."""
    rows = [(1, [0, 0, 50, 50], 0.9), (0, [0, 0, 50, 45], 0.8)]
    dataset = dataset_of(tmp_path, [(0, [0, 0, 50, 50])])
    matrix = evaluation.confusion(dataset, detections_of(rows), [0, 1, 2], [0.1] * 3).matrix
    assert matrix[0] == (1, 0, 0, 0) and matrix[3] == (0, 1, 0, 0)


# ----------------------------------------------------------------------------------------------------------- diagnosis


def test_diagnosis_breaks_objects_down_by_size_and_company(tmp_path):
    """COCO's cuts are 32^2 and 96^2, an object on a cut counts once; two of these overlap each other by 1/3."""
    boxes = [(0, [0, 0, 32, 32]), (0, [100, 0, 50, 50]), (0, [125, 0, 50, 50]), (0, [300, 0, 150, 150])]
    dataset = dataset_of(tmp_path, boxes)
    rows = [(0, boxes[1][1], 0.9), (0, boxes[3][1], 0.8)]
    diagnosis = evaluation.diagnose(dataset, detections_of(rows))
    entry = diagnosis.breakdown[0]
    assert {name: (s.objects, s.found) for name, s in entry.sizes.items()} == {
        "small": (1, 0), "medium": (2, 1), "large": (1, 1),
    }  # fmt: skip
    assert (entry.crowded.objects, entry.crowded.found, entry.alone.objects, entry.alone.found) == (2, 1, 2, 1)
    content = json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))
    assert content["kind"] == "diagnosis" and len(content["curves"]) == 1  # of classes with objects
    assert content["curves"][0]["recall"] == [0.25, 0.5]


def test_scores_that_are_no_chances_leave_the_calibration_out_and_say_why(tmp_path):
    """Scores in percent or logits have an AP like any others."""
    dataset = dataset_of(tmp_path, [(0, [0, 0, 50, 50])])
    diagnosis = evaluation.diagnose(dataset, detections_of([(0, [0, 0, 50, 50], 97.0)]))
    assert diagnosis.calibration is None and "divide percents by 100" in diagnosis.uncalibrated


# ------------------------------------------------------------------------------------------------------------- misread


Change = Callable[[np.ndarray, np.ndarray], np.ndarray]
CORNERS: Change = lambda b, wh: np.stack([b[:, 0], b[:, 1], b[:, 0] + b[:, 2], b[:, 1] + b[:, 3]], axis=1)  # noqa: E731
CENTRES: Change = lambda b, wh: np.stack([b[:, 0] + b[:, 2] / 2, b[:, 1] + b[:, 3] / 2, b[:, 2], b[:, 3]], axis=1)  # noqa: E731
FRACTIONS: Change = lambda b, wh: b / np.concatenate([wh, wh], axis=1)  # noqa: E731


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (CORNERS, "two corners, [x1, y1, x2, y2]"),
        (CENTRES, "[centre x, centre y, width, height]"),
        (FRACTIONS, "fractions of the picture, [x, y, width, height]"),
        (lambda b, wh: FRACTIONS(CENTRES(b, wh), wh), "fractions of the picture, [centre x"),
        (lambda b, wh: FRACTIONS(CORNERS(b, wh), wh), "fractions of the picture, two corners"),
        (lambda b, wh: CORNERS(b, wh)[:, [1, 0, 3, 2]], "two corners, rows first"),
    ],
    ids=["xyxy", "cxcywh", "xywhn", "cxcywhn", "xyxyn", "yxyx"],
)
def test_boxes_in_another_form_are_named_on_real_objects(shared, change, what):
    """What torchvision (xyxy), YOLO (cxcywh in fractions) and TensorFlow (yxyx) write, on COCO's own example."""
    dataset = coco.load(shared / "json/instances_val2014_100.json")
    found = load_detections(shared / "json/instances_val2014_fakebbox100_results.json", dataset)
    evaluation.refuse_misread(dataset, found, "dt.json")
    boxes = change(found.boxes, dataset.image_wh[found.image].astype(float))
    with pytest.raises(FocalError) as error:
        evaluation.refuse_misread(dataset, Detections(found.image, found.label, boxes, found.scores), "dt.json")
    assert f"dt.json: boxes are {what}" in error.value.message and error.value.hint


def test_classes_and_pictures_off_by_one_are_named_where_all_ids_are_known(shared):
    """bccd has categories 1 to 3; a file with 1 and 2 for 2 and 3, or the next picture's ids, fits the form."""
    dataset = coco.load(shared / "bccd/annotations/val.json")
    objects = ~dataset.iscrowd
    image, label, boxes = dataset.box_image[objects], dataset.box_label[objects], dataset.boxes[objects]
    scores = np.full(len(label), 0.9)
    evaluation.refuse_misread(dataset, Detections(image, label, boxes, scores), "dt.json")
    late = label > 0
    with pytest.raises(FocalError, match="category ids are off by one") as error:
        detections = Detections(image[late], label[late] - 1, boxes[late], scores[late])
        evaluation.refuse_misread(dataset, detections, "dt.json")
    assert error.value.hint == "add 1 to every category_id"

    order = sorted(range(len(dataset.image_ids)), key=dataset.image_ids.__getitem__)
    after = np.empty(len(order), dtype=np.int64)
    after[order] = np.array([*order[1:], order[0]])
    with pytest.raises(FocalError, match="image ids are off by one"):
        last = image == order[-1]
        detections = Detections(after[image[~last]], label[~last], boxes[~last], scores[~last])
        evaluation.refuse_misread(dataset, detections, "dt.json")


def test_a_bad_detector_is_scored_and_not_accused(shared):
    """Random boxes fit no reading, and neither do boxes of the right size in the wrong place."""
    dataset = coco.load(shared / "bccd/annotations/val.json")
    rng = np.random.default_rng(0)
    n = 2000
    image, label = rng.integers(len(dataset.image_ids), size=n), rng.integers(3, size=n)
    boxes = dataset.boxes[rng.integers(len(dataset.boxes), size=n)]
    evaluation.refuse_misread(dataset, Detections(image, label, boxes, rng.random(n)), "dt.json")
    corner = rng.random((n, 2)) * 400
    evaluation.refuse_misread(
        dataset, Detections(image, label, np.hstack([corner, rng.random((n, 2)) * 200]), rng.random(n)), "dt.json"
    )


def test_a_dataset_without_boxes_can_be_asked_too(tmp_path):
    """Every detection is a false positive of a class without objects."""
    dataset = dataset_of(tmp_path, [])
    found = detections_of([(0, [0, 0, 9, 9], 0.9)] * 10)
    evaluation.refuse_misread(dataset, found, "dt.json")
    diagnosis = evaluation.diagnose(dataset, found)
    assert diagnosis.errors.false_positives_without_objects == 10 and diagnosis.errors.gains["background"] is None


@pytest.mark.parametrize(("scores", "said"), [([97.5, 12], True), ([0.9, 0.1], False), ([4.2, -3], False), ([], False)])
def test_scores_in_percent_are_noticed(scores, said):
    """Some tools write 97.5 for 0.975; logits are negative too."""
    found = detections_of([(0, [0, 0, 9, 9], value) for value in scores])
    assert bool(evaluation.in_percent(found)) == said
