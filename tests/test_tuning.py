"""focal tune: the verdict's statistics, the space, and the study that processes share and a kill does not end."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from command import environment, focal, mistake, process
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import draw
from torchvision.ops import sigmoid_focal_loss

from focalcli import recipe as recipes
from focalcli import recommend
from focalcli.coco import Dataset, load
from focalcli.errors import FocalError
from focalcli.focal_loss import equilibrium
from focalcli.render.html.tuning import tuning_page
from focalcli.render.tuning import verdict_lines
from focalcli.work import unpack
from focalcli.work.tuning import Outcome
from focalcli.work.tuning import study as module
from focalcli.work.tuning.search import AtRest, _own_point, as_long
from focalcli.work.tuning.sharing import readable
from focalcli.work.tuning.space import BALANCED_CE, PAPER, Point, Space
from focalcli.work.tuning.study import CONFIRMED, OWN, REPEATS, Run, Study, leaders, verdict
from focalcli.work.tuning.verdict import judge

# ------------------------------------------------------------------------------------------------------- the verdict


def test_a_difference_is_judged_as_by_hand():
    """own 0.50, 0.52 and other 0.60, 0.62: each varies by 0.01 about its mean, so the pooled variance is
    (2 * 0.0001 + 2 * 0.0001) / 2 = 0.0002, the error of the difference sqrt(0.0002 * (1/2 + 1/2)) = 0.01414, and with
    two degrees of freedom t = 4.303: 0.10 +- 0.0609."""
    found = judge([0.50, 0.52], {"other": [0.60, 0.62]})
    assert found.noise == pytest.approx(0.0002**0.5)
    (standing,) = found.standings
    assert standing.difference == pytest.approx(0.10)
    assert standing.interval == pytest.approx((0.10 - 0.0609, 0.10 + 0.0609), abs=1e-4)
    assert found.winner == "other"


def test_two_challengers_share_the_level():
    """Dunn: with two comparisons each has 2.5 %. Three pairs that each vary by 0.01 about their mean have three degrees
    of freedom and a pooled variance of 0.0002; Student's t for 97.5 % and three is 4.177 (R: qt(0.9875, 3))."""
    found = judge([0.50, 0.52], {"a": [0.60, 0.62], "b": [0.5, 0.52]})
    low, high = found.standings[0].interval
    assert (high - low) / 2 == pytest.approx(4.177 * 0.0002**0.5, rel=1e-3)


def test_without_repeats_there_is_no_verdict():
    """One run of each says nothing about the noise."""
    found = judge([0.5], {"other": [0.9]})
    assert found.noise is None and found.winner is None and not found.standings


def test_arms_that_are_alike_win_seldom():
    """At a level of 95 % at most one study in twenty may name a winner; half of those that err name the worse one."""
    rng = np.random.default_rng(0)
    wins = 0
    for _ in range(400):
        own, a, b = (rng.normal(0.4, 0.02, 3).tolist() for _ in range(3))
        wins += judge(own, {"a": a, "b": b}).winner is not None
    assert wins <= 20  # 400 * 0.025 = 10 are expected; 20 is three standard deviations more


@given(st.lists(st.floats(0, 1), min_size=2, max_size=4), st.lists(st.floats(0, 1), min_size=2, max_size=4))
def test_a_winner_is_better_and_its_interval_says_so(own, other):
    """Whatever the scores."""
    found = judge(own, {"other": other})
    if found.winner:
        assert np.mean(other) > np.mean(own)
        assert found.standings[0].interval[0] > 0


# ---------------------------------------------------------------------------------------------------------- the space


def space_of(tmp_path: Path, counts: dict[str, int]) -> Space:
    return Space.of(dataset_of(tmp_path, counts))


def dataset_of(tmp_path: Path, counts: dict[str, int]) -> Dataset:
    """A file in which each picture holds one object."""
    categories = [{"id": i, "name": name} for i, name in enumerate(counts, start=1)]
    images, annotations = [], []
    for category in categories:
        for _ in range(counts[category["name"]]):
            images.append({"id": len(images) + 1, "file_name": f"{len(images)}.png", "width": 64, "height": 64})
            annotations.append(
                {"id": len(annotations) + 1, "image_id": images[-1]["id"], "category_id": category["id"],
                 "bbox": [1, 1, 20, 20], "area": 400, "iscrowd": 0}
            )  # fmt: skip
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return load(file)


