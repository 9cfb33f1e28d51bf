"""ap.py: pycocotools' numbers from our arrays, and what a file that is not detections is told.

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

from focalcli import ap, coco
from focalcli.detections import Detections, load_detections, results_json
from focalcli.errors import ExitCode, FocalError

SHARED = Path(__file__).parents[2] / "shared" / "data" / "json"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="shared/data/json is not beside the repository")

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")  # in COCOeval's order
EXAMPLE = ("instances_val2014_100.json", "instances_val2014_fakebbox100_results.json")


# -------------------------------------------------------------------------------------------------------- building


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def ground_truth(boxes: list[dict], n_images: int = 1, names: tuple[str, ...] = ("cell",)) -> dict:
    """A COCO dict with image ids 1.. and category ids 1..; `boxes` fill in what they do not say."""
    annotations = [
        {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0}
        | {"area": entry["bbox"][2] * entry["bbox"][3]}
        | entry
        for number, entry in enumerate(boxes, start=1)
    ]
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(1, n_images + 1)],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
    }


def found(bbox: list[float], score: float = 0.9, image_id: object = 1, category_id: object = 1) -> dict:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def perfect(content: dict) -> list[dict]:
    return [found(a["bbox"], 0.9, a["image_id"], a["category_id"]) for a in content["annotations"]]


def score(folder: Path, content: dict, results: list[dict], **options) -> ap.ApTable:
    dataset = coco.load(write(folder / "gt.json", content))
    return ap.evaluate(dataset, load_detections(write(folder / "dt.json", results), dataset), **options)


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


def assert_equals_pycocotools(truth: Path, results: Path) -> ap.ApTable:
    """Every number of the table, bit for bit."""
    dataset = coco.load(truth)
    table = ap.evaluate(dataset, load_detections(results, dataset))
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
    table = ap.evaluate(dataset, load_detections(SHARED / EXAMPLE[1], dataset))
    assert [round(table.summary[name], 3) for name in STATS] == published


@needs_shared
@pytest.mark.parametrize("names", [EXAMPLE, ("shapes_gt.json", "shapes_dt.json")], ids=["val2014", "shapes"])
def test_real_files_equal_pycocotools_exactly(names):
    """A plain run of pycocotools on the same two files."""
    table = assert_equals_pycocotools(SHARED / names[0], SHARED / names[1])
    assert table.summary["AP"] > 0


@st.composite
def random_pair(draw) -> tuple[dict, list[dict]]:
    """Crowds, empty classes, tied scores, > 100 detections of a class in an image, ids with gaps and out of order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image_ids = rng.permutation(50)[: draw(st.integers(1, 4))] + 1
    category_ids = rng.permutation(20)[: draw(st.integers(1, 4))] + 1
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
    assert ap.evaluate(dataset, truth).summary["AP"] == pytest.approx(1.0, abs=1e-12)


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
            ap.evaluate(dataset, detections)


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


# ---------------------------------------------------------------------------------------------------------- the file


def refused(tmp_path: Path, results: object, content: dict | None = None) -> FocalError:
    """The error of loading `results`; its message must name the file and its hint must say something."""
    dataset = coco.load(write(tmp_path / "gt.json", content or ground_truth([{"bbox": [10, 10, 50, 50]}])))
    with pytest.raises(FocalError) as error:
        load_detections(write(tmp_path / "dt.json", results), dataset)
    assert error.value.message.startswith(f"{tmp_path / 'dt.json'}: ") and error.value.exit_code == ExitCode.BAD_INPUT
    assert error.value.hint and "\n" not in error.value.message + error.value.hint
    return error.value


def test_a_missing_file_and_a_folder_are_said_to_be_so(tmp_path):
    """STYLE.md: the place, what was found, what was expected, the next step."""
    dataset = coco.load(write(tmp_path / "gt.json", ground_truth([{"bbox": [10, 10, 50, 50]}])))
    with pytest.raises(FocalError, match=r"nope\.json: no such file; expected a list of \{image_id"):
        load_detections(tmp_path / "nope.json", dataset)
    with pytest.raises(FocalError, match="is a folder"):
        load_detections(tmp_path, dataset)


