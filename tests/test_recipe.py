"""Recipes: what a person writes is taken as meant or refused with its line; what focal writes reads back the same."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from focalcli.errors import ExitCode, FocalError
from focalcli.recipe import absolute, as_dict, dump, from_dict, load, schema_json, schema_rows

MINIMAL = """\
name: bccd
data:
  path: ../bccd
model:
  backbone: mobilenet_v2
anchors:
  sizes: [24, 48, 96, 160, 256]
loss:
  alpha: 0.25
schedule:
  epochs: 12
  batch_size: 4
  base_batch: 16
  lr: 0.01
"""


@pytest.fixture
def recipe_file(tmp_path):
    """Writes the minimal recipe with one text in it replaced by another, and gives the path."""

    def write(old: str = "", new: str = "") -> Path:
        assert old in MINIMAL
        path = tmp_path / "bccd.yaml"
        path.write_text(MINIMAL.replace(old, new, 1) if old else MINIMAL, encoding="utf-8")
        return path

    return write


def refusal(path: Path, *overrides: str) -> tuple[str, str]:
    """(message, hint) with which loading is refused; both are one line, and the message starts with the place."""
    with pytest.raises(FocalError) as caught:
        load(path, overrides)
    error = caught.value
    assert error.exit_code is ExitCode.BAD_INPUT and error.hint
    assert "\n" not in error.message + error.hint
    if error.message.startswith(f"{path}: "):
        return error.message.removeprefix(f"{path}: "), error.hint
    assert error.message.startswith("override ")
    return error.message, error.hint


# -- what a good recipe gives


def test_minimal_recipe_gets_the_documented_defaults(recipe_file):
    """Defaults of the RetinaNet paper (gamma 2, prior 0.01) and of torchvision's resize (800, 1333)."""
    recipe = load(recipe_file())
    assert (recipe.loss.gamma, recipe.loss.prior) == (2.0, 0.01)
    assert (recipe.input.min_size, recipe.input.max_size) == (800, 1333)
    assert recipe.eval.score_threshold == 0.05
    assert recipe.anchors.sizes == (24, 48, 96, 160, 256) and recipe.anchors.ratios == (0.5, 1.0, 2.0)


def test_a_mapping_gives_alpha_per_class(recipe_file):
    """Class names are any text; one that YAML would take for something else is in quotes."""
    recipe = load(recipe_file("alpha: 0.25", "alpha: {hand: 0.3, 'no': 0.4, \"12\": 0.5, default: 0.25}"))
    assert recipe.loss.alpha == {"hand": 0.3, "no": 0.4, "12": 0.5, "default": 0.25}


def test_a_recipe_cannot_be_changed(recipe_file):
    """Frozen: a run's recipe.yaml says what ran."""
    with pytest.raises(Exception, match="frozen"):
        load(recipe_file()).name = "other"


def test_paths_are_relative_to_the_recipe_file(recipe_file, tmp_path):
    """Wherever the command is typed, a recipe finds its dataset."""
    recipe = load(recipe_file())
    assert recipe.resolve(recipe.data.path) == tmp_path / "../bccd"
    assert recipe.resolve("/data/x") == Path("/data/x")


def test_absolute_makes_a_copy_that_may_lie_anywhere(recipe_file, tmp_path):
    """runs/<name>/recipe.yaml is not where the recipe was; names of splits and keywords stay."""
    moved = absolute(load(recipe_file("path: ../bccd", "path: ../bccd\n  val: more/val.json")))
    assert moved.data.path == str(tmp_path.parent / "bccd")
    assert moved.data.val == str(tmp_path / "more" / "val.json")
    assert (moved.data.train, moved.model.weights, moved.data.val_images) == ("train", "none", None)


def test_a_section_with_every_key_commented_out_is_its_defaults(recipe_file):
    """`eval:` with nothing beneath it is null to YAML."""
    assert load(recipe_file("loss:", "eval:\n  # every: 2\nloss:")).eval.every == 1


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path):
    """What Notepad writes."""
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load(path).name == "bccd"


