"""The command line as people and scripts meet it: help, results, formats, and the files that each command leaves.

Commands run in this process, through the real boundary (see command.py). Mistakes are in test_mistakes.py, pipes,
signals and terminals in test_process.py.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command import (
    ROOT,
    TINY,
    draw_dataset,
    environment,
    files_below,
    focal,
    mistake,
    one_json,
    process,
    rewrite,
    rows_of_table,
)
from PIL import Image

from focalcli import audit as auditing
from focalcli import evaluation
from focalcli.cli import evaluate
from focalcli.work import demo

COMMANDS = (
    "audit", "fix", "recommend", "train", "eval", "calibrate", "demo", "explain", "recipe check", "recipe show",
    "recipe schema",
)  # fmt: skip


# ----------------------------------------------------------------------------------------------------- help and version


@pytest.mark.parametrize("command", ["", "recipe", *COMMANDS])
def test_every_command_has_help_that_says_what_it_does(command):
    """On stdout, exit 0, and in the list of commands no summary is cut short."""
    out = focal(*command.split(), "--help").stdout
    assert out.startswith(f"Usage: focal{' ' * bool(command)}{command}") and "..." not in re.sub(r"\]\.\.\.", "", out)


def test_version_is_the_package_s():
    assert re.fullmatch(r"focal \d+\.\d+\.\d+\n", focal("--version").stdout)


@pytest.mark.parametrize(
    "words",
    ["", "recipe", "nonsense", "audit", "audit x --nonsense", "audit x --format xml", "train", "eval", "recipe x",
     "audit x --min-size 5", "eval x.json x --sort nonsense", "eval x --batch-size 0", "eval x --rounds -1",
     "eval x --engine other", "audit a b"],
)  # fmt: skip
def test_wrong_usage_is_exit_2_with_the_usage_on_stderr(words):
    """DESIGN: exit 2; stdout is the result, and there is none."""
    result = focal(*words.split(), exit_code=2)
    assert result.stdout == "" and "Usage: focal" in result.stderr and "Traceback" not in result.stderr


def test_python_dash_m_is_the_same_program_and_calls_itself_focal(tmp_path):
    done = process("--help", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == focal("--help").stdout


# ------------------------------------------------------------------------------------------------------ what is written


def test_a_recipe_names_its_data_relative_to_itself_and_trains_from_anywhere(world, tmp_path):
    """A path with spaces and letters beyond ASCII; the recipe's name is one that a folder can have everywhere."""
    project = shutil.copytree(world / "data", tmp_path / "ö b/data").parent
    done = process("recommend", "data", "-o", "new/my recipe ü.yaml", "model.weights=none", cwd=project)
    assert done.returncode == 0, done.stderr
    text = (project / "new/my recipe ü.yaml").read_text(encoding="utf-8")
    assert text.startswith("# focal train 'new/my recipe ü.yaml'\n# Written by `focal recommend data ")
    assert "name: my-recipe" in text and "path: ../data " in text
    shutil.move(project, tmp_path / "elsewhere")
    shown = focal("recipe", "show", tmp_path / "elsewhere/new/my recipe ü.yaml").stdout
    assert f"path: {tmp_path}/elsewhere/data " in shown