def test_balanced_classes_have_no_strength_and_no_repeats_to_search(tmp_path):
    """There is no rare class to weigh."""
    space = space_of(tmp_path, {"a": 20, "b": 25})
    assert not space.strengths and space.repeats == (0.0,)
    assert set(space.parameters(PAPER)) == {"alpha", "gamma", "box"}


def test_a_rare_class_brings_strength_and_repeats(tmp_path):
    """10 of 110 pictures is under both thresholds."""
    space = space_of(tmp_path, {"head": 100, "tail": 10})
    assert space.strengths and space.repeats == (0.0, 0.1, 0.5)


def test_what_the_search_begins_with_is_what_recommend_says_of_sparse_classes(tmp_path):
    """40 and 8 of 100 pictures: repeats below the share of the more frequent class, 0.4 (test_recommend.py)."""
    space = space_of(tmp_path, {"a": 40, "b": 8, "c": 12, "d": 40})
    assert space.first_points()[0].repeat_threshold == 0.4 and space.repeats == (0.0, 0.1, 0.4)


def test_a_set_without_objects_is_refused(tmp_path):
    """There is nothing to weigh."""
    file = dataset_of(tmp_path, {"a": 1}).path
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    with pytest.raises(FocalError, match="no objects to train on"):
        Space.of(load(file))


def test_a_point_says_all_of_the_alphas(tmp_path):
    """Its strength takes the place of the recipe's alpha_by, which would weigh the classes once more."""
    keys = space_of(tmp_path, {"head": 80, "tail": 10}).keys(PAPER, Still())
    assert (keys["loss.alpha"], keys["loss.alpha_by"]) == (0.25, "none")


def test_strength_one_is_inverse_frequency(tmp_path):
    """Odds alpha / (1 - alpha) times typical / count: at alpha 0.5 odds are 1; the geometric mean of 80, 10 and 10 is
    20, so odds become 0.25, 2 and 2 and alpha 0.2, 0.667 and 0.667."""
    space = space_of(tmp_path, {"head": 80, "tail": 10, "other": 10})
    keys = space.keys(Point(0.5, 1.0, strength=1.0), Still())
    assert keys["loss.alpha"] == pytest.approx({"head": 0.2, "tail": 0.667, "other": 0.667}, abs=1e-3)
    assert space.keys(Point(0.5, 1.0), Still())["loss.alpha"] == 0.5
    assert "loss.prior" not in keys


class Still:
    """A recipe with one prior, whose box weight is 1.5 whatever alpha and gamma."""

    def priors(self, alpha, gamma):
        return None

    def box_weight(self, alpha, gamma):
        return 1.5


def test_a_search_on_rare_classes_begins_with_what_recommend_says(tmp_path):
    """Its advice is a point of the space: the search starts from it, and knows a recipe that came from it."""
    dataset = dataset_of(tmp_path, {"head": 60, "middle": 30, "tail": 6})
    space = Space.of(dataset)
    values = recommend.recommend(dataset, recommend.CPU, {}, None).values
    first = space.keys(space.first_points()[0], Still())
    for key in ("loss.alpha", "loss.gamma", "data.repeat_threshold"):
        assert first[key] == values[key], key
    assert space.first_points()[1:] == (PAPER, BALANCED_CE)


def test_a_point_names_and_multiplies_the_weight_of_the_box_loss(tmp_path):
    """By a power of two, which Optuna knows by its exponent."""
    space = space_of(tmp_path, {"a": 20, "b": 25})
    point = Point(0.25, 2.0, box=4.0)
    assert space.keys(point, Still())["loss.box_weight"] == 6.0 and "box loss times 4" in point.name
    assert space.parameters(point)["box"] == 2 and space.parameters(PAPER)["box"] == 0


def test_a_recipe_that_came_from_recommend_is_known_as_its_point(tmp_path):
    """Else the search would train the same thing twice. The alphas are what `recommend` prints for 60, 30 and 6."""
    train_set = dataset_of(tmp_path, {"head": 60, "middle": 30, "tail": 6})
    space, values = Space.of(train_set), recommend.recommend(train_set, recommend.CPU, {}, None).values
    told = yaml.safe_load(RECIPE)
    told["loss"] = {"alpha": values["loss.alpha"], "gamma": 2.0}
    told["data"]["repeat_threshold"] = 0.5
    known = _own_point(recipes.from_dict(told, place="here"), space, Still())
    assert known == space.first_points()[0] != PAPER
    told["loss"]["gamma"] = 1.0
    other = _own_point(recipes.from_dict(told, place="here"), space, Still())
    assert other.gamma == 1.0 and other not in space.first_points()


