"""`focal eval --min, --min-class, --max-drop`: hand-made detections with figures worked out by hand, and every format.

All three whole objects are found: AP 1. Of two halves one is found, by the surest detection: COCO takes the precision 1
at the recalls 0, 0.01 ... 0.50, 51 of 101, so AP is 0.505. Nobody drew the ghost. The mean is 0.752.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from command import ROOT, environment, focal, mistake, one_json
from hypothesis import given
from hypothesis import strategies as st
from tiny_detections import found, ground_truth, write

from focalcli.errors import FocalError
from focalcli.evaluation import NO_LIMITS, load_saved, parse_limits

HALF = 51 / 101
NAMES = ("whole", "half", "ghost", "a:b=c")


@pytest.fixture
def case(tmp_path) -> tuple[Path, Path]:
    """Detections and their dataset; of class `a:b=c` the only object is found."""
    boxes = [{"bbox": [10 + 100 * n, 10, 50, 50], "category_id": 1} for n in range(3)]
    boxes += [{"bbox": [10 + 100 * n, 100, 50, 50], "category_id": 2} for n in range(2)]
    boxes += [{"bbox": [10, 200, 50, 50], "category_id": 4}]
    results = [found(box["bbox"], category_id=box["category_id"]) for box in boxes if box["bbox"][:2] != [110, 100]]
    truth = write(tmp_path / "truth.json", ground_truth(boxes, names=NAMES))
    return write(tmp_path / "found.json", results), truth


def gates(case: tuple[Path, Path], *words: object, exit_code: int = 0) -> list[dict]:
    text = focal("eval", *case, "--rounds", 0, "-f", "json", *words, exit_code=exit_code).stdout
    return one_json(text)["gates"]


# ------------------------------------------------------------------------------------------------------------- verdicts


def test_without_limits_there_are_no_gates(case):
    assert gates(case) == [] and parse_limits((), (), (), None) == NO_LIMITS


@pytest.mark.parametrize(
    ("option", "value", "passed"),
    [
        ("--min AP=0.83", (2 + HALF) / 3, True),
        ("--min AP50=0.84", (2 + HALF) / 3, False),
        ("--min APl=0.1", None, False),
        ("--min APr=0", None, False),
        ("--min-class half=0.5", HALF, True),
        ("--min-class half:AP75=0.51", HALF, False),
        ("--min-class ghost=0", None, False),
        ("--min-class a:b=c=1", 1.0, True),
        ("--min-class a:b=c:AR100=1", 1.0, True),
        ("--min-class *=0.5", HALF, True),
        ("--min-class *:AP50=0.6", HALF, False),
        ("--min-class *:APl=0", None, False),
    ],
)
def test_a_gate_is_the_figure_against_its_limit(case, option, value, passed):
    """The module's docstring has the figures; where nothing can be measured a gate fails."""
    name, text = option.split(" ", 1)
    (gate,) = gates(case, name, text, exit_code=int(not passed))
    assert gate["option"] == option and gate["passed"] is passed
    assert gate["value"] == (None if value is None else pytest.approx(value, abs=1e-9))


def test_every_gate_is_checked_and_the_failed_ones_name_their_classes(case):
    words = ["--min", "AP=0.9", "--min", "AP50=0.1", "--min-class", "whole=1", "--min-class", "ghost=0.1"]
    words += ["--min-class", "half=0.6", "--min-class", "*=0.99"]
    checked = gates(case, *words, exit_code=1)
    assert [gate["passed"] for gate in checked] == [False, True, True, False, False, True]
    assert [gate["message"] for gate in checked] == [
        "AP is 0.835; 0.9 is asked for",
        "AP50 is 0.835; 0.1 is asked for",
        "AP of 'whole' is 1.000 (3 objects); 1 is asked for",
        "AP of 'ghost' is n/a (0 objects); 0.1 is asked for",
        "AP of 'half' is 0.505 (2 objects); 0.6 is asked for",
        "the lowest AP: 'a:b=c' is 1.000 (1 object); 0.99 is asked for",
    ]
    assert [gate["classes"] for gate in checked] == [[], [], [], ["ghost"], ["half"], []]