def test_a_recipe_of_compressed_annotations_is_relative_to_the_recipe(world, tmp_path):
    """A .json.gz is a file, not the name of a split; what reads the recipe finds it."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    for split in ("train", "val"):
        content = (world / f"data/annotations/{split}.json").read_bytes()
        (place / f"{split[::-1]}.json.gz").write_bytes(gzip.compress(content))
    recipe, pictures = tmp_path / "recipes/r.yaml", ["--images", world / "data/images/train"]
    train, val = (place / f"{split[::-1]}.json.gz" for split in ("train", "val"))
    focal("recommend", train, f"data.val={val}", "-o", recipe, *pictures, "--device", "cpu")
    said = yaml.safe_load(recipe.read_text())["data"]
    assert (recipe.parent / said["train"]).resolve() == train and (recipe.parent / said["val"]).resolve() == val
    assert "rests at" in focal("explain-loss", recipe).stdout


def test_stdin_gives_advice_and_no_recipe(world):
    """It has no name that a recipe could give, and none is written."""
    mistake("recommend", "-", "-o", "r.yaml", says="stdin has no name", hint="give the file")


def test_a_recipe_may_replace_a_recipe_and_says_so_but_no_other_file(world, tmp_path):
    recipe, notes, data = tmp_path / "r.yaml", tmp_path / "notes.yaml", world / "data"
    notes.write_text("dear diary")
    assert "wrote" in focal("recommend", data, "-o", recipe).stderr
    assert "replaced" in focal("recommend", data, "-o", recipe, "loss.gamma=1").stderr
    assert "gamma: 1.0" in recipe.read_text()
    mistake("recommend", data, "-o", notes, says="exists and is not a recipe")
    for other in (data / "annotations/train.json", tmp_path / "page.html"):
        mistake("recommend", data, "--format", "html", "-o", other, says="takes the recipe", hint="--format html >")
    mistake("recommend", data, "-o", tmp_path, says="is not a file")
    assert notes.read_text() == "dear diary" and files_below(tmp_path) == {"r.yaml", "notes.yaml"}


@pytest.mark.parametrize("place", ["/proc/nowhere", "{file}/inside"])
def test_what_cannot_be_written_is_said(place, world, tmp_path):
    (tmp_path / "file").write_text("")
    place = place.format(file=tmp_path / "file")
    mistake("recommend", world / "data", "-o", f"{place}/r.yaml", says="cannot be written")
    mistake("train", world / "r.yaml", "--runs", place, says="cannot be written to")
    mistake("demo", "--runs", place, says="cannot be made")
    mistake("eval", world / "scored/predictions.coco.json", world / "data", "--out", place, says=place)


def test_evaluation_writes_whole_files_and_says_where(world, tmp_path):
    result = focal("eval", world / "runs/r", "--out", tmp_path / "a/b", "--workers", 0)
    assert files_below(tmp_path / "a/b") == {"metrics.json", "per_class.csv", "predictions.coco.json"}
    assert f"saved in {tmp_path}/a/b" in result.stderr
    kept = one_json((tmp_path / "a/b/metrics.json").read_text())
    assert kept["source"].endswith("best.safetensors") and kept["dataset"].endswith("val.json")


def test_only_a_run_on_its_own_val_is_saved_in_the_run_without_being_asked(own_world):
    """Another checkpoint or dataset must not replace the figures of the best on val."""
    run = own_world / "runs/r"
    focal("eval", run, "--workers", 0)
    kept = {path: path.read_bytes() for path in (run / "eval").iterdir()}
    for words in ([run, own_world / "data"], [run / "checkpoints/last.safetensors"], [run, "--split", "train"]):
        assert "not saved" in focal("eval", *words, "--workers", 0).stderr
    assert kept == {path: path.read_bytes() for path in (run / "eval").iterdir()} and len(kept) == 3


# -------------------------------------------------------------------------------------------------- layouts of datasets


@pytest.mark.parametrize(
    ("layout", "images", "val"),
    [
        ("annotations/{split}.json", "images/{split}", "val"),
        ("annotations/instances_{split}2017.json", "{split}2017", "val2017"),
        ("{split}/_annotations.coco.json", "{split}", "valid"),
        ("{split}.json", "images", "val"),
    ],
)
def test_every_layout_is_recommended_for_trained_and_scored(layout, images, val, tmp_path):
    """COCO's own folder holds captions too; Roboflow calls its validation split `valid`."""
    data = draw_dataset(tmp_path / "data", layout, images)
    if val == "valid":
        (data / "val").rename(data / "valid")
    if val == "val2017":
        (data / "annotations/captions_val2017.json").write_text('{"annotations": [], "images": []}')
    focal("recommend", data, "-o", tmp_path / "r.yaml", "--device", "cpu", *TINY)
    assert f"  val: {val} " in (tmp_path / "r.yaml").read_text()
    focal("train", tmp_path / "r.yaml", "--runs", tmp_path, "data.val=val")
    focal("eval", tmp_path / "r", "--workers", 0)
    again = focal("eval", tmp_path / "r/eval/predictions.coco.json", data, "-f", "json").stdout
    assert one_json(again)["summary"] == one_json((tmp_path / "r/eval/metrics.json").read_text())["summary"]


def test_a_training_json_brings_the_validation_set_of_its_folder(world, tmp_path):
    result = focal("recommend", world / "data/annotations/train.json", "-o", tmp_path / "r.yaml")
    assert f"scored on {world}/data/annotations/val.json" in result.stderr
    assert "  train: train " in (tmp_path / "r.yaml").read_text()


