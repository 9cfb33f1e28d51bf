"""`focal calibrate`: what it prints, what it keeps in a checkpoint, and what eval and predict make of that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import focal, mistake, one_json
from safetensors import safe_open
from safetensors.torch import load_file
from test_fences import loaded_by

from focalcli import coco, evaluation
from focalcli.detections import Detections, load_detections, results_json
from focalcli.training import checkpoint

IMAGES, PER_IMAGE = 30, 40
NAMES = ("square", "cross")


def chance(scores):
    """The share that is right: that of a detector that is too sure, and at a score of 0.5 right 27 % of the time."""
    return 1 / (1 + np.e * (1 - scores) / scores)


def draw_detections(folder: Path, right=chance, seed: int = 0) -> tuple[Path, Path]:
    """A dataset with pictures that are only there to be found, and detections whose true chances are known, as files.

    Each detection stands alone in its place, on an object where it is right; five of six are squares.
    """
    rng = np.random.default_rng(seed)
    n = IMAGES * PER_IMAGE
    image, place = np.arange(n) // PER_IMAGE, np.arange(n) % PER_IMAGE
    label = (np.arange(n) % 6 == 0).astype(np.int64)
    boxes = np.stack([place % 8 * 80.0, place // 8 * 80.0, np.full(n, 40.0), np.full(n, 40.0)], axis=1)
    scores = np.round(rng.uniform(0.02, 0.99, n), 5)
    hit = rng.random(n) < right(scores)
    (folder / "pictures").mkdir(parents=True)
    for number in range(IMAGES):
        (folder / f"pictures/{number}.jpg").touch()
    content = {
        "images": [
            {"id": i + 1, "file_name": f"{i}.jpg", "width": 640, "height": 480, "license": 0} for i in range(IMAGES)
        ],
        "annotations": [
            {"id": int(r) + 1, "image_id": int(image[r]) + 1, "category_id": int(label[r]) + 1}
            | {"bbox": boxes[r].tolist(), "area": 1600, "iscrowd": 0}
            for r in np.flatnonzero(hit)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)],
    }
    truth, found = folder / "truth.json", folder / "found.json"
    truth.write_text(json.dumps(content))
    found.write_bytes(results_json(Detections(image, label, boxes, scores), coco.load(truth)))
    return truth, found


@pytest.fixture
def drawn(tmp_path) -> tuple[Path, Path]:
    return draw_detections(tmp_path / "drawn")


@pytest.fixture
def detector(own_world, drawn, monkeypatch) -> list[object]:
    """The tiny run, whose network is told what to find; the words that calibrate or eval it on the drawn pictures."""
    truth, found = drawn

    def predicted(_model, dataset, *_rest, **_options):
        whole = load_detections(found, dataset)
        for rows in np.array_split(np.arange(len(whole)), 7):  # batches, which a map sees one by one
            yield Detections(whole.image[rows], whole.label[rows], whole.boxes[rows], whole.scores[rows])

    monkeypatch.setattr("focalcli.training.run.predicted", predicted)
    return [own_world / "runs/r", truth, "--images", truth.parent / "pictures", "--device", "cpu", "--workers", 0]


def best(detector) -> Path:
    return detector[0] / "checkpoints/best.safetensors"


def meta(path: Path) -> dict:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["focal"])


def evaluated(detector, folder: Path, *more: object) -> tuple[dict, str]:
    """metrics.json of `focal eval --why`, and what it said on stderr."""
    stderr = focal("eval", *detector, "--why", "--out", folder, *more).stderr
    return json.loads((folder / "metrics.json").read_text()), stderr


@pytest.mark.parametrize("method", ["platt", "isotonic", "temperature"])
def test_eval_of_a_calibrated_checkpoint_has_the_same_ap_and_less_ece(detector, tmp_path, method):
    """Issue 5: kept in the checkpoint and applied at prediction; AP the same to the last bit, in the file too."""
    before, said = evaluated(detector, tmp_path / "before")
    assert "scores are calibrated" not in said
    result = one_json(focal("calibrate", *detector, "--method", method, "--format", "json").stdout)
    assert result["kept"] == str(best(detector)) and result["held_out"]["overall"]["ECE_change"] < 0
    after, said = evaluated(detector, tmp_path / "after")
    assert f"scores are calibrated ({method}, on {detector[1]})" in said and "30 of them made the map" in said
    assert after["summary"] == before["summary"]
    for old, new in zip(before["classes"], after["classes"], strict=True):
        assert {**old, "threshold": 0, "detections": 0} == {**new, "threshold": 0, "detections": 0}
        assert old["threshold"] != new["threshold"]  # the same detections stand above it: precision and recall say so
    ece = [each["diagnosis"]["calibration"]["overall"]["ECE"] for each in (before, after)]
    assert ece[0] > 0.15 and ece[1] < (ece[0] if method == "temperature" else 0.03)
    dataset = coco.load(detector[1])
    again = evaluation.evaluate(dataset, load_detections(tmp_path / "after/predictions.coco.json", dataset))
    assert again.summary == {**after["summary"], "APr": None, "APc": None, "APf": None}
    raw, _ = evaluated(detector, tmp_path / "raw", "--raw-scores")
    assert raw == before


def test_predict_gives_the_same_detections_with_chances_for_scores(detector, tmp_path):
    """What eval scores is what predict writes; without the map both are the network's own."""
    focal("calibrate", *detector)
    words = ["predict", detector[0], detector[3], "--dataset", detector[1], "--device", "cpu", "--workers", 0]
    stderr = focal(*words, "-o", tmp_path / "mapped.json").stderr
    assert "scores are calibrated" in stderr and "--raw-scores" in stderr
    focal(*words, "-o", tmp_path / "raw.json", "--raw-scores")
    dataset = coco.load(detector[1])
    mapped, raw, found = (
        load_detections(path, dataset)
        for path in (tmp_path / "mapped.json", tmp_path / "raw.json", detector[1].parent / "found.json")
    )
    assert sorted(raw.scores) == sorted(found.scores) and (mapped.boxes == raw.boxes).all()
    assert np.abs(mapped.scores - chance(raw.scores)).mean() < 0.03
    scores = [evaluation.evaluate(dataset, each).summary for each in (mapped, raw, found)]
    assert scores[0] == scores[1] == scores[2]


