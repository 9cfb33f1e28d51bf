"""--tensorboard: the curves are those of metrics.jsonl, read by TensorBoard's own reader, and no step comes twice."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
from command import focal
from tiny_training import SETUP, at_step, draw, lines, stop, train

from focalcli import coco
from focalcli.errors import ExitCode, FocalError
from focalcli.training import loop, metrics, tensorboard

needs_tensorboard = pytest.mark.skipif(
    tensorboard.find_spec("tensorboard") is None,
    reason="tensorboard is not installed: pip install 'focal[tensorboard]'",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return coco.load(draw(tmp_path_factory.mktemp("data")))


def curves(folder) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value) of every scalar, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


@needs_tensorboard
def test_curves_are_those_of_metrics_jsonl_also_after_a_resume(data, tmp_path, monkeypatch):
    """DESIGN: metrics.jsonl holds every figure; the run stops in its second epoch, and goes on with --tensorboard."""
    monkeypatch.setattr(metrics, "LOG_EVERY_SECONDS", 0)
    with pytest.raises(loop.Interrupted):
        train(tmp_path, data, at=at_step(3, stop()), tensorboard=True)
    assert [step for step, _ in curves(tmp_path / "tensorboard")["train/loss"]] == [1, 2, 3]
    train(tmp_path, data, resume=True, tensorboard=True)
    found, kept = curves(tmp_path / "tensorboard"), lines(tmp_path)
    for tag, kind, name in (
        ("train/loss", "train", "loss"), ("train/lr", "train", "lr"), ("val/AP50", "eval", "AP50"),
        ("train/images_per_second", "train", "images_per_second"),
    ):  # fmt: skip
        expected = [(line["step"], line[name]) for line in kept if line["kind"] == kind]
        assert len(found[tag]) == len(expected) > 1
        assert [step for step, _ in found[tag]] == [step for step, _ in expected]
        assert [value for _, value in found[tag]] == pytest.approx([value for _, value in expected], rel=1e-6)
    for name in ("red", "green"):
        expected = [(line["step"], line["classes"][name]) for line in kept if line["kind"] == "eval"]
        assert found[f"AP of a class/{name}"] == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]


@needs_tensorboard
def test_what_is_undefined_has_no_curve(tmp_path):
    """A class without objects to find has AP null: no point, rather than 0 or -1."""
    board = tensorboard.Board(tmp_path, [])
    board.write({"kind": "eval", "step": 4, "epoch": 2, "AP": 0.5, "APs": None, "classes": {"a": None, "b": 0.25}})
    assert curves(tmp_path) == {"val/AP": [(4, 0.5)], "AP of a class/b": [(4, 0.25)]}


@needs_tensorboard
def test_the_command_keeps_the_curves_in_the_run(own_world):
    """Nothing is left there by a run without the flag."""
    focal("train", own_world / "r.yaml", "name=b", "--tensorboard", "--runs", own_world / "runs", "--device", "cpu")
    assert "AP of a class/square" in curves(own_world / "runs/b/tensorboard")
    assert not (own_world / "runs/r/tensorboard").exists()


def test_a_missing_package_is_said_before_anything_is_read(monkeypatch):
    """STYLE: what is missing, and the command that installs it."""
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(FocalError, match="tensorboard is not installed") as caught:
        tensorboard.require_tensorboard()
    assert caught.value.exit_code == ExitCode.BAD_INPUT and "focal[tensorboard]" in caught.value.hint


def test_a_run_without_the_flag_needs_no_tensorboard(data, tmp_path, monkeypatch):
    """torch.utils.tensorboard is imported for those who ask for it."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    setup = replace(SETUP, schedule=replace(SETUP.schedule, epochs=1, eval_every=1))
    train(tmp_path, data, setup)
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["kind"] == "eval"
