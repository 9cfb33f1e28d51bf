"""`focal predict`: which pictures are meant, what comes of them, and what is never opened or written over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from command import environment, focal, mistake, one_json
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from pycocotools.coco import COCO

from focalcli.coco import load
from focalcli.detections import Detections, load_detections
from focalcli.errors import FocalError
from focalcli.training import run
from focalcli.work import predicting
from focalcli.work.predicting import ResultsFile, drawings, ids, pictures
from focalcli.work.predicting.ids import numbered

ALONE = ("--workers", 0, "--device", "cpu")


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def records(path: Path) -> list:
    return sorted(json.loads(path.read_text()), key=lambda r: (r["image_id"], -r["score"], r["bbox"]))


@pytest.fixture
def album(world, tmp_path) -> Path:
    """Two folders of the validation pictures, with the same names in both."""
    for folder, numbers in (("a", (1, 2)), ("b/deep", (1, 2, 3))):
        (tmp_path / folder).mkdir(parents=True)
        for number in numbers:
            with Image.open(world / f"data/images/val/val{number}.jpg") as picture:
                picture.save(tmp_path / folder / f"{number}.png")
    return tmp_path


def predict(world: Path, *words: object, exit_code: int = 0):
    return focal("predict", world / "runs/r", *words, *ALONE, exit_code=exit_code)


# -------------------------------------------------------------------------------------------------------------- results


def test_with_the_datasets_ids_they_are_what_eval_finds(world, tmp_path):
    """The same detector on the same pictures: the results file of `focal eval`, record for record."""
    out = tmp_path / "found.json"
    predict(world, world / "data/images/val", "-o", out, "--dataset", world / "data")
    found = records(out)
    assert found == records(world / "scored/predictions.coco.json")
    assert len(found) > 4
    focal("eval", out, world / "data")
    assert files_below(tmp_path) == {"found.json"}


def test_without_a_dataset_the_ids_are_told_beside_the_results(world, album, tmp_path):
    """COCO publishes its test pictures so, image_info_test2017.json; pycocotools puts the two together."""
    out = tmp_path / "out/found.json"
    predict(world, album / "b", album / "a", "-o", out)
    beside = tmp_path / "out/found.images.json"
    names = [(image["id"], image["file_name"]) for image in json.loads(beside.read_text())["images"]]
    assert names == list(enumerate(["a/1.png", "a/2.png", "b/deep/1.png", "b/deep/2.png", "b/deep/3.png"], start=1))
    both = COCO(str(beside)).loadRes(str(out))
    assert both.getImgIds() == [1, 2, 3, 4, 5]
    assert {category["name"] for category in both.loadCats(both.getCatIds())} == {"square", "cross"}
    dataset = load(beside)
    assert len(load_detections(out, dataset)) == len(records(out))
    assert dataset.image_wh.tolist() == [[96, 64]] * 5


def test_json_is_one_object_with_every_detection(world, album, tmp_path):
    """stdout is the result and nothing else, with a results file or without."""
    out = tmp_path / "found.json"
    for more in ([], ["-o", out]):
        result = one_json(predict(world, album / "a", "--format", "json", *more).stdout)
        assert [image["file_name"] for image in result["images"]] == ["1.png", "2.png"]
        assert {category["name"] for category in result["categories"]} == {"square", "cross"}
        assert result["unreadable"] == result["links_not_followed"] == []
    assert result["detections"] == json.loads(out.read_text())
    assert result["detections"]


def test_a_run_without_outputs_leaves_nothing_and_counts(world, album, monkeypatch):
    """The table is for people: each class, each picture, as it was named."""
    monkeypatch.chdir(album)
    before = files_below(album)
    result = predict(world, "a", "b/deep/3.png", "--min-score", 0)
    assert result.stderr == (
        "--min-score 0: the checkpoint gives no scores below 0.01 (eval.score_threshold of its recipe)\n"
    )
    lines = result.stdout.splitlines()
    assert "on 3 pictures: " in lines[0]
    assert [line.split()[0] for line in lines if ".png" in line] == ["a/1.png", "a/2.png", "b/deep/3.png"]
    assert files_below(album) == before


def test_nothing_found_is_a_result(world, album):
    """No object is sure: an empty list, and a table that says so."""
    result = predict(world, album / "a", "--min-score", 1)
    assert "0 objects with a score of 1 or more" in result.stdout
    assert "Not found    square, cross" in result.stdout


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_in_the_displayed_picture(world, tmp_path, orientation):
    """EXIF 2.32, tag 0x0112: the same picture, stored in eight ways, gives the same boxes (TRAPS 31)."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    with Image.open(world / "data/images/val/val3.jpg") as picture:
        upright = picture.convert("RGB")
    stored = upright.transpose(turn[orientation]) if orientation in turn else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name, image, more in (("upright", upright, {}), ("stored", stored, {"exif": exif})):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "1.png", **more)
        upright.save(tmp_path / name / "2.png")
        predict(world, tmp_path / name, "-o", tmp_path / f"{name}.json", "--draw", tmp_path / "drawn" / name)
    with Image.open(tmp_path / "stored/1.png") as image:
        assert np.array_equal(ImageOps.exif_transpose(image), upright)
    assert records(tmp_path / "upright.json") == records(tmp_path / "stored.json") != []
    one, other = (np.array(Image.open(tmp_path / "drawn" / name / "1.png")) for name in ("upright", "stored"))
    assert np.array_equal(one, other)