def test_a_star_is_every_class_that_has_objects_and_no_limit_of_its_own(case):
    (star,) = gates(case, "--min-class", "*=0.6", exit_code=1)
    assert star["classes"] == ["half"] and star["message"] == "AP of 'half' is 0.505 (2 objects); 0.6 is asked for"
    star, own = gates(case, "--min-class", "*=0.6", "--min-class", "half=0.4")
    assert star["passed"] and own["passed"]


def test_a_figure_just_below_its_limit_is_shown_with_enough_digits(case):
    (gate,) = gates(case, "--min-class", "half=0.50496", exit_code=1)
    assert gate["message"].startswith("AP of 'half' is 0.50495 ")


@given(st.floats(0, 1), st.sampled_from(["x", "a=b", "=", "a:AP50", "b c", "ü"]))
def test_any_fraction_and_any_class_name_can_be_written(bound, name):
    """The number is what stands behind the last `=`."""
    limits = parse_limits((), (f"{name}={bound!r}",), (), None)
    assert limits.least_of_class[0].bound == bound
    limits.refuse_unknown_classes([name, "other"], "the dataset")
    with pytest.raises(FocalError, match="has no class"):
        limits.refuse_unknown_classes(["something else"], "the dataset")


# ------------------------------------------------------------------------------------------------------------- baseline


@pytest.fixture
def baseline(case, tmp_path) -> Path:
    focal("eval", *case, "--rounds", 0, "--out", tmp_path / "base")
    return tmp_path / "base/metrics.json"