# -- unknown keys


@pytest.mark.parametrize(
    ("old", "new", "message", "near"),
    [
        ("alpha: 0.25", "alpha: 0.25\n  gama: 2.0", "loss.gama is not a recipe key (line 10)", "loss.gamma"),
        ("name: bccd", "name: bccd\nscedule: 1", "scedule is not a recipe key (line 2)", "schedule"),
        ("name: bccd", "name: bccd\ngamma: 2.0", "gamma is not a recipe key (line 2)", "loss.gamma"),
        ("lr: 0.01", "lr: 0.01\n  gamma: 0.1", "schedule.gamma is not a recipe key (line 15)", "schedule.lr_gamma or"),
    ],
)
def test_unknown_key_names_its_line_and_the_nearest_key(recipe_file, old, new, message, near):
    """A key that does nothing would be a setting that the user believes in."""
    text, hint = refusal(recipe_file(old, new))
    assert text == message
    assert hint.startswith(f"did you mean {near}") and "`focal recipe schema` lists every key" in hint


def test_a_dotted_key_in_a_file_says_how_to_nest_it(recipe_file):
    """loss.gamma is how overrides spell it; a file nests it."""
    message, hint = refusal(recipe_file("name: bccd", "name: bccd\nloss.gamma: 2.0"))
    assert message == "loss.gamma is not a recipe key (line 2)"
    assert hint.startswith("write `gamma: ...` indented under `loss:`")


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("loss.gama=2", "loss.gamma"),
        ("shedule.lr=1", "schedule.lr"),
        ("los=1", "loss"),
        ("train.epochs=3", "schedule.epochs"),
    ],
)
def test_unknown_override_names_the_nearest_key(recipe_file, override, near):
    """DESIGN.md: an unknown key is exit 2 with the nearest key as the hint."""
    message, hint = refusal(recipe_file(), override)
    assert message == f"override {override}: {override.partition('=')[0]} is not a recipe key"
    assert hint.startswith(f"did you mean {near}?")


