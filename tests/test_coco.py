"""COCO files, odd ones above all: nothing is lost without a word, nothing ends in a traceback."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import os
import random
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from command import environment, focal, mistake
from conftest import coco_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from focalcli import coco
from focalcli.coco import Dataset, records, second
from focalcli.errors import FocalError

IMAGE = {"id": 1, "file_name": "1.jpg", "width": 640, "height": 480}


def codes(dataset: Dataset) -> Counter:
    """How often the loader named each defect."""
    return Counter(defect.code for defect in dataset.defects)


# ------------------------------------------------------------------------------------------------- what loads as it is


def test_clean_file_has_no_defects(write_coco):
    """The file that every other test changes one thing of."""
    dataset = coco.load(write_coco())
    assert not dataset.defects
    assert dataset.boxes.tolist() == [[10, 20, 100, 80]] * 2
    assert dataset.objects_per_class.tolist() == dataset.images_per_class.tolist() == [1, 1]


def test_categories_are_sorted_by_id_with_gaps_zero_and_any_order(write_coco):
    """TRAPS 1 and 2: labels are contiguous, sorted by id as COCOeval sorts, and names stay with their ids."""
    categories = [{"id": 90, "name": "c"}, {"id": 0, "name": "a"}, {"id": 7, "name": "b"}]
    dataset = coco.load(write_coco([{"category_id": 7}, {"category_id": 90}], categories=categories))
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.box_label.tolist() == [1, 2]


def test_string_ids_load(write_coco):
    """TRAPS 2: ids may be text throughout; that is no defect."""
    images = [IMAGE | {"id": "one"}]
    boxes = [{"id": "x", "image_id": "one", "category_id": "k"}]
    dataset = coco.load(write_coco(boxes, images, [{"id": "k", "name": "cat"}]))
    assert dataset.annotation_ids.tolist() == ["x"] and dataset.image_ids == ("one",) and not dataset.defects


def test_missing_area_and_iscrowd_have_defaults(tmp_path):
    """TRAPS 7: a KeyError in pycocotools; here w * h and an ordinary object."""
    content = coco_file([{}])
    del content["annotations"][0]["area"], content["annotations"][0]["iscrowd"]
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    dataset = coco.load(path)
    assert dataset.area.tolist() == [8000] and dataset.iscrowd.tolist() == [False]
    assert [defect.code for defect in dataset.defects] == ["F008"]


def test_area_of_the_file_wins_over_width_times_height(write_coco):
    """TRAPS 7: COCO cuts small, medium and large by `area`, the mask's."""
    assert coco.load(write_coco([{"area": 1234.5}])).area.tolist() == [1234.5]


def test_crowds_are_kept_but_are_no_objects(write_coco):
    """TRAPS 8: neither object nor background."""
    dataset = coco.load(write_coco([{}, {"iscrowd": 1}]))
    assert dataset.iscrowd.tolist() == [False, True] and dataset.objects_per_class.tolist() == [1, 0]


def test_ignore_flag_does_not_hide_an_object(write_coco):
    """TRAPS 9: COCOeval overwrites `ignore` by iscrowd, so the object counts there too."""
    assert coco.load(write_coco([{"ignore": 1}])).objects_per_class.tolist() == [1, 0]


def test_images_without_boxes_are_kept(write_coco):
    """TRAPS 11: they are valid negatives."""
    dataset = coco.load(write_coco([]))
    assert len(dataset.image_ids) == 2 and dataset.boxes.shape == (0, 4)


def test_ghost_category_and_supercategory_none_stay_categories(write_coco):
    """TRAPS 13 and 14: the loader drops no class; the audit names those without objects."""
    categories = [{"id": 0, "name": "all", "supercategory": "none"}, {"id": 1, "name": "cat", "supercategory": "none"}]
    dataset = coco.load(write_coco([{}], categories=categories))
    assert dataset.class_names == ("all", "cat") and dataset.objects_per_class.tolist() == [0, 1]


def test_boxes_are_clipped_for_training_and_kept_for_scoring(write_coco):
    """TRAPS 10: `boxes` is the file's, which COCOeval scores; `boxes_xyxy` is what lies in the picture."""
    dataset = coco.load(write_coco([{"bbox": [600, -5, 80, 50]}]))
    assert dataset.boxes.tolist() == [[600, -5, 80, 50]]
    assert dataset.boxes_xyxy.tolist() == [[600, 0, 640, 45]]


def test_arrays_are_read_only(write_coco):
    """A Dataset is a value: nobody changes it for everybody else."""
    with pytest.raises(ValueError, match="read-only"):
        coco.load(write_coco()).boxes[0, 0] = 1


# --------------------------------------------------------------------------------------------------------- the defects