def test_without_a_validation_set_a_recipe_is_refused_but_not_the_advice(world, tmp_path):
    """Scoring the training pictures in silence would call memory skill."""
    alone = shutil.copy(world / "data/annotations/train.json", tmp_path / "alone.json")
    assert "loss.gamma" in focal("recommend", alone).stdout
    mistake("recommend", alone, "-o", tmp_path / "r.yaml", says="no validation set", hint="data.val=FILE.json")
    val = world / "data/annotations/val.json"
    assert f"scored on {val}\n" in focal("recommend", alone, f"data.val={val}", "-o", tmp_path / "r.yaml").stderr
    result = focal(
        "recommend", alone, f"data.val={alone}", "-o", tmp_path / "r.yaml", "--images", world / "data/images/train"
    )
    assert "the training set itself" in result.stderr
    assert "  val: alone.json " in (tmp_path / "r.yaml").read_text()
    warned = focal("train", tmp_path / "r.yaml", "--runs", tmp_path / "runs", *TINY).stderr
    assert "val is the training set" in warned


@pytest.mark.parametrize(
    ("override", "says"),
    [("data.path=x", "first argument"), ("data.val=test", "no split 'test'"), ("data.val=x.json", "no such file")],
)
def test_data_that_is_not_there_is_refused_before_the_recipe_is_written(override, says, world, tmp_path):
    mistake("recommend", world / "data", override, "-o", tmp_path / "r.yaml", says=says)
    assert files_below(tmp_path) == set()


# ------------------------------------------------------------------------------------------------------------- training


def test_training_says_what_runs_where_and_with_which_learning_rate(own_world):
    """DESIGN: the learning rate is scaled from base_batch, and the scaled value is printed."""
    words = ("train", own_world / "r.yaml", "name=two", "--runs", own_world / "runs", "schedule.lr=0.01")
    result = focal(*words, "schedule.batch_size=2", "schedule.base_batch=8")
    assert result.stdout == "" and "lr 0.0025 (0.01 at a batch of 8, scaled)" in result.stderr
    assert f"{own_world}/runs/two\n" in result.stderr and f"next: focal eval {own_world}/runs/two\n" in result.stderr
    log = (own_world / "runs/two/train.log").read_text()
    assert "lr 0.0025 (0.01 at a batch of 8, scaled)" in log and "epoch   1" in log


def test_a_run_is_not_trained_over(own_world):
    """The way on is in the hint."""
    mistake("train", own_world / "r.yaml", "--runs", own_world / "runs", says="holds a run already", hint="--resume")
    mistake("train", own_world / "r.yaml", "name=new", "--resume", says="nothing to resume", hint="without --resume")


def test_resuming_as_another_run_is_refused_and_leaves_its_recipe_alone(own_world):
    run = own_world / "runs/r"
    before = (run / "recipe.yaml").read_bytes(), (run / "metrics.jsonl").read_bytes()
    error = mistake("train", own_world / "r.yaml", "loss.gamma=0.3", "--runs", own_world / "runs", "--resume")
    assert "cannot be resumed" in error and "loss" in error
    assert before == ((run / "recipe.yaml").read_bytes(), (run / "metrics.jsonl").read_bytes())
    assert "error: " in (run / "train.log").read_text()


def test_resuming_a_finished_run_says_that_nothing_is_left(own_world):
    result = focal("train", own_world / "r.yaml", "--runs", own_world / "runs", "--resume")
    assert "nothing left to train" in result.stderr


def test_a_run_leaves_what_the_design_lists(world):
    """DESIGN, "What a run leaves"; eval/ is `focal eval`'s."""
    names = {"recipe.yaml", "env.json", "dataset.json", "train.log", "metrics.jsonl", "results.csv", "checkpoints"}
    assert {path.name for path in (world / "runs/r").iterdir()} == names
    shown = focal("recipe", "show", world / "runs/r/recipe.yaml").stdout
    assert shown == focal("recipe", "show", world / "r.yaml").stdout


def test_divergence_is_exit_3_and_keeps_the_run(own_world):
    result = focal(
        "train", own_world / "r.yaml", "--runs", own_world / "runs", "name=bad", "schedule.lr=1e30",
        "schedule.epochs=5", "schedule.optimizer=sgd", "schedule.clip_norm=0", "schedule.warmup_steps=0", exit_code=3,
    )  # fmt: skip
    assert "error: training diverged at step" in result.stderr and "hint: lower schedule.lr" in result.stderr
    assert "diverged" in (own_world / "runs/bad/train.log").read_text()


