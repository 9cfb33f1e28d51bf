"""Time parts of training on the CPU, ours and torchvision's by turns in one process, as rows of a markdown table.

    python tests/bench/training.py loss matching step inference loading --data ../shared/data/bccd

loss      focal loss forward and backward, 2 x 200k anchors x 80 classes; torchvision's targets are one-hot, built as
          its RetinaNet builds them. Memory: each in a process of its own, its peak above what held the logits.
matching  one picture's anchors to its boxes at 800 px: box_iou and Matcher.
step      forward, losses, backward and SGD of a mobilenet_v3_large RetinaNet, 4 pictures of 320 px: torchvision's
          RetinaNet around the same backbone, with the same weights, anchors and pictures. Targets are assigned inside
          torchvision's step; in ours the loader has done so, and what that took is a row of its own. Memory: as above,
          two steps from networks without gradients. Once with all
          objects of the pictures and once with 3 of each: the fewer, the less of the box head our step needs.
inference the same two networks from pictures to boxes. The weights are random, with the bias at which 300 scores of a
          picture pass the threshold; they lie scattered, so that the box head is needed nearly everywhere.
loading   JPEG to batches of 4 resized pictures: torchvision's CocoDetection, transforms as in its references/detection,
          and the resize and batching of its GeneralizedRCNNTransform; ours flips, and matches too: without that, which
          torchvision's does in the step, it is a row of its own. Once more with our pictures in data.cache, at network
          size (constant size) and in full (scale jitter or windows).

Before anything is timed, both must give the same numbers. A row has the medians of seconds on the wall and of the
processor, which a busy machine lengthens less, and the ratios of these medians.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torchvision
from torchvision.datasets import CocoDetection
from torchvision.models.detection import RetinaNet
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import box_iou, sigmoid_focal_loss
from torchvision.transforms import v2

from focalcli import anchors, coco
from focalcli.anchors import AnchorSpec
from focalcli.detections import Detections
from focalcli.training.augment import Augment
from focalcli.training.cache import PictureCache
from focalcli.training.data import Batch, Collate, InputSize, Pictures, Sample, pad
from focalcli.training.loss import BACKGROUND, IGNORE, box_loss, focal_loss
from focalcli.training.model import IMAGE_MEAN, IMAGE_STD, Detector, build_model
from focalcli.training.norms import FoldedConv, FrozenBatchNorm2d
from focalcli.training.predict import Thresholds, _detect_batch
from focalcli.training.sampling import Key
from focalcli.training.step import Objective, losses
from focalcli.training.winograd import Conv3x3

SPEC = AnchorSpec()
STEP_PX, STEP_PICTURES = 320, 4
WAYS = ("ours", "torchvision")
Times = list[tuple[float, float]]  # seconds: wall, processor


def by_turns(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[Times, Times]:
    """Times of both, after one untimed turn each."""
    ways, times = (ours, theirs), ([], [])
    for number in range(rounds + 1):
        for way, spent in zip(ways, times, strict=True):
            wall, processor = time.perf_counter(), time.process_time()
            way()
            if number:
                spent.append((time.perf_counter() - wall, time.process_time() - processor))
    return times


def row(name: str, times: tuple[Times, Times], equal: str, units: int = 1) -> None:
    """Print the medians in milliseconds for each of `units`."""
    (wall, cpu), (wall2, cpu2) = (
        [statistics.median(part) * 1e3 / units for part in zip(*spent, strict=True)] for spent in times
    )
    print(f"| {name} | {wall:,.2f} | {wall2:,.2f} | {wall2 / wall:.1f} | {cpu2 / cpu:.1f} | {equal} |", flush=True)


def in_a_process(*words: object) -> float:
    """What this file prints when it is called so. To be asked first: a child's peak begins with its parent's."""
    done = subprocess.run([sys.executable, __file__, *map(str, words)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def memory_row(extra: dict[str, float]) -> None:
    ours, theirs = (extra[way] for way in WAYS)
    print(f"| the same, extra MB | {ours:.0f} | {theirs:.0f} | {theirs / ours:.1f} | | |", flush=True)


def relative(ours: float, theirs: float) -> float:
    return abs(ours - theirs) / abs(theirs)


# ----------------------------------------------------------------------------------------------------------------- loss


def loss_case() -> tuple[torch.Tensor, torch.Tensor]:
    """(A, K) logits of a young network, and labels with 400 positives and 200 ignored anchors."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(400_000, 80, generator=generator).sub_(4.6)  # in place: the peak is to be theirs
    labels = torch.full((400_000,), BACKGROUND)
    chosen = torch.randperm(400_000, generator=generator)[:600]
    labels[chosen[:400]] = torch.randint(0, 80, (400,), generator=generator)
    labels[chosen[400:]] = IGNORE
    return logits.requires_grad_(), labels