DEFECTS = {
    "F001": {"boxes": [{"id": 1}, {"id": 1, "image_id": 2}]},
    "F002": {"boxes": [{}], "images": [IMAGE, IMAGE | {"file_name": "other.jpg"}]},
    "F003": {"boxes": [{}, {"image_id": 77}]},
    "F004": {"boxes": [{}, {"category_id": None}]},
    "F101": {"boxes": [{}, {"bbox": [5, 5, 0, 10]}]},
    "F102": {"boxes": [{}, {"bbox": [1, 2, 3]}]},
    "F103": {"boxes": [{}, {"bbox": [700, 5, 10, 10]}]},
    "F105": {"boxes": [{}, {"bbox": [1, 2, "39.00", 4]}]},
    "F106": {"boxes": [{}, {"area": -1}]},
    "F201": {"boxes": [{}], "categories": [{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]},
    "F202": {"boxes": [{}], "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]},
    "F203": {"boxes": [{}, {"category_id": 99}]},
    "F204": {"boxes": [{}], "categories": [{"id": 1, "name": ""}]},
    "F301": {"boxes": [{}], "images": [IMAGE | {"height": 0}]},
    "F303": {"boxes": [{}], "images": [{"id": 1, "width": 640, "height": 480}]},
}


@pytest.mark.parametrize("code", DEFECTS)
def test_defect_is_named_once_and_the_good_record_is_kept(write_coco, code):
    """Each code the loader gives, in a file with one thing wrong; test_clean_file_has_no_defects is the other half."""
    dataset = coco.load(write_coco(**DEFECTS[code]))
    assert codes(dataset) == {code: 1}
    assert dataset.boxes[0].tolist() == [10, 20, 100, 80]


@pytest.mark.parametrize(
    ("bbox", "code"),
    [
        ([5, 5, 10, 0], "F101"),
        ([5, 5, -3, 10], "F101"),
        ([1e9, 5, 1e-9, 10], "F101"),  # its two corners are one float
        ([math.nan, 5, 10, 10], "F102"),
        ([5, 5, math.inf, 10], "F102"),
        ([5, 5, 1e200, 1e200], "F102"),  # the area overflows
        ([1, 2, 3, 4, 5], "F102"),
        ([1, 2, 3, "wide"], "F102"),
        ([1, 2, 3, None], "F102"),
        ([1, 2, 3, [4]], "F102"),
        ([1, 2, 3, True], "F102"),
        (["nan", 2, 3, 4], "F102"),
        ({"x": 1}, "F102"),
        ("1 2 3 4", "F102"),
        (None, "F102"),
        ([-20, 5, 20, 10], "F103"),
        ([5, 480, 10, 10], "F103"),
    ],
)
def test_unusable_box_is_dropped_and_named(write_coco, bbox, code):
    """TRAPS 10 and 35: zero, negative, NaN, Infinity, 3 or 5 numbers, words, outside the picture."""
    dataset = coco.load(write_coco([{}, {"bbox": bbox}]))
    assert codes(dataset)[code] == 1 and dataset.annotation_ids.tolist() == [1]
    assert next(d for d in dataset.defects if d.code == code).annotation_id == 2


@pytest.mark.parametrize("bbox", [[0, 0, 640, 480], [-0.4, 0, 10, 10], [639.9, 479.9, 5, 5]])
def test_box_at_the_border_is_kept_without_a_word(write_coco, bbox):
    """TRAPS 10: less than 1 px outside is rounding."""
    dataset = coco.load(write_coco([{"bbox": bbox}]))
    assert len(dataset.boxes) == 1 and not dataset.defects


def test_text_numbers_are_read_and_named(write_coco):
    """ppe_train.json has boxes such as [633, 202, "39.00", "37.00"]."""
    dataset = coco.load(write_coco([{"bbox": ["633", 202, "3.50", "37.00"], "area": "9"}], [IMAGE | {"width": "640"}]))
    assert dataset.boxes.tolist() == [[633, 202, 3.5, 37]] and dataset.area.tolist() == [9]
    assert dataset.image_wh.tolist() == [[640, 480]] and codes(dataset) == {"F105": 3}


@pytest.mark.parametrize(("here", "there"), [(7, "7"), ("7", 7)])
def test_ids_that_differ_only_in_being_text_are_joined_and_named(write_coco, here, there):
    """gt_ignore_test.json has "id": "2299" in `images` and "image_id": 2299 in `annotations`."""
    boxes = [{"image_id": here, "category_id": here}]
    dataset = coco.load(write_coco(boxes, [IMAGE | {"id": there}], [{"id": there, "name": "x"}]))
    assert dataset.box_image.tolist() == [0] and codes(dataset) == {"F105": 2}


def test_ids_that_only_look_alike_are_not_joined(write_coco):
    """ "007" is another id than 7."""
    assert codes(coco.load(write_coco([{"image_id": "007"}], [IMAGE | {"id": 7}]))) == {"F003": 1}


@pytest.mark.parametrize("area", [0, -5, math.nan, math.inf, "much", [1], True])
def test_bad_area_is_replaced_by_width_times_height_and_named(write_coco, area):
    """An area of 0 would put every object among the small ones."""
    dataset = coco.load(write_coco([{"area": area}]))
    assert dataset.area.tolist() == [8000] and codes(dataset) == {"F106": 1}


@pytest.mark.parametrize("size", [0, -1, None, "x", math.nan, 10**30, [640]])
def test_unusable_image_size_is_unknown_and_named(write_coco, size):
    """A size that numpy cannot hold, or that no picture has, is no size."""
    dataset = coco.load(write_coco([{}], [IMAGE | {"width": size}]))
    assert dataset.image_wh.tolist() == [[0, 0]] and codes(dataset)["F301"] == 1


def test_repeated_image_keeps_the_first_entry(write_coco):
    """Both entries' boxes land on the first, which is what the error is about."""
    dataset = coco.load(write_coco([{}], [IMAGE, IMAGE | {"file_name": "other.jpg"}]))
    assert dataset.file_names == ("1.jpg",)


def test_nameless_category_is_called_by_its_id(write_coco):
    """So that tables have something to show."""
    assert coco.load(write_coco([{}], categories=[{"id": 1}])).class_names == ("1",)


@pytest.mark.parametrize("value", [1, True, 1.0, "1"])
def test_iscrowd_is_understood_in_every_spelling(write_coco, value):
    """Exporters write numbers, booleans and text."""
    assert coco.load(write_coco([{"iscrowd": value}])).iscrowd.tolist() == [True]


# ----------------------------------------------------------------------------------------------- files that are no COCO


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("[]", "a list is what detections look like"),
        ("3", "it is a number"),
        ("null", "it is null"),
        ('"x"', "it is text"),
        ("{}", "no list `images`"),
        ('{"images": [], "annotations": [], "categories": []}', "no images"),
        ('{"images": [{"id": null}], "annotations": [], "categories": []}', "no images that can be used"),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": [], "categories": []}', "no categories"),
        ('{"images": [], "annotations": {}, "categories": []}', "`annotations` is an object, not a list"),
        ('{"images": null, "annotations": [], "categories": []}', "`images` is null, not a list"),
        ('{"images": [], "images": null, "annotations": [], "categories": []}', "no images"),
        ("{'images': []}", "line 1, column 2"),
        ("[" * 100_000, "nested too deeply"),
        ('{"images": [{"id": ' + "9" * 5000 + "}]}", "not COCO (a number of more than 4,300 digits)"),
        ('{"images": [{"id": true}], "annotations": [], "categories": []}', "image number 0: `id` is true"),
        ('{"images": [{"id": Infinity}], "annotations": [], "categories": []}', "`id` is Infinity"),
        ('{"images": [null], "annotations": [], "categories": []}', "image number 0: it is null, not an object"),
    ],
)
def test_file_that_is_not_coco_is_refused_with_the_reason(tmp_path, text, said):
    """A user's mistake is never a traceback."""
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(FocalError) as error:
        coco.load(path)
    assert str(path) in error.value.message and said in f"{error.value.message} {error.value.hint}"


