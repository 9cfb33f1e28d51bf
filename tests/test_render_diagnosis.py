"""render.diagnosis: what is said of a class is true of detections drawn by hand."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from tiny_detections import dataset_of, detections_of

from focalcli import evaluation
from focalcli.coco import Dataset
from focalcli.detections import Detections
from focalcli.render import console as rendering
from focalcli.render.diagnosis import in_common, print_diagnosis, story, weakest

HERE, THERE = [0, 0, 100, 100], [200, 0, 100, 100]  # two places that a cell can be in
NOWHERE = [400, 300, 50, 50]


def told(dataset: Dataset, detections: Detections, label: int = 0) -> list[str]:
    entry = evaluation.evaluate(dataset, detections).classes[label]
    return story(evaluation.diagnose(dataset, detections), entry)


@pytest.mark.parametrize(
    ("truth", "found", "lacks", "reason"),
    [
        # one of two objects at precision 1: COCO's recalls 0 to 0.50 are reached, 51 of 101
        ([HERE, THERE], [(0, HERE, 0.9)], "49.5", "100 % is missed objects (1 of 2)"),
        (
            [HERE, THERE],
            [(0, HERE, 0.9), (1, THERE, 0.95)],
            "49.5",
            "100 % is the wrong class (its objects under other names)",
        ),
        # half of the detections are right where recall reaches 1
        ([HERE], [(0, HERE, 0.8), (0, NOWHERE, 0.9)], "50.0", "100 % is the background (1 detection on no object)"),
        ([HERE], [(0, [0, 0, 100, 40], 0.9)], "100.0", "loose boxes (1 detection with an IoU of 0.1 to 0.5)"),
        # 2 of 3 are right from recall 0.51 on: 50 recalls lack 1/3 each
        (
            [HERE, THERE],
            [(0, HERE, 0.9), (0, HERE, 0.8), (0, THERE, 0.7)],
            "16.5",
            "100 % is objects found twice (1 detection)",
        ),
    ],
)
def test_the_costliest_error_is_named_with_its_share_and_count(tmp_path, truth, found, lacks, reason):
    """Bolya et al. 2020: one kind of error each, worked by hand."""
    first = told(dataset_of(tmp_path, [(0, box) for box in truth]), detections_of(found))[0]
    assert first.startswith(f"of the {lacks} points of AP50 that it lacks") and first.endswith(reason)


def test_the_costliest_error_comes_first_and_small_ones_are_not_named(tmp_path):
    """Three of four objects are missed, and one detection in two is right: 26 recalls at 1/2 give AP50 12.9. Without
    the misses it is 50.0, without the false one 25.7 (26 of 101): 43 % and 15 % of the 87.1 that are lacking."""
    boxes = [(0, HERE), (0, THERE), (0, [0, 200, 100, 100]), (0, [200, 200, 100, 100])]
    first = told(dataset_of(tmp_path, boxes), detections_of([(0, NOWHERE, 0.9), (0, HERE, 0.8)]))[0]
    assert first == (
        "of the 87.1 points of AP50 that it lacks, counted at any score, 43 % is missed objects (3 of 4); "
        "15 % is the background (1 detection on no object)"
    )


def test_errors_that_cost_little_each_are_not_blamed(tmp_path):
    """Six kinds that would each win back less than a tenth of what is lacking."""
    dataset, detections = dataset_of(tmp_path, [(0, HERE), (0, THERE)]), detections_of([(0, HERE, 0.9)])
    diagnosis = evaluation.diagnose(dataset, detections)
    of_cells = replace(diagnosis.errors.classes[0], gains=dict.fromkeys(evaluation.TYPES, 0.049))
    diagnosis = replace(diagnosis, errors=replace(diagnosis.errors, classes=(of_cells, *diagnosis.errors.classes[1:])))
    first = story(diagnosis, evaluation.evaluate(dataset, detections).classes[0])[0]
    assert first.endswith("counted at any score, no kind of error alone is 10 %")


def test_what_objects_are_called_and_what_detections_are(tmp_path):
    """A cell found, one called platelet, one not seen; a surer cell on nothing and one on a platelet."""
    boxes = [(0, HERE), (0, THERE), (0, [0, 200, 100, 100]), (1, [200, 200, 100, 100])]
    found = [(0, HERE, 0.8), (1, THERE, 0.95), (0, NOWHERE, 0.9), (0, [200, 200, 100, 100], 0.85)]
    sentences = told(dataset_of(tmp_path, boxes), detections_of(found))
    assert "from score 0.800 on: 1 of 3 objects found, 1 called platelet, 1 not found" in sentences
    told_of_three = (
        "of its 3 detections from there on: 1 right, 1 on platelet, 1 on nothing or on an object found already"
    )
    assert told_of_three in sentences


@pytest.mark.parametrize(("small_found", "said"), [(5, True), (9, False)])
def test_objects_of_a_size_that_are_found_less_are_named(tmp_path, small_found, said):
    """Ten of 20 x 20 px (COCO's small) and ten of 50 x 50 px (medium), all of which are found."""
    small = [(0, [60 * n, 0, 20, 20]) for n in range(10)]
    medium = [(0, [60 * n, 100, 50, 50]) for n in range(10)]
    found = [(*box, 0.9) for box in [*small[:small_found], *medium]]
    sentences = told(dataset_of(tmp_path, [*small, *medium]), detections_of(found))
    assert ("small objects are found less: 5 of 10, the others 10 of 10" in sentences) is said
    assert any("found less" in sentence for sentence in sentences) is said


def test_objects_in_a_crowd_that_are_found_less_are_named(tmp_path):
    """Twelve in six pairs with an IoU of 40/60, of each pair one found, and ten alone, all found."""
    pairs = [(0, [100 * n + shift, 0, 50, 50]) for n in range(6) for shift in (0, 10)]
    alone = [(0, [60 * n, 100, 50, 50]) for n in range(10)]
    found = [(*box, 0.9) for box in [*pairs[::2], *alone]]
    sentences = told(dataset_of(tmp_path, [*pairs, *alone]), detections_of(found))
    assert "objects that overlap another (IoU of 0.1 or more) are found less: 6 of 12, the others 10 of 10" in sentences


def test_calibration_is_told_of_classes_with_enough_detections(tmp_path):
    """Twenty cells called with a score of 0.9, of which half are right, and one sure platelet."""
    cells = [(0, [60 * (n % 10), 60 * (n // 10), 50, 50]) for n in range(20)]
    dataset = dataset_of(tmp_path, [*cells[:10], (1, [0, 400, 50, 50]), (1, [100, 400, 50, 50])])
    detections = detections_of([*((*cell, 0.9) for cell in cells), (1, [0, 400, 50, 50], 0.9)])
    assert told(dataset, detections)[-1] == "overconfident: scores say 0.90, 0.50 are right (ECE 40.0)"
    assert not any("ECE" in sentence for sentence in told(dataset, detections, label=1))


def test_what_concerns_all_classes(tmp_path):
    """A cell called platelet, one not seen, a platelet on nothing, and two ghosts, which no picture has."""
    dataset = dataset_of(tmp_path, [(0, HERE), (0, THERE), (1, [0, 200, 100, 100])])
    rows = [(1, HERE, 0.9), (1, NOWHERE, 0.9), (1, [0, 200, 100, 100], 0.8), (2, NOWHERE, 0.1), (2, HERE, 0.1)]
    said = dict(in_common(evaluation.diagnose(dataset, detections_of(rows))))
    assert said["Confused"] == "cell for platelet (1)"
    assert said["Background"].startswith("1 detection without an object, 1 of 3 objects without one")
    assert said["Not in AP"] == "2 detections of classes without objects, the most of ghost (2)"
    assert said["Calibration"] == "too few detections to say (5)"


def test_scores_that_are_no_chances_are_said_to_be_so(tmp_path):
    diagnosis = evaluation.diagnose(dataset_of(tmp_path, [(0, HERE)]), detections_of([(0, HERE, 90.0)]))
    said = dict(in_common(diagnosis))
    assert said["Calibration"].startswith("not measured: 1 of 1 scores are not in 0 to 1")
    assert said["Confused"] == "no class is taken for another" and "Not in AP" not in said


def test_the_weakest_are_told_and_the_perfect_are_not(tmp_path):
    """Of equals the one with more objects; no AP, no story."""
    table = evaluation.evaluate(dataset_of(tmp_path, [(0, HERE)]), detections_of([(0, HERE, 0.9)]))
    perfect = table.classes[0]
    assert weakest(table.classes) == []
    values = {"a": (0.0, 1), "b": (0.0, 9), "c": (0.7, 50), "d": (0.3, 5), "e": (1.0, 5), "f": (None, 0)}
    classes = [replace(perfect, name=name, AP50=value, n_val=n) for name, (value, n) in values.items()]
    assert [entry.name for entry in weakest(classes)] == ["b", "a", "d"]


def random_case(folder: Path, seed: int) -> tuple[Dataset, Detections]:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 30), rng.integers(0, 60)
    place = rng.integers(0, 4, (n, 2)) * 80
    boxes = [(int(rng.integers(3)), [int(x), int(y), 60, 60]) for x, y in place]
    near = rng.integers(0, n, m)
    rows = [
        (int(rng.integers(3)), [*(place[k] + rng.integers(-40, 40, 2)).tolist(), 60, 60], float(rng.random()))
        for k in near
    ]
    return dataset_of(folder, boxes), detections_of(rows)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_story_adds_up(seed, tmp_path_factory):
    """Whatever the detections: objects found, called otherwise and not found are all there are; so are the detections;
    and no kind of error costs more than what is lacking."""
    dataset, detections = random_case(tmp_path_factory.mktemp("case"), seed)
    table, diagnosis = evaluation.evaluate(dataset, detections), evaluation.diagnose(dataset, detections)
    stream = io.StringIO()
    print_diagnosis(diagnosis, table.classes, rendering.make_console(file=stream))
    for entry in weakest(table.classes):
        assert f"\n{entry.name}: AP50 " in stream.getvalue()
        for sentence in story(diagnosis, entry):
            if sentence.startswith("from score"):
                found, total, others = re.match(
                    r"from score \d\.\d{3} on: (\d+) of (\d+) objects? found(.*)", sentence
                ).groups()
                assert int(total) == entry.n_val
                assert int(found) + sum(map(int, re.findall(r", (\d+) ", others))) == entry.n_val
            elif sentence.startswith("of its"):
                total, parts = re.match(r"of its (\d+) detections? from there on: (.*)", sentence).groups()
                assert sum(map(int, re.findall(r"(?:^|, )(\d+) ", parts))) == int(total)
            elif sentence.startswith("of the"):
                assert all(0 < int(share) <= 100 for share in re.findall(r"(\d+) %", sentence))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_a_narrow_terminal(width, tmp_path):
    dataset, detections = random_case(tmp_path, 7)
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None, markup=False, emoji=False)
    print_diagnosis(evaluation.diagnose(dataset, detections), evaluation.evaluate(dataset, detections).classes, console)
    assert max(map(len, stream.getvalue().splitlines())) <= width and "…" not in stream.getvalue()