def test_only_the_meta_of_the_checkpoint_changes(detector):
    """Whole rewrite: tensors to the last bit, and nothing of what a resume compares."""
    tensors, said = load_file(best(detector)), meta(best(detector))
    focal("calibrate", *detector)
    now = load_file(best(detector))
    assert list(now) == list(tensors) and all((now[name] == tensors[name]).all() for name in tensors)
    assert all(now[name].dtype == tensors[name].dtype for name in tensors)
    kept = meta(best(detector))
    assert {**kept, "calibration": None} == {**said, "calibration": None}
    assert kept["calibration"]["images"] == IMAGES and kept["calibration"]["sha256"] == coco.load(detector[1]).sha256


def test_a_calibrated_last_can_be_resumed_and_what_follows_has_no_map(detector, own_world, monkeypatch):
    """Weights that train on make other scores, so the map goes with the old ones."""
    monkeypatch.undo()  # the network's own detections again, and a map of nobody's
    last = detector[0] / "checkpoints/last.safetensors"
    saved = checkpoint.load(last)
    half = {**saved.meta["progress"], "step": 1, "evaluated": 0}
    maps = evaluation.ClassScaling(evaluation.Scaling(2.0)).to_dict()
    checkpoint.replace_meta(last, {**saved.meta, "progress": half, "calibration": {"maps": maps}})
    result = focal("train", own_world / "r.yaml", "--runs", own_world / "runs", "--resume", "--device", "cpu")
    assert "after step 1" in result.stdout + result.stderr
    assert meta(last)["progress"]["step"] == saved.meta["progress"]["step"] and "calibration" not in meta(last)


def test_calibrating_twice_fits_to_the_scores_of_the_network(detector):
    """And not to those that the first map has made."""
    maps = []
    for _ in range(2):
        focal("calibrate", *detector)
        maps.append(meta(best(detector))["calibration"]["maps"])
    assert maps[0] == maps[1]


@pytest.mark.parametrize("words", [[], ["--fraction", "0.5"]])
def test_a_map_that_does_not_help_is_not_kept_unless_forced(tmp_path, words):
    """Scores that are chances already: the exit code is that of a gate, and the file what it was."""
    truth, found = draw_detections(tmp_path / "chances", right=lambda scores: scores, seed=3)
    out = tmp_path / "out.json"
    given = ["calibrate", found, truth, "-o", out, "--method", "isotonic", *words]
    result = focal(*given, exit_code=1)
    assert "not kept: ECE from " in result.stderr and "--force keeps it" in result.stderr and not out.exists()
    focal(*given, "--force")
    assert out.exists()


def test_results_of_any_detector_are_written_with_chances_for_scores(drawn, tmp_path):
    """The same detections in the same order, and the same AP for whoever scores them."""
    truth, found = drawn
    result = focal("calibrate", found, truth, "-o", tmp_path / "out.json")
    assert "overconfident: scores say 0.5" in result.stdout and "the same with both" in result.stdout
    dataset = coco.load(truth)
    before, after = (load_detections(path, dataset) for path in (found, tmp_path / "out.json"))
    assert (after.boxes == before.boxes).all() and (after.image == before.image).all() and len(after) == len(before)
    assert np.abs(after.scores - chance(before.scores)).mean() < 0.03
    pair = [evaluation.evaluate(dataset, each, engine="pycocotools").summary for each in (before, after)]
    assert pair[0] == pair[1]


