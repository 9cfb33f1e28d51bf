"""Which rules are reported, and the limits that a CI job sets: hand-made counts with verdicts worked out by hand."""

from __future__ import annotations

import pytest
from command import focal, mistake, one_json

from focalcli import coco
from focalcli.anchors import AnchorSpec
from focalcli.audit import RULES, audit
from focalcli.audit.gates import Limits, check
from focalcli.audit.selection import wanted
from focalcli.errors import FocalError

CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "ghost"}]


def boxes(cats: int, dogs: int):
    return [{"category_id": 1 + (n >= cats), "bbox": [5 * n, 5 * n, 60, 60]} for n in range(cats + dogs)]


@pytest.fixture
def report(write_coco):
    """Six cats and two dogs to train on, four cats and one dog in val; nobody drew the third category."""
    train = write_coco(boxes(6, 2), categories=CATEGORIES, name="train.json")
    val = write_coco(boxes(4, 1), categories=CATEGORIES, name="val.json")
    splits = {"train": coco.load(train), "val": coco.load(val)}
    return audit(splits, AnchorSpec(), min_size=320, max_size=1333, check_images=False)


def verdict(report, **limits):
    (result,) = check(report, Limits(**limits))
    return result


# ---------------------------------------------------------------------------------------------------------------- gates


def test_without_a_limit_there_is_no_gate(report):
    assert check(report, Limits()) == ()


@pytest.mark.parametrize(
    ("gate", "limit", "value", "passed"),
    [
        ("max_head_tail", 3, 3.0, True),
        ("max_head_tail", 2.9, 3.0, False),
        ("min_instances", 2, 2, True),
        ("min_instances", 3, 2, False),
        ("min_val", 1, 1, True),
        ("min_val", 2, 1, False),
    ],
)
def test_a_limit_that_is_just_kept_passes(report, gate, limit, value, passed):
    """6 cats to 2 dogs is 3:1; the fewest are 2 dogs in train and 1 in val."""
    result = verdict(report, **{gate: limit})
    assert (result.name, result.limit, result.value, result.passed) == (gate.replace("_", "-"), limit, value, passed)


def test_a_failed_gate_names_the_classes_and_their_counts(report):
    assert verdict(report, max_head_tail=2).message == "train has 3:1, 'cat' 6 to 'dog' 2; 2:1 is allowed"
    assert verdict(report, min_instances=7).message == "fewer than 7 objects in train: 'dog' 2, 'cat' 6"
    assert verdict(report, min_val=2).message == "fewer than 2 objects in val: 'dog' 1"


def test_background_is_the_figure_of_the_report(report):
    """Negatives per positive of the split to train on, as the report prints it."""
    value = report.split("train").anchors.background_per_positive
    assert verdict(report, max_background=value).passed and not verdict(report, max_background=value * 0.999).passed


def test_a_category_that_nobody_drew_is_no_class_to_train(report):
    """TRAPS 13: exporters write them."""
    assert "ghost" not in verdict(report, min_instances=100).message


def test_a_class_that_only_val_has_is_missing_in_train(write_coco):
    train = write_coco(boxes(2, 0), categories=CATEGORIES, name="train.json")
    val = write_coco(boxes(1, 1), categories=CATEGORIES, name="val.json")
    splits = {"train": coco.load(train), "val": coco.load(val)}
    report = audit(splits, AnchorSpec(), min_size=320, max_size=1333, check_images=False)
    result = verdict(report, min_instances=1)
    assert not result.passed and result.value == 0 and "'dog' 0" in result.message


def test_where_nothing_can_be_measured_a_gate_fails(write_coco):
    """A gate that passes because the file is empty would be worse than none."""
    empty = coco.load(write_coco([], name="train.json"))
    report = audit({"train": empty}, AnchorSpec(), min_size=320, max_size=1333, check_images=False)
    results = check(report, Limits(max_head_tail=5, max_background=5, min_instances=1, min_val=1))
    assert [result.passed for result in results] == [False] * 4
    assert [result.value for result in results] == [None] * 4


