"""detections: what a file that is not detections is told, and what is read from one that is."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from tiny_detections import found, ground_truth, score, write

from focalcli import coco
from focalcli.detections import Detections, load_detections, reading, results_json
from focalcli.errors import ExitCode, FocalError

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
        ('"hello"', "holds text, not detections", "again"),
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


def test_a_packed_file_reads_as_the_plain_one(tmp_path):
    """Results of large sets are kept as .json.gz."""
    dataset = coco.load(write(tmp_path / "gt.json", ground_truth([{"bbox": [10, 10, 50, 50]}])))
    (tmp_path / "dt.json.gz").write_bytes(gzip.compress(json.dumps([found([10, 10, 50, 50])]).encode()))
    assert load_detections(tmp_path / "dt.json.gz", dataset).scores.tolist() == [0.9]


def test_something_odd_far_into_a_long_file_is_found_and_numbered(tmp_path):
    """Files are read a block at a time; the number in the message is that of the whole list."""
    error = refused(tmp_path, [*([found([1, 1, 2, 2])] * 20_000), found([1, 1, "2", 2])])
    assert "detection number 20000: bbox holds '2'" in error.message


def test_more_detections_than_memory_is_a_clear_no(tmp_path, monkeypatch):
    """50 million detections: refused while they are read, with what to do."""
    monkeypatch.setattr(reading, "MOST_DETECTIONS", 10_000)
    error = refused(tmp_path, [found([1, 1, 2, 2])] * 10_001)
    assert "more than 10,000 detections" in error.message and "best 100 of each image and class" in error.hint


def test_something_after_the_list_is_refused(tmp_path):
    """Two files joined end to end, as `cat` does."""
    assert "something follows the list" in refused(tmp_path, "[] []").message


def test_image_ids_off_by_one_and_positions_are_named(tmp_path):
    """Data loaders count pictures from 0."""
    content = ground_truth([], n_images=3)
    shifted = [found([1, 1, 2, 2], image_id=value) for value in (0, 1, 2)]
    assert "add 1 to every image_id" in refused(tmp_path, shifted, content).hint
    for number, image in enumerate(content["images"]):
        image["id"] = 100 + 7 * number
    assert "positions, 0 to 2" in refused(tmp_path, shifted, content).hint