def test_zip_archive_is_refused_as_one(tmp_path):
    """Roboflow and CVAT hand out datasets as zip archives."""
    path = tmp_path / "dataset.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train/_annotations.coco.json", "{}")
    with pytest.raises(FocalError, match="is a zip archive") as error:
        coco.load(path)
    assert "unpack it" in error.value.hint


@pytest.mark.parametrize("key", ["id", "image_id"])
def test_true_is_no_id_and_no_place(write_coco, key):
    """Python's True is an int; in JSON it is not a number."""
    (defect,) = coco.load(write_coco([{}, {key: True}])).defects
    assert defect.code == "F004" and f"`{key}` is true" in defect.text
    assert True not in (defect.image_id if key == "image_id" else None, defect.annotation_id if key == "id" else None)


def test_truncated_file_says_where_and_that_it_was_cut(tmp_path):
    """Whatever the byte a copy stopped at: no prefix of a file loads, and the message has the line."""
    text = json.dumps(coco_file(images=[IMAGE | {"file_name": "bücher.jpg"}]), indent=1, ensure_ascii=False)
    path = tmp_path / "cut.json"
    for end in range(1, len(text) - 1):
        path.write_text(text[:end], encoding="utf-8")
        with pytest.raises(FocalError, match=r"line \d+, column \d+") as error:
            coco.load(path)
        if text[:end].rstrip()[-1] not in "]}":
            assert f"ends at line {text[:end].count(chr(10)) + 1}: it was cut short" in error.value.message