def test_the_table_names_each_class_and_its_new_threshold(drawn, tmp_path):
    """The csv has the same figures as the table, without rounding."""
    truth, found = drawn
    words = ["calibrate", found, truth, "-o", tmp_path / "out.json", "--one-map"]
    lines = focal(*words).stdout.splitlines()
    assert lines[0].endswith("truth.json: platt, one map for all classes")
    assert [line.split()[0] for line in lines[4:7]] == ["square", "cross", "all"]
    csv = focal(*words, "--format", "csv").stdout.splitlines()
    row = dict(zip(csv[0].split(","), csv[1].split(","), strict=True))
    cells = lines[4].split()
    assert cells[-2:] == [f"{float(row[name]):.3f}" for name in ("threshold_before", "threshold_after")]
    assert row["own_map"] == "False" and f"{100 * float(row['ECE_before']):.1f}" in cells


def test_mistakes_say_what_to_do(drawn, detector, own_world, tmp_path):
    """Exit 2, one error and one hint, before a detector runs where that is possible."""
    truth, found = drawn
    out = tmp_path / "out.json"
    mistake("calibrate", found, says="need the dataset", hint="DATASET -o OUT.json")
    mistake("calibrate", found, truth, says="need a file to write", hint="-o OUT.json")
    mistake("calibrate", *detector, "-o", out, says="a checkpoint keeps its map itself", hint="leave -o out")
    mistake(
        "calibrate", own_world / "scored/predictions.coco.json", own_world / "data", "-o", out, says="too few to fit"
    )
    mistake(
        "calibrate", detector[0], "--split", "train", "--device", "cpu",
        says="was trained on these pictures", hint="another split",
    )  # fmt: skip
    mistake("calibrate", tmp_path / "no.safetensors", says="no such checkpoint")
    assert not out.exists()


def test_a_map_that_cannot_be_read_is_no_traceback(detector):
    """Somebody has edited the file."""
    focal("calibrate", *detector)
    saved = checkpoint.load(best(detector)).meta
    for broken in (
        {},
        {"maps": {}},
        {"maps": {"common": {"temperature": None, "shift": 0.0, "points": []}, "classes": {}}},
    ):
        fitted = {**saved["calibration"], **broken} if broken else "x"
        checkpoint.replace_meta(best(detector), {**saved, "calibration": fitted})
        mistake("eval", *detector, says="do not fit together", hint="another checkpoint")


def test_a_full_disk_leaves_the_checkpoint_without_its_map(detector, monkeypatch):
    """DESIGN: written to a temporary name and moved into place; errno 28 is `No space left on device`."""
    before = best(detector).read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("focalcli.training.checkpoint.os.fsync", full)
        mistake("calibrate", *detector, says="No space left")
    assert best(detector).read_bytes() == before
    assert not list(best(detector).parent.glob(".*"))


def test_scores_that_no_map_can_keep_apart_are_refused(drawn, tmp_path):
    """Half of them differ by the last of a float's 53 bits: where a map is flatter than 1 it makes them equal."""
    truth, found = drawn
    rows = json.loads(found.read_text())
    for number, row in enumerate(rows[:600]):
        row["score"] = 0.5 + number * 2**-53
    found.write_text(json.dumps(rows))
    out = tmp_path / "out.json"
    mistake("calibrate", found, truth, "-o", out, says="differ by so little", hint="12 digits or fewer")
    assert not out.exists()


def test_detections_are_calibrated_without_torch(drawn, tmp_path):
    """DESIGN: what works on a file works on machines without torch's seconds to spare."""
    truth, found = drawn
    assert not loaded_by("calibrate", found, truth, "-o", tmp_path / "o.json") & {"torch", "pycocotools"}


def test_a_batch_without_detections_can_be_mapped():
    """A picture where nothing is found."""
    empty = Detections(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4)), np.zeros(0))
    assert len(evaluation.ClassScaling(evaluation.Scaling(2.0)).of_detections(empty, NAMES)) == 0


@pytest.mark.parametrize("place", ["truth.json", "found.json", ".", "-"])
def test_the_calibrated_detections_never_take_the_place_of_an_input(drawn, monkeypatch, place):
    """A slip of the pen would cost the annotations."""
    truth, found = drawn
    before = truth.read_bytes(), found.read_bytes()
    monkeypatch.chdir(truth.parent)
    for dataset in (truth, found.parent / "truth.json"):
        mistake("calibrate", found, dataset, "-o", place, says=f"-o {place}: ")
    assert (truth.read_bytes(), found.read_bytes()) == before and not Path("-").exists()


def test_the_calibrated_detections_replace_no_other_json(drawn, tmp_path):
    truth, found = drawn
    other = tmp_path / "other.json"
    other.write_bytes(truth.read_bytes())
    mistake("calibrate", found, truth, "-o", other, says="holds something else than detections", hint="another file")
    assert other.read_bytes() == truth.read_bytes()