@pytest.mark.parametrize(
    ("results", "message", "hint"),
    [
        ("[{", "not JSON \\(line 1, column 3.*cut short", "again"),
        ("hello", "not JSON", "again"),
        ('"hello"', "holds str, not detections", "again"),
        (ground_truth([]), "an object \\(its keys: images, annotations, categories\\)", "focal eval DETECTIONS.json"),
        ({"predictions": []}, "an object \\(its keys: predictions\\)", "the list alone"),
        ([[1, 2, 3]], "detection number 0 is list", "one object for each"),
        ([found([1, 1, 2, 2]), {"image_id": 1}], "number 1 has no category_id and no bbox and no score", "needs"),
        (ground_truth([{"bbox": [1, 1, 2, 2]}])["annotations"], "has no score", "annotations"),
        ([found([1, 1, 2])], "bbox is 3 numbers", "four numbers"),
        ([found([1, 1, 2, 2]), found([1, 1, "2", 2])], "number 1: bbox holds '2'", "without quotes"),
        ([found([1, 1, 2, 2], None)], "score holds None", "without quotes"),
        ([found([1, 1, 2, 2], image_id=None)], "image_id is None", "as the dataset does"),
        ([found([30, 30, -10, 5])], "1 of 1 detections have a box of negative size", "not two corners"),
    ],
)
def test_what_is_not_detections_is_told_where_and_what_to_do(tmp_path, results, message, hint):
    """STYLE.md: the place, what was found, what was expected, the next step."""
    error = refused(tmp_path, results)
    assert re.search(message, error.message) and hint in error.hint


@pytest.mark.parametrize(
    ("ids", "message", "hint"),
    [
        ([7, 1, 8, 9, 7], "4 of 5 detections have image_ids that are not in .*gt.json: 7, 8, 9; expected", "split"),
        (list(range(10, 20)), "10, 11, 12, 13, 14 and 5 more", "split"),
        (["1"], "'1'; expected one of 1", "text in the detections and numbers in the dataset"),
        (["1.jpg"], "'1.jpg'", "file names"),
    ],
)
def test_unknown_image_ids_are_counted_and_explained(tmp_path, ids, message, hint):
    """TRAPS 3: the splits disagree; pycocotools says only "Results do not correspond to current coco set"."""
    error = refused(tmp_path, [found([1, 1, 2, 2], image_id=value) for value in ids])
    assert re.search(message, error.message) and hint in error.hint


@pytest.mark.parametrize(
    ("known", "ids", "hint"),
    [
        ((1, 2, 3), (0, 1, 2), "after a shift by one: add 1"),
        ((0, 1, 2), (1, 2, 3), "after a shift by one: take 1"),
        ((1, 5, 90), (0, 1, 2), "positions, 0 to 2,"),
        ((1, 2, 3), ("name 1", "name 3"), "these are names"),
        ((1, 2, 3), ("1", "2"), "text in the detections"),
        ((1, 2, 3), (1, 2, 77), "another class list"),
    ],
)
def test_unknown_category_ids_are_explained(tmp_path, known, ids, hint):
    """TRAPS 3 and 4: pycocotools drops such detections without a word, and AP is 0."""
    content = ground_truth([])
    content["categories"] = [{"id": value, "name": f"name {value}"} for value in known]
    error = refused(tmp_path, [found([1, 1, 2, 2], category_id=value) for value in ids], content)
    assert "category_ids that are not in" in error.message and hint in error.hint


def test_ids_written_as_1_point_0_are_whole_numbers(tmp_path):
    """pandas writes integer columns that once held a gap as floats."""
    content = ground_truth([{"bbox": [10, 10, 50, 50]}])
    table = score(tmp_path, content, [found([10, 10, 50, 50], image_id=1.0, category_id=1.0)])
    assert table.summary["AP"] == pytest.approx(1.0, abs=1e-12)


def test_results_json_reads_back_as_the_rounded_detections(tmp_path):
    """Scores of a saved file equal those of `rounded()`, so a report and its file can agree."""
    content = ground_truth([{"bbox": [10, 10, 50, 50]}], n_images=3, names=("a", "b"))
    content["categories"][1]["id"] = 90
    dataset = coco.load(write(tmp_path / "gt.json", content))
    rng = np.random.default_rng(0)
    boxes = (rng.random((50, 4)) * 100).astype(np.float32)
    scores = rng.random(50).astype(np.float32)
    detections = Detections(rng.integers(3, size=50), rng.integers(2, size=50), boxes, scores)
    (tmp_path / "dt.json").write_bytes(results_json(detections, dataset))

    back, rounded = load_detections(tmp_path / "dt.json", dataset), detections.rounded()
    for name in ("image", "label", "boxes", "scores"):
        np.testing.assert_array_equal(getattr(back, name), getattr(rounded, name))
    np.testing.assert_allclose(back.boxes, boxes, atol=0.0051)
    np.testing.assert_allclose(back.scores, scores, atol=0.0000051)
    first = json.loads((tmp_path / "dt.json").read_text())[0]
    assert set(first) == {"image_id", "category_id", "bbox", "score"}
    assert {row["category_id"] for row in json.loads((tmp_path / "dt.json").read_text())} == {1, 90}


def test_no_detections_round_trip(tmp_path):
    """TRAPS 35: an empty list is a valid result."""
    dataset = coco.load(write(tmp_path / "gt.json", ground_truth([{"bbox": [10, 10, 50, 50]}])))
    empty = load_detections(write(tmp_path / "dt.json", []), dataset)
    assert len(empty) == 0 and empty.boxes.shape == (0, 4) and results_json(empty, dataset) == b"[]"