def test_file_in_latin_1_is_refused_with_the_byte(tmp_path):
    """The place, and what was expected."""
    path = tmp_path / "a.json"
    path.write_bytes('{"images": "é"}'.encode("latin-1"))
    with pytest.raises(FocalError, match="not UTF-8 text"):
        coco.load(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_file_with_a_byte_order_mark_loads(tmp_path, encoding):
    """Windows tools write them."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(coco_file()), encoding=encoding)
    assert len(coco.load(path).boxes) == 2


def test_missing_file_and_folder_say_so(tmp_path):
    """The two commonest mistakes."""
    with pytest.raises(FocalError, match=r"nope\.json: no such file"):
        coco.load(tmp_path / "nope.json")
    with pytest.raises(FocalError, match="is a folder"):
        coco.load(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["1", 0, 10**400]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def mutated(content: object, value: object, rng: random.Random) -> object:
    """`content` with one part, somewhere, replaced by `value` or left out."""
    children = []
    if isinstance(content, dict | list):
        children = list(content.items() if isinstance(content, dict) else enumerate(content))
    if not children or rng.random() < 0.1:
        return value
    key, child = rng.choice(children)
    changed = dict(content) if isinstance(content, dict) else list(content)
    if rng.random() < 0.15:
        del changed[key]
    else:
        changed[key] = mutated(child, value, rng)
    return changed


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(JSON, min_size=1, max_size=4), seed=st.integers(0, 2**32))
def test_any_change_to_a_file_gives_a_dataset_or_a_focal_error(tmp_path, values, seed):
    """Never another exception; and what loads is sound: finite boxes with area, indices in range."""
    content, rng = coco_file(), random.Random(seed)
    for value in values:
        content = mutated(content, value, rng)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    try:
        dataset = coco.load(path)
    except FocalError:
        return
    assert np.isfinite(dataset.boxes).all() and (dataset.boxes[:, 2:] > 0).all() and (dataset.area > 0).all()
    assert len(dataset.annotation_ids) == len(dataset.boxes) == len(dataset.box_label) == len(dataset.iscrowd)
    assert (dataset.box_image < len(dataset.image_ids)).all() and (dataset.box_label < len(dataset.categories)).all()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=50))
def test_any_bytes_are_refused(tmp_path, data):
    """Not a dataset, and not a traceback."""
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(FocalError):
        coco.load(path)


# ------------------------------------------------------------------------------------------------------ finding things


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.jpg", "a/../../b.jpg", "..\\a.jpg", "C:\\a.jpg", "C:a.jpg", "\\\\host\\a.jpg",
             "http://x/a.jpg", "file:///etc/passwd", "", "a\0.jpg", "\\a.jpg"],
)  # fmt: skip
def test_file_name_that_leads_out_of_the_image_root_is_never_opened(write_coco, name):
    """TRAPS 12: absolute, `..`, backslash, drive or URL."""
    dataset = coco.load(write_coco([{}], [IMAGE | {"file_name": name}]))
    with pytest.raises(FocalError, match="leads out of"):
        dataset.image_path(0)


@pytest.mark.parametrize("name", ["a.jpg", "a/b.jpg", "a..b.jpg", "...jpg", "a b/ü.jpg", "./a.jpg"])
def test_ordinary_file_name_is_below_the_root(write_coco, name):
    """Dots and folders in a name are fine."""
    dataset = coco.load(write_coco([{}], [IMAGE | {"file_name": name}]))
    assert dataset.image_path(0).is_relative_to(dataset.image_root)


def test_link_out_of_the_image_root_is_not_followed(write_coco, tmp_path):
    """A name can be harmless and its link not."""
    (tmp_path / "root").mkdir()
    (tmp_path / "secret.jpg").touch()
    (tmp_path / "root" / "1.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(FocalError, match="leads out of"):
        coco.load(write_coco(), images=tmp_path / "root").image_path(0)


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["annotations/val.json", "annotations/train.json", "annotations/test.json"], ["train", "val", "test"]),
        (["annotations/instances_val2017.json", "annotations/instances_train2017.json"], ["train2017", "val2017"]),
        (["valid/_annotations.coco.json", "train/_annotations.coco.json"], ["train", "valid"]),
        (["b.json", "train.json"], ["train", "b"]),
        (["annotations/instances_default.json"], ["default"]),
        (["annotations/instances_Validation.json", "annotations/instances_Train.json"], ["Train", "Validation"]),
        (["annotations/instances_val2017.json", "annotations/captions_val2017.json"], ["val2017"]),
        (["annotations/val.json.gz", "annotations/train.json.gz"], ["train", "val"]),
        (["train/_annotations.coco.json.gz", "test/_annotations.coco.json.gz"], ["train", "test"]),
    ],
)
def test_splits_are_found_in_the_layouts_that_exporters_write(write_coco, tmp_path, files, names):
    """COCO, focal, Roboflow, plain files, CVAT (whose subsets have capitals), each packed or not; train first."""
    for file in files:
        write_coco(name=file)
    assert list(coco.find_splits(tmp_path)) == names


def test_plain_file_is_taken_where_it_lies_beside_its_packed_copy(write_coco, tmp_path):
    """One split, not two."""
    plain, _ = write_coco(name="annotations/train.json"), write_coco(name="annotations/train.json.gz")
    assert coco.find_splits(tmp_path) == {"train": plain}


def test_folder_without_annotations_says_what_was_expected(tmp_path):
    """The message names the layouts."""
    with pytest.raises(FocalError) as error:
        coco.find_splits(tmp_path)
    assert "annotations/train.json" in error.value.hint


@pytest.mark.parametrize("folder", ["images/train", "train", "images", ".", "annotations"])
def test_image_root_is_the_usual_place_that_holds_a_picture(write_coco, tmp_path, folder):
    """Found beside the file, whichever layout."""
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / folder / "2.jpg").touch()
    dataset = coco.load(write_coco(name="annotations/train.json"))
    assert dataset.image_root == tmp_path / folder


@pytest.mark.parametrize(
    ("file", "picture"),
    [("annotations/instances_Train.json", "images/Train"), ("annotations/instances_default.json", "images"),
     ("annotations/instances_val2017.json.gz", "val2017"), ("valid/_annotations.coco.json", "valid")],
)  # fmt: skip
def test_image_root_is_found_in_the_layouts_that_exporters_write(write_coco, tmp_path, file, picture):
    """CVAT with and without subsets, COCO, Roboflow."""
    (tmp_path / picture).mkdir(parents=True)
    (tmp_path / picture / "1.jpg").touch()
    assert coco.load(write_coco(name=file)).image_root == tmp_path / picture


def test_name_longer_than_a_file_system_allows_is_no_crash(write_coco):
    """os.stat raises for it."""
    assert coco.load(write_coco([{}], [IMAGE | {"file_name": "x" * 5000}])).image_root


# ---------------------------------------------------------------------------------------- a chunk of the file at a time

ODD_TEXT = st.text(max_size=6) | st.sampled_from(
    ["}, {", '"]', "\\", '\\"', "[[", '},{"id":', "é", "\u2028", "]}", "🐾"]
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ODD_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD_TEXT, inner, max_size=3),
    max_leaves=6,
)
LISTS = ("images", "annotations", "categories")
MORE = st.dictionaries(ODD_TEXT.filter(lambda key: key not in LISTS), JUNK, max_size=2)


def written(value: object, rng: random.Random) -> str:
    """JSON in no two files the same: white space anywhere, keys in any order, escapes or plain letters."""

    def space() -> str:
        return rng.choice(["", "", " ", "\n", "\t \r\n"])

    if isinstance(value, dict):
        pairs = [
            f"{written(key, rng)}{space()}:{written(value[key], rng)}" for key in rng.sample(list(value), len(value))
        ]
        text = "{" + (",".join(pairs) or space()) + "}"
    elif isinstance(value, list):
        text = "[" + (",".join(written(entry, rng) for entry in value) or space()) + "]"
    else:
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    return space() + text + space()


@st.composite
def coco_contents(draw):
    """A sound COCO file with up to 12 boxes, and entries of all sorts that nobody asked for at every level."""
    ids = st.integers(-(2**62), 2**62)
    images = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    categories = sorted(draw(st.sets(ids, min_size=1, max_size=4)))
    boxes = draw(st.lists(ids, max_size=12, unique=True))
    side = st.integers(1, 400) | st.floats(0.5, 400)
    box = st.tuples(st.sampled_from(images), st.sampled_from(categories), st.tuples(side, side, side, side))
    drawn = [(number, *draw(box)) for number in boxes]
    return {
        **draw(MORE),
        "images": [draw(MORE) | {"id": n, "file_name": f"é{n}", "width": 900, "height": 900} for n in images],
        "annotations": [
            draw(MORE)
            | {"id": n, "image_id": image, "category_id": category, "bbox": list(bbox), "area": 9, "iscrowd": 0}
            for n, image, category, bbox in drawn
        ],
        "categories": [draw(MORE) | {"id": n, "name": f"c{n}"} for n in categories],
    }


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(content=coco_contents(), seed=st.integers(0, 2**32), chunk_bytes=st.integers(1, 300))
def test_streamed_file_is_what_json_reads(tmp_path, content, seed, chunk_bytes):
    """Wherever chunks end (in a string, an escape, a nested list, a letter of two bytes), the records are json's."""
    text = written(content, random.Random(seed))
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8", newline="")
    dataset, expected = coco.load(path, chunk_bytes=chunk_bytes), json.loads(text)
    assert not dataset.defects
    assert dataset.image_ids == tuple(image["id"] for image in expected["images"])
    assert dataset.file_names == tuple(image["file_name"] for image in expected["images"])
    annotations, by_label = expected["annotations"], [category.id for category in dataset.categories]
    assert by_label == sorted(category["id"] for category in expected["categories"])
    assert dataset.annotation_ids.tolist() == [box["id"] for box in annotations]
    assert dataset.boxes.tolist() == [box["bbox"] for box in annotations]
    assert [dataset.image_ids[image] for image in dataset.box_image] == [box["image_id"] for box in annotations]
    assert [by_label[label] for label in dataset.box_label] == [box["category_id"] for box in annotations]


def same(one: Dataset, other: Dataset) -> bool:
    """Equal in every column and every defect."""
    arrays = ("image_wh", "annotation_ids", "box_image", "box_label", "boxes", "area", "iscrowd")
    values = ("categories", "image_ids", "file_names", "defects", "sha256")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays) and all(
        getattr(one, name) == getattr(other, name) for name in values
    )


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(JSON, min_size=1, max_size=4), seed=st.integers(0, 2**32), chunk_bytes=st.integers(1, 300))
def test_size_of_the_chunks_changes_nothing(tmp_path, values, seed, chunk_bytes):
    """Files with anything wrong in them: the same dataset and defects, or the same error with the same place."""
    content, rng = coco_file([{} for _ in range(6)]), random.Random(seed)
    for value in values:
        content = mutated(content, value, rng)
    path = tmp_path / "a.json"
    text = json.dumps(content, indent=rng.choice([None, 1]))
    path.write_text(text[: rng.choice([len(text), rng.randint(0, len(text))])])
    results = []
    for size in (chunk_bytes, 1 << 20):
        try:
            results.append(coco.load(path, chunk_bytes=size))
        except FocalError as error:
            results.append(error.message)
    assert same(*results) if isinstance(results[0], Dataset) else results[0] == results[1]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wrong=st.sets(st.integers(0, 39), max_size=12), chunk_bytes=st.integers(50, 4000))