# -- wrong values


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("lr: 0.01", "lr: -1", "schedule.lr is -1 (line 14), expected a number above 0", "learning rate"),
        ("lr: 0.01", 'lr: "0.01"', "schedule.lr is text '0.01' (line 14), expected a number", "without quotes"),
        ("lr: 0.01", "lr:", "schedule.lr is empty (line 14), expected a number above 0", "learning rate"),
        ("epochs: 12", "epochs: 12.0", "schedule.epochs is 12.0 (line 11), expected an integer at least 1", "passes"),
        ("alpha: 0.25", "alpha: 1.5", "loss.alpha is 1.5 (line 9), expected a number above 0 and below 1", "1 - alpha"),
        (
            "alpha: 0.25",
            "alpha:\n    a: 0.2\n    b: 2",
            "loss.alpha.b is 2 (line 11), expected a number above 0",
            "alpha",
        ),
        ("alpha: 0.25", "alpha: {}", "loss.alpha is an empty mapping (line 9), expected", "alpha"),
        ("alpha: 0.25", "alpha: [0.2]", "loss.alpha is [0.2] (line 9), expected a number", "alpha"),
        ("alpha: 0.25", "alpha: {'': 0.2}", "'loss.alpha.' is not a class name (line 9)", "schema"),
        (
            "mobilenet_v2",
            "resnet55",
            "model.backbone is text 'resnet55' (line 5), expected one of",
            "did you mean resnet5",
        ),
        ("backbone", "weights: COCO\n  backbone", "model.weights is text 'COCO' (line 5)", "did you mean coco?"),
        ("bccd", "a/b", "name is text 'a/b' (line 1), expected text of letters, digits", "runs/<name>"),
        ("bccd", "..", "name is text '..' (line 1), expected", "runs/<name>"),
        ("bccd", "12", "name is 12 (line 1), expected text", "in quotes: '12'"),
        ("loss:\n  alpha: 0.25", "loss: 3", "loss is 3 (line 8), expected a section", "schema"),
        (
            "96, 160, 256",
            "96",
            "anchors.sizes is [24, 48, 96] (line 7), expected a list of exactly 5 items",
            "P3 to P7",
        ),
        ("24, 48", "48, 24", "anchors.sizes is [48, 24, 96, 160, 256] (line 7), expected ascending", "P3 to P7"),
        ("[24,", "[-24,", "anchors.sizes[0] is -24 (line 7), expected a number from 1 to 16384", "P3 to P7"),
        ("[24, 48, 96, 160, 256]", "24, 48", "anchors.sizes is text '24, 48' (line 7), expected a list", "[24, 48]"),
        (
            "path:",
            "scale_jitter: [1.2, 0.8]\n  path:",
            "data.scale_jitter is [1.2, 0.8] (line 3), expected the lower",
            "",
        ),
        (
            "loss:",
            "input: {min_size: 2000}\nloss:",
            "input.max_size is 1333 by default (line 8), expected at least",
            "",
        ),
        (
            "lr: 0.01",
            "lr: 0.01\n  milestones: [0.9, 0.5]",
            "schedule.milestones is [0.9, 0.5] (line 15), expected asc",
            "",
        ),
        ("lr: 0.01", "lr: 1.0e+400", "schedule.lr is inf (line 14), expected a number above 0", ""),
        ("lr: 0.01", "lr: 0.01\n  ema: 1.0", "schedule.ema is 1.0 (line 15), expected a number at least 0", "average"),
        (
            "lr: 0.01",
            "lr: 0.01\n  accumulate: 0",
            "schedule.accumulate is 0 (line 15), expected an integer at",
            "parts",
        ),
        (
            "lr: 0.01",
            "lr: 0.01\neval:\n  best: ar100",
            "eval.best is text 'ar100' (line 16), expected one of",
            "AR100?",
        ),
        ("lr: 0.01", "lr: 0.01\neval:\n  best: 'class:'", "eval.best is text 'class:' (line 16), expected one of", ""),
    ],
)
def test_wrong_value_says_what_was_found_where_and_what_was_expected(recipe_file, old, new, message, hint):
    """STYLE.md: the place, what was found, what was expected, the next step."""
    text, advice = refusal(recipe_file(old, new))
    assert text.startswith(message) and hint in advice


def test_a_raised_score_threshold_is_refused_because_it_lowers_ap(recipe_file):
    """TRAPS.md 24: AP is measured at 0.05 or below; the operating point is another figure."""
    message, hint = refusal(recipe_file("loss:", "eval:\n  score_threshold: 0.5\nloss:"))
    assert message == "eval.score_threshold is 0.5 (line 9), expected a number from 0 to 0.05"
    assert "lowers AP" in hint and "another figure" in hint


def test_missing_key_says_where_to_add_it(recipe_file):
    """Also when the whole section is missing."""
    message, hint = refusal(recipe_file("  lr: 0.01\n", ""))
    assert message == "schedule.lr is missing" and hint == "add `lr: ...` under `schedule:`: a number above 0"
    assert refusal(recipe_file("loss:\n  alpha: 0.25\n", ""))[0] == "loss.alpha is missing"


def test_first_problem_of_the_file_is_reported_and_the_rest_counted(recipe_file):
    """In the order of the file, whatever order the checks run in; a missing key has no line and comes last."""
    path = recipe_file("path: ../bccd", "flip: 2\n  vertical_flip: 3")
    assert refusal(path)[0] == "data.flip is 2 (line 3), expected a number from 0 to 1; and 2 more"


def test_a_file_of_nothing_but_problems_is_refused_at_once(tmp_path):
    """Counting them is linear: 20,000 unknown keys nearly fill the largest file that is read."""
    path = tmp_path / "r.yaml"
    path.write_text("{" + ", ".join(f"k{i}: 1" for i in range(20_000)) + "}")
    start = time.perf_counter()
    assert refusal(path)[0].startswith("k0 is not a recipe key (line 1); and 200")
    assert time.perf_counter() - start < 10