def worse(case: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Without the last of the three whole objects: recall 2/3, so 67 of 101 recalls."""
    results = json.loads(case[0].read_text())
    return write(tmp_path / "worse.json", [row for row in results if row["bbox"][0] != 210]), case[1]


def test_a_result_passes_against_itself(case, baseline):
    (gate,) = gates(case, "--baseline", baseline, "--max-drop", 0)
    assert gate["passed"] and gate["value"] == 0 and gate["message"] == "no AP fell; 0 is allowed"


def test_a_drop_of_a_class_or_of_the_mean_fails_and_is_named(case, baseline, tmp_path):
    """A run folder or the folder of --out stands for the metrics.json in it."""
    drop = 1 - 67 / 101
    (gate,) = gates(worse(case, tmp_path), "--baseline", baseline.parent, "--max-drop", 0.05, exit_code=1)
    assert gate["classes"] == ["whole"] and gate["value"] == pytest.approx(drop)
    assert gate["message"] == (
        "AP fell: 'whole' by 0.337 (1.000 to 0.663), the mean by 0.112 (0.835 to 0.723); 0.05 is allowed"
    )
    first, second = gates(
        worse(case, tmp_path), "--baseline", baseline, "--max-drop", "AP50=0.3", "--max-drop", "AP=0.4", exit_code=1
    )
    assert (first["passed"], first["metric"]) == (False, "AP50") and (second["passed"], second["metric"]) == (
        True,
        "AP",
    )


def test_a_drop_of_exactly_the_limit_is_kept(case, baseline, tmp_path):
    """0.40 - 0.39 is more than 0.01 in binary."""
    content = json.loads(baseline.read_text())
    for entry in content["classes"]:
        entry["AP"] = None if entry["AP"] is None else min(1.0, entry["AP"] + 0.01)
    changed = write(tmp_path / "other.json", content)
    assert gates(case, "--baseline", changed, "--max-drop", 0.01)[0]["passed"]
    assert not gates(case, "--baseline", changed, "--max-drop", 0.0099, exit_code=1)[0]["passed"]


def test_a_baseline_of_other_data_and_other_classes_is_said_in_words(case, baseline, tmp_path):
    content = json.loads(baseline.read_text())
    content["dataset_sha256"] = "0" * 64
    content["classes"][0]["name"] = "gone"
    changed = write(tmp_path / "other.json", content)
    said = focal("eval", *case, "--rounds", 0, "--baseline", changed, "--max-drop", 0.5).stderr
    assert "warning: baseline" in said and "is of another dataset or another state of it" in said
    assert "has no 'whole', so no drop of it" in said and "has 'gone', which is not scored now" in said


def test_where_nothing_is_defined_in_both_the_gate_fails(case, baseline, tmp_path):
    (gate,) = gates(case, "--baseline", baseline, "--max-drop", "APl=0.5", exit_code=1)
    assert gate["value"] is None and "no APl is defined in both" in gate["message"]


def test_a_baseline_without_a_class_in_common_is_refused(case, baseline, tmp_path):
    """Its mean would be compared all the same, and a gate that compares nothing would pass."""
    content = json.loads(baseline.read_text())
    for entry in content["classes"]:
        entry["name"] = f"other {entry['name']}"
    changed = write(tmp_path / "other.json", content)
    words = ["eval", *case, "--baseline", changed, "--max-drop", 0.5]
    mistake(*words, says="has no class of", hint="of the same classes")


def test_an_output_that_cannot_be_written_is_refused_before_the_work(case, tmp_path):
    """In the place of a folder, below a file, and over a dataset's other split."""
    data = tmp_path / "set/annotations"
    data.mkdir(parents=True)
    for split in ("train", "val"):
        (data / f"{split}.json").write_bytes(case[1].read_bytes())
    mistake("eval", *case, "-o", tmp_path, says="is a folder", hint="-o")
    mistake("eval", *case, "-o", case[1] / "x.txt", says="is not a folder", hint="-o")
    mistake("eval", case[0], data.parent, "-o", data / "train.json", says="this is what the command reads", hint="-o")


def test_an_evaluation_does_not_replace_its_own_baseline(case, baseline):
    """The worse result would be the next baseline, and the next run would pass."""
    words = ["eval", *case, "--baseline", baseline, "--max-drop", 0.1, "--out", baseline.parent]
    mistake(*words, says="would be saved in its place", hint="--out DIR")


# ------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("words", "says", "hint"),
    [
        (["--min", "AP50"], "--min AP50: expected NAME=NUMBER", "--min AP50=0.4"),
        (["--min", "0.4"], "expected NAME=NUMBER", "AP50=0.4"),
        (["--min", "AP50=high"], "expected NAME=NUMBER", "AP50=0.4"),
        (["--min", "AP50=40"], "expected a fraction in 0..1", "write AP50=0.4 for 40 %"),
        (["--min", "AP50=-0.1"], "expected a fraction", "such as"),
        (["--min", "AP50=nan"], "expected a fraction", "such as"),
        (["--min", "map50=0.4"], "no metric 'map50'", "did you mean AP50?"),
        (["--min", "ap50=0.4"], "no metric 'ap50'", "did you mean AP50?"),
        (["--min-class", "hafl=0.1"], "has no class 'hafl'", "did you mean 'half'?"),
        (["--min-class", "half:ap50=0.1"], "no metric 'ap50'", "did you mean AP50?"),
        (["--min-class", "nothing:AP50=0.1"], "has no class 'nothing'", "CLASS:AP50=0.1"),
        (["--max-drop", "0.1"], "against what?", "--baseline"),
        (["--max-drop", "AR1=0.1", "--baseline", "{case}"], "something else", "--out DIR"),
        (["--baseline", "{none}", "--max-drop", "0.1"], "no such file", "--out DIR"),
        (["-o", "{found}"], "this is what the command reads", "another file"),
    ],
)
def test_a_mistake_in_a_limit_is_refused_with_the_nearest(case, words, says, hint, tmp_path):
    names = {"case": case[1], "none": tmp_path / "none.json", "found": case[0]}
    mistake("eval", *case, *(word.format(**names) for word in words), says=says, hint=hint)