def test_every_defect_is_listed_wherever_it_stands(tmp_path, wrong, chunk_bytes):
    """A bad value is found in every block, not only in the first; the sound records around it are kept."""
    odd = [{"bbox": [1, 2, 3]}, {"bbox": [math.nan, 1, 2, 3]}, {"category_id": None}, {"image_id": 10**30}, {"id": []}]
    boxes = [odd[row % len(odd)] if row in wrong else {} for row in range(40)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(coco_file(boxes)))
    dataset = coco.load(path, chunk_bytes=chunk_bytes)
    expected = {"F102": "01", "F004": "24", "F003": "3"}
    numbers = Counter(row % 5 for row in wrong)
    counts = {code: sum(numbers[int(kind)] for kind in kinds) for code, kinds in expected.items()}
    assert codes(dataset) == {code: count for code, count in counts.items() if count}
    assert dataset.annotation_ids.tolist() == [row + 1 for row in range(40) if row not in wrong]


@pytest.mark.parametrize("name", ["taco_official", "ppe_train", "lvis_val_100"])
def test_real_file_is_the_same_in_small_chunks(shared, name):
    """Run-length masks, polygons and attributes of real exporters."""
    path = shared / "json" / f"{name}.json"
    assert same(coco.load(path), coco.load(path, chunk_bytes=5_000))


