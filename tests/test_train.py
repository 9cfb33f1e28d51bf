"""A run trains, stops and goes on to the same weights, refuses to go on as another run, and says where it diverged."""

from __future__ import annotations

import csv
import json
import math
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import coco_file
from tiny_training import (
    CLASSES,
    CPU,
    EPOCHS,
    SETUP,
    STEPS_PER_EPOCH,
    assert_same_weights,
    at_step,
    draw,
    lines,
    stop,
    timeless,
    train,
)
from torchvision.models import mobilenet_v2

from focalcli import coco
from focalcli.anchors import AnchorSpec
from focalcli.coco import Category
from focalcli.errors import ExitCode, FocalError
from focalcli.training import checkpoint, loop, metrics, run, step
from focalcli.training.augment import Augment
from focalcli.training.classes import labels_of, trained_classes
from focalcli.training.data import InputSize
from focalcli.training.description import Sampling
from focalcli.training.device import pick_device
from focalcli.training.model import build_model, freeze
from focalcli.training.predict import Thresholds
from focalcli.training.schedule import Schedule, make_optimizer
from focalcli.training.step import Objective


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return coco.load(draw(tmp_path_factory.mktemp("data")))


@pytest.fixture(autouse=True)
def every_step_is_reported(monkeypatch):
    monkeypatch.setattr(metrics, "LOG_EVERY_SECONDS", 0)


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """The folder and the display of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "LOG_EVERY_SECONDS", 0)
        return folder, train(folder, data)


# ---------------------------------------------------------------------------------------------------------- a whole run


def test_a_run_leaves_what_the_design_says(unbroken, data):
    """DESIGN, `What a run leaves`: checkpoints, metrics.jsonl, results.csv, env.json, dataset.json."""
    folder, _ = unbroken
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == [
        "checkpoints/best.safetensors", "checkpoints/last.safetensors",
        "dataset.json", "env.json", "metrics.jsonl", "results.csv",
    ]  # fmt: skip
    facts = json.loads((folder / "dataset.json").read_text())
    assert facts["classes"] == CLASSES
    assert facts["train"]["sha256"] == data.sha256
    assert facts["train"]["objects"] == {"red": 8, "green": 2}
    assert json.loads((folder / "env.json").read_text())["torch"] == torch.__version__


def test_metrics_of_every_step_and_evaluation_are_kept(unbroken):
    """DESIGN: metrics.jsonl line by line, results.csv with the evaluations alone, numbers in 0..1."""
    folder, display = unbroken
    kept = lines(folder)
    assert [line["step"] for line in kept if line["kind"] == "train"] == list(range(1, STEPS_PER_EPOCH * EPOCHS + 1))
    assert [(line["step"], line["epoch"]) for line in kept if line["kind"] == "eval"] == [(4, 2), (8, 4)]
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["2", "4"]
    assert {"AP", "AP50", "AP/red", "AP/green"} <= rows[0].keys()
    assert [report.step for report in display.steps] == list(range(1, 9))
    assert display.steps[-1].eta_seconds == 0
    assert display.steps[-1].epoch == EPOCHS


def test_the_loss_falls(data, tmp_path):
    """24 steps on eight pictures: the last six cost less than the first six (0.71 to 0.86 of it with three seeds)."""
    schedule = replace(SETUP.schedule, epochs=12, lr=0.003, eval_every=12, clip_norm=10)
    losses = [report.loss for report in train(tmp_path, data, replace(SETUP, schedule=schedule)).steps]
    assert sum(losses[-6:]) < 0.95 * sum(losses[:6])


def test_frozen_stages_keep_the_weights_of_the_file(data, tmp_path):
    """TRAPS 21: building without weights and loading a file afterwards un-freezes in torchvision; here 2 of 5 train."""
    file = tmp_path / "features.pth"
    torch.save(mobilenet_v2().features.state_dict(), file)
    network = replace(SETUP.network, frozen_batch_norm=True)
    schedule = replace(SETUP.schedule, epochs=1, warmup_steps=0)
    setup = replace(SETUP, weights=str(file), network=network, trainable_layers=2, schedule=schedule)
    display = train(tmp_path, data, setup)
    assert display.notes[0] == f"weights from {file}: 260 tensors"
    trained = checkpoint.load(tmp_path).model
    for name, tensor in torch.load(file, weights_only=True).items():
        if tensor.ndim == 4:  # stages: 0-1, 2-3, 4-6, 7-13, 14-18 of the features
            assert torch.equal(trained[f"backbone.body.{name}"], tensor) == (int(name.split(".")[0]) < 7), name


def test_detections_lie_in_their_pictures(unbroken, data):
    """COCO: x, y >= 0, x + w and y + h within the picture; scores above the threshold, at most 100 a picture."""
    trained = run.load_trained(unbroken[0], CPU)
    trained = replace(trained, thresholds=Thresholds(score=0.01))
    found = run.detect(trained, data, device=CPU, batch_size=3, workers=0)
    assert len(found) > 50
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] > 0).all()
    assert (found.boxes[:, :2] + found.boxes[:, 2:] <= data.image_wh[found.image] + 1e-6).all()
    assert (found.scores > 0.01).all()
    assert set(found.label) <= {0, 1}
    assert np.bincount(found.image).max() <= 100


def test_the_best_checkpoint_scores_what_the_log_says(unbroken, data):
    """DESIGN: eval of a checkpoint needs nothing but the checkpoint; same pictures, same numbers."""
    trained = run.load_trained(unbroken[0], CPU)
    found = run.detect(trained, data, device=CPU, batch_size=8, workers=0)
    summary = run.score(data, found, trained.meta).summary
    best = max((line for line in lines(unbroken[0]) if line["kind"] == "eval"), key=lambda line: line["AP"])
    assert summary["AP"] == best["AP"]
    assert trained.meta["progress"]["best"] == best["AP"]


def test_a_detector_works_on_a_dataset_with_other_ids_and_order(unbroken, data, tmp_path):
    """TRAPS 3: classes are matched by name. The same pictures, ids swapped and a ghost added: the same detections."""
    others = [{"id": 9, "name": "red"}, {"id": 0, "name": "ghost"}, {"id": 2, "name": "green"}]
    file = draw(tmp_path, [others[0], others[2]])
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "categories": others}))
    moved = coco.load(file)
    trained = run.load_trained(unbroken[0], CPU)
    one, two = (run.detect(trained, each, device=CPU, batch_size=8, workers=0) for each in (data, moved))
    assert [data.class_names[label] for label in one.label] == [moved.class_names[label] for label in two.label]
    assert np.array_equal(one.boxes, two.boxes)
    scores = [run.score(each, found, trained.meta).summary["AP"] for each, found in ((data, one), (moved, two))]
    assert scores[0] == scores[1]


def test_a_checkpoint_whose_description_does_not_fit_is_refused(unbroken, tmp_path):
    """A changed or hand-made file: another width, a class more, no anchors."""
    saved = checkpoint.load(unbroken[0])
    model = build_model(backbone="mobilenet_v2", num_classes=2, anchors_per_cell=9, width=32, head_depth=1)
    model.load_state_dict(saved.model)
    meta = {key: value for key, value in saved.meta.items() if key != "format"}
    changes = [
        {"network": {**meta["network"], "width": 16}}, {"network": {**meta["network"], "backbone": "vgg"}},
        {"network": None}, {"classes": [*meta["classes"], {"id": 9, "name": "more"}]}, {"classes": [3]},
        {"anchors": []}, {"anchors": {"sizes": [1], "ratios": [1]}}, {"input": {}}, {"thresholds": 3},
    ]  # fmt: skip
    for change in changes:
        checkpoint.save(tmp_path / "x.safetensors", model, {**meta, **change})
        with pytest.raises(FocalError):
            run.load_trained(tmp_path / "x.safetensors", CPU)


# ------------------------------------------------------------------------------------------------------ stop and resume


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("number", [3, 4])
def test_a_stopped_run_goes_on_to_the_same_weights(unbroken, data, tmp_path, number, signum, code):
    """TRAPS 28: bit for bit those of the run that nothing stopped, from the middle of an epoch and from its end; the
    exit codes are the shell's 128 + signal."""
    with pytest.raises(loop.Interrupted, match=rf"stopped by SIG\w+ after step {number} of 8, saved") as stopped:
        train(tmp_path, data, at=at_step(number, stop(signum)))
    assert stopped.value.exit_code == code
    assert checkpoint.load(tmp_path / "checkpoints" / "last.safetensors").meta["progress"]["step"] == number
    display = train(tmp_path, data, resume=True)
    assert f"after step {number}" in display.notes[0]
    assert_same_weights(tmp_path, unbroken[0])
    assert_same_weights(tmp_path, unbroken[0], "best")
    assert timeless(tmp_path) == timeless(unbroken[0])