def our_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    loss = focal_loss(logits, labels, 0.25, 2.0, 400.0)
    loss.backward()
    return loss


def torchvision_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """As RetinaNetClassificationHead.compute_loss: one-hot targets of all, then the anchors that are not ignored."""
    target = torch.zeros_like(logits)
    positive = labels >= 0
    target[positive, labels[positive]] = 1.0
    kept = labels != IGNORE
    loss = sigmoid_focal_loss(logits[kept], target[kept], alpha=0.25, gamma=2.0, reduction="sum") / 400
    loss.backward()
    return loss


LOSSES = {"ours": our_loss, "torchvision": torchvision_loss}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts KiB


def loss_memory(way: str) -> None:
    """Print the peak above what the process had reached with its logits, in MB."""
    small = torch.zeros(4, 80, requires_grad=True)
    LOSSES[way](small, torch.zeros(4, dtype=torch.int64))  # libraries load what they need
    logits, labels = loss_case()
    held = peak_mb()
    LOSSES[way](logits, labels)
    print(peak_mb() - held)


def bench_loss(rounds: int) -> None:
    extra = {way: in_a_process("loss", "--memory-of", way) for way in WAYS}
    logits, labels = loss_case()
    results = []
    for way in LOSSES.values():
        logits.grad = None
        results.append((way(logits, labels).item(), logits.grad))
    (ours, slope), (theirs, slope2) = results
    worst = float((slope - slope2).abs().max() / slope2.abs().max())

    def run(way: Callable) -> None:
        logits.grad = None
        way(logits, labels)

    times = by_turns(lambda: run(our_loss), lambda: run(torchvision_loss), rounds)
    row("loss forward + backward, 2 x 200k x 80", times, f"loss {relative(ours, theirs):.0e}, gradient {worst:.0e}")
    memory_row(extra)


# ------------------------------------------------------------------------------------------------------------- matching


def bench_matching(rounds: int, file: Path, pictures: int = 20) -> None:
    dataset = coco.load(file)
    network = anchors.network_size(dataset.image_wh, 800, 1333)
    chosen = []
    for index in np.unique(dataset.box_image)[:pictures]:
        own = (dataset.box_image == index) & ~dataset.iscrowd
        boxes = anchors.resize_boxes(dataset.boxes_xyxy[own], dataset.image_wh[index], network[index])
        grid = anchors.grids(anchors.padded(network[index : index + 1]))
        chosen.append((boxes, grid, torch.from_numpy(anchors.anchors_of(SPEC, grid[0]))))
    matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)

    def ours() -> list[anchors.Matches]:
        return [anchors.match(boxes, np.zeros(len(boxes), np.int64), grid, SPEC) for boxes, grid, _ in chosen]

    def theirs() -> list[torch.Tensor]:
        return [matcher(box_iou(torch.from_numpy(boxes), all_anchors)) for boxes, _, all_anchors in chosen]

    different = 0
    for found, owner in zip(ours(), theirs(), strict=True):
        full = np.full(len(owner), Matcher.BELOW_LOW_THRESHOLD)
        full[found.anchor] = np.where(found.positive, found.box, Matcher.BETWEEN_THRESHOLDS)
        different += int((full != owner.numpy()).sum())
    count = sum(len(boxes) for boxes, _, _ in chosen) / len(chosen)
    name = f"matching a picture, 800 px, {len(chosen[0][2]):,} anchors, {count:.0f} boxes"
    row(name, by_turns(ours, theirs, rounds), f"{different} anchors differ", len(chosen))