# -- TRAPS.md 30: what YAML 1.1 makes of innocent text


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("1e-4", "YAML needs a point: 1.0e-4"),
        ("-1e4", "YAML needs a point and a signed exponent: -1.0e+4"),
        ("1.5e3", "YAML needs a signed exponent: 1.5e+3"),
    ],
)
def test_an_exponent_that_yaml_reads_as_text_says_how_to_write_it(recipe_file, written, hint):
    """TRAPS.md 30: `1e-4` loads as a string."""
    assert isinstance(yaml.safe_load(written), str) and isinstance(yaml.safe_load(hint.split(": ")[1]), float)
    message, advice = refusal(recipe_file("lr: 0.01", f"lr: {written}"))
    assert message == f"schedule.lr is text '{written}' (line 14), expected a number above 0" and advice == hint


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "No", "TRUE", "false"])
@pytest.mark.parametrize(("old", "key", "line"), [("bccd", "name", 1), ("0.25", "loss.alpha", 9)])
def test_a_bare_yes_or_no_is_refused(recipe_file, word, old, key, line):
    """TRAPS.md 30: `no` loads as False, which none of these keys takes."""
    message, hint = refusal(recipe_file(old, word))
    assert message == f"{key} is {word} (line {line}), which YAML reads as {str(yaml.safe_load(word)).lower()}"
    assert f"write '{word}' in quotes" in hint


def test_a_switch_takes_true_and_false_and_no_other_word(recipe_file):
    """schedule.compile alone; the words that YAML 1.1 takes for them are refused as everywhere."""
    for word, value in (("true", True), ("false", False)):
        assert load(recipe_file("lr: 0.01", f"lr: 0.01\n  compile: {word}")).schedule.compile is value
    for word, hint in (("yes", "write true or false"), ("1", "schedule.compile: "), ("'true'", "schedule.compile: ")):
        message, advice = refusal(recipe_file("lr: 0.01", f"lr: 0.01\n  compile: {word}"))
        assert message.startswith("schedule.compile is ") and advice.startswith(hint)


@pytest.mark.parametrize("word", ["no", "1", "012", "1.5", "~", "null"])
def test_a_bare_class_name_that_yaml_reads_as_something_else_is_refused(recipe_file, word):
    """A class called "no" would be the key False."""
    message, hint = refusal(recipe_file("alpha: 0.25", f"alpha:\n    {word}: 0.3"))
    assert message == f"loss.alpha has the key {word}, which YAML does not read as text (line 10)"
    assert hint == f"write '{word}' in quotes"


@pytest.mark.parametrize(
    "number", ["012", "12:30:45", "0x10", "0b11", "1_000", "12:30.5", "-012", ".inf", ".nan", "0b_"]
)
@pytest.mark.parametrize(("old", "key", "line"), [("bccd", "name", 1), ("epochs: 12", "schedule.epochs", 11)])
def test_a_number_that_is_not_decimal_is_refused(recipe_file, number, old, key, line):
    """TRAPS.md 30: `012` loads as 10, `12:30:45` as 45045; PyYAML even crashes on `0b_`."""
    message, hint = refusal(recipe_file(old, number if key == "name" else f"epochs: {number}"))
    assert message.startswith(f"{key} is {number} (line {line}), which YAML reads as ")
    assert f"write '{number}' in quotes for text" in hint


def test_octal_and_sexagesimal_say_what_yaml_would_have_read(recipe_file):
    """TRAPS.md 30, its own two examples."""
    message, hint = refusal(recipe_file("epochs: 12", "epochs: 012"))
    assert message.endswith("the number 10") and hint.endswith("plain decimals: 12")
    assert refusal(recipe_file("bccd", "12:30:45"))[0].endswith("the number 45045")


def test_in_quotes_each_of_them_is_text(recipe_file):
    """What the hints say to write."""
    for word in ("no", "012", "12", "1.5", "null", "2024-01-01"):
        assert load(recipe_file("bccd", f"'{word}'")).name == word


