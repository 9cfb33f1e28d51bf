"""What a recipe says reaches the training: every key, under its own name, and all of them together."""

from __future__ import annotations

import json

import pytest
from command import focal

from focalcli import coco
from focalcli import recipe as recipes
from focalcli.training import checkpoint
from focalcli.work.unpack import setup_of

# keys that a Setup does not hold: where things lie, what they are called, and what lr and anchors are made of
ELSEWHERE = {
    "name", "data.path", "data.train", "data.val", "data.train_images", "data.val_images", "model.batch_norm",
    "loss.alpha_by", "loss.beta",
    "schedule.lr", "schedule.base_batch", "anchors.sizes", "anchors.ratios", "input.max_size",
}  # fmt: skip
# no value is the default, and none comes twice but where there are only two
OTHER = {
    "data.flip": 0.11, "data.vertical_flip": 0.12, "data.scale_jitter": [0.91, 1.11], "data.brightness": 0.13,
    "data.contrast": 0.14, "data.saturation": 0.15, "data.crop": 0.16, "data.sampler": "class_aware",
    "data.repeat_threshold": 0.17, "data.repeat_power": 0.18, "data.workers": 7,
    "data.cache": "/dev/shm/pictures",
    "model.backbone": "resnet34", "model.weights": "imagenet", "model.trainable_layers": 4, "model.width": 48,
    "model.head_depth": 3, "model.head_norm": "group",
    "input.min_size": 333, "loss.alpha": 0.21, "loss.gamma": 1.22, "loss.prior": 0.023, "loss.box": "giou",
    "loss.box_weight": 2.4, "schedule.epochs": 31, "schedule.batch_size": 32, "schedule.optimizer": "adamw",
    "schedule.weight_decay": 0.033, "schedule.momentum": 0.34, "schedule.warmup_steps": 35, "schedule.decay": "step",
    "schedule.milestones": [0.36], "schedule.lr_gamma": 0.37, "schedule.clip_norm": 3.8, "schedule.accumulate": 39,
    "schedule.ema": 0.41, "schedule.precision": "fp16", "schedule.patience": 42, "schedule.save_minutes": 4.3,
    "schedule.save_steps": 44, "schedule.keep": 45, "schedule.seed": 46,
    "schedule.compile": True,
    "eval.every": 47, "eval.score_threshold": 0.048, "eval.nms_iou": 0.49, "eval.max_detections": 51,
    "eval.best": "class:cross",
}  # fmt: skip


def leaves(value) -> list:
    """Every plain value inside nested dataclasses."""
    if hasattr(value, "__dataclass_fields__"):
        return [leaf for name in value.__dataclass_fields__ for leaf in leaves(getattr(value, name))]
    return [list(value) if isinstance(value, tuple) else value]


def test_every_key_of_a_recipe_reaches_the_training(world):
    """A key that is read and forgotten would train something else than the recipe says."""
    keys = {key for key, *_ in recipes.schema_rows()}
    assert keys == OTHER.keys() | ELSEWHERE
    words = [f"{key}={json.dumps(value) if isinstance(value, (list, bool)) else value}" for key, value in OTHER.items()]
    words += ["schedule.base_batch=16", "schedule.lr=0.1", "input.max_size=555"]
    recipe = recipes.load(world / "r.yaml", words)
    setup = setup_of(recipe, coco.load(world / "data/annotations/train.json"))
    found = leaves(setup)
    for key, value in OTHER.items():
        assert value in found, key
    assert setup.compile is True  # which equals 1, and so would be found anywhere
    assert setup.schedule.lr == pytest.approx(0.2)  # TRAPS 25: 32 pictures in place of 16
    assert setup.size.max_size == 555


def test_everything_at_once_trains_stops_and_goes_on(own_world):
    """Average, parts, window, colours, class-aware turns, workers and kept checkpoints, by the command line."""
    keys = (
        "name=all", "schedule.epochs=4", "schedule.ema=0.9", "schedule.accumulate=2", "model.head_norm=none",
        "data.crop=0.5", "data.brightness=0.3", "data.contrast=0.3", "data.saturation=0.3", "data.sampler=class_aware",
        "data.workers=1", "schedule.keep=2", "schedule.save_steps=1", "schedule.patience=2", "eval.best=class:square",
    )  # fmt: skip
    words = ("train", own_world / "r.yaml", *keys, "--runs", own_world / "runs", "--device", "cpu")
    said = focal(*words).stderr
    # by hand: of 6 turns, 3 go to each class; the 2 pictures with a cross get those 3 and 1 of the square's: 4 crosses
    # and 4 + 4 squares, of which the one step of 4 pictures shows 4 / 6
    assert "an epoch shows square 5, cross 3" in said and "best class:square " in said
    kept = sorted(path.name for path in (own_world / "runs/all/checkpoints").iterdir())
    assert len(kept) == 4 and kept[:2] == ["best.safetensors", "last.safetensors"]
    best = checkpoint.load(own_world / "runs/all")
    assert not best.optimizer and best.meta["training"]["sampler"] == "class_aware"
    assert "nothing left to train" in focal(*words, "--resume").stderr
    focal("eval", own_world / "runs/all", "--workers", 0)