# ----------------------------------------------------------------------------------------------------------------- step


def step_samples(dataset: coco.Dataset, labels: np.ndarray, most: int | None = None) -> list[Sample]:
    """Pictures of 320 x 320 px with their boxes, or the first `most` of them."""
    pictures = Pictures(dataset, labels, InputSize(STEP_PX, STEP_PX), Augment())
    samples = []
    for index in range(STEP_PICTURES):
        sample = pictures[Key(index, None)]
        wide = np.full((STEP_PX, STEP_PX, 3), 114, np.uint8)
        wide[: sample.image.shape[0], : sample.image.shape[1]] = sample.image
        samples.append(Sample(wide, sample.boxes[:most], sample.labels[:most], sample.crowds, index))
    return samples


def torchvision_twin(model: Detector, classes: int) -> RetinaNet:
    """torchvision's RetinaNet around a copy of the backbone, with the same weights and torch's own modules."""
    backbone = copy.deepcopy(model.backbone)
    plain = {
        Conv3x3: torch.nn.Conv2d, FoldedConv: torch.nn.Conv2d, FrozenBatchNorm2d: torchvision.ops.FrozenBatchNorm2d,
    }  # fmt: skip
    for module in backbone.modules():
        module.__class__ = plain.get(type(module), type(module))
    backbone.out_channels = 256
    generator = AnchorGenerator(SPEC.level_sizes, (SPEC.ratios,) * 5)
    sizes = {"min_size": STEP_PX, "max_size": STEP_PX, "image_mean": list(IMAGE_MEAN), "image_std": list(IMAGE_STD)}
    twin = RetinaNet(backbone, classes, anchor_generator=generator, **sizes)
    twin.load_state_dict(model.state_dict())
    return twin.train()


def losses_of_each_picture(model: Detector, batch: Batch) -> tuple[float, float]:
    """Our two losses, divided for each picture by its own positives and averaged: torchvision's normalisation."""
    logits, deltas = model(batch.images, batch.positive)
    picture = batch.positive // batch.anchors_per_image
    labels = torch.full((logits.shape[0] * logits.shape[1],), BACKGROUND)
    labels[batch.ignored], labels[batch.positive] = IGNORE, batch.positive_label
    both = torch.zeros(2)
    for number, (x, of_picture) in enumerate(zip(logits, labels.view(len(logits), -1), strict=True)):
        own = picture == number
        count = max(1, int(own.sum()))
        both[0] += focal_loss(x, of_picture, 0.25, 2.0, count)
        both[1] += box_loss(deltas[own], batch.positive_anchor[own], batch.positive_box[own], "l1") / count
    classification, regression = (both / len(logits)).tolist()
    return classification, regression


def step_pair(dataset: coco.Dataset) -> tuple[Detector, RetinaNet]:
    classes = len(dataset.categories)
    torch.manual_seed(0)
    model = build_model(backbone="mobilenet_v3_large", num_classes=classes, anchors_per_cell=9, frozen_batch_norm=True)
    model.to(memory_format=torch.channels_last)
    return model, torchvision_twin(model, classes)


def floats(samples: list[Sample]) -> list[torch.Tensor]:
    """The pictures as torchvision takes them."""
    return [torch.from_numpy(s.image).permute(2, 0, 1).float().div(255).contiguous() for s in samples]


@dataclass(frozen=True)
class Steps:
    """One step of both, from the same pictures and weights. agreement: of the first losses, relative."""

    ours: Callable[[], None]
    torchvision: Callable[[], None]
    samples: list[Sample]
    agreement: float