def test_alpha_and_gamma_leave_the_balance_of_the_losses_alone(tiny):
    """By torchvision.ops.sigmoid_focal_loss, when every anchor scores what its class's bias rests at: the box weight
    grows as the classification loss does, and the point that is the recipe's own has the recipe's."""
    recipe = recipes.load(tiny / "t.yaml", ["loss.box_weight=0.7", "loss.prior={red: 0.01, green: 0.01}"])
    rest = AtRest(recipe, unpack.dataset_of(recipe, "train"))

    def loudness(alpha, gamma):
        total = 0.0
        for name, share in rest.foreground.items():
            p = equilibrium(share, 1.0, alpha=alpha, gamma=gamma)
            logit = torch.full((2,), math.log(p / (1 - p)), dtype=torch.float64)
            yes, no = sigmoid_focal_loss(logit, torch.tensor([1.0, 0.0], dtype=torch.float64), alpha, gamma).tolist()
            total += share * yes + no
            assert rest.priors(alpha, gamma)[name] == pytest.approx(min(max(p, 1e-4), 0.2), rel=0.06)
        return total

    assert rest.box_weight(0.5, 1.0) == pytest.approx(0.7)
    for pair in ((0.25, 2.0), (0.75, 0.0)):
        assert rest.box_weight(*pair) == pytest.approx(0.7 * loudness(*pair) / loudness(0.5, 1.0), rel=1e-6)


# ---------------------------------------------------------------------------------------------------------- the study

FACTS = {"own": {"alpha": 0.5, "gamma": 0.5, "strength": 0.0, "repeat_threshold": 0.0}, "epochs": 2}


def study_in(folder: Path, **facts) -> Study:
    folder.mkdir(exist_ok=True)
    return Study(folder, FACTS | facts, Space({"a": 20, "b": 20}, False, (0.0,)), seed=0)


def finish(study: Study, work, score: float) -> None:
    study.complete(work, score, {"AP": score}, {"a": score}, 1.0)


def test_a_search_begins_with_the_recipe_the_paper_and_cross_entropy(tmp_path):
    """So that the first three runs already answer the usual question."""
    study = study_in(tmp_path / "s")
    names = []
    for _ in range(3):
        names.append((work := study.next_search()).name)
        finish(study, work, 0.1)
    assert names == [OWN, PAPER.name, BALANCED_CE.name]


def test_a_search_may_be_shorter_than_what_it_begins_with(tmp_path):
    """--trials 2: the third of the first points is not trained among the repeats."""
    study = study_in(tmp_path / "s")
    for score in (0.3, 0.2):
        finish(study, study.next_search(), score)
    names = set()
    while (work := study.next_repeat()) is not None:
        assert work.repeat
        names.add(work.name)
        finish(study, work, 0.3)
    assert names == {OWN, PAPER.name}


def test_repeats_are_of_the_best_and_have_fresh_seeds(tmp_path):
    """REPEATS seeds each of the recipe's own and the two best, none of which the search has used; then it is done."""
    study = study_in(tmp_path / "s")
    for score in (0.3, 0.2, 0.5, 0.4):
        finish(study, study.next_search(), score)
    best = [run.name for run in leaders(study.runs())]
    seeds: dict[str, list[int]] = {}
    while (work := study.next_repeat()) is not None:
        assert work.repeat
        seeds.setdefault(work.name, []).append(work.seed)
        finish(study, work, 0.3)
    assert set(seeds) == {OWN, *best} and len(best) == 2
    assert all(sorted(each) == list(range(1, REPEATS + 1)) for each in seeds.values())
    assert verdict(study.runs()).winner is None