# ------------------------------------------------------------------------------------- a large file in two processes


@pytest.fixture
def halves(monkeypatch):
    """Every file counts as large; the list that comes back holds what each second process came to."""
    if sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one process reads it all here")
    ends, hand_over = [], second.SecondHalf.hand_over
    monkeypatch.setattr(second, "LARGE_BYTES", 0)
    monkeypatch.setattr(second.SecondHalf, "hand_over", lambda *of: ends.append(hand_over(*of)) or ends[-1])
    return ends


def alone(path: Path) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(second, "LARGE_BYTES", 1 << 60)
        return coco.load(path)


def test_file_read_by_two_processes_is_that_read_by_one(write_coco, halves):
    """The second process began at a record of the list, so what it read was taken."""
    path = write_coco([{"bbox": [n % 300, 1, 2, 3], "segmentation": [[n] * 9]} for n in range(2000)])
    assert same(coco.load(path, chunk_bytes=10_000), alone(path)) and halves[0] > 0


@pytest.mark.parametrize(
    "odd", [{"bbox": [1, 2, "3", 4]}, {"bbox": [1, math.nan, 3, 4]}, {"image_id": "1"}, {"id": None}]
)
def test_defect_in_the_second_half_is_read_and_numbered_by_the_first_process(write_coco, halves, odd):
    """It needs the number of the record, which only the first process knows."""
    path = write_coco([{}] * 900 + [odd] + [{}] * 90)
    dataset = coco.load(path)
    assert same(dataset, alone(path)) and dataset.defects and halves == [None]


@pytest.mark.parametrize("key", ["info", "images", "categories"])
def test_second_half_that_is_no_annotations_is_thrown_away(tmp_path, halves, key):
    """What looks like annotations in a string, or in a list of another name, is none."""
    content = coco_file()
    lures = [{**content["annotations"][0], "file_name": "a.jpg", "name": str(n)} for n in range(500)]
    extra = {"info": [json.dumps(lures)], "images": [lure | {"id": n + 3} for n, lure in enumerate(lures)]}
    extra["categories"] = extra["images"]
    content[key] = extra[key] if key == "info" else content[key] + extra[key]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    assert same(coco.load(path, chunk_bytes=500), alone(path)) and not halves


def test_file_cut_short_in_its_second_half_says_where(write_coco, halves):
    """The same words, whoever read it."""
    path = write_coco([{}] * 500)
    path.write_bytes(path.read_bytes()[:-3000])
    said = []
    for load in (coco.load, alone):
        with pytest.raises(FocalError) as error:
            load(path)
        said.append(error.value.message)
    assert said[0] == said[1] and "it was cut short" in said[0] and halves == [None]


# --------------------------------------------------------------------------------------- what records and files may be


def test_record_larger_than_a_chunk_loads(write_coco):
    """A mask of 300 kB."""
    boxes = [{}, {"segmentation": [list(range(60_000))]}, {}]
    assert len(coco.load(write_coco(boxes), chunk_bytes=1000).boxes) == 3


@pytest.mark.parametrize("value", [10**18, 2**63, 10**25])
def test_ids_of_any_size_are_kept_apart(write_coco, value):
    """Beyond 2^53 a float, beyond 2^63 an int64 would take two for one."""
    boxes = [{"id": value, "image_id": value + 1}, {"id": value + 1, "image_id": value}]
    images = [IMAGE | {"id": value}, IMAGE | {"id": value + 1, "file_name": "2.jpg"}]
    dataset = coco.load(write_coco(boxes, images))
    assert dataset.annotation_ids.tolist() == [value, value + 1] and dataset.box_image.tolist() == [1, 0]
    assert not dataset.defects