def test_a_killed_run_goes_on_from_its_last_checkpoint(unbroken, data, tmp_path):
    """Killed after step 7 without a chance to save: from step 6 on again, without a line twice in metrics.jsonl."""

    def die():
        raise MemoryError

    with pytest.raises(MemoryError):
        train(tmp_path, data, at=at_step(7, die))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # the line that a kill cut short
    display = train(tmp_path, data, resume=True)
    assert [report.step for report in display.steps] == [7, 8]
    assert_same_weights(tmp_path, unbroken[0])
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]


@pytest.fixture
def python_handles_ctrl_c():
    """A shell's background job, which a CI may be, starts with SIGINT ignored; at a terminal Python handles it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_stops_at_once(data, tmp_path, python_handles_ctrl_c):
    """The first one asks for an orderly end; who presses again does not want to wait. Handlers are put back."""

    def twice():
        stop()()
        stop()()

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, data, at=at_step(1, twice))
    assert signal.getsignal(signal.SIGINT) is python_handles_ctrl_c


def test_resuming_a_finished_run_changes_nothing(unbroken, data):
    """Nothing is left to do: same weights, same log."""
    folder, _ = unbroken
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert train(folder, data, resume=True).steps == []
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_nothing_to_resume_is_said(data, tmp_path):
    """STYLE: the place, and what was expected."""
    with pytest.raises(FocalError, match=r"last\.safetensors: no such checkpoint"):
        train(tmp_path, data, resume=True)


OTHER_RUNS = {
    "loss": {"objective": replace(SETUP.objective, gamma=1.5)},
    "network": {"network": replace(SETUP.network, frozen_eps=0.0)},
    "anchors": {"spec": AnchorSpec()},
    "input": {"size": InputSize(64, 97)},
    "trainable_layers": {"trainable_layers": 3},
    "augment": {"augment": Augment(crop=0.5)},
    "repeat_threshold": {"sampling": Sampling()},
    "repeat_power": {"sampling": replace(SETUP.sampling, repeat_power=1.0)},
    "sampler": {"sampling": replace(SETUP.sampling, sampler="class_aware")},
    "schedule.ema": {"schedule": replace(SETUP.schedule, ema=0.9)},
    "schedule.best": {"schedule": replace(SETUP.schedule, best="AP50")},
    "batch_size": {"batch_size": 2},
    "seed": {"seed": 1},
    "schedule.lr": {"schedule": replace(SETUP.schedule, lr=0.1)},
    "schedule.epochs": {"schedule": replace(SETUP.schedule, epochs=9)},
    "schedule.optimizer": {"schedule": replace(SETUP.schedule, optimizer="sgd")},
}


@pytest.mark.parametrize("what", OTHER_RUNS)
def test_a_run_is_not_resumed_as_another(unbroken, data, what):
    """TRAPS 28: whatever decides the weights must be as it was; the error names it."""
    with pytest.raises(FocalError, match=f"cannot be resumed, the run it belongs to had other {what}$") as caught:
        train(unbroken[0], data, replace(SETUP, **OTHER_RUNS[what]), resume=True)
    assert "start anew under another name" in caught.value.hint


def test_a_run_is_not_resumed_with_other_data_or_classes(unbroken, data, tmp_path):
    """TRAPS 28: the sha256 of both files, and the class map."""
    changed = replace(data, digest="0" * 64)
    for names, sets in {
        "data.train": (changed, data), "data.val": (data, changed), "data.train, data.val": (changed, changed),
    }.items():  # fmt: skip
        with pytest.raises(FocalError, match=f"had other {names}$"):
            train(unbroken[0], sets[0], resume=True, val=sets[1])
    renamed = replace(data, categories=(Category(3, "rot"), Category(7, "green")))
    with pytest.raises(FocalError, match=r"had other classes$"):
        train(unbroken[0], renamed, resume=True)


def test_where_and_how_often_does_not_decide_the_weights(unbroken, data, tmp_path):
    """A run may go on in a folder that was moved, with other workers, thresholds and intervals of evaluation."""
    schedule = replace(SETUP.schedule, eval_every=1, save_minutes=1, save_steps=3, keep=2, accumulate=2, patience=9)
    setup = replace(SETUP, workers=1, precision="auto", thresholds=Thresholds(score=0.1), schedule=schedule)
    moved = replace(data, path=tmp_path / "train.json", digest=data.sha256)
    assert train(unbroken[0], moved, setup, resume=True).steps == []


# ----------------------------------------------------------------------------------------------------------- divergence


def test_divergence_names_the_step_and_the_pictures_and_keeps_the_weights(data, tmp_path, monkeypatch):
    """TRAPS 26: exit code 3, the images of the batch, no update with NaN, the last good checkpoint stays."""
    seen = {}
    honest_loss, honest_step = step.focal_loss, step.Stepper.step

    def sick_loss(*args):
        seen["calls"] = seen.get("calls", 0) + 1
        return honest_loss(*args) * (math.nan if seen["calls"] == 6 else 1.0)

    def watched_step(self, parts, *rest):
        before = [p.detach().clone() for p in self.model.parameters()]
        result = honest_step(self, parts, *rest)
        seen["updated"] = any(not torch.equal(a, b) for a, b in zip(before, self.model.parameters(), strict=True))
        seen["ids"] = [data.image_ids[i] for part in parts for i in part.indices.tolist()]
        return result

    monkeypatch.setattr(step, "focal_loss", sick_loss)
    monkeypatch.setattr(step.Stepper, "step", watched_step)
    with pytest.raises(FocalError, match=r"training diverged at step 6: loss nan") as caught:
        train(tmp_path, data)
    assert caught.value.exit_code == ExitCode.DIVERGED == 3
    assert caught.value.message.endswith(f"images {', '.join(map(str, seen['ids']))}")
    assert all(101 <= image_id <= 108 for image_id in seen["ids"])
    assert not seen["updated"]
    assert f"the last good checkpoint is in {tmp_path / 'checkpoints'}" in caught.value.hint
    saved = checkpoint.load(tmp_path / "checkpoints" / "last.safetensors")
    assert saved.meta["progress"]["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in saved.model.values())


def test_a_learning_rate_far_too_high_ends_in_exit_code_3(data, tmp_path):
    """TRAPS 25, 26: it shows in the gradient norm or the loss within a few steps; before the first checkpoint there is
    none to point to."""
    wild = replace(SETUP.schedule, lr=1e12, optimizer="sgd", warmup_steps=0, epochs=1)
    with pytest.raises(FocalError, match=r"diverged at step [234]: .* lr 9\.\d+e\+11, images 10\d$") as caught:
        train(tmp_path, data, replace(SETUP, schedule=wild, batch_size=1, sampling=Sampling()))
    assert caught.value.exit_code == ExitCode.DIVERGED
    assert "no checkpoint was written before" in caught.value.hint
    assert "schedule.lr" in caught.value.hint


def test_a_gradient_that_is_not_finite_is_divergence_too(data, tmp_path, monkeypatch):
    """TRAPS 16, 26: the loss can be finite while its gradient is NaN."""

    class Trap(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        def backward(ctx, upstream):
            return upstream * math.nan

    honest = step.focal_loss
    monkeypatch.setattr(step, "focal_loss", lambda *args: Trap.apply(honest(*args)))
    with pytest.raises(FocalError, match=r"diverged at step 1: loss \d.*gradient norm nan") as caught:
        train(tmp_path, data)
    assert caught.value.exit_code == ExitCode.DIVERGED


# -------------------------------------------------------------------------------------------------------------- classes


def dataset(tmp_path: Path, categories, boxes, name: str = "val.json") -> coco.Dataset:
    (tmp_path / name).write_text(json.dumps(coco_file(boxes, categories=categories)))
    return coco.load(tmp_path / name)


def named(*names: str) -> list[dict]:
    return [{"id": number, "name": name} for number, name in enumerate(names)]


def test_a_category_without_objects_is_not_trained(tmp_path):
    """TRAPS 13: exporters write a ghost category 0. A crowd alone is no object either."""
    boxes = [{"category_id": 2}, {"category_id": 1, "iscrowd": 1}]
    assert trained_classes(dataset(tmp_path, named("ghost", "crowd", "cat"), boxes)) == (Category(2, "cat"),)


def test_a_dataset_without_objects_is_refused(tmp_path):
    """Nothing to learn from, and nothing to evaluate on."""
    empty = dataset(tmp_path, named("cat"), [])
    with pytest.raises(FocalError, match=r"val\.json: no objects to train on"):
        trained_classes(empty)
    some = dataset(tmp_path, named("cat"), [{"category_id": 0}], "train.json")
    with pytest.raises(FocalError, match=r"val\.json: no objects to evaluate on"):
        train(tmp_path, some, val=empty)


def test_classes_are_matched_by_name_not_by_id(tmp_path):
    """TRAPS 3: train and val can disagree on ids and order; a ghost becomes -1."""
    val = dataset(tmp_path, named("dog", "ghost", "cat"), [{"category_id": 2}])
    assert labels_of(val, [Category(5, "cat"), Category(6, "dog")], "train.json").tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("cat", "dogs"), r"it has 'dogs', unknown to the model; it lacks 'dog'"),
        (("cat",), r"other classes than train\.json: it lacks 'dog'"),
        (("cat", "dog", "cow"), r"other classes than train\.json: it has 'cow', unknown to the model"),
        (tuple("abcdefg"), r"it has 'a', 'b', 'c', 'd', 'e' and 2 more, unknown"),
    ],
)
def test_other_classes_are_named(tmp_path, names, says):
    """TRAPS 3 (mmdetection#2361: mAP 0): an error with both lists, not a score of 0."""
    val = dataset(tmp_path, named(*names), [{"category_id": n} for n in range(len(names))])
    with pytest.raises(FocalError, match=says) as caught:
        labels_of(val, [Category(1, "cat"), Category(2, "dog")], "train.json")
    assert "the trained classes are 'cat', 'dog'" in caught.value.hint


@pytest.mark.parametrize("ghost", [True, False])
def test_two_categories_of_one_name_are_refused(tmp_path, ghost):
    """F202: by name they are one class, by id two; half of its objects would count as the other's, AP 0 for one."""
    boxes = [{"category_id": 0}] if ghost else [{"category_id": 0}, {"category_id": 1}]
    twice = dataset(tmp_path, named("cat", "cat"), boxes)
    with pytest.raises(FocalError, match=r"categories 0, 1 are all named 'cat'") as caught:
        labels_of(twice, trained_classes(twice), "train.json")
    assert "F202" in caught.value.hint


# ----------------------------------------------------------------------------------------------- optimizer and schedule


@pytest.mark.parametrize(
    ("step", "expected"),
    # by hand: 4 steps up to 0.1; then 0.05 (1 + cos(pi (step - 4) / 96))
    [(0, 0.025), (1, 0.05), (3, 0.1), (4, 0.1), (28, 0.05 * (1 + math.sqrt(0.5))), (52, 0.05), (99, 2.677e-5)],
)
def test_learning_rate_warms_up_and_falls_along_a_cosine(step, expected):
    """Goyal et al. 2017 (gradual warm-up); Loshchilov & Hutter 2016, eq. 5, one cycle to 0."""
    assert Schedule(epochs=1, lr=0.1, warmup_steps=4).lr_at(step, 100) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.025), (3, 0.1), (66, 0.1), (67, 0.01), (88, 0.01), (89, 0.001), (99, 0.001)]
)
def test_learning_rate_steps_down_at_its_milestones(step, expected):
    """Lin et al. 2017, sec. 4.1: 90k steps, divided by 10 at 60k and 80k; here of 100 steps, at 2/3 and 8/9."""
    schedule = Schedule(epochs=1, lr=0.1, warmup_steps=4, decay="step", milestones=(2 / 3, 8 / 9))
    assert schedule.lr_at(step, 100) == pytest.approx(expected)