def test_a_date_stays_the_text_that_was_written(recipe_file):
    """PyYAML makes a datetime.date of it."""
    assert load(recipe_file("bccd", "2024-01-01")).name == "2024-01-01"


def test_a_repeated_key_names_both_lines(recipe_file):
    """TRAPS.md 30: a repeated key wins silently."""
    assert (
        refusal(recipe_file("lr: 0.01", "lr: 0.01\n  epochs: 3"))[0]
        == "schedule.epochs is given twice (lines 11 and 15)"
    )
    assert refusal(recipe_file("model:", "data: {}\nmodel:"))[0] == "data is given twice (lines 2 and 4)"
    assert refusal(recipe_file("0.25", "{a: 0.1, a: 0.2}"))[0] == "loss.alpha.a is given twice (lines 9 and 9)"


# -- files that are no recipe


def test_a_tag_is_refused_and_never_executed(recipe_file, tmp_path):
    """yaml.load with an unsafe loader would run this."""
    mark = tmp_path / "executed"
    message, _ = refusal(recipe_file("bccd", f"!!python/object/apply:os.mkdir ['{mark}']"))
    assert message == "the YAML tag !!python/object/apply:os.mkdir is refused (line 1)"
    assert not mark.exists()
    for tag in ("!!str 012", "!x y", "! z"):
        assert "tag" in refusal(recipe_file("bccd", tag))[0]


def test_an_alias_bomb_is_refused_at_its_first_anchor(recipe_file):
    """Ten levels of ten aliases are 10^10 items in a file of a few lines."""
    levels = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10))
    start = time.perf_counter()
    message, hint = refusal(recipe_file("name: bccd", f"a0: &a0 [1]\n{levels}\nname: bccd"))
    assert message == "the YAML anchor &a0 is refused (line 1)" and "quotes" in hint
    assert time.perf_counter() - start < 1
    assert refusal(recipe_file("bccd", "*x"))[0] == "the YAML alias *x is refused (line 1)"


@pytest.mark.parametrize("brackets", ["[" * 5000, "{a: " * 5000, "- " * 5000])
def test_absurd_nesting_is_refused(tmp_path, brackets):
    """PyYAML's composer ends in a RecursionError."""
    path = tmp_path / "deep.yaml"
    path.write_text(brackets)
    assert refusal(path)[0] == "nested deeper than 8 levels (line 1)"


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "is empty", "schema"),
        (b"# only a comment\n", "is empty", "schema"),
        (b"- name\n", "is not a mapping of keys to values", "name"),
        (b"just text\n", "is not a mapping of keys to values", "name"),
        (b"name: a\n---\nname: b\n", "a second YAML document starts (line 2)", "one recipe"),
        (b"name: a\nloss: {alpha: 0.2\nx: y\n", "not valid YAML: ", "brackets"),
        (
            b"name: a\nloss:\n\talpha: 1\n",
            "not valid YAML: found character '\\t' that cannot start any token (line 3)",
            "tabs",
        ),
        (b"name: a: b\n", "not valid YAML: mapping values are not allowed here (line 1)", "quotes"),
        (b"name: a\n# \xe9\n", "is not UTF-8 text (line 2)", "UTF-8"),
        (b"\xff\xfen\x00", "is not UTF-8 text (line 1)", "UTF-8"),
        (b"name: a\nx: \x07\n", "character 0x0007 is not allowed in YAML (line 2)", "delete"),
        (b'name: "\\ud83d"\n', "half a character as a \\u escape (line 1)", "itself"),
        (b'name: "\\Uffffffff"\n', "not valid YAML: a \\U escape of no character", "itself"),
        (b"? [a]\n: 1\n", "the recipe has a list or mapping as a key (line 1)", "text"),
        (b"#" * 300_000, "is larger than 256 KB", "few KB"),
    ],
)
def test_a_file_that_is_no_recipe_says_why(tmp_path, content, message, hint):
    """Each is a user's mistake, never a traceback."""
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    text, advice = refusal(path)
    assert text.startswith(message) and hint in advice


