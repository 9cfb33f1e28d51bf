"""Drift: Fisher's test against worked and foreign p-values, the distance by chance against dealt pictures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_audit import audited, found

from focalcli.audit.drift import fisher_exact

# from scipy 1.17.1, scipy.stats.fisher_exact; the first is Fisher's tea-tasting lady with one cup of each kind wrong,
# the last four are of the size of COCO's val2017 against train2017
SCIPY = [
    ((3, 4, 1, 4), 0.48571428571428565),
    ((1, 10, 11, 14), 0.0027594561852200836),
    ((8, 10, 1, 6), 0.034965034965034975),
    ((0, 10, 12, 32), 0.039963999338763365),
    ((5, 5000, 400, 118287), 0.0014856641391491321),
    ((2693, 5000, 64115, 118287), 0.6429067019827107),
    ((30, 5000, 300, 118287), 5.683615776289847e-05),
    ((4996, 5000, 118000, 118287), 0.016095970653846672),
]


@pytest.mark.parametrize(("table", "p_value"), SCIPY)
def test_p_values_are_fishers(table, p_value):
    """The lady tasting tea (Fisher 1935, ch. 2): 2 (16 + 1) / 70 = 0.4857; scipy for the others."""
    here, n, there, n_train = table
    assert fisher_exact(np.array([here]), n, np.array([there]), n_train) == pytest.approx([p_value], rel=1e-6)


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_p_value_is_the_sum_over_all_deals_that_are_not_more_probable(n, n_train, data):
    """The definition, with whole binomial coefficients: a deal's probability is C(n, x) C(m, k - x) / C(n + m, k)."""
    here, there = data.draw(st.integers(0, n)), data.draw(st.integers(0, n_train))
    ways = [math.comb(n, x) * math.comb(n_train, here + there - x) for x in range(min(n, here + there) + 1)]
    expected = sum(way for way in ways if way <= ways[here]) / math.comb(n + n_train, here + there)
    assert fisher_exact(np.array([here]), n, np.array([there]), n_train) == pytest.approx([expected], rel=1e-6)


def dealt(write_coco, name: str, pictures: list[list[int]]):
    """A file with one picture for each list of category ids."""
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(1, len(pictures) + 1)]
    boxes = [
        {"image_id": n, "category_id": category, "bbox": [60 * place, 9, 50, 50]}
        for n, classes in enumerate(pictures, start=1)
        for place, category in enumerate(classes)
    ]
    return write_coco(boxes, images, name=name)


def test_distance_is_half_the_sum_of_the_differences(write_coco):
    """Shares 3/4, 1/4 in train and 1/2, 1/2 in val: a quarter of the objects would have to change class."""
    train, val = dealt(write_coco, "train.json", [[1, 1], [1, 2]]), dealt(write_coco, "val.json", [[1], [2]])
    (drift,) = audited(train, val).drift
    assert drift.split == "val" and drift.distance == pytest.approx(0.25)
    cat = next(row for row in drift.classes if row.name == "cat")
    assert (cat.share, cat.train_share, cat.images, cat.train_images) == (0.5, 0.75, 1, 2)


def test_classes_are_matched_by_name_and_the_most_significant_comes_first(write_coco):
    """TRAPS 3: dog is 2 in train and 1 in val; rows of classes that neither has are left out."""
    train = dealt(write_coco, "train.json", [[1]] * 30 + [[1, 2]] * 10)
    other = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "cow"}]
    boxes = [{"image_id": n, "category_id": 1} for n in range(1, 21)]
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(1, 21)]
    (drift,) = audited(train, write_coco(boxes, images, other, name="val.json")).drift
    assert [(row.name, row.images, row.train_images) for row in drift.classes] == [("cat", 0, 40), ("dog", 20, 10)]
    assert drift.classes[0].p_value <= drift.classes[1].p_value <= drift.classes[1].adjusted