def test_a_warm_up_longer_than_the_run_only_rises():
    """3 steps of 10: 0.1, 0.2, 0.3 of the rate, and no division by zero."""
    schedule = Schedule(epochs=1, lr=1.0, warmup_steps=10)
    assert [schedule.lr_at(step, 3) for step in range(3)] == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_biases_and_norms_are_not_decayed_and_frozen_stages_not_touched(kind):
    """Bag of Tricks (arXiv:1812.01187, sec. 3.1): no decay on biases, gamma and beta."""
    model = build_model(backbone="mobilenet_v2", num_classes=2, anchors_per_cell=9, width=16, head_depth=1)
    freeze(model, "mobilenet_v2", 2)
    optimizer = make_optimizer(model, Schedule(epochs=1, lr=0.1, optimizer=kind, weight_decay=0.05))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert id(parameter) not in decay
        else:
            assert decay[id(parameter)] == (0.05 if name.endswith("weight") and parameter.ndim == 4 else 0.0), name
    assert len(decay) < len(list(model.parameters()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_said():
    """STYLE: what was found, and the next step."""
    assert pick_device("auto").type == "cpu"
    with pytest.raises(FocalError, match="torch sees no CUDA device") as caught:
        pick_device("cuda")
    assert "nvidia-smi" in caught.value.hint


# -------------------------------------------------------------------------------------------------------- does it learn


@pytest.mark.slow
def test_a_small_detector_learns_the_squares(data, tmp_path):
    """200 steps from random weights on the easiest of pictures: AP50 was 0.78, 0.84 and 0.61 with seeds 0 to 2."""
    schedule = Schedule(epochs=100, lr=0.003, optimizer="adamw", warmup_steps=20, clip_norm=10, eval_every=100)
    still = Augment(flip=0.5, vertical_flip=0.5, scale=(1.0, 1.0))
    setup = replace(SETUP, schedule=schedule, augment=still, objective=Objective(0.25, 2.0), prior=0.01)
    train(tmp_path, data, setup)
    (final,) = (line for line in lines(tmp_path) if line["kind"] == "eval")
    assert final["AP50"] > 0.4