def test_failed_gates_are_exit_1_in_the_table_and_passed_ones_are_exit_0(world):
    """The tiny dataset of the tests has 10 squares and 2 crosses to train on."""
    failed = focal("audit", world / "data", "--max-head-tail", 2, exit_code=1).stdout
    assert "Gates        1 of 1 failed" in failed and "failed --max-head-tail 2: train has 5:1, 'square' 10" in failed
    assert "passed --max-head-tail 5:" in focal("audit", world / "data", "--max-head-tail", 5).stdout


def test_gates_are_in_the_json_and_the_reason_on_stderr(world):
    result = focal("audit", world / "data", "--min-val", 5, "--fail-on", "never", "-f", "json", exit_code=1)
    (gate,) = one_json(result.stdout)["gates"]
    assert gate == {
        "name": "min-val", "limit": 5, "value": 1, "passed": False,
        "message": "fewer than 5 objects in val: 'cross' 1",
    }  # fmt: skip
    assert result.stderr == "failed: --min-val 5: fewer than 5 objects in val: 'cross' 1\n"
    assert one_json(focal("audit", world / "data", "-f", "json").stdout)["gates"] == []


@pytest.mark.parametrize("limit", ["nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(limit, world):
    result = focal("audit", world / "data", "--max-head-tail", limit, exit_code=2)
    assert "--max-head-tail" in result.stderr and "Traceback" not in result.stderr


# ------------------------------------------------------------------------------------------------------------ selection


def chosen(select=(), ignore=()):
    is_wanted = wanted(select, ignore)
    return {code for code in RULES if is_wanted(code)}


def test_without_words_every_rule_is_wanted():
    """An empty word is none: `--select "$RULES"` with an empty variable switches nothing off."""
    assert chosen() == chosen([""], [","]) == set(RULES)


def test_codes_names_and_prefixes_select_in_any_case():
    boxes = {code for code in RULES if code.startswith("F1")}
    assert chosen(["F101"]) == chosen(["f101"]) == chosen(["Box-Without-Area"]) == {"F101"}
    assert chosen(["F1"]) == chosen(["f1,F101"]) == boxes and chosen(["F"]) == set(RULES)
    assert chosen(["F101, F104", "F2"]) == {"F101", "F104"} | {code for code in RULES if code.startswith("F2")}


def test_what_is_ignored_is_not_reported():
    assert chosen(ignore=["F1"]) == {code for code in RULES if not code.startswith("F1")}
    assert chosen(["F1"], ["F104"]) == {code for code in RULES if code.startswith("F1")} - {"F104"}


def test_the_longer_of_two_prefixes_wins_and_ignore_of_two_alike():
    """As ruff does: https://docs.astral.sh/ruff/settings/#lint_select, more specific prefixes override."""
    assert chosen(["F104"], ["F1"]) == {"F104"}
    assert chosen(["F1"], ["F1"]) == set()


@pytest.mark.parametrize(("word", "near"), [("F999", "F"), ("duplicate-bx", "duplicate-box"), ("E501", "")])
def test_an_unknown_word_is_refused_with_the_nearest(word, near):
    with pytest.raises(FocalError, match=word) as error:
        wanted([word], [])
    assert near in error.value.hint


def test_the_command_line_selects_and_ignores(write_coco):
    path = write_coco([{"bbox": [1, 1, 0, 5]}, {}, {}])

    def codes(*words, exit_code=0):
        result = focal("audit", path, "-f", "json", *words, exit_code=exit_code)
        return {finding["code"] for finding in one_json(result.stdout)["findings"]}

    assert {"F101", "F104"} <= codes(exit_code=1)
    assert codes("--select", "F101,F104", exit_code=1) == {"F101", "F104"}
    assert codes("--select", "F1", "--ignore", "box-without-area") == {"F104"}
    mistake("audit", path, "--ignore", "F9", says="--ignore F9: no rule")