@pytest.mark.parametrize("key", LISTS)
def test_list_that_is_there_twice_is_refused(tmp_path, key):
    """json keeps the last, others the first: half of the records would be lost without a word."""
    content = coco_file()
    twice = json.dumps(content)[:-1] + f', "{key}": {json.dumps(content[key])}}}'
    path = tmp_path / "a.json"
    path.write_text(twice)
    with pytest.raises(FocalError, match=f"`{key}` is there twice"):
        coco.load(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"images": [{"id": 1},]}', "line 1, column 23: expecting value"),
        ('{"images": [,{"id": 1}]}', "line 1, column 13: expecting value"),
        ('{"images": [{"id": 1} {"id": 2}]}', "line 1, column 23: expecting ',' delimiter"),
        ('{"images": [{"id": 1}}', "line 1, column 22: expecting ',' delimiter"),
        ('{"images": [{"id": ]}', "line 1, column 20: expecting value"),
        ('{"images": [\n{"id": 01}]}', "line 2, column 9: expecting ',' delimiter"),
        ('{"images": [], "annotations" []}', "line 1, column 30: expecting ':' delimiter"),
        ('{"é": 1\n, images: []}', "line 2, column 3: expecting property name"),
        ('{"é": 1, "ü": tru }', "line 1, column 15: expecting value"),
        ('{"images": []} x', "line 1, column 16: extra data"),
        ('{"info": {"a": "' + "x" * 99, "; the file ends at line 1: it was cut short"),
        ('{"info": "' + "x" * 99, "unterminated string starting at"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [5, 1 << 19])
def test_place_of_a_syntax_error_is_what_json_says(tmp_path, text, said, chunk_bytes):
    """Line and column as an editor counts them, in characters; nothing that is not JSON is read as if it were."""
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FocalError) as error:
        coco.load(path, chunk_bytes=chunk_bytes)
    assert said in error.value.message


# --------------------------------------------------------------------------------------------------- gzip, pipes, stdin


def packed(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data, 1))
    return path


def test_gzip_is_unpacked_whatever_it_is_called(write_coco, tmp_path):
    """`.json.gz` and files that a server packed without saying so; sha256 is that of the file as it lies there."""
    plain = write_coco()
    for name in ("a.json.gz", "a.json"):
        path = packed(tmp_path / name, plain.read_bytes())
        dataset = coco.load(path)
        assert dataset.boxes.tolist() == coco.load(plain).boxes.tolist()
        assert dataset.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_gzip_in_several_members_and_with_padding_is_one_text(write_coco, tmp_path):
    """RFC 1952, sec. 2.2: members follow one another; tapes pad with zeros."""
    data = write_coco().read_bytes()
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(data[:100]) + gzip.compress(data[100:]) + bytes(512))
    assert len(coco.load(path, chunk_bytes=10).boxes) == 2


def test_damaged_gzip_is_refused_with_what_to_do(write_coco, tmp_path):
    """Cut short at any byte, or with one changed."""
    whole, path = gzip.compress(write_coco().read_bytes()), tmp_path / "a.json.gz"
    broken = [whole[:end] for end in range(2, len(whole))] + [whole[:-6] + b"?" + whole[-5:]]
    for data in broken:
        path.write_bytes(data)
        with pytest.raises(FocalError, match="gzip") as error:
            coco.load(path)
        assert "again" in error.value.hint


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_stdin_is_read_once_and_found_by_its_first_bytes(write_coco, monkeypatch, pack):
    """`zcat a.json.gz | focal audit -` and `focal audit - < a.json.gz`; sha256 is of what came through the pipe."""
    data = pack(write_coco().read_bytes())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert list(coco.find_splits(coco.STDIN)) == ["stdin"]
    dataset = coco.load(coco.STDIN)
    assert len(dataset.boxes) == 2 and dataset.image_root == Path()
    assert dataset.sha256 == hashlib.sha256(data).hexdigest()


def test_audit_of_stdin_names_it_and_says_where_it_was_cut(write_coco, monkeypatch):
    """The line cannot be known of what is gone: the byte is."""
    data = write_coco().read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert "stdin" in focal("audit", "-", "--fail-on", "never").stdout
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data[:200])))
    error = mistake("audit", "-", says="stdin: not JSON (byte ")
    assert "it was cut short" in error


def test_terminal_is_no_dataset(monkeypatch):
    """Waiting for somebody to type a JSON file would look like hanging."""
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(FocalError, match="stdin: nothing is piped in"):
        coco.load(coco.STDIN)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_named_pipe_is_as_good_as_a_file(write_coco, tmp_path):
    """`focal audit <(zcat a.json.gz)` of a shell."""
    data, pipe = write_coco().read_bytes(), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    (file,) = coco.find_splits(pipe).values()
    dataset = coco.load(file)
    writer.join()
    assert len(dataset.boxes) == 2 and dataset.sha256 == hashlib.sha256(data).hexdigest()


# ------------------------------------------------------------------------------------------------------- hostile input

