"""What the tests of training share: eight drawn pictures, a network that takes a step in a blink, and how to run it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import torch
from conftest import coco_file
from PIL import Image

from focalcli.anchors import AnchorSpec
from focalcli.training import checkpoint, run
from focalcli.training.augment import Augment
from focalcli.training.data import InputSize
from focalcli.training.description import Network, Sampling, Setup
from focalcli.training.predict import Thresholds
from focalcli.training.schedule import Schedule
from focalcli.training.step import Objective

CPU = torch.device("cpu")
CLASSES = [{"id": 3, "name": "red"}, {"id": 7, "name": "green"}]
STEPS_PER_EPOCH, EPOCHS = 2, 4

SETUP = Setup(
    network=Network("mobilenet_v2", width=32, head_depth=1, head_norm="none", frozen_batch_norm=False, frozen_eps=1e-5),
    weights="none",
    trainable_layers=5,
    spec=AnchorSpec((8, 16, 32, 64, 128)),
    size=InputSize(64, 96),
    augment=Augment(),
    sampling=Sampling(repeat_threshold=0.5),  # green is in a quarter of the pictures: they are repeated sqrt(2) times
    objective=Objective(alpha=[0.25, 0.5], gamma=2.0),
    prior=0.05,
    schedule=Schedule(epochs=EPOCHS, lr=0.002, optimizer="adamw", warmup_steps=2, eval_every=2),
    thresholds=Thresholds(),
    batch_size=4,
    workers=0,
    precision="fp32",
    seed=0,
)


def draw(folder: Path, categories=CLASSES, name: str = "train", pictures: int = 8) -> Path:
    """A COCO file and its pictures of 64 to 96 px: a red square in each, a green one too in every fourth."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    images, boxes = [], []
    for number in range(pictures):
        width, height = 64 + 4 * number, 96 - 4 * number
        image = Image.new("RGB", (width, height), (30, 30, 60))
        for category, colour in ((0, (220, 40, 40)), (1, (40, 220, 40)))[: 2 if number % 4 == 0 else 1]:
            side = int(rng.integers(14, 28))
            x, y = (int(rng.integers(0, limit - side)) for limit in (width, height))
            image.paste(colour, (x, y, x + side, y + side))
            label = categories[category]["id"]
            box = {"image_id": 101 + number, "category_id": label, "bbox": [x, y, side, side], "area": side * side}
            boxes.append(box)
        image.save(folder / f"{number}.png")
        images.append({"id": 101 + number, "file_name": f"{number}.png", "width": width, "height": height})
    file = folder / f"{name}.json"
    file.write_text(json.dumps(coco_file(boxes, images, categories)))
    return file


class Display:
    """Keeps what it is told; `at` is called with each step's number."""

    def __init__(self, at=lambda step: None) -> None:
        self.at, self.steps, self.notes = at, [], []

    def stepped(self, report) -> None:
        self.steps.append(report)
        self.at(report.step)

    def evaluated(self, epoch, metrics, best) -> None:
        pass

    def note(self, text) -> None:
        self.notes.append(text)


def train(folder: Path, data, setup=SETUP, *, resume=False, at=lambda step: None, val=None, **options) -> Display:
    display = Display(at)
    folder.mkdir(exist_ok=True)
    run.train(setup, data, val or data, folder, recipe={}, device=CPU, resume=resume, display=display, **options)
    return display


def stop(signum=signal.SIGINT):
    return lambda: os.kill(os.getpid(), signum)


def at_step(number: int, act):
    return lambda step: act() if step == number else None


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def timeless(folder: Path) -> list[dict]:
    """The log without what depends on the clock."""
    return [
        {k: v for k, v in line.items() if k not in ("images_per_second", "eta_seconds", "memory_bytes")}
        for line in lines(folder)
    ]


def assert_same_weights(folder: Path, other: Path, name: str = "last") -> None:
    one, two = (checkpoint.load(place / "checkpoints" / f"{name}.safetensors") for place in (folder, other))
    for left, right in ((one.model, two.model), (one.weights, two.weights), (one.optimizer, two.optimizer)):
        assert left.keys() == right.keys()
        for key in left:
            assert torch.equal(left[key], right[key]), key