@pytest.mark.parametrize(("fourth", "runs", "won"), [(0.303, 6, True), (0.33, 4, False)])
def test_a_winner_has_to_win_twice(tmp_path, fourth, runs, won):
    """Three runs within 0.002 and 0.01 apart call a winner; it and the recipe are then trained up to CONFIRMED times.
    A fourth run of the recipe at 0.33 makes its mean 0.308 and the noise larger than the rest of the difference."""
    study = study_in(tmp_path / "s")
    for score in (0.3, 0.5, 0.2):
        finish(study, study.next_search(), score)
    (best, other), count = [run.name for run in leaders(study.runs())], {}
    while (work := study.next_repeat()) is not None:
        count[work.name] = count.get(work.name, 0) + 1
        score = {OWN: 0.3, best: 0.31, other: 0.3}[work.name] + 0.001 * (work.seed - 1)
        finish(study, work, fourth if (work.name, work.seed) == (OWN, 4) else score)
    assert count[other] == REPEATS and count[OWN] == runs
    assert count[best] == (CONFIRMED if won else REPEATS)
    assert (verdict(study.runs()).winner == best) is won


def test_a_point_found_twice_is_repeated_once(tmp_path):
    """Else the two best would be one, and its runs would count twice. The paper's pair comes first, then the same
    figures from Optuna."""
    study = study_in(tmp_path / "s")
    for score in (0.3, 0.5, 0.4):
        finish(study, study.next_search(), score)
    again = study.optuna.ask(fixed_distributions=None)
    for key, value in {"arm": PAPER.name, "point": asdict(PAPER), "seed": 0, "repeat": False}.items():
        again.set_user_attr(key, value)
    study.optuna.tell(again, 0.5)
    assert [run.name for run in leaders(study.runs())] == [PAPER.name, BALANCED_CE.name]


def test_a_point_that_was_trained_is_not_trained_again(tmp_path, monkeypatch):
    """Optuna proposes the paper's pair three times more: it is told the score that is known, and asked again."""
    study = study_in(tmp_path / "s")
    for score in (0.3, 0.5, 0.4):
        finish(study, study.next_search(), score)
    fresh = Point(0.6, 3.0)
    proposals = iter([PAPER, PAPER, BALANCED_CE, fresh])
    monkeypatch.setattr(Space, "suggest", lambda self, trial: next(proposals))
    assert study.next_search().name == fresh.name
    known = [trial.value for trial in study.optuna.get_trials() if trial.value is not None]
    assert known == [0.3, 0.5, 0.4, 0.5, 0.5, 0.4]
    assert len(study.runs()) == 4


def test_a_seed_that_failed_is_the_one_that_is_run_again(tmp_path):
    """Two runs of one seed would be counted as two, and their likeness as little noise."""
    study = study_in(tmp_path / "s")
    for score in (0.3, 0.5, 0.4):
        finish(study, study.next_search(), score)
    works = [study.next_repeat() for _ in range(3)]
    study.fail(works[0])
    for work in works[1:]:
        finish(study, work, 0.3)
    rest = []
    while (work := study.next_repeat()) is not None:
        rest.append((work.name, work.seed))
        finish(study, work, 0.3)
    runs = rest + [(work.name, work.seed) for work in works[1:]]
    assert sorted(seed for _, seed in runs) == sorted([*range(1, REPEATS + 1)] * 3) and len(set(runs)) == len(runs)


def test_a_challenger_that_diverged_once_does_not_hide_the_other(tmp_path):
    """Its 0 beside 0.4 would make the noise between seeds ten times what it is."""
    study = study_in(tmp_path / "s")
    for score in (0.3, 0.5, 0.4):
        finish(study, study.next_search(), score)
    while (work := study.next_repeat()) is not None:
        diverged = work.name == BALANCED_CE.name and work.seed == 2
        finish(study, work, 0.0 if diverged else (0.6 if work.name == PAPER.name else 0.3) + 0.01 * (work.seed - 2))
    found = verdict(study.runs())
    assert found.winner == PAPER.name and [standing.arm for standing in found.standings] == [PAPER.name]


def test_repeats_make_a_run_no_longer(tmp_path):
    """Gupta et al. 2019, sec. 4.2: with 2 of 18 pictures shown sqrt(0.5 / (1 / 9)) = 2.12 times an epoch is 20.24
    pictures long, and nine epochs of 18 are eight of those."""
    train_set = dataset_of(tmp_path, {"head": 16, "tail": 2})
    recipe = recipes.from_dict(yaml.safe_load(RECIPE), place="here")
    repeated = Point(0.25, 2.0, repeat_threshold=0.5)
    assert as_long(recipe, train_set, PAPER, 9) == 9 and as_long(recipe, train_set, repeated, 9) == 8
    told = yaml.safe_load(RECIPE)
    told["data"]["sampler"] = "class_aware"  # its epochs are as long as the set
    assert as_long(recipes.from_dict(told, place="here"), train_set, repeated, 9) == 9