def test_a_missing_file_names_the_nearest_and_a_folder_is_said_to_be_one(recipe_file, tmp_path):
    """The commonest mistake of all."""
    recipe_file()
    message, hint = refusal(tmp_path / "bcd.yaml")
    assert message == "no such file" and hint == f"did you mean {tmp_path / 'bccd.yaml'}?"
    assert refusal(tmp_path / "nope" / "x.yaml")[0] == "no such file"
    assert refusal(tmp_path)[0] == "is a folder"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.text(st.sampled_from("ab01:-[]{}&*!|>'\"%#,?\n\t ._~=<é\\uU"), max_size=40))
def test_no_text_gets_past_as_another_error(tmp_path, noise):
    """Whatever is in the file: a recipe or a FocalError."""
    path = tmp_path / "noise.yaml"
    for text in (noise, MINIMAL.replace("0.25", noise)):
        path.write_text(text, encoding="utf-8")
        with contextlib.suppress(FocalError):
            load(path)


# -- overrides


def test_overrides_replace_values_and_supply_missing_ones(recipe_file):
    """Typed once and not kept, so 1e-4 is a number here; lists and mappings are YAML's."""
    recipe = load(
        recipe_file("  epochs: 12\n", ""),
        [
            "schedule.epochs=3",
            "schedule.lr=1e-4",
            "data.scale_jitter=[8e-1, 1]",
            "loss.alpha={a: 3e-1}",
            "eval.every=2",
        ],
    )
    assert (recipe.schedule.epochs, recipe.schedule.lr, recipe.eval.every) == (3, 1e-4, 2)
    assert recipe.data.scale_jitter == (0.8, 1.0) and recipe.loss.alpha == {"a": 0.3}


def test_text_in_an_override_is_what_was_typed(recipe_file):
    """A shell has taken one pair of quotes already; the key is known to take text."""
    for typed in ("no", "012", "2024-01-01", "1e-4"):
        assert load(recipe_file(), [f"name={typed}"]).name == typed
    assert load(recipe_file(), ['name="no"']).name == "no"
    assert load(recipe_file(), ["data.train_images=null"]).data.train_images is None
    assert load(recipe_file(), ["data.path="]).data.path == ""


def test_paths_in_overrides_are_relative_to_the_current_directory(recipe_file, tmp_path, monkeypatch):
    """That is what a shell completes; the name of a split or a keyword is no path, even beside a folder so called."""
    here = tmp_path / "here"
    (here / "train").mkdir(parents=True)
    (here / "imagenet").touch()
    (here / "last").touch()
    monkeypatch.chdir(here)
    typed = [
        "data.path=../d",
        "data.train=train",
        "data.val=val.json",
        "data.val_images=pics",
        "model.weights=imagenet",
    ]
    recipe = load(recipe_file(), typed)
    assert recipe.data.path == str(tmp_path / "d") and recipe.data.val == str(here / "val.json")
    assert recipe.data.val_images == str(here / "pics")
    assert (recipe.data.train, recipe.model.weights) == ("train", "imagenet")
    assert load(recipe_file(), ["model.weights=last"]).model.weights == str(here / "last")
    assert load(recipe_file(), ["model.weights=gone.pt"]).model.weights == str(here / "gone.pt")
    assert load(recipe_file(), ["data.path=~nobody-here/x"]).data.path == str(here / "~nobody-here/x")


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("schedule.lr", "is not a key and a value", "key.sub=value"),
        ("=3", "is not a key and a value", "key.sub=value"),
        ("loss=3", "loss is a section", "loss.alpha, loss.gamma"),
        ("schedule.lr=", "schedule.lr is empty, expected a number above 0", "learning rate"),
        ("schedule.lr=-1", "schedule.lr is -1, expected a number above 0", "learning rate"),
        ("schedule.lr=off", "schedule.lr is off, which YAML reads as false", "schedule.lr takes no true or false"),
        ("schedule.epochs=012", "schedule.epochs is 012, which YAML reads as the number 10", "12"),
        ("schedule.epochs=1e1", "schedule.epochs is 10.0, expected an integer at least 1", "passes"),
        ("anchors.sizes=16,32", "anchors.sizes is text '16,32', expected a list", "[16,32]"),
        ("anchors.sizes=[16", "not valid YAML", "brackets"),
        ("loss.alpha={a:0.3}", "loss.alpha.a:0.3 is empty, expected a number", "a space after the colon"),
        ("loss.alpha={1: 0.3}", "loss.alpha has the key 1, which YAML does not read as text", "'1' in quotes"),
        ("loss.alpha=!!float 0.3", "the YAML tag !!float is refused", "delete"),
        ("eval.best=ap", "eval.best is text 'ap', expected one of AP, AP50, AP75, APs", "did you mean AP"),
    ],
)
def test_a_bad_override_is_the_place_of_its_error(recipe_file, override, message, hint):
    """It has no line; the file is not to blame."""
    text, advice = refusal(recipe_file(), override)
    assert text.startswith(f"override {override}: {message}") and hint in advice


