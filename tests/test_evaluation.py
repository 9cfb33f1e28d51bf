"""evaluation: pycocotools' numbers from our arrays, intervals over images, and operating points.

Numbers come from COCO's published example, from plain runs of pycocotools on the same files, or from hand-worked cases.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tiny_detections import found, ground_truth, perfect, score, write

from focalcli import coco, evaluation
from focalcli.detections import Detections, load_detections
from focalcli.errors import FocalError
from focalcli.evaluation import accumulate, bootstrap, matching, referee
from focalcli.evaluation.curves import operating_point, pr_curve

SHARED = Path(__file__).parents[2] / "shared" / "data" / "json"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data/json is not beside the repository")

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")  # in COCOeval's order
EXAMPLE = ("instances_val2014_100.json", "instances_val2014_fakebbox100_results.json")


# -------------------------------------------------------------------------------------------------------- building


def plain_pycocotools(truth: Path, results: Path) -> COCOeval:
    """pycocotools as its own demo runs it."""
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(str(truth))
        engine = COCOeval(gt, gt.loadRes(str(results)), "bbox")
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return engine


def mean_or_none(values: np.ndarray) -> float | None:
    defined = values[values > -1]
    return defined.mean() if defined.size else None


def assert_equals_pycocotools(truth: Path, results: Path) -> evaluation.ApTable:
    """Every number of the table, bit for bit."""
    dataset = coco.load(truth)
    table = evaluation.evaluate(dataset, load_detections(results, dataset))
    engine = plain_pycocotools(truth, results)
    assert [table.summary[name] for name in STATS] == [None if stat == -1 else stat for stat in engine.stats]

    precision, recall = engine.eval["precision"], engine.eval["recall"]
    assert [entry.category_id for entry in table.classes] == list(engine.params.catIds)
    for k, entry in enumerate(table.classes):
        expected = {
            "AP": precision[:, :, k, 0, 2],
            "AP50": precision[engine.params.iouThrs == 0.5, :, k, 0, 2],
            "AP75": precision[engine.params.iouThrs == 0.75, :, k, 0, 2],
            "APs": precision[:, :, k, 1, 2],
            "APm": precision[:, :, k, 2, 2],
            "APl": precision[:, :, k, 3, 2],
            "AR100": recall[:, k, 0, 2],
        }
        assert {name: getattr(entry, name) for name in expected} == {
            name: mean_or_none(values) for name, values in expected.items()
        }

    labels = list(range(len(dataset.categories)))
    ranked = matching.rank(dataset, load_detections(results, dataset), labels)
    ours = accumulate.precision_and_recall(dataset, ranked, labels)
    np.testing.assert_array_equal(ours[0], precision[..., 2])  # (T, R, K, A) at 100 detections
    np.testing.assert_array_equal(ours[1], recall)
    return table


# ------------------------------------------------------------------------------------------- the same as pycocotools


@needs_shared
def test_cocos_own_example_gives_its_published_numbers():
    """cocoapi/results/val2014_fake_eval_res.txt, type=bbox."""
    text = (SHARED / "val2014_fake_eval_res.txt").read_text()
    boxes = text.partition("type=bbox")[2].partition("type=keypoints")[0]
    published = [float(number) for number in re.findall(r"\] = (\S+)", boxes)]
    assert published[0] == 0.505 and len(published) == 12
    dataset = coco.load(SHARED / EXAMPLE[0])
    table = evaluation.evaluate(dataset, load_detections(SHARED / EXAMPLE[1], dataset))
    assert [round(table.summary[name], 3) for name in STATS] == published


@needs_shared
@pytest.mark.parametrize("names", [EXAMPLE, ("shapes_gt.json", "shapes_dt.json")], ids=["val2014", "shapes"])
def test_real_files_equal_pycocotools_exactly(names):
    """A plain run of pycocotools on the same two files."""
    table = assert_equals_pycocotools(SHARED / names[0], SHARED / names[1])
    assert table.summary["AP"] > 0


@st.composite
def random_pair(draw) -> tuple[dict, list[dict]]:
    """Crowds, empty classes, tied scores, > 100 detections of a class in an image, ids from 0 in any order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image_ids = rng.permutation(50)[: draw(st.integers(1, 4))]
    category_ids = rng.permutation(20)[: draw(st.integers(1, 4))]
    used = category_ids[: draw(st.integers(1, len(category_ids)))]  # the others have detections and no objects
    n_scores = draw(st.sampled_from([2, 10, 10_000]))  # few different scores make many ties

    def boxes(n: int) -> np.ndarray:
        grid = draw(st.sampled_from([8, 32, 1]))  # multiples of 32 sit on the area cuts 32^2 and 96^2
        corner = rng.integers(0, 200 // grid, (n, 2)) * grid
        return np.hstack([corner, rng.integers(1, 160 // grid + 1, (n, 2)) * grid]).astype(float)

    truth = boxes(draw(st.integers(1, 25)))
    n_images = len(image_ids)
    annotations = [
        {
            "id": number,
            "image_id": int(image_ids[rng.integers(n_images)]),
            "category_id": int(used[rng.integers(len(used))]),
            "bbox": box.tolist(),
            "area": float(box[2] * box[3] * rng.choice([1.0, 0.5])),  # as where a mask fills half of its box
            "iscrowd": int(number > 1 and rng.random() < 0.2),
        }
        for number, box in enumerate(truth, start=1)
    ]
    n_near, n_far = draw(st.integers(1, 40)), draw(st.sampled_from([0, 10, 250]))
    near = truth[rng.integers(len(truth), size=n_near)] + rng.integers(-2, 3, (n_near, 4))
    near[:, 2:] = near[:, 2:].clip(min=0)
    results = [
        {
            "image_id": int(image_ids[min(rng.integers(n_images), rng.integers(n_images))]),
            "category_id": int(category_ids[rng.integers(len(category_ids))]),
            "bbox": box.tolist(),
            "score": int(rng.integers(n_scores)) / n_scores,
        }
        for box in np.vstack([near, boxes(n_far)])
    ]
    content = {
        "images": [{"id": int(i), "file_name": f"{i}.jpg", "width": 1000, "height": 1000} for i in image_ids],
        "annotations": annotations,
        "categories": [{"id": int(i), "name": f"class {i}"} for i in category_ids],
    }
    return content, results


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(random_pair())
def test_random_files_equal_pycocotools_exactly(pair):
    """A plain run of pycocotools on the same two files, whatever is in them."""
    with tempfile.TemporaryDirectory() as folder:
        content, results = pair
        truth, detections = write(Path(folder) / "gt.json", content), write(Path(folder) / "dt.json", results)
        assert_equals_pycocotools(truth, detections)


@needs_shared
def test_objects_marked_ignore_equal_pycocotools_exactly(tmp_path):
    """TRAPS 9 on COCO's own crowd picture; its image id is text on one side, which pycocotools cannot match at all."""
    content = json.loads((SHARED / "gt_ignore_test.json").read_text())
    for key, entries in (("id", content["images"]), ("image_id", content["annotations"])):
        for entry in entries:
            entry[key] = int(entry[key])
    truth = write(tmp_path / "gt.json", content)
    assert assert_equals_pycocotools(truth, SHARED / "dt_ignore_test.json").summary["AP"] > 0


@needs_shared
def test_the_referee_gives_the_same_table():
    """engine="pycocotools" is for whoever doubts ours."""
    dataset = coco.load(SHARED / EXAMPLE[0])
    found = load_detections(SHARED / EXAMPLE[1], dataset)
    ours, theirs = (evaluation.evaluate(dataset, found, engine=engine) for engine in ("focal", "pycocotools"))
    assert ours == theirs
    labels = np.flatnonzero(dataset.objects_per_class).tolist()
    assert referee.precision_and_recall(dataset, found, labels)[0].shape == (10, 101, len(labels), 4)


def test_ap_of_hit_miss_hit_is_worked_by_hand(tmp_path):
    """COCO interpolates at the 101 recalls 0, 0.01 ... 1, each with the best precision at that recall or above."""
    content = ground_truth([{"bbox": [0, 0, 40, 40]}, {"bbox": [100, 0, 40, 40]}])
    results = [found([0, 0, 40, 40], 0.9), found([300, 300, 40, 40], 0.8), found([100, 0, 40, 40], 0.7)]
    # hit, miss, hit on 2 objects: recall 1/2 at precision 1, recall 2/2 at precision 2/3.
    # The 51 recalls 0 to 0.50 read 1, the 50 recalls 0.51 to 1 read 2/3.
    expected = (51 * 1 + 50 * 2 / 3) / 101
    table = score(tmp_path, content, results)
    assert table.to_rows()[0]["AP"] == pytest.approx(expected, abs=1e-12)
    assert table.summary["AP"] == table.to_rows()[0]["AP"] and table.summary["AP75"] == pytest.approx(
        expected, abs=1e-12
    )
    assert table.summary["AR1"] == 0.5 and table.summary["AR10"] == 1.0


# ------------------------------------------------------------------------------------------------------------- traps


def test_annotation_id_zero_is_an_object_like_any_other(tmp_path):
    """TRAPS 5: pycocotools takes a match with id 0 for no match."""
    content = ground_truth([{"bbox": [x, 10, 50, 50], "id": n} for n, x in enumerate((10, 200))])
    table = score(tmp_path, content, perfect(content))
    assert table.summary["AP"] == pytest.approx(1.0, abs=1e-12)
    assert plain_pycocotools(tmp_path / "gt.json", tmp_path / "dt.json").stats[0] < 0.6  # the trap is there


def test_repeated_annotation_ids_lose_no_object(tmp_path):
    """TRAPS 6: pycocotools keeps the last of the annotations that share an id (TACO has such)."""
    content = ground_truth([{"bbox": [x, 10, 50, 50], "id": 7} for x in (10, 200, 400)])
    table = score(tmp_path, content, perfect(content))
    assert table.summary["AP"] == pytest.approx(1.0, abs=1e-12) and table.n_objects == 3
    assert plain_pycocotools(tmp_path / "gt.json", tmp_path / "dt.json").stats[0] < 0.6  # the trap is there


@needs_shared
def test_perfect_detections_of_taco_score_1():
    """TRAPS 6 on the real file: ids 309 and 4040 are used twice."""
    dataset = coco.load(SHARED / "taco_official.json")
    objects = ~dataset.iscrowd
    truth = Detections(
        dataset.box_image[objects], dataset.box_label[objects], dataset.boxes[objects], np.full(objects.sum(), 0.9)
    )
    assert evaluation.evaluate(dataset, truth).summary["AP"] == pytest.approx(1.0, abs=1e-12)


def test_the_files_area_decides_small_medium_large(tmp_path):
    """TRAPS 7: `area`, the area of the mask, and not width x height."""
    content = ground_truth([{"bbox": [10, 10, 50, 50], "area": 500}])
    entry = score(tmp_path, content, perfect(content)).classes[0]
    assert entry.APs == pytest.approx(1.0, abs=1e-12) and entry.APm is None and entry.APl is None


def test_a_detection_on_a_crowd_is_neither_hit_nor_miss(tmp_path):
    """TRAPS 8: crowds are ignored; here the crowd's detection is the surer one and would halve AP as a miss."""
    content = ground_truth([{"bbox": [10, 10, 50, 50]}, {"bbox": [200, 10, 300, 300], "iscrowd": 1}])
    table = score(tmp_path, content, [found([10, 10, 50, 50], 0.5), found([250, 50, 60, 60], 0.9)])
    assert table.summary["AP"] == pytest.approx(1.0, abs=1e-12) and table.classes[0].n_val == 1


def test_a_box_of_zero_size_is_not_an_object_to_miss(tmp_path):
    """TRAPS 10: the one deliberate difference from pycocotools, where no detector can reach recall 1 on bccd's val."""
    content = ground_truth([{"bbox": [10, 10, 50, 50]}, {"bbox": [0, 0, 0, 0]}])
    table = score(tmp_path, content, perfect(content)[:1])
    assert table.summary["AR100"] == 1.0 and table.n_objects == 1
    assert plain_pycocotools(tmp_path / "gt.json", tmp_path / "dt.json").stats[8] == 0.5


def test_ignore_1_without_iscrowd_counts_as_an_object(tmp_path):
    """TRAPS 9: COCOeval overwrites `ignore` with iscrowd."""
    content = ground_truth([{"bbox": [10, 10, 50, 50], "ignore": 1}, {"bbox": [200, 10, 50, 50]}])
    table = score(tmp_path, content, perfect(content)[1:])
    assert table.summary["AR100"] == 0.5 == plain_pycocotools(tmp_path / "gt.json", tmp_path / "dt.json").stats[8]


def test_the_101st_detection_of_a_class_in_an_image_is_not_looked_at_and_is_counted(tmp_path):
    """TRAPS 33: maxDets is per image and category (detectron2#3359), so 120 perfect boxes find 100 of 120."""
    content = ground_truth([{"bbox": [x * 30, y * 30, 20, 20]} for x in range(12) for y in range(10)])
    table = score(tmp_path, content, perfect(content))
    assert table.summary["AR100"] == pytest.approx(100 / 120) and table.n_beyond_max_dets == 20
    assert table.n_detections == 120


def test_a_class_without_objects_is_none_and_its_false_positives_are_counted(tmp_path):
    """TRAPS 34: -1 in pycocotools, left out of the mean, false positives free."""
    content = ground_truth([{"bbox": [10, 10, 50, 50]}], names=("cell", "ghost"))
    ghosts = [found([200, 200, 30, 30], s, category_id=2) for s in (0.9, 0.05, 0.049)]
    table = score(tmp_path, content, perfect(content) + ghosts)
    ghost = table.classes[1]
    assert ghost.n_val == 0 and ghost.detections == 2
    metrics = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
    assert [getattr(ghost, name) for name in metrics] == [None] * len(metrics)
    assert table.summary["AP"] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    "change",
    [{"bbox": "[NaN, 1, 2, 3]"}, {"bbox": "[1, 1, Infinity, 3]"}, {"score": "NaN"}, {"score": "1e999"}],
    ids=["nan-box", "infinite-box", "nan-score", "overflow-score"],
)
def test_numbers_that_are_not_finite_are_refused(tmp_path, change):
    """TRAPS 35: pycocotools gives AP 1.0 for NaN boxes."""
    dataset = coco.load(write(tmp_path / "gt.json", ground_truth([{"bbox": [10, 10, 50, 50]}])))
    fields = {"image_id": "1", "category_id": "1", "bbox": "[10, 10, 50, 50]", "score": "0.9"} | change
    text = "{" + ", ".join(f'"{key}": {value}' for key, value in fields.items()) + "}"
    with pytest.raises(FocalError, match=r"dt\.json: 1 of 1 detections have a box or a score that is not finite") as e:
        load_detections(write(tmp_path / "dt.json", f"[{text}]"), dataset)
    assert "diverge" in e.value.hint


def test_arrays_of_a_diverged_model_are_refused_without_a_file(tmp_path):
    """TRAPS 35; a box whose area overflows makes the IoU NaN just the same."""
    dataset = coco.load(write(tmp_path / "gt.json", ground_truth([{"bbox": [10, 10, 50, 50]}])))
    for box, value in (([0, 0, np.nan, 1], 0.5), ([0, 0, 1e200, 1e200], 0.5), ([0, 0, 1, 1], np.inf)):
        detections = Detections(np.zeros(1, int), np.zeros(1, int), np.array([box]), np.array([value]))
        with pytest.raises(FocalError, match="not finite"):
            evaluation.evaluate(dataset, detections)


def test_no_detections_at_all_is_ap_0(tmp_path):
    """TRAPS 35: an empty list is an IndexError in pycocotools."""
    table = score(tmp_path, ground_truth([{"bbox": [10, 10, 50, 50]}]), [])
    assert table.summary["AP"] == 0.0 and table.summary["AR100"] == 0.0 and table.n_detections == 0
    assert table.summary["APs"] is None


def test_per_class_numbers_do_not_depend_on_the_subset(tmp_path):
    """TRAPS 37: cocoapi#443, where a loop over catIds changed them."""
    boxes = [{"bbox": [60 * n, 10, 50, 50], "category_id": 1 + n % 3} for n in range(9)]
    content = ground_truth(boxes, names=("a", "b", "c"))
    results = perfect(content)[:7]
    whole = score(tmp_path, content, results)
    for label in range(3):
        alone = score(tmp_path, content, results, labels=[label])
        assert alone.classes == (whole.classes[label],) and alone.summary["AP"] == whole.classes[label].AP
    assert score(tmp_path, content, results, labels=[2, 0]).n_objects == 6


def test_string_ids_score_as_numbers_do(tmp_path):
    """TRAPS 2: ids may be text; the tables must differ in nothing but the category ids."""
    content = ground_truth([{"bbox": [10, 10, 50, 50]}, {"bbox": [9, 10, 50, 50], "image_id": 2}], n_images=2)
    results = [*perfect(content)[:1], found([300, 10, 50, 50], 0.9, image_id=2)]
    numbers = score(tmp_path, content, results)
    for entry in (*content["images"], *content["categories"]):
        entry["id"] = f"id {entry['id']}"
    for entry in (*content["annotations"], *results):
        entry |= {"image_id": f"id {entry['image_id']}", "category_id": f"id {entry['category_id']}"}
    texts = score(tmp_path, content, results)
    assert texts.summary == numbers.summary and texts.classes[0].category_id == "id 1"
    assert numbers.summary["AP"] == pytest.approx(51 / 101, abs=1e-12)


def test_a_dataset_without_objects_is_an_error(tmp_path):
    """pycocotools prints -1 for everything; a CI gate on that passes or fails by accident."""
    content = ground_truth([{"bbox": [10, 10, 50, 50], "iscrowd": 1}])
    with pytest.raises(FocalError, match=r"gt\.json: no objects") as error:
        score(tmp_path, content, [])
    assert "focal audit" in error.value.hint


def test_labels_without_objects_give_none(tmp_path):
    """TRAPS 34, for a subset of classes of which none has an object."""
    table = score(tmp_path, ground_truth([{"bbox": [10, 10, 50, 50]}], names=("cell", "ghost")), [], labels=[1])
    assert table.summary["AP"] is None and [entry.name for entry in table.classes] == ["ghost"]


def test_nothing_is_printed(tmp_path, capsys):
    """DESIGN.md: stdout is the result, and pycocotools prints."""
    content = ground_truth([{"bbox": [10, 10, 50, 50]}])
    score(tmp_path, content, perfect(content))
    assert tuple(capsys.readouterr()) == ("", "")


# --------------------------------------------------------------------------------------------------------- the table


def test_groups_are_cut_by_training_images_as_lvis_does(tmp_path):
    """Gupta et al. 2019 (LVIS), sec. 3: rare 1-10, common 11-100, frequent > 100 training images."""
    images = {"c1": 1, "c10": 10, "c11": 11, "c100": 100, "c101": 101, "c0": 0}
    names = (*images, "new")
    content = ground_truth([{"bbox": [70 * n, 9, 50, 50], "category_id": n + 1} for n in range(7)], names=names)
    table = score(tmp_path, content, perfect(content)[1:], images_train=images, n_train={"c1": 3})
    groups = [entry.group for entry in table.classes]
    assert groups == ["rare", "rare", "common", "common", "frequent", None, None]
    assert [entry.n_train for entry in table.classes[:2]] == [3, None]
    assert table.summary["APr"] == pytest.approx(0.5, abs=1e-12)  # c1 is missed, c10 is found
    assert table.summary["APc"] == pytest.approx(1.0, abs=1e-12)
    assert score(tmp_path, content, []).summary["APf"] is None  # nothing is known of the training set


def test_classes_sort_worst_first_and_undefined_last(tmp_path):
    """The order of `focal eval`'s table."""
    content = ground_truth(
        [{"bbox": [10, 10, 50, 50]}, {"bbox": [100, 10, 50, 50], "category_id": 3}], names=("good", "ghost", "bad")
    )
    table = score(tmp_path, content, perfect(content)[:1])
    assert [entry.name for entry in table.sorted_by("AP")] == ["bad", "good", "ghost"]
    assert [entry.name for entry in table.sorted_by("name")] == ["bad", "ghost", "good"]
    with pytest.raises(FocalError, match="cannot sort classes by 'detection'") as error:
        table.sorted_by("detection")
    assert error.value.hint == "did you mean detections?"


def test_to_dict_is_json_with_null_and_states_its_cuts(tmp_path):
    """DESIGN.md: schema_version, 0..1, null (never -1), the cuts of rare/common/frequent stated."""
    table = score(tmp_path, ground_truth([{"bbox": [10, 10, 50, 50]}], names=("cell", "ghost")), [])
    content = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    assert (content["schema_version"], content["kind"]) == (1, "ap")
    assert set(content["summary"]) == {*STATS, "APr", "APc", "APf"} and content["summary"]["APl"] is None
    assert content["classes"][1]["AP"] is None and content["classes"][0]["AP"] == 0.0
    assert content["group_train_images"] == {"rare": [1, 10], "common": [11, 100], "frequent": [101, None]}
    assert "-1" not in json.dumps(content)
    assert [list(row)[:2] for row in table.to_rows()] == [["name", "category_id"]] * 2


# -------------------------------------------------------------------------------------------- intervals and thresholds


def drawn(seed: int, images: int = 60) -> tuple[dict, list[dict]]:
    """One class, three objects an image; the detector finds seven in ten, surer of hits than of the rest."""
    rng = np.random.default_rng(seed)
    boxes = [{"bbox": [100 * k, 10, 50, 50], "image_id": n} for n in range(1, images + 1) for k in range(3)]
    results = []
    for box in boxes:
        hit = rng.random() < 0.7
        place = box["bbox"] if hit else [box["bbox"][0], 300, 50, 50]
        results.append(found(place, float(rng.beta(4, 2) if hit else rng.beta(2, 4)), box["image_id"]))
    return ground_truth(boxes, images), results


def test_a_round_that_draws_every_image_once_gives_the_ap_itself(tmp_path):
    """The bootstrap's weighted count is COCO's count where every weight is 1."""
    content, results = drawn(0)
    content["annotations"][5]["iscrowd"] = 1
    dataset = coco.load(write(tmp_path / "gt.json", content))
    detections = load_detections(write(tmp_path / "dt.json", results), dataset)
    ranked = matching.rank(dataset, detections, [0])
    precision, _, matches = accumulate.precision_and_recall(dataset, ranked, [0])
    rounds = bootstrap.replicates(dataset, ranked, matches, [0], np.ones((2, 60), dtype=np.uint8))
    np.testing.assert_allclose(rounds.AP50[:, 0], precision[0, :, 0, 0].mean(), atol=1e-12)
    np.testing.assert_allclose(rounds.AP[:, 0], precision[:, :, 0, 0].mean(), atol=1e-12)


def test_a_round_equals_pycocotools_on_the_images_that_it_drew(tmp_path):
    """Drawing an image twice is the same as having two copies of it: pycocotools is run on the copies."""
    content, results = drawn(1, images=8)
    dataset = coco.load(write(tmp_path / "gt.json", content))
    ranked = matching.rank(dataset, load_detections(write(tmp_path / "dt.json", results), dataset), [0])
    matches = accumulate.precision_and_recall(dataset, ranked, [0])[2]
    weights = bootstrap.draws(8, 5, seed=3)
    assert (weights.sum(axis=1) == 8).all()
    ours = bootstrap.replicates(dataset, ranked, matches, [0], weights)
    for number, counts in enumerate(weights):
        drawn_images = np.repeat(np.arange(1, 9), counts)
        boxes = [
            {"bbox": a["bbox"], "image_id": new}
            for new, old in enumerate(drawn_images.tolist(), 1)
            for a in content["annotations"]
            if a["image_id"] == old
        ]
        # a little less sure in each copy: COCO would otherwise break ties its own way
        again = [
            {**r, "image_id": new, "score": r["score"] - new * 1e-9}
            for new, old in enumerate(drawn_images.tolist(), 1)
            for r in results
            if r["image_id"] == old
        ]
        truth = write(tmp_path / "gt2.json", ground_truth(boxes, 8))
        engine = plain_pycocotools(truth, write(tmp_path / "dt2.json", again))
        # within a copied image hits and misses of one score stand together, which no order of copies changes by more
        assert ours.AP50[number, 0] == pytest.approx(engine.stats[1], abs=0.01)


def test_19_in_20_intervals_hold_the_ap_of_the_whole_population(tmp_path):
    """The meaning of a 95 % interval. 60 samples of one population: fewer than 51 would be a chance of 1 in 1,000."""
    content, results = drawn(99, images=3000)
    truth = score(tmp_path, content, results).summary["AP50"]
    held = 0
    for seed in range(60):
        entry = score(tmp_path, *drawn(seed), rounds=200, seed=seed).classes[0]
        held += entry.AP50_low <= truth <= entry.AP50_high
    assert held >= 51


def test_intervals_hold_the_measured_value_and_narrow_with_more_images(tmp_path):
    """The spread falls with the root of the number of images: 16 times as many make it a quarter."""
    few, many = (score(tmp_path, *drawn(5, images), rounds=300).classes[0] for images in (40, 640))
    for entry in (few, many):
        assert entry.AP50_low < entry.AP50 < entry.AP50_high and entry.AP_low < entry.AP < entry.AP_high
    ratio = (few.AP50_high - few.AP50_low) / (many.AP50_high - many.AP50_low)
    assert ratio == pytest.approx(4, rel=0.4)


def test_no_rounds_and_no_objects_give_no_interval(tmp_path):
    """DESIGN.md: null where undefined."""
    content = ground_truth([{"bbox": [10, 10, 50, 50]}], names=("cell", "ghost"))
    assert score(tmp_path, content, perfect(content)).classes[0].AP50_low is None
    table = score(tmp_path, content, perfect(content), rounds=20)
    assert table.classes[1].AP50_low is None and table.classes[0].AP50_low == pytest.approx(1.0)
    assert table.to_dict()["intervals"]["AP50"] == pytest.approx([1.0, 1.0])
    assert table.to_dict()["bootstrap_rounds"] == 20


def test_the_operating_point_has_the_best_f1():
    """Worked by hand: 3 objects; hits at 0.9 and 0.6, a miss at 0.7, two misses at 0.2. Precision 2/3 and recall 2/3 at
    0.6 give F1 2/3; 1 and 1/3 at 0.9 give 1/2."""
    point = operating_point(np.array([0.9, 0.7, 0.6, 0.2, 0.2]), np.array([True, False, True, False, False]), objects=3)
    assert (point.threshold, point.precision, point.recall) == (0.6, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert pytest.approx(2 / 3) == point.F1


def test_equal_scores_are_kept_or_dropped_together():
    """A threshold cannot cut between a hit and a miss of one score, whatever their order in the file."""
    point = operating_point(np.array([0.5, 0.5]), np.array([True, False]), objects=1)
    assert (point.precision, point.recall) == (0.5, 1.0)
    assert operating_point(np.array([0.5]), np.array([False]), objects=1) is None
    assert operating_point(np.zeros(0), np.zeros(0, dtype=bool), objects=1) is None


def test_a_pr_curve_of_many_detections_keeps_its_ends():
    """At most 200 points, from the surest hit to the last recall."""
    rng = np.random.default_rng(0)
    hit = rng.random(5000) < np.linspace(1, 0, 5000)
    curve = pr_curve("cell", 1, np.linspace(1, 0, 5000), hit, objects=4000)
    assert len(curve.recall) <= 201 and curve.recall[-1] == hit.sum() / 4000
    assert list(curve.recall) == sorted(curve.recall) and curve.precision[0] == 1.0


def test_a_class_with_few_objects_is_marked(tmp_path):
    """TRAPS 36: with n objects one standard error of the recall reaches sqrt(1/4 / n), 0.1 at 25."""
    boxes = [{"bbox": [60 * (n % 10), 60 * (n // 10), 50, 50], "category_id": 1 + (n >= 25)} for n in range(49)]
    table = score(tmp_path, ground_truth(boxes, names=("enough", "few")), [])
    assert [entry.has_few_objects for entry in table.classes] == [False, True]


def test_where_pycocotools_would_be_wrong_it_is_said(tmp_path):
    """TRAPS 5, 6, 10, 35: the numbers differ from pycocotools' on the same files, and a user who compares must know."""
    content = ground_truth([{"bbox": [10, 10, 50, 50]}, {"bbox": [100, 10, 50, 50]}])
    assert score(tmp_path, content, perfect(content)).unlike_pycocotools == ()
    content = ground_truth([{"bbox": [10, 10, 50, 50], "id": 0}, {"bbox": [100, 10, 50, 50], "id": 7}])
    content["annotations"] += [{**content["annotations"][1], "bbox": [200, 10, 50, 50]}]
    content["annotations"] += [{**content["annotations"][1], "bbox": [200, 10, 0, 50], "id": 8}]
    said = " ".join(score(tmp_path, content, []).unlike_pycocotools)
    for words in ("annotation id 0", "share an annotation id: 1", "missed: 1 here", "IndexError"):
        assert words in said