def test_only_repeats_make_a_winner(tmp_path):
    """A lucky run of the search counts for nothing."""
    study = study_in(tmp_path / "s")
    for score in (0.3, 0.9, 0.2):
        finish(study, study.next_search(), score)
    assert verdict(study.runs()).standings == ()
    while (work := study.next_repeat()) is not None:
        finish(study, work, (0.6 if work.name == PAPER.name else 0.3) + 0.01 * (work.seed - 2))
    assert verdict(study.runs()).winner == PAPER.name


def test_what_a_living_process_trains_is_not_begun_again(tmp_path, monkeypatch):
    """And what a process that is gone has left is."""
    study = study_in(tmp_path / "s")
    monkeypatch.setattr(module, "me", lambda: [socket.gethostname(), os.getppid(), 0.0])
    one = study.next_search()
    monkeypatch.undo()
    assert study_in(tmp_path / "s").next_left() is None
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    one.trial.set_user_attr("owner", [socket.gethostname(), gone.pid, 0.0])
    assert study_in(tmp_path / "s").next_left().number == one.number


def test_another_recipes_study_is_refused(tmp_path):
    """Its scores would be compared with others; the error says what differs."""
    recipe = {"loss": {"alpha": 0.5, "gamma": 1.0}}
    study = study_in(tmp_path / "s", recipe=recipe)
    finish(study, study.next_search(), 0.3)
    with pytest.raises(FocalError, match="another length, 2 epochs in place of 3"):
        study_in(tmp_path / "s", recipe=recipe, epochs=3)
    with pytest.raises(FocalError, match=r"another recipe: loss\.gamma differ"):
        study_in(tmp_path / "s", recipe={"loss": {"alpha": 0.5, "gamma": 2.0}})


def test_a_study_in_which_nothing_ran_stands_in_nobodys_way(tmp_path):
    """A first try that failed, with weights that are not there, and then the recipe that is right."""
    study = study_in(tmp_path / "s", metric="AP")
    study.fail(study.next_search())
    again = study_in(tmp_path / "s", metric="APr")
    assert again.next_search().name == OWN