def test_the_same_key_overridden_twice_is_refused(recipe_file):
    """As in a file: the last would win in silence."""
    assert "loss.gamma is overridden twice" in refusal(recipe_file(), "loss.gamma=1", "loss.gamma=2")[0]


# -- writing


def numbers(low: float, high: float, **more) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, **more)


def per_class(number: st.SearchStrategy) -> st.SearchStrategy:
    names = st.sampled_from(["no", "012", "a b", "y", "12:30", "~", "é 汉 🙂", "a: b # c", "'", "2024-01-01", "<<"])
    return number | st.dictionaries(names | st.text(min_size=1, max_size=20), number, min_size=1, max_size=4)


inside = numbers(0, 1, exclude_min=True, exclude_max=True)
positive = numbers(0, 1e300, exclude_min=True)
any_text = st.text(min_size=1, max_size=20)
recipes = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}", fullmatch=True)
        | st.sampled_from(["no", "012", "1e4"]),
        "data": st.fixed_dictionaries(
            {"path": st.text(max_size=20)},
            optional={
                "train": any_text,
                "val_images": st.none() | any_text,
                "flip": numbers(0, 1),
                "scale_jitter": st.lists(numbers(0.1, 4), min_size=2, max_size=2).map(sorted),
            },
        ),
        "model": st.fixed_dictionaries(
            {"backbone": st.sampled_from(["resnet18", "mobilenet_v3_large"])},
            optional={
                "weights": any_text.map("./".__add__) | st.just("imagenet"),
                "width": st.integers(2, 99).map((8).__mul__),
            },
        ),
        "anchors": st.fixed_dictionaries(
            {
                "sizes": st.lists(numbers(1, 16384) | st.integers(1, 9999), min_size=5, max_size=5, unique=True).map(
                    sorted
                )
            },
            optional={"ratios": st.lists(numbers(1e-4, 1e4), min_size=1, max_size=4)},
        ),
        "loss": st.fixed_dictionaries(
            {"alpha": per_class(inside)},
            optional={"gamma": per_class(numbers(0, 10)), "prior": per_class(numbers(0, 0.5, exclude_min=True))},
        ),
        "schedule": st.fixed_dictionaries(
            {"epochs": st.integers(1, 10**30), "batch_size": st.just(2), "base_batch": st.just(16), "lr": positive},
            optional={"weight_decay": numbers(0, 1), "milestones": st.lists(inside, unique=True).map(sorted)},
        ),
    }
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=recipes, header=st.text(max_size=30), comment=st.text(max_size=30))
@example(
    values={**yaml.safe_load(MINIMAL), "loss": {"alpha": {"a\u2028b\x85c\td": 1e-5}}}, header="a\x85b", comment="\x07"
)
def test_what_dump_writes_loads_as_an_equal_recipe(tmp_path, values, header, comment):
    """The property that lets a run keep its recipe as YAML; other YAML 1.1 readers get the same values."""
    recipe = from_dict(values)
    written = dump(recipe, header=header, comments={"loss.alpha": comment})
    path = tmp_path / "r.yaml"
    path.write_text(written, encoding="utf-8")
    assert load(path) == recipe == from_dict(as_dict(recipe))
    assert yaml.safe_load(written) == as_dict(recipe)


