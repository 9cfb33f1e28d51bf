"""A checkpoint that somebody has changed: what does not fit is named, and nothing runs."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from command import mistake
from safetensors.torch import load_file, save_file

from focalcli.training import checkpoint
from focalcli.training.described import refuse_misfit


@pytest.fixture(scope="module")
def meta(world) -> dict[str, Any]:
    return checkpoint.load(world / "runs/r").meta


def changed(meta: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(meta)
    *path, last = place.split(".")
    inner = result
    for key in path:
        inner = inner[key]
    inner[last] = value
    return result


def test_what_a_training_writes_fits(meta):
    refuse_misfit(meta)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("classes", []),
        ("classes", [{"id": [1], "name": 5}]),
        ("classes", [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]),
        ("input.min_size", "320"),
        ("input.min_size", 0),
        ("input.max_size", 10**9),
        ("network.head_depth", 10**9),
        ("network.width", True),
        ("thresholds.score", math.nan),
        ("thresholds.max_detections", 0),
        ("loss.alpha", ["a"]),
        ("loss.gamma", None),
        ("data", None),
        ("data.train", {}),
        ("data.val", {"path": "x"}),
        ("data.train.path", 5),
        ("data.train.objects", {"a": "many"}),
        ("recipe", "x"),
        ("calibration", {"maps": {}}),
    ],
)
def test_the_entry_that_does_not_fit_is_named(meta, place, value):
    with pytest.raises(ValueError, match=place.split(".")[0]):
        refuse_misfit(changed(meta, place, value))


@pytest.mark.parametrize("command", ["eval", "explain-loss", "calibrate"])
def test_a_changed_checkpoint_is_a_mistake_in_every_command(own_world, command):
    file = own_world / "runs/r/checkpoints/best.safetensors"
    checkpoint.replace_meta(file, changed(checkpoint.load(file).meta, "data", {"train": {}}))
    mistake(command, file, says="data.train is {}, expected path, image_root and sha256", hint="another checkpoint")


def test_weights_that_are_not_finite_are_refused(own_world):
    """Such a detector finds nothing, which would read as an AP of 0."""
    file = own_world / "runs/r/checkpoints/best.safetensors"
    meta, tensors = checkpoint.load(file).meta, load_file(file)
    name = next(key for key, tensor in tensors.items() if tensor.is_floating_point())
    save_file({**tensors, name: torch.full_like(tensors[name], math.nan)}, file)
    checkpoint.replace_meta(file, meta)
    mistake("eval", file, says=f"{name} holds NaN or infinity", hint="another checkpoint")


def test_a_description_nested_too_deeply_is_no_traceback(tmp_path):
    file = tmp_path / "deep.safetensors"
    save_file({"x": torch.zeros(1)}, file, {"focal": "[" * 100_000})
    mistake("eval", file, says="not a readable checkpoint")
