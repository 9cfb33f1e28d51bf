"""What a user's mistake gets: exit 2, nothing on stdout, one line of error, one of hint, and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from command import TINY, draw_dataset, files_below, focal, mistake, one_json, rewrite
from safetensors.torch import save_file

# --------------------------------------------------------------------------------------------- mistakes in what is read

IMAGE = {"id": 1, "file_name": "1.jpg", "width": 64, "height": 64}
CATEGORY = {"id": 1, "name": "cat"}
NOT_DATASETS = {
    "nothing there": (None, "no such file"),
    "empty": ("", "is empty"),
    "cut short": ('{"images": [', "cut short"),
    "random bytes": (bytes(range(128, 256)), "not UTF-8"),
    "a number": ("4", "it is a number"),
    "another object": ('{"a": 1}', "no list `images`"),
    "detections": ('[{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 1}]', "it is a list"),
    "no images": (json.dumps({"images": [], "annotations": [], "categories": [CATEGORY]}), "no images"),
    "no categories": (json.dumps({"images": [IMAGE], "annotations": [], "categories": []}), "no categories"),
}


@pytest.fixture(params=list(NOT_DATASETS))
def not_dataset(request, tmp_path):
    """A path that is no dataset, and what must be said of it."""
    content, says = NOT_DATASETS[request.param]
    path = tmp_path / "sp ace ü" / "x.json"
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path, says


@pytest.mark.parametrize("command", ["audit {}", "recommend {}", "recommend {} -o {out}", "eval {dt} {}"])
def test_what_is_no_dataset_is_refused_with_its_place(command, not_dataset, world, tmp_path):
    path, says = not_dataset
    before = files_below(tmp_path)
    words = [
        w.format(path, dt=world / "scored/predictions.coco.json", out=tmp_path / "o.yaml") for w in command.split()
    ]
    error = mistake(*words, says=says)
    assert str(path) in error and files_below(tmp_path) == before


@pytest.mark.parametrize("command", ["audit", "recommend"])
def test_a_folder_without_annotations_is_refused(command, tmp_path):
    mistake(command, tmp_path, says="no COCO annotation file", hint="annotations/train.json")


def test_detections_given_as_dataset_are_named_as_what_they_are(world):
    detections = world / "scored/predictions.coco.json"
    mistake("audit", detections, hint="focal eval DETECTIONS.json DATASET")
    mistake("eval", world / "data/annotations/val.json", detections, hint="focal eval DETECTIONS.json DATASET")


def test_an_unreadable_file_says_why():
    """Linux: reading /proc/self/mem at 0 is EIO, for root too."""
    mistake("audit", "/proc/self/mem", says="cannot be read")


@pytest.mark.parametrize("command", ["recommend {}", "eval {dt} {}"])
def test_a_dataset_without_boxes_is_refused_where_boxes_are_needed(command, tmp_path):
    """An audit of it is fine: it reports that there are none."""
    path, detections = tmp_path / "empty.json", tmp_path / "dt.json"
    path.write_text(json.dumps({"images": [IMAGE], "annotations": [], "categories": [CATEGORY]}))
    detections.write_text("[]")
    mistake(*command.format(path, dt=detections).split(), says="no objects", hint="focal audit")
    assert "has no objects" in focal("audit", path, "--fail-on", "never").stdout


@pytest.mark.parametrize("command", ["audit {data}", "recommend {data}", "eval {dt} {data}", "eval {run}"])
def test_a_folder_of_pictures_that_is_not_there_is_refused(command, world):
    names = {"data": world / "data", "dt": world / "scored/predictions.coco.json", "run": world / "runs/r"}
    mistake(*command.format(**names).split(), "--images", "nope", says="nope: no such folder of pictures")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        ("", "not JSON"),
        ("[1]", "number 0 is int"),
        ('[{"image_id": 1}]', "has no category_id"),
        ('[{"image_id": 99, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 1}]', "image_ids that are not in"),
        ('[{"image_id": 1, "category_id": 9, "bbox": [1, 1, 2, 2], "score": 1}]', "category_ids that are not in"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "score": NaN}]', "not finite"),
    ],
)
def test_wrong_detections_are_refused(content, says, world, tmp_path):
    path = tmp_path / "dt.json"
    if content is not None:
        path.write_text(content)
    mistake("eval", path, world / "data", "--out", tmp_path / "out", says=says)
    assert not (tmp_path / "out").exists()


def test_detections_need_their_dataset(world):
    mistake("eval", world / "scored/predictions.coco.json", says="need the dataset", hint="DATASET")
    mistake("eval", "nope.json", says="nope.json: no such file")


def test_a_split_that_is_not_there_is_refused_with_those_that_are(world):
    detections = world / "scored/predictions.coco.json"
    mistake("eval", detections, world / "data", "--split", "test", says="no split 'test'; it has train, val")
    mistake("eval", detections, world / "data/annotations/val.json", "--split", "val", says="without splits")
    mistake("eval", world / "runs/r", "--split", "test", says="knows the splits train and val", hint="DATASET")


@pytest.mark.parametrize("sizes", ["1,2", "a,b,c,d,e", "5,4,3,2,1", "0,1,2,3,4", "1,2,3,4,nan", "1,2,3,4,inf", ""])
def test_anchor_sizes_are_five_ascending_numbers(sizes, world):
    mistake("audit", world / "data", "--anchor-sizes", sizes, says="five ascending numbers")


def test_the_short_side_is_not_above_the_long_one(world):
    mistake("audit", world / "data", "--min-size", 900, "--max-size", 800, says="--min-size 900 is above")
    mistake("audit", world / "data", "--min-size", 1400, says="is above --max-size 1333", hint="give both")


def test_a_size_beyond_memory_is_no_traceback(world):
    mistake("audit", world / "data", "--min-size", 10**9, "--max-size", 10**9, says="out of memory", hint="--min-size")


# ------------------------------------------------------------------------------------------------ recipes and overrides


@pytest.mark.parametrize("command", ["train {}", "recipe check {}", "recipe show {}", "audit {data} --recipe {}"])
@pytest.mark.parametrize("kind", ["missing", "folder", "bytes", "json", "key"])
def test_a_wrong_recipe_is_refused_with_its_place(command, kind, own_world):
    path, says = own_world / "x.yaml", "no such file"
    if kind == "folder":
        path, says = own_world / "data", "is a folder"
    elif kind == "bytes":
        path.write_bytes(b"\xff\xfe\x00")
        says = "not UTF-8"
    elif kind == "json":
        path, says = own_world / "scored/predictions.coco.json", "not a mapping"
    elif kind == "key":
        path.write_text((own_world / "r.yaml").read_text().replace("gamma:", "gama:", 1))
        says = "loss.gama is not a recipe key (line"
    before = files_below(own_world)
    mistake(*command.format(path, data=own_world / "data").split(), says=says)
    assert files_below(own_world) == before


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("loss.gama=1", "loss.gama is not a recipe key"),
        ("nonsense", "is not a key and a value"),
        ("=3", "is not a key and a value"),
        ("loss=3", "loss is a section"),
        ("loss.gamma=abc", "expected a number from 0 to 10"),
        ("loss.alpha=2", "above 0 and below 1"),
        ("schedule.epochs=", "expected an integer at least 1"),
        ("schedule.epochs=-3", "expected an integer at least 1"),
        ("schedule.batch_size=0", "expected an integer at least 1"),
        ("anchors.sizes=[1,2]", "exactly 5 items"),
        ("anchors.sizes=3", "exactly 5 items"),
        ("input.min_size=10", "expected an integer from 32 to 8192"),
        ("name=a/b", "expected text of letters"),
    ],
)
@pytest.mark.parametrize("command", ["train {r}", "recipe check {r}", "recommend {data}", "recommend {data} -o {o}"])
def test_a_wrong_override_is_refused_before_anything_is_done(command, override, says, world, tmp_path):
    words = command.format(r=world / "r.yaml", data=world / "data", o=tmp_path / "o.yaml").split()
    mistake(*words, override, says=says)
    assert files_below(tmp_path) == set()


@pytest.mark.parametrize("command", ["train {r}", "recommend {data}"])
def test_a_key_set_twice_is_refused(command, world):
    mistake(
        *command.format(r=world / "r.yaml", data=world / "data").split(), "name=a", "name=b", says="overridden twice"
    )


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["data.path=nowhere"], "no such dataset folder"),
        (["data.val=test"], "no split 'test'; it has train, val"),
        (["data.train=nope.json"], "nope.json: no such file"),
        (["data.val_images=nope"], "no such folder of pictures"),
        (["data.train_images=."], "6 of 6 pictures are not in"),
        (["loss.alpha={Square: 0.5, default: 0.25}"], "no class 'Square'"),
        (["loss.alpha={square: 0.5}"], "no value for class 'cross'"),
        (["model.weights=nowhere.pth"], "nowhere.pth"),
        (["data.val=other.json", "data.val_images=."], "other classes than"),
    ],
)
def test_a_recipe_that_does_not_fit_its_data_leaves_no_run_behind(overrides, says, own_world, monkeypatch):
    monkeypatch.chdir(own_world)
    shutil.copytree(own_world / "data/images/val", own_world, dirs_exist_ok=True)
    shutil.copy(own_world / "data/annotations/val.json", own_world / "other.json")
    rewrite(own_world / "other.json", lambda content: content["categories"][0].update(name="dog"))
    before = files_below(own_world)
    mistake("train", "r.yaml", "name=new", *overrides, says=says)
    assert files_below(own_world) == before


def test_a_mistyped_class_is_answered_with_the_right_one(world):
    mistake("train", world / "r.yaml", "loss.alpha={Cross: 0.5, default: 0.3}", hint="did you mean 'cross'?")


# ---------------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture
def broken_checkpoint(request, own_world):
    """A run whose best checkpoint was damaged in the way that the parameter says."""
    best = own_world / "runs/r/checkpoints/best.safetensors"
    content = best.read_bytes()
    best.unlink()  # a link: see own_world
    if request.param == "missing":
        shutil.rmtree(best.parent)
    elif request.param == "cut short":
        best.write_bytes(content[:-1000])
    elif request.param == "random":
        best.write_bytes(os.urandom(500))
    elif request.param == "empty":
        best.write_bytes(b"")
    elif request.param == "pickle":
        torch.save({"a": torch.zeros(1)}, best)
    elif request.param == "another tool's":
        save_file({"a": torch.zeros(1)}, best)
    elif request.param == "another format":
        save_file({"a": torch.zeros(1)}, best, {"focal": json.dumps({"format": 99})})
    return own_world / "runs/r"


@pytest.mark.parametrize(
    ("broken_checkpoint", "says"),
    [
        ("missing", "no checkpoint in this folder"),
        ("cut short", "cut short"),
        ("random", "not a readable checkpoint"),
        ("empty", "not a readable checkpoint"),
        ("pickle", "not a readable checkpoint"),
        ("another tool's", "without focal's description"),
        ("another format", "checkpoint format 99"),
    ],
    indirect=["broken_checkpoint"],
)
def test_a_broken_checkpoint_is_refused_and_nothing_is_written(broken_checkpoint, says):
    before = files_below(broken_checkpoint)
    mistake("eval", broken_checkpoint, says=says)
    assert files_below(broken_checkpoint) == before


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path):
    mistake("eval", tmp_path / "nope", says="no such checkpoint")
    mistake("eval", tmp_path, says="no checkpoint in this folder")


def test_classes_are_matched_by_name_and_others_refused(own_world):
    """TRAPS 3: the order and the ids may differ, the names may not."""

    def renumber(content):
        for entry in content["categories"]:
            entry["id"] += 6
        for box in content["annotations"]:
            box["category_id"] += 6
        content["categories"].reverse()

    file = own_world / "data/annotations/val.json"
    expected = one_json(focal("eval", own_world / "runs/r", "-f", "json", "--workers", 0).stdout)["summary"]
    got = focal("eval", own_world / "runs/r", rewrite(file, renumber), "-f", "json", "--workers", 0).stdout
    assert one_json(got)["summary"] == expected
    rewrite(file, lambda content: content["categories"][0].update(name="dog"))
    mistake("eval", own_world / "runs/r", file, says="it has 'dog', unknown to the model", hint="trained classes")


def test_a_run_whose_data_moved_says_to_give_the_dataset(own_world):
    copy = own_world / "runs/r"
    recorded = json.loads((copy / "dataset.json").read_text())["val"]["path"]
    moved = Path(recorded).rename(recorded + ".moved")
    try:
        mistake("eval", copy, says="is no longer there", hint=f"focal eval {copy} DATASET")
    finally:
        moved.rename(recorded)
    assert one_json(focal("eval", copy, own_world / "data", "-f", "json", "--workers", 0).stdout)["n_images"] == 4


def test_a_val_set_that_changed_since_the_training_is_scored_with_a_warning(tmp_path):
    draw_dataset(tmp_path / "data")
    focal("recommend", tmp_path / "data", "-o", tmp_path / "r.yaml", "--device", "cpu", *TINY)
    focal("train", tmp_path / "r.yaml", "--runs", tmp_path)
    rewrite(tmp_path / "data/annotations/val.json", lambda content: content["annotations"].pop())
    result = focal("eval", tmp_path / "r", "--workers", 0, "-f", "json")
    assert one_json(result.stdout)["n_objects"] == 7 and "has changed since the training" in result.stderr