MB = 1 << 20
HOSTILE = {  # what, and what is said of it
    "brackets": (lambda: b"[" * (32 * MB), "nested too deeply"),
    "brackets below an unknown key": (lambda: b'{"info": ' + b'[{"a":' * (8 * MB), "nested too deeply"),
    "brackets in a record": (lambda: b'{"images": [{"id": 1, "x": ' + b"[" * (32 * MB), "nested too deeply"),
    "string in a record": (lambda: b'{"images": [{"id": 1, "x": "' + b"x" * (200 * MB), "a record of more than 16 MB"),
    "key": (lambda: b'{"' + b"k" * (64 * MB), "a key of more than 16 MB"),
    "string below an unknown key": (lambda: b'{"info": "' + b"x" * (64 * MB) + b'"}', "no list `images`"),
    "number below an unknown key": (lambda: b'{"info": ' + b"1" * (32 * MB), "a number of more than 16 MB"),
    "white space": (lambda: b" " * (64 * MB), "is empty"),
    "list of lists below an unknown key": (lambda: b'{"info": [' + b"[]," * (16 * MB) + b"[]]}", "no list `images`"),
    "quote too many": (lambda: b'{"images": [{"id": 1"}' + b',{"id": "a"}' * (4 * MB), "line 1, column 21"),
}
CHILD = """
import re, sys
from pathlib import Path
from focalcli import coco
from focalcli.errors import FocalError
try:
    coco.load(Path(sys.argv[1]))
except FocalError as error:
    peak_kb = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]  # ru_maxrss is the parent's too
    print(int(peak_kb) // 1024, error.message)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_file_is_refused_in_bounded_memory(tmp_path, kind):
    """What a gzip file of a few kB swells to is never held: below the megabytes that a sound file may take."""
    make, said = HOSTILE[kind]
    path = packed(tmp_path / "a.json.gz", make())
    command = [sys.executable, "-c", CHILD, str(path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    peak_mb, _, message = done.stdout.partition(" ")
    assert said in message
    assert int(peak_mb) < 170, done.stdout


def test_file_of_nothing_but_wrong_entries_is_refused_before_they_fill_the_memory(tmp_path, monkeypatch):
    """Two bytes of the file would become 200 of defects."""
    monkeypatch.setattr(records, "MOST_DEFECTS", 1000)
    path = tmp_path / "a.json"
    path.write_text(f'{{"images": [{"1, " * 5000}1]}}')
    said = "more than 1,000 defects in its images; the first: image number 0: it is a number"
    with pytest.raises(FocalError, match=said):
        coco.load(path, chunk_bytes=100)


# ----------------------------------------------------------------------------------------------------------- real files


@pytest.mark.parametrize(
    ("file", "images", "boxes", "classes", "defects"),
    [
        ("bccd/annotations/train.json", 205, 2804, 3, {"F101": 1}),
        ("bccd/annotations/val.json", 87, 1137, 3, {"F101": 1}),
        ("face_mask/annotations/train.json", 677, 3106, 3, {}),
        ("deeppcb_600/annotations/train.json", 450, 3085, 6, {}),
        ("json/taco_official.json", 1500, 4784, 60, {"F001": 2}),
        ("json/ppe_train.json", 1238, 5115, 8, {"F105": 32}),
        ("json/rdd19c_val.json", 4954, 10827, 19, {"F101": 5}),
        ("json/fod_a_all.json", 33793, 34472, 31, {}),
        ("json/lvis_val_100.json", 100, 977, 1230, {"F008": 1}),
        ("json/instances_val2014_100.json", 100, 839, 80, {}),
        ("json/gt_ignore_test.json", 1, 14, 1, {"F105": 13}),
        ("json/shapes_gt.json", 3, 9, 4, {}),
        ("json/healthcheck/edge_gt.json", 6, 8, 3, {}),
        ("json/healthcheck/healthcheck_bad.json", 2, 2, 2, {"F001": 1, "F002": 1, "F003": 1, "F203": 1, "F301": 1}),
        ("json/healthcheck/healthcheck_quality.json", 1, 3, 1, {"F101": 1}),
    ],
)
def test_real_file_loads_with_the_oddities_it_is_known_for(shared, file, images, boxes, classes, defects):
    """Counts from the data's own README: one zero-size box each, two repeated ids in TACO, text numbers in PPE."""
    dataset = coco.load(shared / file)
    assert (len(dataset.image_ids), len(dataset.boxes), len(dataset.categories)) == (images, boxes, classes)
    assert codes(dataset) == defects


def test_taco_repeats_the_two_ids_that_are_known(shared):
    """TRAPS 6: 309 and 4040; both objects of each pair are kept."""
    dataset = coco.load(shared / "json" / "taco_official.json")
    assert [defect.annotation_id for defect in dataset.defects] == [309, 4040]
    assert (dataset.annotation_ids == 309).sum() == 2


def test_columns_are_pycocotools(shared, capsys):
    """Boxes, areas, classes and crowds of COCO's own example, read by COCO's own tool."""
    from pycocotools.coco import COCO

    path = shared / "json" / "instances_val2014_100.json"
    dataset, theirs = coco.load(path), COCO(str(path))
    capsys.readouterr()  # pycocotools prints
    assert [category.id for category in dataset.categories] == sorted(theirs.getCatIds())
    for row, annotation_id in enumerate(dataset.annotation_ids.tolist()):
        annotation = theirs.anns[annotation_id]
        assert dataset.boxes[row].tolist() == annotation["bbox"] and dataset.area[row] == annotation["area"]
        assert dataset.iscrowd[row] == annotation["iscrowd"]
        assert dataset.image_ids[dataset.box_image[row]] == annotation["image_id"]
        assert dataset.categories[dataset.box_label[row]].id == annotation["category_id"]
    assert len(dataset.boxes) == len(theirs.anns)