def test_two_categories_of_one_name_are_one_class(write_coco):
    """F202 names them; a picture with both is one picture of the class."""
    twice = [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]
    train = write_coco([{}, {"category_id": 2}, {"image_id": 2}], categories=twice)
    (drift,) = audited(train, write_coco([{}, {"image_id": 2, "category_id": 2}], name="val.json")).drift
    assert [(row.name, row.images, row.train_images) for row in drift.classes] == [("cat", 1, 2), ("dog", 1, 0)]


def test_split_without_objects_has_no_distance(write_coco):
    """Undefined is null, and so is what chance would give."""
    (drift,) = audited(write_coco(), write_coco([], name="val.json")).drift
    assert drift.distance is drift.by_chance is drift.classes[0].share is None


def test_one_split_alone_drifts_from_nothing(write_coco):
    """There is nothing to compare with."""
    assert audited(write_coco()).drift == ()


@pytest.mark.parametrize(("n", "m"), [(40, 160), (100, 100)])
def test_distance_by_chance_is_what_random_deals_give(write_coco, n, m):
    """The mean over 400 deals of the same pictures; classes that come in clusters, and one with a single object."""
    rng = np.random.default_rng(1)
    pictures = [[1] * int(rng.integers(0, 5)) + [2] * int(rng.integers(0, 3) == 0) for _ in range(n + m)]
    pictures[0].append(3)
    counts = np.array([[picture.count(category) for category in (1, 2, 3)] for picture in pictures])
    distances = []
    for _ in range(400):
        order = rng.permutation(n + m)
        one, other = counts[order[:n]].sum(axis=0), counts[order[n:]].sum(axis=0)
        distances.append(np.abs(one / one.sum() - other / other.sum()).sum() / 2)
    categories = [{"id": number, "name": f"c{number}"} for number in (1, 2, 3)]
    files = []
    for name, part in (("train.json", pictures[n:]), ("val.json", pictures[:n])):
        path = dealt(write_coco, name, part)
        path.write_text(json.dumps({**json.loads(path.read_text()), "categories": categories}))
        files.append(path)
    (drift,) = audited(*files).drift
    assert drift.by_chance == pytest.approx(np.mean(distances), rel=0.1)


def test_real_splits_dealt_at_random_are_as_close_as_chance(shared):
    """bccd and face_mask were split at random by their makers: below twice the distance by chance, no class drifts."""
    for name in ("bccd", "face_mask"):
        folder = shared / name / "annotations"
        for drift in audited(folder / "train.json", folder / "val.json").drift:
            assert drift.distance < 2 * drift.by_chance
            assert min(row.adjusted for row in drift.classes) > 0.01


def test_shift_that_is_sure_and_large_is_a_finding(write_coco):
    """40 of 100 pictures against 5 of 100: scipy's p is 1.6e-9, twice that after Holm for two classes; shares 8:1."""
    train = dealt(write_coco, "train.json", [[1, 2]] * 40 + [[1]] * 60)
    val = dealt(write_coco, "val.json", [[1, 2]] * 5 + [[1]] * 95)
    (finding,) = found(audited(train, val), "F504")
    assert finding.split == "val" and finding.count == 1 and finding.unit == "class"
    assert finding.message == "'dog' is in 5 % of val's pictures and in 40 % of train's (p 3e-09)"


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ([[1, 2]] * 6 + [[1]] * 4, [[1, 2]] * 3 + [[1]] * 7),  # twice as often, but 10 pictures prove nothing
        ([[1, 2]] * 800 + [[1]] * 200, [[1, 2]] * 600 + [[1]] * 400),  # sure, but by a ratio of 1.33 only
        ([[1, 2]] * 50 + [[1]] * 50, [[1]] * 100),  # none at all is F502's business
    ],
)
def test_small_unsure_or_total_shift_is_no_drift_finding(write_coco, train, val):
    """F504 asks for both, a small p and a ratio of 1.5."""
    assert not found(audited(dealt(write_coco, "train.json", train), dealt(write_coco, "val.json", val)), "F504")