def test_floats_are_written_as_yaml_1_1_floats(recipe_file):
    """`1e-05`, as Python prints it, is text to YAML 1.1."""
    written = dump(load(recipe_file("lr: 0.01", "lr: 0.00001")))
    assert "  lr: 1.0e-05 " in written and "  sizes: [24, 48, 96, 160, 256] " in written


def test_every_key_is_written_in_schema_order_with_a_comment(recipe_file):
    """A dumped recipe is its own documentation."""
    lines = [line for line in dump(load(recipe_file())).splitlines() if line]
    keys = [line.split(":")[0].strip() for line in lines if not line.endswith(":")]
    assert keys == [key.rpartition(".")[2] for key, *_ in schema_rows()]
    assert all("  # " in line for line in lines if not line.endswith(":"))


def test_comments_and_header_are_written_where_they_belong(recipe_file):
    """The reasons of a recommendation stand beside its numbers."""
    recipe = load(recipe_file("0.25", "{rbc: 0.25, default: 0.3}"))
    comments = {
        "loss": "from the audit",
        "loss.alpha": "per class",
        "loss.alpha.rbc": "4,155 boxes",
        "name": "two\nlines",
    }
    lines = dump(recipe, header="focal train x.yaml\n\nmeasured: no", comments=comments).splitlines()
    assert lines[:4] == ["# focal train x.yaml", "#", "# measured: no", ""]
    assert lines[4] == "name: bccd  # two lines"
    found = {line.split("  #")[0].strip(): line.split("# ")[1] for line in lines[5:] if "# " in line}
    assert (found["loss:"], found["alpha:"], found["rbc: 0.25"]) == ("from the audit", "per class", "4,155 boxes")


def test_a_comment_for_no_key_is_a_bug_of_the_caller(recipe_file):
    """It would be lost in silence."""
    with pytest.raises(ValueError, match=r"loss\.alhpa"):
        dump(load(recipe_file()), comments={"loss.alhpa": "x"})


def test_recipes_are_equal_when_they_say_the_same(recipe_file, tmp_path):
    """Whatever folder they lie in."""
    values = as_dict(load(recipe_file()))
    assert from_dict(values) == from_dict(values, folder=tmp_path)
    assert from_dict(values) != from_dict({**values, "name": "other"})


def test_from_dict_refuses_as_load_does():
    """A command that builds a recipe from options needs the same words."""
    values = yaml.safe_load(MINIMAL)
    with pytest.raises(FocalError, match=r"^--name: name is text 'a b', expected text of letters"):
        from_dict({**values, "name": "a b"}, place="--name")
    assert values == yaml.safe_load(MINIMAL)


# -- the schema


def test_schema_json_describes_every_key_and_is_plain_json():
    """For editors: ranges and descriptions travel with it."""
    schema = json.loads(json.dumps(schema_json()))
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["$defs"]["Schedule"]["properties"]["lr"]["exclusiveMinimum"] == 0
    assert schema["additionalProperties"] is False


def test_schema_rows_are_complete():
    """What `focal recipe schema` prints: no key without a type and a description."""
    rows = {key: row for key, *row in schema_rows()}
    assert rows["loss.box"] == ["one of l1, smooth_l1, giou", "l1", "loss of the boxes of matched anchors"]
    assert rows["schedule.lr"][:2] == ["a number above 0", "required"]
    assert rows["schedule.weight_decay"][1] == "0.0001"
    assert rows["schedule.milestones"][1] == "[0.667, 0.889]"
    assert all(all(row) for row in rows.values())
    assert not any(key.endswith("gamma") for key in rows if key not in ("loss.gamma", "schedule.lr_gamma"))


def test_importing_recipe_imports_no_torch_numpy_or_rich():
    """DESIGN.md, import direction; in a fresh process."""
    code = "import sys, focalcli.recipe; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'rich', 'jinja2')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=False).returncode == 0
