"""`--dry-run` tells what a run costs and `--overfit` whether it can learn; neither leaves anything behind."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from command import files_below, focal, mistake
from conftest import coco_file
from tiny_training import CPU, SETUP, draw

from focalcli import coco
from focalcli.errors import ExitCode, FocalError
from focalcli.training import run, step, trial
from focalcli.training.data import InputSize
from focalcli.training.schedule import Schedule


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return coco.load(draw(tmp_path_factory.mktemp("data")))


def test_a_dry_run_counts_what_the_run_will_do(data, monkeypatch):
    """By hand: 8 pictures in batches of 4, 5 epochs, evaluated after 2, 4 and 5; one step of which loads 4 pictures."""
    monkeypatch.setattr(trial, "TIMED_STEPS", 1)
    setup = replace(SETUP, schedule=replace(SETUP.schedule, epochs=5), trainable_layers=2)
    forecast = trial.dry_run(setup, data, data, CPU)
    assert (forecast.steps, forecast.epochs, forecast.evaluations) == (10, 5, 3)
    assert forecast.seconds_per_epoch == pytest.approx(2 * 4 / forecast.images_per_second)
    assert forecast.seconds == pytest.approx(5 * forecast.seconds_per_epoch + 3 * forecast.evaluation_seconds)
    model = run.new_model(setup, 2)
    assert forecast.parameters == sum(p.numel() for p in model.parameters()) > forecast.trainable > 0
    assert forecast.memory_bytes > 100 * 2**20  # torch alone is more than 100 MiB
    assert 0 < forecast.loss < 100


@pytest.mark.parametrize(
    ("workers", "device", "seconds"),
    [(0, "cpu", 3.0), (0, "cuda", 3.0), (1, "cuda", 2.0), (2, "cuda", 1.0)],
)
def test_loading_overlaps_with_computing_where_it_has_processes_of_its_own(monkeypatch, workers, device, seconds):
    """2 s of loading and 1 s of computing a step: in turn without workers, else the slower of the two."""
    monkeypatch.setattr(trial, "usable", lambda asked: asked)
    assert trial._pace(2.0, 1.0, workers, torch.device(device)) == seconds


def test_a_dry_run_that_diverges_is_exit_3(data, monkeypatch):
    """Better now than after the night."""
    honest = step.focal_loss
    monkeypatch.setattr(step, "focal_loss", lambda *args: honest(*args) * float("nan"))
    with pytest.raises(FocalError, match="training diverged at step 1 of the trial") as caught:
        trial.dry_run(SETUP, data, data, CPU)
    assert caught.value.exit_code == ExitCode.DIVERGED


def test_the_pictures_to_overfit_hold_every_class_and_large_objects(tmp_path):
    """By hand: picture 6 alone holds the dog, 1 to 4 the largest cats; 5 has none and 7 only a tiny one."""
    sides = {1: 200, 2: 150, 3: 120, 4: 110, 7: 5}
    boxes = [{"image_id": n, "bbox": [0, 0, side, side]} for n, side in sides.items()]
    boxes.append({"image_id": 6, "bbox": [0, 0, 100, 100], "category_id": 2})
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(1, 8)]
    (tmp_path / "a.json").write_text(json.dumps(coco_file(boxes, images)))
    dataset = coco.load(tmp_path / "a.json")
    chosen = trial._chosen(dataset, np.array([0, 1]))
    assert [dataset.image_ids[i] for i in chosen] == [1, 2, 3, 6]
    few = trial.subset(dataset, chosen)
    assert few.image_ids == (1, 2, 3, 6) and few.objects_per_class.tolist() == [3, 1]
    assert few.box_image.tolist() == [0, 1, 2, 3] and few.file_names[3] == "6.jpg"


def test_overfitting_shrinks_pictures_and_anchors_together(data):
    """800 px become 320: the same boxes meet the same anchors."""
    large = replace(SETUP, size=InputSize(800, 1000))
    small = trial._smaller(large, 4, ["red", "green"], ["green"])
    assert small.size == InputSize(320, 400) and small.spec.sizes == pytest.approx((3.2, 6.4, 12.8, 25.6, 51.2))
    assert small.objective.alpha == [0.5] and small.prior == 0.05 and small.batch_size == 4
    assert trial._smaller(SETUP, 4, ["red", "green"], ["red", "green"]).spec == SETUP.spec


def test_overfitting_that_does_not_learn_says_so(data, monkeypatch):
    """A learning rate of nothing: steps or time run out, and the AP50 stays where it was."""
    looks = []
    setup = replace(SETUP, schedule=replace(SETUP.schedule, lr=1e-12))
    with monkeypatch.context() as patch:
        patch.setattr(trial, "OVERFIT_STEPS", 2)
        patch.setattr(trial, "LOOK_EVERY", 1)
        result = trial.overfit(setup, data, CPU, lambda *look: None)
        assert [step for step, _ in result.curve] == [1, 2] and not result.learned and not result.out_of_time
    monkeypatch.setattr(trial, "OVERFIT_SECONDS", 0.0)
    result = trial.overfit(setup, data, CPU, lambda *look: looks.append(look))
    assert (
        not result.learned and result.out_of_time and len(result.curve) == len(looks) == 1 and result.curve[0][1] < 0.5
    )
    assert (result.pictures, result.classes) == (4, 2)


@pytest.mark.slow
def test_the_chain_learns_four_pictures_by_heart(data):
    """From random weights to AP50 0.9 or more; it took 150 steps."""
    setup = replace(SETUP, schedule=Schedule(epochs=1, lr=0.003, optimizer="adamw", warmup_steps=10))
    result = trial.overfit(setup, data, CPU, lambda *_: None)
    assert result.learned, result.curve


def test_the_commands_leave_nothing_and_say_what_they_found(own_world, monkeypatch):
    """Forecast and verdict are the result: stdout; exit 1 when nothing was learned."""
    monkeypatch.setattr(trial, "TIMED_STEPS", 0)
    monkeypatch.setattr(trial, "OVERFIT_SECONDS", 0.0)
    before = files_below(own_world)
    words = ("train", own_world / "r.yaml", "--runs", own_world / "runs", "--device", "cpu")
    said = focal(*words, "--dry-run").stdout
    assert re.search(r"^time +about \d+:\d\d in all: 1 step and 1 evaluation$", said, re.MULTILINE)
    assert "images/s" in said and "GiB" in said
    result = focal(*words, "--overfit", exit_code=1)
    assert result.stdout.startswith("not learned: 4 pictures at 64 px, ") and "step    1  loss" in result.stderr
    assert "hint: the time ran out" in result.stderr
    assert files_below(own_world) == before
    mistake(*words, "--dry-run", "--overfit", says="exclude each other")