def test_a_study_that_was_damaged_later_is_an_error_of_the_file(tmp_path):
    """SQLite opens it, and fails in its middle."""
    study = study_in(tmp_path / "s")
    finish(study, study.next_search(), 0.3)
    file = tmp_path / "s/study.db"
    content = bytearray(file.read_bytes())
    content[8192:] = bytes(range(256)) * ((len(content) - 8192) // 256)
    file.write_bytes(content)
    with pytest.raises(FocalError, match=r"study\.db: (cannot be read|not a study)"), readable(tmp_path / "s"):
        study_in(tmp_path / "s").next_search()


def test_a_file_that_is_no_study_is_refused(tmp_path):
    """And is left as it was."""
    (tmp_path / "s").mkdir()
    file = tmp_path / "s/study.db"
    file.write_text("not a database, but long enough to be looked at as one " * 40)
    before = file.read_bytes()
    with pytest.raises(FocalError, match="not a study"):
        study_in(tmp_path / "s")
    assert file.read_bytes() == before


def test_the_page_and_the_words_say_what_the_verdict_says(tmp_path):
    """A winner is named, a tie is called one; what a recipe is called cannot become markup."""
    study = study_in(tmp_path / "s")
    for score in (0.3, 0.9, 0.2):
        finish(study, study.next_search(), score)
    while (work := study.next_repeat()) is not None:
        finish(study, work, (0.6 if work.name == PAPER.name else 0.3) + 0.01 * (work.seed - 2))
    runs = tuple(study.leaderboard())
    outcome = Outcome(study.folder, "AP", 2, runs, verdict(runs), recipe=None, keys={}, stopped=None)
    lines = verdict_lines(outcome)
    assert any(line.startswith(f"{PAPER.name}: +") and line.endswith("better") for line in lines)
    assert any(line.startswith(BALANCED_CE.name) and "a tie" in line for line in lines)
    assert lines[-1] == f"Winner: {PAPER.name}."
    page = tuning_page(outcome, "<b>bold</b>")
    assert "<b>bold" not in page and lines[-1] in page
    assert page.count("<svg") == 2


def test_nothing_learned_is_no_tie():
    """All scores 0: there is nothing to compare, and that is not the same as being alike."""
    runs = (Run(0, OWN, None, 0, False, "complete", 0.0, {}, {}, 1.0),)
    outcome = Outcome(Path("s"), "AP", 2, runs, verdict(runs), recipe=None, keys={}, stopped=None)
    (line,) = verdict_lines(outcome)
    assert "no run learned anything" in line
    begun = replace(outcome, runs=(replace(runs[0], state="running", score=None),))
    assert verdict_lines(begun)[0].startswith("No verdict: no run has ended yet")


# -------------------------------------------------------------------------------------------------------- the command

RECIPE = """\
name: t
data: {path: data, workers: 0, scale_jitter: [1.0, 1.0]}
model: {backbone: mobilenet_v2, weights: none, width: 32, head_depth: 1, batch_norm: train}
anchors: {sizes: [8, 16, 32, 64, 128]}
input: {min_size: 64, max_size: 96}
loss: {alpha: 0.5, gamma: 1.0}
schedule: {epochs: 2, batch_size: 4, base_batch: 4, lr: 0.002, optimizer: adamw, warmup_steps: 2, precision: fp32}
"""


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A folder with a drawn dataset and a recipe whose runs take a second."""
    (tmp_path / "data/annotations").mkdir(parents=True)
    for split in ("train", "val"):
        file = draw(tmp_path / f"drawn_{split}", name=split)
        content = json.loads(file.read_text())
        images = tmp_path / "data/images"
        images.mkdir(exist_ok=True)
        for image in content["images"]:
            found = next(file.parent.rglob(Path(image["file_name"]).name))
            (images / f"{split}_{found.name}").write_bytes(found.read_bytes())
            image["file_name"] = f"{split}_{found.name}"
        (tmp_path / f"data/annotations/{split}.json").write_text(json.dumps(content))
    (tmp_path / "t.yaml").write_text(RECIPE)
    return tmp_path


def tune(*words: object, cwd: Path):
    return process("tune", "t.yaml", "--epochs", "2", "--device", "cpu", *words, cwd=cwd)


@pytest.mark.slow
def test_the_command_searches_repeats_judges_and_leaves_its_files(tiny):
    """A recipe that trains, a page, a leaderboard; the same command goes on and finds nothing left to do."""
    done = tune("--minutes", "10", "--trials", "3", "--format", "json", cwd=tiny)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert sum(not run["repeat"] for run in result["runs"]) == 3
    assert sum(run["repeat"] for run in result["runs"]) >= 2 * REPEATS
    assert result["noise"] is not None
    folder = tiny / "runs/t-tune"
    assert process("recipe", "check", folder / "tuned.yaml").returncode == 0
    assert "<svg" in (folder / "report.html").read_text()
    assert len((folder / "leaderboard.csv").read_text().splitlines()) == 1 + len(result["runs"])
    assert not list(folder.glob("runs/*/checkpoints"))
    again = tune("--minutes", "10", "--trials", "3", "--format", "json", cwd=tiny)
    assert [r["number"] for r in json.loads(again.stdout)["runs"]] == [r["number"] for r in result["runs"]]


@pytest.mark.slow
def test_two_processes_share_a_study(tiny):
    """No number is trained twice, and the verdict has the runs of both."""
    done = tune("--minutes", "10", "--trials", "4", "--jobs", "2", "--format", "json", cwd=tiny)
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert {run["state"] for run in runs} <= {"complete", "pruned"}
    assert sorted(run["number"] for run in runs) == list(range(len(runs)))
    assert 4 <= sum(not run["repeat"] for run in runs) <= 5  # both may see room for one more
    log = (tiny / "runs/t-tune/tune.log").read_text()
    assert sum(": starts" in line for line in log.splitlines()) == len(runs)
    assert "starts" in (tiny / "runs/t-tune/worker-1.log").read_text()


@pytest.mark.slow
def test_a_killed_study_goes_on_with_the_run_that_was_under_way(tiny):
    """kill -9, then the same command: no run is lost or done twice."""
    # the first run is trained to its end whatever the minutes, and then there is no time left for repeats
    words = ["tune", "t.yaml", "--epochs", "12", "--minutes", "0.1", "--trials", "1", "--device", "cpu"]
    command = [sys.executable, "-m", "focalcli", *words]
    with subprocess.Popen(command, cwd=tiny, env=environment(), stderr=subprocess.DEVNULL) as running:
        log = tiny / "runs/t-tune/runs/0000/checkpoints/last.safetensors"
        deadline = time.monotonic() + 120
        while not log.is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(running.pid, signal.SIGKILL)
    with sqlite3.connect(tiny / "runs/t-tune/study.db") as database:
        assert database.execute("select count(*) from trials where state = 'RUNNING'").fetchone() == (1,)
    done = process(*words, "--format", "json", cwd=tiny)
    assert done.returncode == 0, done.stderr
    runs = json.loads(done.stdout)["runs"]
    assert [run["number"] for run in runs if not run["repeat"]] == [0]
    lines = (tiny / "runs/t-tune/runs/0000/metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(line)["epoch"] for line in lines if '"eval"' in line]
    assert epochs == [3, 6, 9, 12]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--metric", "AP5"], "did you mean AP"),
        (["--metric", "class:blue"], "no such class"),
        (["--trials", "0"], "trials"),
    ],
)
def test_bad_options_are_refused_before_anything_is_trained(tiny, words, said):
    """Exit 2, and no folder is left."""
    done = tune(*words, cwd=tiny)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tiny / "runs").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--minutes", "nan"], "--minutes nan: is no time"),
        (["--minutes", "inf"], "--minutes inf: is no time"),
        (["-o", "notes.txt"], "notes.txt: exists and is not a recipe"),
        (["-o", "r.yaml"], "this is what the command reads"),
        (["-o", "notes.txt/x.yaml"], "is not a folder"),
        (["-o", "."], "is a folder"),
        (["-o", "-"], "a recipe goes into a file"),
    ],
)
def test_what_would_be_said_only_after_hours_is_said_at_once(own_world, monkeypatch, words, says):
    """Before a run, and nothing of the user's is replaced."""
    monkeypatch.chdir(own_world)
    Path("notes.txt").write_text("the only copy")
    mistake("tune", "r.yaml", *words, "--runs", "tuned", says=says)
    assert Path("notes.txt").read_text() == "the only copy" and not Path("tuned").exists()


def test_the_command_to_go_on_with_is_the_one_that_was_given(own_world, monkeypatch):
    """Without --epochs, --metric or --runs it would be another study; defaults are not repeated."""
    said = []
    monkeypatch.chdir(own_world)
    monkeypatch.setattr("focalcli.work.tuning.tune", lambda *_, **__: None)
    monkeypatch.setattr("focalcli.work.tuning.save", lambda outcome, *, command, **_: said.append(command) or [])
    monkeypatch.setattr("focalcli.render.tuning.print_outcome", lambda *_: (_ for _ in ()).throw(FocalError("far", "")))
    words = ["loss.gamma=1", "--epochs", "3", "--metric", "AP50", "--minutes", "7", "--runs", "elsewhere"]
    focal("tune", "r.yaml", *words, "--trials", "40", exit_code=2)
    (command,) = said
    assert shlex.split(command) == [
        "focal", "tune", "r.yaml", "loss.gamma=1", "--minutes", "7.0", "--epochs", "3", "--metric", "AP50",
        "--runs", "elsewhere",
    ]  # fmt: skip


@pytest.mark.parametrize(("words", "helpers"), [([], ["1", "2"]), (["--jobs", "2"], ["1"])])
def test_each_gpu_gets_a_process_unless_told_otherwise(own_world, monkeypatch, words, helpers):
    """With three GPUs two more processes are started, each sees one of them; this one takes the first."""
    started = []

    class Helper:
        def __init__(self, command, env, **_):
            started.append((command[3], env["CUDA_VISIBLE_DEVICES"]))

        def poll(self):
            return 0

    def stop(*_, **__):
        raise FocalError("far enough", "no hint")

    monkeypatch.chdir(own_world)
    monkeypatch.setattr("focalcli.work.tuning.gpus", lambda device: 3)
    monkeypatch.setattr("focalcli.work.tuning.tune", stop)
    monkeypatch.setattr("focalcli.cli.tune.subprocess.Popen", Helper)
    mistake("tune", "r.yaml", *words, "--runs", "tuned", says="far enough")
    assert started == [("tune", device) for device in helpers]