# ---------------------------------------------------------------------------------------------------- results and order


@pytest.mark.parametrize(
    "command",
    ["audit {data}", "recommend {data}", "recommend {data} -o {o}", "eval {dt} {data}", "eval {run} --workers 0",
     "recipe schema"],
)  # fmt: skip
def test_json_is_one_object_and_nothing_else(command, world, tmp_path):
    names = {"data": world / "data", "dt": world / "scored/predictions.coco.json", "o": tmp_path / "o.yaml"}
    words = command.format(**names, run=world / "runs/r/checkpoints/best.safetensors").split()
    result = focal(*words, "--format", "json", *(["--fail-on", "never"] if words[0] == "audit" else []))
    one_json(result.stdout)
    assert result.stdout.isascii()


@pytest.mark.parametrize(
    ("command", "first", "rows"),
    [("audit {data}", "split,name", 4), ("recommend {data}", "key,value", None), ("eval {dt} {data}", "name,", 2),
     ("recipe schema", "key,takes", None)],
)  # fmt: skip
def test_csv_has_a_header_and_a_row_for_each(command, first, rows, world):
    names = {"data": world / "data", "dt": world / "scored/predictions.coco.json"}
    out = focal(*command.format(**names).split(), "--format", "csv").stdout
    table = list(csv.reader(io.StringIO(out)))
    assert out.startswith(first) and len({len(row) for row in table}) == 1
    assert rows is None or len(table) == rows + 1


def test_findings_are_exit_1_and_the_report_is_printed_all_the_same(own_world):
    file = rewrite(own_world / "data/annotations/val.json", lambda c: c["annotations"][0].update(bbox=[1, 1, 0, 5]))
    assert "F101" in focal("audit", file, exit_code=1).stdout
    assert one_json(focal("audit", file, "-f", "json", exit_code=1).stdout)["findings"]
    focal("audit", file, "--fail-on", "never")


def test_classes_come_most_frequent_first_and_worst_first_on_demand(own_world):
    """Every column of the table can be asked for, in any case."""
    truth = json.loads((own_world / "data/annotations/val.json").read_text())
    found = [{**{k: box[k] for k in ("image_id", "category_id", "bbox")}, "score": 0.9} for box in truth["annotations"]]
    squares_only = own_world / "dt.json"
    squares_only.write_text(
        json.dumps([box for box in found if box["category_id"] == 2])
    )  # crosses found, squares missed
    words = ("eval", squares_only, own_world / "data")
    assert rows_of_table(focal(*words).stdout)[:2] == ["square", "cross"]
    assert rows_of_table(focal(*words, "--sort", "n_train").stdout)[:2] == ["cross", "square"]
    assert rows_of_table(focal(*words, "--sort", "ap").stdout)[:2] == ["square", "cross"]
    assert rows_of_table(focal(*words, "--sort", "CLASS").stdout)[:2] == ["cross", "square"]
    assert focal(*words, "--sort", "class", "-f", "csv").stdout.splitlines()[1].startswith("cross")
    header = next(line for line in focal(*words).stdout.splitlines() if line.startswith("class"))
    assert [name for name in header.split() if name != "group"] == evaluate.AP_COLUMNS
    for column in evaluate.AP_COLUMNS:
        focal(*words, "--sort", column)
    fields = {evaluate.FIELDS.get(name, name) for name in evaluate.AP_COLUMNS}
    assert fields <= set(evaluation.ClassAp.__dataclass_fields__)


def test_eval_says_why_on_demand_and_keeps_it(world, tmp_path):
    """In words below the table, in full in json and in metrics.json; nothing of it without --why."""
    words = ("eval", world / "scored/predictions.coco.json", world / "data")
    shown = focal(*words, "--why", "--out", tmp_path).stdout
    assert shown.startswith(focal(*words).stdout) and "AP50 that each kind of error costs" in shown
    printed = one_json(focal(*words, "--why", "-f", "json").stdout)
    assert printed["diagnosis"]["kind"] == "diagnosis" and "diagnosis" not in one_json(
        focal(*words, "-f", "json").stdout
    )
    assert one_json((tmp_path / "metrics.json").read_text()) == printed
    of_run = focal("eval", world / "runs/r/checkpoints/best.safetensors", "--why", "-f", "json", "--workers", 0).stdout
    assert one_json(of_run)["diagnosis"] == printed["diagnosis"]