def steps_of(file: Path, most: int | None = None, *, compared: bool = True) -> Steps:
    """compared: with the agreement, which takes memory; else it is 0."""
    dataset = coco.load(file)
    samples = step_samples(dataset, np.arange(len(dataset.categories)), most)
    batch = Collate(SPEC)(samples)
    model, twin = step_pair(dataset)
    model.train()
    images = floats(samples)
    targets = [{"boxes": torch.from_numpy(s.boxes), "labels": torch.from_numpy(s.labels)} for s in samples]

    agreement = 0.0
    if compared:
        with torch.no_grad():
            mine, found = losses_of_each_picture(model, batch), twin(images, targets)
        theirs_first = float(found["classification"]), float(found["bbox_regression"])
        agreement = max(map(relative, mine, theirs_first))

    objective = Objective(0.25, 2.0)
    steppers = [torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9) for net in (model, twin)]

    def ours() -> None:
        steppers[0].zero_grad()
        sum(losses(model, batch, objective, None, float(len(batch.positive)))).backward()
        steppers[0].step()

    def theirs() -> None:
        steppers[1].zero_grad()
        sum(twin(images, targets).values()).backward()
        steppers[1].step()

    return Steps(ours, theirs, samples, agreement)


def step_memory(way: str, file: Path) -> None:
    """Print the peak of two steps above what the process had reached with models, pictures and no gradient, in MB."""
    step = getattr(steps_of(file, compared=False), way)
    held = peak_mb()
    step()
    step()
    print(peak_mb() - held)


def bench_step(rounds: int, file: Path, most: int | None = None) -> None:
    extra = {way: in_a_process("step", "--memory-of", way, "--data", file.parents[1]) for way in WAYS if most is None}
    steps = steps_of(file, most)
    boxes = np.mean([len(s.boxes) for s in steps.samples])
    name = f"step, mobilenet_v3_large, {STEP_PICTURES} x {STEP_PX} px, {boxes:.0f} objects each, fp32"
    row(name, by_turns(steps.ours, steps.torchvision, rounds), f"first losses differ by {steps.agreement:.0e}")
    if extra:
        memory_row(extra)
        spent, _ = by_turns(lambda: Collate(SPEC)(steps.samples), lambda: None, rounds)
        wall = statistics.median(wall for wall, _ in spent) * 1e3
        print(f"| the batch of that step, made by a loading process | {wall:.2f} | in the step | | | |", flush=True)


def bench_inference(rounds: int, file: Path, passing: int = 300) -> None:
    dataset = coco.load(file)
    samples = step_samples(dataset, np.arange(len(dataset.categories)))
    model, _ = step_pair(dataset)
    head = model.head["classification_head"].cls_logits
    torch.nn.init.normal_(head.weight, std=0.05)
    torch.nn.init.normal_(model.head["regression_head"].bbox_reg.weight, std=0.05)
    images, thresholds = floats(samples), Thresholds()
    with torch.no_grad():
        logits = model.eval()(torch.stack(images) * 255)[0]
        at_threshold = math.log(thresholds.score / (1 - thresholds.score))
        head.bias += at_threshold - logits.flatten().topk(passing * len(images)).values[-1]
    twin = torchvision_twin(model, len(dataset.categories)).eval()
    twin.detections_per_img = thresholds.max_detections
    pixels = [(s.index, (STEP_PX, STEP_PX), s.image) for s in samples]
    categories, cpu = np.arange(len(dataset.categories)), torch.device("cpu")

    def ours() -> Detections:
        return _detect_batch(model, pixels, categories, SPEC, thresholds, cpu, None)

    @torch.inference_mode()
    def theirs() -> list[dict[str, torch.Tensor]]:
        return twin(images)

    found, alike, count = ours(), 0, 0
    for number, of_picture in enumerate(theirs()):
        xywh = found.boxes[found.image == number]
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        gap = np.abs(xyxy[:, None] - of_picture["boxes"].numpy()).max(axis=2).min(axis=0)
        alike += int((gap < 0.02).sum())
        count += len(gap)
    name = f"inference, a picture of the same, {passing} candidates each"
    row(name, by_turns(ours, theirs, rounds), f"{alike} of {count} boxes within 0.02 px", len(images))


# -------------------------------------------------------------------------------------------------------------- loading