def test_a_baseline_wants_to_know_how_much_may_drop(case, baseline):
    mistake("eval", *case, "--baseline", baseline, says="how much may the figures drop?", hint="--max-drop 0.01")


def test_a_wrong_class_is_refused_before_the_detections_are_read(case, tmp_path):
    """A detector may take an hour; its name is known from the dataset."""
    broken = write(tmp_path / "broken.json", "[{")
    mistake("eval", broken, case[1], "--min-class", "hafl=0.1", says="has no class 'hafl'")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: "[1]", "holds something else"),
        (lambda c: "{", "not JSON"),
        (lambda c: {**c, "kind": "audit"}, "holds something else"),
        (lambda c: {**c, "schema_version": 2}, "schema_version 2, expected 1"),
        (lambda c: {**c, "summary": {"AP": 55.8}}, "AP of summary is 55.8, expected a number in 0..1"),
        (lambda c: {**c, "summary": {"AP": True}}, "AP of summary is True"),
        (lambda c: {**c, "classes": {"a": 1}}, "classes is not a list"),
        (lambda c: {**c, "classes": [{"name": "a", "AP": "x"}]}, "AP of class 'a' is 'x'"),
        (lambda c: json.dumps(c).replace("1.0", "NaN"), "is nan"),
        (lambda c: "[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_metrics_json_is_refused(baseline, tmp_path, change, says):
    with pytest.raises(FocalError, match=says):
        load_saved(write(tmp_path / "bad.json", change(json.loads(baseline.read_text()))))


def test_a_file_far_too_large_for_figures_is_refused_unread(tmp_path):
    """A dataset or detections given by mistake would take gigabytes to parse."""
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate(100_000_001)
    with pytest.raises(FocalError, match="100 MB; expected the metrics"):
        load_saved(tmp_path / "large.json")


def test_a_name_that_no_encoding_has_is_read_back(tmp_path):
    """A lone surrogate, as JSON can write it."""
    truth = write(tmp_path / "t.json", ground_truth([{"bbox": [1, 1, 9, 9]}], names=("\ud800",)))
    focal("eval", write(tmp_path / "f.json", []), truth, "--rounds", 0, "--out", tmp_path / "kept")
    assert list(load_saved(tmp_path / "kept").classes) == ["\ud800"]


def test_a_folder_without_an_evaluation_is_told_how_to_get_one(tmp_path):
    with pytest.raises(FocalError, match="no metrics\\.json") as error:
        load_saved(tmp_path)
    assert "`focal eval" in error.value.hint


# -------------------------------------------------------------------------------------------------------------- formats

FAILING = ("--rounds", 0, "--min", "AP50=0.9", "--min-class", "half=0.6", "--min-class", "whole=0.6")


def test_the_table_ends_with_the_verdicts(case):
    text = focal("eval", *case, *FAILING, exit_code=1).stdout
    assert "Gates        2 of 3 failed\n" in text
    assert text.endswith("  passed --min-class whole=0.6: AP of 'whole' is 1.000 (3 objects); 0.6 is asked for\n")
    assert "Gates        passed" in focal("eval", *case, "--rounds", 0, "--min", "AP=0.1").stdout


def test_other_formats_give_the_reasons_on_stderr(case):
    said = focal("eval", *case, *FAILING, "-f", "csv", exit_code=1).stderr
    assert "failed: --min AP50=0.9: AP50 is 0.835; 0.9 is asked for\n" in said and "whole" not in said


def test_github_gets_an_annotation_for_each_failed_gate(case, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    lines = focal("eval", *case, *FAILING, "-f", "github", exit_code=1).stdout.splitlines()
    assert lines[:2] == [
        "::error title=--min AP50=0.9::AP50 is 0.835; 0.9 is asked for",
        "::error title=--min-class half=0.6::AP of 'half' is 0.505 (2 objects); 0.6 is asked for",
    ]
    assert lines[2].startswith("::notice title=focal eval::") and len(lines) == 3
    assert (tmp_path / "summary.md").read_text().startswith("### focal eval: AP 83.5, AP50 83.5; 2 gates of 3 failed")


def test_a_class_name_gives_github_no_orders(tmp_path):
    """https://github.com/actions/toolkit, packages/core/src/command.ts: what ends a property is escaped."""
    name = "::error::x,y%\n"
    truth = write(tmp_path / "t.json", ground_truth([{"bbox": [1, 1, 9, 9]}], names=(name,)))
    results = write(tmp_path / "f.json", [])
    for format in ("github", "markdown", "junit", "table", "csv"):
        text = focal("eval", results, truth, "--min-class", f"{name}=0.5", "-f", format, exit_code=1).stdout
        assert not any(line.lstrip().startswith("::error::") for line in text.splitlines()), format
    assert "%25" in focal("eval", results, truth, "--min-class", f"{name}=0.5", "-f", "github", exit_code=1).stdout


def test_markdown_has_the_classes_and_the_verdicts(case):
    text = focal("eval", *case, *FAILING, "-f", "markdown", exit_code=1).stdout
    assert "| `half` | - | \\*2 | 50.5 |" in text and "| `ghost` | - | 0 | n/a |" in text
    assert "- **failed** `--min-class half=0.6`: AP of 'half' is 0.505 (2 objects); 0.6 is asked for" in text


def test_junit_counts_gates_and_classes_that_failed(case):
    """The attributes that Jenkins and GitLab read; a class fails when a gate names it."""
    suites = ET.fromstring(focal("eval", *case, *FAILING, "-f", "junit", exit_code=1).stdout)
    assert {suite.get("name"): (suite.get("tests"), suite.get("failures")) for suite in suites} == {
        "gates": ("3", "2"),
        "classes": ("4", "1"),
    }
    assert suites.get("failures") == "3"
    (half,) = [case for case in suites.iter("testcase") if case.get("name") == "half"]
    assert half.find("failure").get("message") == "AP of 'half' is 0.505 (2 objects); 0.6 is asked for"


@pytest.mark.parametrize("format", ["table", "json", "csv", "markdown", "github", "junit"])
def test_a_file_gets_what_stdout_would(case, format, tmp_path):
    printed = focal("eval", *case, *FAILING, "-f", format, exit_code=1).stdout
    result = focal("eval", *case, *FAILING, "-f", format, "-o", tmp_path / "out", exit_code=1)
    assert result.stdout == "" and "failed: --min AP50=0.9" in result.stderr
    assert (tmp_path / "out").read_text() == printed


def test_the_verdicts_are_kept_with_the_figures(case, tmp_path):
    focal("eval", *case, *FAILING, "--out", tmp_path / "kept", exit_code=1)
    kept = one_json((tmp_path / "kept/metrics.json").read_text())
    assert [gate["passed"] for gate in kept["gates"]] == [False, False, True]


def test_the_limits_of_a_checkpoint_are_refused_before_it_runs(world):
    """Its classes are known from the file; a detector may take an hour."""
    mistake("eval", world / "runs/r", "--min-class", "corss=0.1", says="has no class 'corss'", hint="'cross'")


def test_eval_of_a_file_loads_neither_torch_nor_pycocotools(case):
    """CI machines have no seconds to spare; pycocotools is loaded for --engine pycocotools alone."""
    code = (
        "import sys\nfrom focalcli import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(sorted({'torch', 'torchvision', 'pycocotools', 'matplotlib', 'jinja2', 'numba'} "
        "& {name.split('.')[0] for name in sys.modules}))"
    )
    for words in (["--why"], ["-f", "junit", "--min", "AP=0.1"], ["-f", "github"], ["-f", "markdown"]):
        command = [sys.executable, "-c", code, "eval", *map(str, case), *words]
        done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", words