def test_eval_with_the_referee_gives_the_same(world):
    """pycocotools computes AP and AR; to the last bit."""
    words = ("eval", world / "scored/predictions.coco.json", world / "data", "-f", "json")
    assert focal(*words, "--engine", "pycocotools").stdout == focal(*words).stdout


def test_eval_has_intervals_unless_told_otherwise(world):
    words = ("eval", world / "scored/predictions.coco.json", world / "data")
    table = one_json(focal(*words, "-f", "json").stdout)
    assert table["bootstrap_rounds"] == 200 and table["intervals"]["AP50"]
    assert one_json(focal(*words, "-f", "json", "--rounds", 0).stdout)["intervals"]["AP50"] is None
    assert "interval" in focal(*words).stdout and "interval" not in focal(*words, "--rounds", 0).stdout
    mistake(*words, "--rounds", 0, "--sort", "interval", says="no intervals")


def test_eval_shows_only_classes_with_enough_objects(world):
    """Seven squares and one cross in val; the last row stays that of both."""
    words = ("eval", world / "scored/predictions.coco.json", world / "data")
    all_rows, result = focal(*words).stdout, focal(*words, "--min-val", 2, "--why")
    assert rows_of_table(result.stdout)[:2] == ["square", "all"] and "cross:" not in result.stdout
    last = next(line for line in all_rows.splitlines() if line.startswith("all"))
    assert last in result.stdout and "1 of 2 classes are not shown" in result.stderr
    assert len(one_json(focal(*words, "--min-val", 2, "-f", "json").stdout)["classes"]) == 1
    mistake(*words, "--min-val", 8, says="no class has 8 objects; the most is 7", hint="--min-val")


def test_the_saved_predictions_of_a_checkpoint_score_the_same(world):
    """The seam is a file: scoring it again gives the same table, counts in train included."""
    kept = one_json((world / "scored/metrics.json").read_text())
    again = one_json(focal("eval", world / "scored/predictions.coco.json", world / "data", "-f", "json").stdout)
    assert {**again, "source": ""} == {**kept, "source": "", "dataset": again["dataset"]}


def test_explain_lists_codes_and_figures_and_prints_the_page_of_a_code_or_name():
    listed = focal("explain").stdout
    for code, rule in auditing.RULES.items():
        assert code in listed and rule.name in listed
        assert focal("explain", code.lower()).stdout == focal("explain", rule.name).stdout == rule.doc
    for name, term in auditing.TERMS.items():
        assert name in listed and focal("explain", name.replace("-", " ").title()).stdout == term.doc
    mistake("explain", "duplicate-bx", hint="did you mean duplicate-box?")
    mistake("explain", "F1044", hint="did you mean F104?")
    mistake("explain", "gni", hint="did you mean gini?")
    mistake("explain", "X", hint="focal explain")


def test_recipe_check_and_show(world):
    assert focal("recipe", "check", world / "r.yaml", "loss.gamma=1").stdout == f"{world / 'r.yaml'}: a valid recipe\n"
    assert "gamma: 1.0" in focal("recipe", "show", world / "r.yaml", "loss.gamma=1").stdout
    assert "loss.alpha" in focal("recipe", "schema").stdout


def test_audit_takes_sizes_and_anchors_from_a_recipe_unless_told_otherwise(world):
    words = ("audit", world / "data", "--recipe", world / "r.yaml", "--min-size", 80, "-f", "json")
    network = one_json(focal(*words).stdout)["network"]
    assert (network["min_size"], network["max_size"]) == (80, 96)
    sizes = re.search(r"sizes: \[(.*?)\]", focal("recipe", "show", world / "r.yaml").stdout)[1]
    assert sizes == ", ".join(f"{size:g}" for size in network["anchor_sizes"]) != "32, 64, 128, 256, 512"


def test_audit_takes_alpha_gamma_and_prior_from_a_recipe(world):
    """Lin et al. 2017, sec. 3.3: at gamma 0, alpha 0.5 and a low prior the negatives carry nearly all of the loss."""
    shown = focal("recipe", "show", world / "r.yaml").stdout
    words = ("audit", world / "data", "-f", "json")
    loss = one_json(focal(*words, "--recipe", world / "r.yaml").stdout)["first_loss"]
    assert loss["source"] == str(world / "r.yaml") and f"gamma: {loss['gamma']}" in shown
    without = one_json(focal(*words).stdout)["first_loss"]
    assert (without["source"], without["alpha"], without["gamma"], without["prior"]) == ("RetinaNet", 0.25, 2.0, 0.01)