def bench_loading(rounds: int, file: Path, pictures: int = 64) -> None:
    dataset = coco.load(file)
    size = InputSize(256, 427)  # of recipes/bccd.yaml
    augment = Augment(scale=(1.0, 1.0))
    made, collate = Pictures(dataset, np.arange(len(dataset.categories)), size, augment), Collate(SPEC)
    first = dataset.image_path(0)
    folder = first.parents[len(Path(dataset.file_names[0]).parts) - 1]
    flip_and_convert = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.PILToTensor(), v2.ToDtype(torch.float, scale=True)])
    reference = CocoDetection(folder, file)
    to_batch = GeneralizedRCNNTransform(size.min_size, size.max_size, list(IMAGE_MEAN), list(IMAGE_STD))
    shown = [list(range(start, start + 4)) for start in range(0, pictures, 4)]

    def ours(seed: int | None = 0, made: Pictures = made, collate: Callable = collate) -> list[Batch]:
        return [collate([made[Key(index, seed)] for index in four]) for four in shown]

    def picture(index: int, convert: Callable) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        image, annotations = reference[index]
        boxes = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2].clamp_(min=0, max=image.width)
        boxes[:, 1::2].clamp_(min=0, max=image.height)
        solid = (boxes[:, 3] > boxes[:, 1]) & (boxes[:, 2] > boxes[:, 0])
        labels = torch.tensor([a["category_id"] for a in annotations])
        return convert(image), {"boxes": boxes[solid], "labels": labels[solid]}

    def theirs(convert: Callable = flip_and_convert, batched: bool = True) -> list:
        given = [[picture(index, convert) for index in four] for four in shown]
        return [to_batch(*map(list, zip(*four, strict=True))) for four in given] if batched else given

    plain = theirs(v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float, scale=True)]))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    far = [
        float(((b.images / 255 - mean) / std - images.tensors).abs().mean())
        for b, (images, _) in zip(ours(None), plain, strict=True)
    ]
    name = f"loading a picture of {file.parents[1].name} to {size.min_size} px"
    row(name, by_turns(ours, theirs, rounds), f"pixels differ by {255 * 0.226 * np.mean(far):.1f} of 255", pictures)

    def unmatched() -> list:
        return ours(collate=lambda samples: pad([sample.image for sample in samples]))

    row("the same work: ours without matching", by_turns(unmatched, theirs, rounds), "", pictures)
    times = by_turns(ours, lambda: theirs(batched=False), rounds)
    row("the same, torchvision's dataset alone: not resized", times, "", pictures)
    with tempfile.TemporaryDirectory() as kept:
        for what, at in (("at network size", size), ("in full", None)):
            cached = Pictures(dataset, made.labels, size, augment, PictureCache(Path(kept), dataset, at))
            same = all(torch.equal(a.images, b.images) for a, b in zip(ours(), ours(made=cached), strict=True))
            times = by_turns(lambda cached=cached: ours(made=cached), theirs, rounds)
            row(f"the same, ours from data.cache, kept {what}", times, "equal pixels" if same else "DIFFER", pictures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=["loss", "matching", "step", "inference", "loading"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bccd"), help="folder with annotations/")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-of", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    train = options.data / "annotations" / "train.json"
    if options.memory_of:
        if options.parts == ["loss"]:
            return loss_memory(options.memory_of)
        return step_memory(options.memory_of, train)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    processor = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "numpy"))
    print(
        f"{date.today()}, {processor}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} at the start,"
    )
    print(f"Python {platform.python_version()}, {versions}; medians of {options.rounds} turns\n")
    print("| work | ours, ms | torchvision, ms | ratio | ratio of CPU time | agreement |\n|---|---|---|---|---|---|")
    for part in options.parts:
        if part == "loss":
            bench_loss(options.rounds)
        elif part == "step":
            bench_step(options.rounds, train)
            bench_step(options.rounds, train, most=3)
        else:
            ways = {"matching": bench_matching, "inference": bench_inference, "loading": bench_loading}
            ways[part](options.rounds, train)


if __name__ == "__main__":
    main()
