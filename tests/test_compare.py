"""`focal compare`: made detectors whose difference is known, in every kind of source, and what is refused.

Eight pictures hold two objects of each class; `good` finds all, `poor` finds those of class b and none of class a.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import ROOT, environment, focal, mistake, one_json, rewrite
from tiny_detections import found, ground_truth, perfect, write

IMAGES = 8
NAMES = ("a", "b", "ghost")


def truth() -> dict:
    boxes = [
        {"bbox": [10 + 100 * n, 10, 50, 50], "image_id": image, "category_id": 1 + n % 2}
        for image in range(1, IMAGES + 1)
        for n in range(4)
    ]
    return ground_truth(boxes, n_images=IMAGES, names=NAMES)


@pytest.fixture
def place(tmp_path) -> Path:
    """`gt.json`, and the folders `good`, `poor` and `same` (as good) that `focal eval --out` and a detector left."""
    content = truth()
    write(tmp_path / "gt.json", content)
    results = perfect(content)
    for name, kept in (("good", results), ("same", results), ("poor", [r for r in results if r["category_id"] == 2])):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "predictions.coco.json", kept)
        predictions = tmp_path / name / "predictions.coco.json"
        focal("eval", predictions, tmp_path / "gt.json", "--rounds", 0, "--out", tmp_path / name)
    return tmp_path


def rows(*words: object) -> dict[str, dict[str, str]]:
    """The lines of the csv by class."""
    text = focal("compare", *words, "--rounds", 60, "-f", "csv").stdout
    return {row["class"]: row for row in csv.DictReader(io.StringIO(text))}


def test_a_class_that_is_lost_is_real_and_the_other_is_not(place):
    """Class a falls from 1 to 0 in all of eight pictures: p is 2^(1-8), and twice that after Holm for two classes."""
    a, b, ghost = rows(place / "good", place / "poor").values()
    assert (a["class"], a["n_val"], a["AP_real"]) == ("a", "16", "True") and float(a["AP_difference"]) == pytest.approx(
        -1
    )
    assert float(a["AP_p"]) == 2**-7 and float(a["AP_adjusted"]) == 2**-6
    assert (b["class"], b["AP_real"], b["AP_p"]) == ("b", "False", "1.0") and float(b["AP_difference"]) == 0
    assert (ghost["AP_difference"], ghost["AP_p"], ghost["AP_real"]) == ("", "", "False")


def test_the_same_detector_twice_has_nothing_real(place):
    content = one_json(focal("compare", place / "good", place / "same", "--rounds", 60, "-f", "json").stdout)
    (pair,) = content["comparisons"]
    for entry in (pair["mean"], *pair["classes"][:2]):
        assert entry["AP"]["difference"] == 0 and entry["AP"]["real"] is False and entry["AP"]["interval"] == [0, 0]


def test_every_kind_of_source_gives_the_same_answer(place):
    """A run folder has its evaluation in eval/; a list of detections needs its dataset named."""
    (place / "run").mkdir()
    (place / "poor").rename(place / "run/eval")
    wanted = rows(place / "good", place / "run")
    for source in ("run/eval", "run/eval/metrics.json", "run/eval/predictions.coco.json"):
        found_rows = rows(place / "good/metrics.json", place / source)
        for name, row in found_rows.items():
            assert row | {"before": "", "after": ""} == wanted[name] | {"before": "", "after": ""}, source
    both = [place / "good/predictions.coco.json", place / "run/eval/predictions.coco.json"]
    assert rows(*both, "--dataset", place / "gt.json")["a"]["AP_p"] == wanted["a"]["AP_p"]
    mistake("compare", *both, says="of what dataset?", hint="--dataset")


def test_detections_are_found_by_the_path_that_the_metrics_name(place):
    """`focal eval FOUND.json DATASET --out DIR` leaves no second copy of the detections in DIR."""
    (place / "poor/predictions.coco.json").rename(place / "found.json")
    focal("eval", place / "found.json", place / "gt.json", "--rounds", 0, "--out", place / "poor")
    assert rows(place / "good", place / "poor")["a"]["AP_real"] == "True"


def test_without_the_detections_only_figures_are_compared_and_that_is_said(place):
    (place / "good/predictions.coco.json").unlink()
    (place / "poor/predictions.coco.json").unlink()
    result = focal("compare", place / "good", place / "poor")
    assert "only the figures are compared, without intervals and verdicts" in result.stderr
    assert "interval:" not in result.stdout and "Real         not known" in result.stdout
    assert "a" in result.stdout and "-100.0" in result.stdout
    focal("compare", place / "good", place / "poor", "--fail-on-drop")


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_without_the_dataset_only_figures_are_compared(place, change):
    if change == "gone":
        (place / "gt.json").unlink()
    else:
        rewrite(place / "gt.json", lambda c: c.update(info={}))
    said = focal("compare", place / "good", place / "poor").stderr
    assert f"gt.json {'is not there' if change == 'gone' else 'has changed since'}" in said


def test_evaluations_of_different_datasets_are_refused_with_the_reason(place):
    other = truth()
    other["annotations"].pop()
    write(place / "other.json", other)
    predictions = place / "poor/predictions.coco.json"
    focal("eval", predictions, place / "other.json", "--rounds", 0, "--out", place / "apart")
    mistake("compare", place / "good", place / "apart", says="the two differ", hint="`focal eval RUN DATASET")
    mistake("compare", place / "good", place / "poor", "--dataset", place / "other.json", says="is not of")
    for folder in ("good", "apart"):
        rewrite(place / folder / "metrics.json", lambda c: c.pop("dataset_sha256"))
    mistake("compare", place / "good", place / "apart", says="15 objects of 'b'", hint="same file")


def test_a_class_that_only_one_detector_knows_is_left_out_and_named(place):
    rewrite(place / "poor/metrics.json", lambda c: c["classes"].pop(0))
    result = focal("compare", place / "good", place / "poor", "--rounds", 60, "-f", "json")
    assert "warning: not compared, because not all detectors know them: 'a'" in result.stderr
    assert [entry["name"] for entry in one_json(result.stdout)["comparisons"][0]["classes"]] == ["b", "ghost"]


def test_an_evaluation_older_than_its_checkpoint_is_said_to_be_so(place):
    write(place / "best.safetensors", "")
    rewrite(place / "poor/metrics.json", lambda c: c.update(source=str(place / "best.safetensors")))
    write(place / "best.safetensors", "later")
    assert "is newer than" in focal("compare", place / "good", place / "poor", "--rounds", 60).stderr


def test_three_detectors_are_each_compared_with_the_first(place):
    text = focal("compare", place / "good", place / "poor", place / "same", "--rounds", 60).stdout
    assert f"{place / 'poor'} against {place / 'good'} on" in text and f"{place / 'same'} against" in text
    assert "Real         1 of 2 classes: a -100.0; the mean: " in text
    assert "Real         0 of 2 classes; the mean: +0.0, not real" in text
    assert "0.1 do so without any difference" in text


def test_the_table_has_the_most_evident_class_first_and_the_mean_last(place):
    lines = focal("compare", place / "good", place / "poor", "--rounds", 60).stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("──")) + 1
    assert [line.split()[0] for line in lines[start : start + 4]] == ["a", "b", "ghost", "all"]
    assert lines[start].endswith("worse") and "0.016" in lines[start]


def test_fail_on_drop_is_exit_1_for_what_is_really_worse_only(place):
    worse = focal("compare", place / "good", place / "poor", "--rounds", 60, "--fail-on-drop", exit_code=1)
    assert "failed: --fail-on-drop" in worse.stderr and "'a' -100.0" in worse.stderr
    focal("compare", place / "poor", place / "good", "--rounds", 60, "--fail-on-drop")
    focal("compare", place / "good", place / "same", "--rounds", 60, "--fail-on-drop")


def test_markdown_and_files(place):
    text = focal("compare", place / "good", place / "poor", "--rounds", 60, "-f", "markdown").stdout
    assert text.startswith("### focal compare: AP 100.0 to 50.0") and "| `a` | - | 16 | 100.0 | 0.0 | -100.0 |" in text
    focal("compare", place / "good", place / "poor", "--rounds", 60, "-f", "markdown", "-o", place / "out.md")
    assert (place / "out.md").read_text() == text
    metrics = place / "good/metrics.json"
    mistake("compare", metrics, place / "poor", "-o", metrics, says="this is what the command reads")


def test_what_is_no_detector_is_refused(place):
    mistake("compare", place / "good", says="one detector", hint="focal compare A B")
    mistake("compare", place / "good", place / "nothing", says="no such file")
    (place / "empty").mkdir()
    mistake("compare", place / "good", place / "empty", says="no evaluation and no checkpoint")
    mistake("compare", place / "good", place / "gt.json", says="something else")
    write(place / "poor/predictions.coco.json", [found([1, 1, 2, 2], image_id=99)])
    mistake("compare", place / "good", place / "poor", says="image_ids that are not in")
    write(place / "poor/predictions.coco.json", "[{")
    mistake("compare", place / "good", place / "poor", says="not JSON")


def test_saved_evaluations_are_compared_without_torch_and_pycocotools(place):
    """They are compared in CI, where there may be no torch."""
    code = (
        "import sys\nfrom focalcli import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(sorted({'torch', 'torchvision', 'pycocotools'} & {name.split('.')[0] for name in sys.modules}))"
    )
    command = [sys.executable, "-c", code, "compare", place / "good", place / "poor", "--rounds", "50"]
    done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_checkpoint_without_an_evaluation_is_run(own_world):
    """What it finds is what `focal eval` saved of it, so that the difference is 0."""
    run = own_world / "runs/r"
    words = [run / "checkpoints/best.safetensors", own_world / "scored", "--rounds", 50, "--workers", 0, "-f", "json"]
    (pair,) = one_json(focal("compare", *words).stdout)["comparisons"]
    assert pair["mean"]["AP"]["difference"] == 0 and pair["classes"][0]["AP"]["interval"] == [0, 0]
    assert json.loads((own_world / "scored/metrics.json").read_text())["summary"]["AP"] == pair["mean"]["AP"]["after"]