# ------------------------------------------------------------------------------------------------------ broken pictures


def test_a_broken_picture_is_named_and_the_others_go_on(world, album, tmp_path):
    """Cut short, empty or text: exit 1, and no id that would say "nothing found" of it."""
    whole = (album / "a/2.png").read_bytes()
    for name, content in (("0.png", b"text"), ("1.jpg", b""), ("2.png", whole[: len(whole) // 2])):
        (album / "b" / name).write_bytes(content)
    out = tmp_path / "found.json"
    result = predict(world, album / "b", "-o", out, "--draw", tmp_path / "drawn", "--format", "json", exit_code=1)
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert warnings[0] == f"warning: {album}/b/0.png: cannot identify image file"
    assert [line.split(": ")[1] for line in warnings] == [
        str(album / "b" / name) for name in ("0.png", "1.jpg", "2.png")
    ]
    said = one_json(result.stdout)
    assert [each["file"] for each in said["unreadable"]] == [line.split(": ")[1] for line in warnings]
    assert [(image["id"], image["file_name"]) for image in said["images"]] == [
        (4, "deep/1.png"), (5, "deep/2.png"), (6, "deep/3.png"),
    ]  # fmt: skip
    assert files_below(tmp_path / "drawn") == {"deep/1.png", "deep/2.png", "deep/3.png"}
    assert {record["image_id"] for record in records(out)} <= {4, 5, 6}


@pytest.mark.parametrize("keep", [0, 300])
def test_no_picture_that_can_be_read_is_a_mistake(world, album, tmp_path, keep):
    """At the header, or only at the pixels: exit 2 and no empty results."""
    one = album / "a/1.png"
    one.write_bytes(one.read_bytes()[:keep])
    mistake("predict", world / "runs/r", one, "-o", tmp_path / "out/found.json", *ALONE, says="1.png: ")
    assert not files_below(tmp_path / "out")


def test_a_prediction_that_fails_leaves_no_results(world, album, tmp_path, monkeypatch):
    """Whole or not at all: what stood there before still stands."""

    def fail(trained, dataset, **_):
        yield Detections(np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones((1, 4)), np.ones(1))
        raise FocalError("broken: here", "there")

    monkeypatch.setattr(run, "detected", fail)
    out = tmp_path / "out/found.json"
    out.parent.mkdir()
    out.write_text("[]")
    mistake("predict", world / "runs/r", album / "a", "-o", out, *ALONE, says="broken: here")
    assert files_below(out.parent) == {"found.json"}
    assert out.read_text() == "[]"


# -------------------------------------------------------------------------------------------------- pictures and links


def test_folders_files_and_patterns_give_each_picture_once(album):
    """Sorted by path, however they were named; hidden files and other files in a folder are no pictures."""
    for name in (".1.png", "notes.txt", ".hidden/1.png", "c.JPEG"):
        (album / "a" / name).parent.mkdir(exist_ok=True)
        (album / "a" / name).touch()
    os.link(album / "a/1.png", album / "a/3.png")  # a second name is a second picture: nobody can tell which is meant
    words = [f"{album}/b/**/[12].png", f"{album}/b", f"{album}/b/deep/1.png", f"{album}/a/../a", f"{album}/a/*"]
    found = pictures.find(words)
    assert found.names == ("a/1.png", "a/2.png", "a/3.png", "a/c.JPEG", "b/deep/1.png", "b/deep/2.png", "b/deep/3.png")
    assert found.root == str(album)


def test_links_in_a_folder_are_not_followed_out_of_it(album):
    """What the user did not name is not opened; a link that is named itself is."""
    (album / "a/out.png").symlink_to(album / "b/deep/1.png")
    (album / "a/away").symlink_to(album / "b")
    (album / "a/round").symlink_to(album / "a")
    (album / "a/again.png").symlink_to(album / "a/1.png")
    (album / "a/gone.txt").symlink_to(album / "nowhere")
    found = pictures.find([str(album / "a")])
    assert found.names == ("1.png", "2.png")
    assert sorted(found.links) == [str(album / "a/away"), str(album / "a/out.png")]
    assert pictures.find([str(album / "a/out.png")]).names == ("out.png",)
    assert pictures.find([str(album / "a/away")]).names == ("deep/1.png", "deep/2.png", "deep/3.png")


def test_links_not_followed_are_said(world, album):
    """And the picture behind a link that is named is looked at."""
    (album / "a/out.png").symlink_to(album / "b/deep/3.png")
    result = predict(world, album / "a")
    assert f"1 link out of the folders not followed, the first is {album}/a/out.png" in result.stderr
    assert "on 2 pictures:" in predict(world, album / "a/out.png", album / "a/1.png").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nope.png"], "nope.png: no such file"),
        (["empty"], "empty: no pictures in this folder"),
        (["x*.png"], "x*.png: no picture matches"),
        (["a", "-o", "found.txt"], "found.txt: results are JSON"),
        (["a", "-o", "a"], "results are JSON"),
        (["a", "--split", "val"], "--split val: of which dataset"),
        (["a", "-o", "a/1.png/found.json"], "cannot be written"),
    ],
)
def test_mistakes_end_before_anything_is_computed(world, album, monkeypatch, words, says):
    """Exit 2, one line of error, one of hint."""
    (album / "empty").mkdir()
    monkeypatch.chdir(album)
    monkeypatch.setattr(run, "detected", None)
    before = files_below(album)
    mistake("predict", world / "runs/r", *words, *ALONE, says=says)
    assert files_below(album) == before


def test_a_dataset_has_to_list_the_pictures(world, album, tmp_path):
    """Ids of other pictures would score the wrong boxes."""
    data = ("--dataset", world / "data", *ALONE)
    own = world / "data/images/val/val1.jpg"
    mistake("predict", world / "runs/r", own, album / "a/1.png", *data, says="lists 1 of the 2 pictures")
    copy = tmp_path / "copy/val1.jpg"
    copy.parent.mkdir()
    copy.write_bytes(own.read_bytes())
    mistake("predict", world / "runs/r", own, copy, *data, says="are both its 'val1.jpg'")
    annotations = world / "data/annotations/val.json"
    mistake("predict", world / "runs/r", own, "-o", annotations, *data, says="is the dataset itself")


def test_a_listed_name_is_the_end_of_a_pictures_path(write_coco, tmp_path):
    """Two folders of a dataset may hold the same names: the longest that fits is meant."""
    images = [
        {"id": number, "file_name": name, "width": 8, "height": 8}
        for number, name in enumerate(["1.png", "b/1.png", "a/b/1.png", "c/only.png"], start=10)
    ]
    dataset = load(write_coco([], images))
    paths = [str(tmp_path / name) for name in ("a/b/1.png", "x/b/1.png", "x/1.png", "x/only.png")]
    found = pictures.Found(tuple(paths), (), str(tmp_path), tuple(paths), ())
    assert ids.listed(found, dataset)[0].image_ids == (12, 11, 10, 13)


# ------------------------------------------------------------------------------------------------------------- drawings


def test_drawings_lie_as_the_pictures_do(world, album, tmp_path):
    """Two pictures of one name in two folders are two drawings; a second run replaces its own."""
    with Image.open(album / "a/1.png") as picture:
        picture.save(album / "a/1.bmp")
        picture.save(album / "a/1.bmp.png")
        picture.convert("L").save(album / "a/4.jpg")
    for _ in range(2):
        predict(world, album / "a", album / "b", "--draw", tmp_path / "drawn", "--min-score", 0)
    expected = {"1.png", "2.png", "1.bmp.png", "1.bmp.png.png", "4.jpg"}
    assert files_below(tmp_path / "drawn") == {f"a/{name}" for name in expected} | {
        "b/deep/1.png", "b/deep/2.png", "b/deep/3.png",
    }  # fmt: skip
    with Image.open(tmp_path / "drawn/a/1.png") as picture:
        assert picture.size == (96 * 5, 64 * 5)


def test_drawings_take_the_place_of_nothing_else(world, album, tmp_path):
    """Neither of the pictures nor of anybody's other files."""
    before = {name: (album / name).read_bytes() for name in files_below(album)}
    for words, says in (
        (["a", "--draw", "a"], "lies in"),
        (["b", "--draw", "b/deep/drawn"], "lies in"),
        (["a/1.png", "--draw", "a"], "1.png: is there already"),
        (["a", "--draw", "b/deep"], "1.png: is there already"),
        (["a", "--draw", "b/deep/1.png"], "cannot be written"),
    ):
        given = [album / word if "/" in word or len(word) == 1 else word for word in words]
        mistake("predict", world / "runs/r", *given, *ALONE, says=says)
    assert {name: (album / name).read_bytes() for name in files_below(album)} == before


@given(st.lists(st.lists(st.sampled_from([".png", ".jpg", ".bmp"]), min_size=1, max_size=3).map("".join), unique=True))
def test_no_two_pictures_are_drawn_to_one_file(names):
    """Whatever they are called."""
    targets = drawings._targets(names)
    assert len(set(targets)) == len(names)
    assert all(target.startswith(name) for target, name in zip(targets, names, strict=True))


# ----------------------------------------------------------------------------------------------------------------- size


def test_memory_does_not_grow_with_the_detections(album, tmp_path):
    """100,000 pictures of 100 detections are 10 million: nothing of a batch stays but counts."""
    shown, _ = numbered(pictures.find([str(album / "a")]), load_categories())
    part = Detections(np.zeros(1000, np.int64), np.zeros(1000, np.int64), np.ones((1000, 4)), np.ones(1000))
    peaks = []
    for batches in (3, 30):
        with ResultsFile(tmp_path / "found.json") as file:
            sink = predicting._Sink(predicting.Wanted(), file, None, shown, ["square", "cross"])
            tracemalloc.start()
            for _ in range(batches):
                sink.take(part)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            sink.finish(set())
        assert sink.detections == 1000 * batches
        assert len(json.loads((tmp_path / "found.json").read_text())) == 1000 * batches
    assert peaks[1] < 2 * peaks[0], "ten times the detections"


def load_categories():
    from focalcli.coco import Category

    return [Category(1, "square"), Category(2, "cross")]


@pytest.mark.parametrize("name", ["found.json", "found.images.json"])
def test_results_take_the_place_of_results_only(world, album, tmp_path, name):
    """A dataset's own JSON is one slip of the pen away; the results of an earlier run are replaced."""
    out = tmp_path / "out/found.json"
    words = ("predict", world / "runs/r", album / "a", "-o", out, *ALONE)
    focal(*words)
    focal(*words)
    kept = out.with_name(name)
    kept.write_text('{"images": [], "annotations": [], "categories": []}')
    mistake(*words, says="holds something else", hint="another file")
    assert kept.read_text().startswith('{"images"')
    kept.unlink()
    kept.mkdir()
    mistake(*words, says="is a folder", hint="-o")
    assert files_below(out.parent) == {"found.json", "found.images.json"} - {name}


def test_the_results_are_no_folder_and_not_stdout_and_nan_is_no_score(world, album):
    mistake("predict", world / "runs/r", album / "a", "-o", ".", *ALONE, says="results are JSON")
    mistake("predict", world / "runs/r", album / "a", "-o", "-", *ALONE, says="into a file", hint="--format json")
    mistake("predict", world / "runs/r", album / "a", "--min-score", "nan", *ALONE, says="is no score")


def test_a_pipe_is_no_picture_and_nobody_waits_for_it(world, album):
    """Opening a named pipe that nobody writes to blocks for ever."""
    os.mkfifo(album / "a/pipe.jpg")
    mistake("predict", world / "runs/r", album / "a/pipe.jpg", *ALONE, says="not a file but a pipe or a device")
    pattern = one_json(predict(world, f"{album}/a/*.*", "-f", "json").stdout)
    assert [image["file_name"] for image in pattern["images"]] == ["1.png", "2.png"] and not pattern["unreadable"]


def test_sigterm_leaves_no_results_aside(world, tmp_path):
    """A cluster that stops a job sends it: 143, as a shell says of a program that SIGTERM ended."""
    script = (
        "import os, signal, sys; from focalcli import boundary, cli; from focalcli.work import predicting\n"
        "start = predicting.ResultsFile.start\n"
        "def started(file):\n"
        "    start(file)\n"
        "    assert any(name.startswith('.found') for name in os.listdir(sys.argv[-1]))\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "predicting.ResultsFile.start = started\n"
        f"sys.argv[1:] = ['predict', {str(world / 'runs/r')!r}, {str(world / 'data/images/val')!r}, '-o', "
        f"{str(tmp_path / 'found.json')!r}, '--draw', {str(tmp_path)!r}]\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True)
    assert done.returncode == 143 and "Traceback" not in done.stderr, done.stderr
    assert files_below(tmp_path) == set()