def test_audit_reads_a_json_from_stdin(world):
    """DESIGN: `-`. A folder of pictures is named, or the current one."""
    text = (world / "data/annotations/train.json").read_text()
    command = [sys.executable, "-m", "focalcli", "audit", "-", "-f", "json", "--images", world / "data/images/train"]
    done = subprocess.run(command, input=text, env=environment(), capture_output=True, text=True, check=True)
    (split,) = one_json(done.stdout)["splits"]
    assert (split["n_images"], split["n_objects"]) == (6, 12)


def test_deep_finds_a_picture_that_is_damaged_inside(own_world):
    """Header and end are whole: only decoding shows it, by the checksum that PNG has on its data."""
    picture = own_world / "data/images/train/train1.jpg"
    Image.effect_noise((96, 64), 50).save(picture, format="PNG")
    content = bytearray(picture.read_bytes())
    content[len(content) // 2] ^= 0xFF
    picture.write_bytes(content)
    assert "damaged-picture" not in focal("audit", own_world / "data").stdout
    assert "damaged-picture" in focal("audit", own_world / "data", "--deep", exit_code=1).stdout


# ----------------------------------------------------------------------------------------------------------------- demo


def test_demo_runs_the_ordinary_commands_and_stops_at_the_first_failure(monkeypatch, tmp_path, capfd):
    ran = []

    def run(words, check):
        ran.append(words[3:])
        return subprocess.CompletedProcess(words, 3 if words[3] == "train" else 0)

    monkeypatch.setattr(demo.subprocess, "run", run)
    monkeypatch.setattr(demo.signal, "signal", lambda *_: None)
    assert demo.run_demo(tmp_path) == 3
    assert [words[0] for words in ran] == ["audit", "recommend", "train"]
    assert "$ focal audit" in capfd.readouterr().out


def test_demo_refuses_to_mix_with_an_earlier_one(tmp_path):
    (tmp_path / "sample").mkdir()
    mistake("demo", "--runs", tmp_path, says="holds an earlier demo")


@pytest.mark.parametrize("words", demo.commands(Path("runs")), ids=lambda words: words[0])
def test_the_demo_s_commands_are_valid(words, tmp_path):
    """What can be checked without minutes of training: the first two run, the others parse."""
    if words[0] == "audit":
        focal(*words)
    elif words[0] == "recommend":
        focal(*[str(tmp_path / word) if word.endswith(".yaml") else word for word in words])
        focal("recipe", "check", tmp_path / "runs/sample.yaml")
    else:
        focal(words[0], "--help")


@pytest.mark.slow
def test_the_whole_chain_on_the_sample_data(tmp_path):
    """audit, recommend, train for one epoch, eval: as a newcomer types them, each in a process of its own."""
    data = ROOT / "sample_data"
    assert process("audit", data, cwd=tmp_path).returncode == 0
    assert (
        process("recommend", data, "-o", "s.yaml", "--device", "cpu", "model.weights=none", cwd=tmp_path).returncode
        == 0
    )
    trained = process("train", "s.yaml", "schedule.epochs=1", "input.min_size=128", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    scored = process("eval", "runs/s", "-f", "json", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    left = {str(path.relative_to(tmp_path / "runs/s")) for path in (tmp_path / "runs/s").rglob("*") if path.is_file()}
    assert left == {
        "recipe.yaml", "env.json", "dataset.json", "train.log", "metrics.jsonl", "results.csv",
        "checkpoints/last.safetensors", "checkpoints/best.safetensors",
        "eval/metrics.json", "eval/per_class.csv", "eval/predictions.coco.json",
    }  # fmt: skip
    table = one_json(scored.stdout)
    assert table == one_json((tmp_path / "runs/s/eval/metrics.json").read_text())
    again = process("eval", "runs/s/eval/predictions.coco.json", data, "-f", "json", cwd=tmp_path)
    assert (
        one_json(again.stdout)["classes"] == table["classes"] and one_json(again.stdout)["summary"] == table["summary"]
    )
    for line in (tmp_path / "runs/s/metrics.jsonl").read_text().splitlines():
        json.loads(line)
    with open(tmp_path / "runs/s/results.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]
