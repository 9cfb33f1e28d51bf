"""Time training on a GPU from JPEG files to updated weights, `focal train` and torchvision's loop, as markdown rows.

    python tests/bench/gpu_step.py             every way in a process of its own, by turns
    python tests/bench/gpu_step.py --look      the same code with tiny numbers on the CPU in fp32: that it runs, no more

RetinaNet with ResNet-50 and pyramid, 80 classes, pictures of 640 x 480 px shown at 800 px, batches of 16.

focal            what `focal train recipes/coco.yaml loss.box=l1` runs, by its own Prepared: loader, pinned memory,
                 Stepper; bf16 where the device has it, channels_last.
focal-compiled   the same with schedule.compile=true.
torchvision      a loop that does what its references/detection does with --amp: fp16 and GradScaler; pictures leave the
                 loader as floats of their own size, are copied one by one from memory that is not pinned, and are
                 resized and matched on the GPU. It keeps that loop's look at the loss in every step, which waits for
                 the GPU; ours waits once a step too. Left out, in its favour: the log, which waits for each loss once
                 more, and masks drawn from polygons.
torchvision-bf16 the same in bf16 without a scaler.

Equal: files, boxes, network, first weights, fixed norms, trained stages, anchors, box loss, flips, SGD, learning rates,
number of loading processes. The drawn pictures are of one size, so that how loops group shapes does not matter.
Before anything is timed, both must give the same first losses and gradients from the same pixels, with ours normalised
picture by picture as theirs are.

MFU: products and sums of one forward and backward pass of torchvision's plain network, counted once, times pictures a
second, over what a large bf16 matmul reaches on this device. "In memory": steps from a few batches as the loaders gave
them, without loading. Blocks of steps are timed once the batches that lay ready are used up.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from plain_torchvision import Pictures, collate
from torch.utils.data import DataLoader, RandomSampler
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from focalcli import anchors, recipe
from focalcli.training import run
from focalcli.training.classes import labels_of, trained_classes
from focalcli.training.data import Collate, Sample, batches, usable
from focalcli.training.metrics import peak_memory_bytes
from focalcli.training.ranks import Ranks
from focalcli.training.sampling import Key
from focalcli.training.step import losses
from focalcli.work import unpack

ROOT = Path(__file__).parents[2]
WIDE, HIGH, CLASSES = 640, 480, 80
WAYS = ("focal", "focal-compiled", "torchvision", "torchvision-bf16")
HELD = 4  # batches in memory
FARTHEST = 1e-4  # of the first losses and of a weight's gradient, relative


# ------------------------------------------------------------------------------------------------- pictures and weights


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(height, width, 3) float: the finer the weaker, as in photographs, and some grain."""
    made = rng.normal(0, 9, (height, width, 3)) + rng.uniform(40, 215, 3)
    for cells in (2, 4, 8, 16, 32, 64):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        made += (np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32) - 128) / cells
    return made


def draw(folder: Path, count: int) -> None:
    """JPEG files and train.json: seven objects a picture on average, of COCO's sizes, the first one of each class."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    yy, xx = np.mgrid[:HIGH, :WIDE]
    for number in range(count):
        canvas = texture(rng, HIGH, WIDE)
        for _ in range(1 + rng.poisson(6)):
            side = np.exp(rng.uniform(np.log(12), np.log(330)))
            w, h = (int(min(limit - 2, side * rng.uniform(0.7, 1.4))) for limit in (WIDE, HIGH))
            x, y = int(rng.integers(WIDE - w)), int(rng.integers(HIGH - h))
            inside = ((xx - x - w / 2) / w) ** 2 + ((yy - y - h / 2) / h) ** 2 <= 0.25
            box = (slice(y, y + h), slice(x, x + w))
            canvas[box] = np.where(inside[box][..., None], texture(rng, h, w), canvas[box])
            key = len(annotations) + 1
            label = key if key <= CLASSES else int(CLASSES * rng.random() ** 2) + 1
            area = float(w * h)
            annotations.append(
                {"id": key, "image_id": number, "category_id": label, "bbox": [x, y, w, h], "area": area, "iscrowd": 0}
            )
        name = f"{number}.jpg"
        Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).save(folder / name, quality=95)  # 150 KB, as COCO's
        images.append({"id": number, "file_name": name, "width": WIDE, "height": HIGH})
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "train.json").write_text(json.dumps(content))


@torch.no_grad()
def backbone_weights(folder: Path) -> dict[str, torch.Tensor]:
    """A ResNet-50 with random weights whose norms have the statistics of the pictures, as those of trained ones have:
    fixed at 0 and 1 instead, they would let the numbers grow from block to block."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the average of all
    shown = [np.asarray(Image.open(file).resize((128, 96))) for file in sorted(folder.glob("*.jpg"))[:8]]
    network(torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float().sub(115).div(58))
    return network.state_dict()


def prepared_folder(options: argparse.Namespace) -> Path:
    """The pictures, their boxes and the weights, made once and moved into place."""
    folder = options.cache / f"{options.pictures}-pictures"
    if not folder.is_dir():
        aside = folder.with_suffix(".part")
        aside.mkdir(parents=True, exist_ok=True)
        draw(aside, options.pictures)
        torch.save(backbone_weights(aside), aside / "resnet50.pth")
        aside.rename(folder)
    return folder


# -------------------------------------------------------------------------------------------------------------- loops


class Focal:
    """`focal train` without evaluations and checkpoints."""

    def __init__(self, options: argparse.Namespace, compiled: bool = False) -> None:
        folder = prepared_folder(options)
        keys = {
            "data.train": folder / "train.json", "data.val": folder / "train.json", "data.train_images": folder,
            "data.val_images": folder, "data.workers": options.workers, "model.weights": folder / "resnet50.pth",
            "input.min_size": options.px, "input.max_size": options.px * 5 // 3, "loss.box": "l1",
            "schedule.batch_size": options.batch, "schedule.base_batch": options.batch, "schedule.epochs": 10**6,
            "schedule.compile": str(compiled).lower(), "schedule.lr": 1e-4,  # random weights must not diverge
        }  # fmt: skip
        of = recipe.load(ROOT / "recipes" / "coco.yaml", [f"{key}={value}" for key, value in keys.items()])
        self.dataset = unpack.dataset_of(of, "train")
        self.setup = unpack.setup_of(of, self.dataset)
        self.classes = trained_classes(self.dataset)
        self.labels = labels_of(self.dataset, self.classes, "")
        self.model = run.new_model(self.setup, len(self.classes))
        run.fill_model(self.setup, self.model)
        self.device, self.taken = torch.device(options.device), 0
        self.ready = run.prepare(self.setup, self.model, self.dataset, self.labels, self.device, Ranks())
        self.model.train()

    def batches(self) -> Iterator[Any]:
        return batches(self.ready.loader)

    def lr(self) -> float:
        self.taken += 1
        return self.setup.schedule.lr_at(self.taken - 1, 10**9)

    def step(self, batch: Any) -> None:
        done = self.ready.stepper.step([batch], self.lr(), self.taken)
        if not done.updated:
            raise SystemExit(f"focal: step {self.taken} changed nothing: {done}")


class Torchvision:
    """The reference loop."""

    def __init__(self, options: argparse.Namespace, half: torch.dtype) -> None:
        given = Focal(options)
        setup, self.device, self.lr, self.half = given.setup, given.device, given.lr, half
        self.model = twin(given, options).to(self.device)
        del given.model, given.ready  # their memory is not torchvision's
        self.optimizer = torch.optim.SGD(
            [p for p in self.model.parameters() if p.requires_grad], lr=setup.schedule.lr,
            momentum=setup.schedule.momentum, weight_decay=setup.schedule.weight_decay,
        )  # fmt: skip
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half == torch.float16)
        labels = {category.id: label for label, category in enumerate(given.classes)}
        pictures = Pictures(str(given.dataset.image_root), str(given.dataset.path), labels, setup.augment.flip)
        self.loader = DataLoader(
            pictures, options.batch, sampler=RandomSampler(pictures, replacement=True, num_samples=10**7),
            num_workers=usable(options.workers), collate_fn=collate,
        )  # fmt: skip

    def batches(self) -> Iterator[Any]:
        return iter(self.loader)

    def step(self, batch: Any) -> None:
        images = [image.to(self.device) for image in batch[0]]
        targets = [{key: target[key].to(self.device) for key in ("boxes", "labels")} for target in batch[1]]
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr()
        with torch.autocast(self.device.type, self.half, enabled=self.device.type == "cuda"):
            loss = sum(self.model(images, targets).values())
        if not math.isfinite(loss.item()):
            raise SystemExit("torchvision: the loss is not finite")
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()


def twin(given: Focal, options: argparse.Namespace) -> RetinaNet:
    """torchvision's retinanet_resnet50_fpn with fixed norms, as it is with pretrained weights, and the same numbers."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, returned_layers=[2, 3, 4],
        trainable_layers=given.setup.trainable_layers, extra_blocks=LastLevelP6P7(256, 256),
    )  # fmt: skip
    network = RetinaNet(backbone, len(given.classes), min_size=options.px, max_size=given.setup.size.max_size)
    network.load_state_dict(given.model.state_dict())
    return network.train()


def loop_of(way: str, options: argparse.Namespace) -> Focal | Torchvision:
    if way.startswith("focal"):
        return Focal(options, compiled=way == "focal-compiled")
    return Torchvision(options, torch.bfloat16 if way == "torchvision-bf16" else torch.float16)


# ---------------------------------------------------------------------------------------------------------- measuring


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measured(loop: Focal | Torchvision, options: argparse.Namespace) -> dict[str, Any]:
    """Pictures a second of each block, with loading and without, and the most memory that steps held."""
    source = loop.batches()
    held = [next(source) for _ in range(HELD)]

    def speeds(batch: Callable[[int], Any]) -> list[float]:
        found = []
        for _ in range(options.blocks):
            wait(loop.device)
            start = time.perf_counter()
            for number in range(options.steps):
                loop.step(batch(number))
            wait(loop.device)
            found.append(options.steps * options.batch / (time.perf_counter() - start))
        return found

    for number in range(options.warm):
        loop.step(held[number % HELD])
    if loop.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    in_memory = speeds(lambda number: held[number % HELD])
    for _ in range(5 * usable(options.workers)):  # what four batches for each process had time to load
        loop.step(next(source))
    return {
        "loop": speeds(lambda _: next(source)),
        "memory": in_memory,
        "bytes": peak_memory_bytes(loop.device),
    }


def first_step(options: argparse.Namespace, pictures: int = 2) -> dict[str, Any]:
    """How far first losses and gradients are apart, relative; operations for a picture, and of a matmul a second.

    Losses in fp32, gradients in fp64: a network of random weights makes 1e-7 of the pixels 1e-2 of the gradient. The
    pictures are at network size and padded in advance: what resizes them differs by roundings.
    """
    torch.backends.cudnn.allow_tf32 = False
    given = Focal(options)
    model, device = given.model, given.device
    with torch.no_grad():  # new heads say next to nothing, and the losses would not show what reaches them
        for head, name in (("classification_head", "cls_logits"), ("regression_head", "bbox_reg")):
            model.head[head].get_parameter(f"{name}.weight").mul_(100)
    network = twin(given, options).to(device)
    steps = network.transform.image_mean, network.transform.image_std
    for values, ours in zip(steps, (model.mean, model.std), strict=True):
        values[:] = (ours.double().flatten() / 255).tolist()  # ours are rounded to fp32
    samples = []
    for index in range(pictures):
        s = given.ready.pictures[Key(index, None)]
        wide, high = anchors.padded(np.array(s.image.shape[1::-1]))
        canvas = np.full((high, wide, 3), 114, np.uint8)
        canvas[: s.image.shape[0], : s.image.shape[1]] = s.image
        samples.append(Sample(canvas, s.boxes, s.labels, s.crowds, index))
    apart = {}
    for dtype in (torch.float32, torch.float64):
        for net in (model, network):
            net.to(dtype).zero_grad()
        ours = torch.zeros(2, device=device)
        for sample in samples:
            batch = Collate(given.setup.spec)([sample]).to(device)
            pair = losses(model, batch, given.setup.objective, None, float(max(1, len(batch.positive))))
            (sum(pair) / pictures).backward()
            ours += torch.stack(pair).detach() / pictures
        images = [torch.from_numpy(s.image).permute(2, 0, 1).to(device, dtype) / 255 for s in samples]
        boxes = [{"boxes": torch.from_numpy(s.boxes), "labels": torch.from_numpy(s.labels)} for s in samples]
        with FlopCounterMode(display=False) as counter:
            found = network(images, [{key: value.to(device) for key, value in each.items()} for each in boxes])
            sum(found.values()).backward()
        theirs = torch.stack([found["classification"], found["bbox_regression"]]).detach()
        own, other = (
            {name: weight.grad for name, weight in net.named_parameters() if weight.grad is not None}
            for net in (model, network)
        )
        assert own.keys() == other.keys()
        slopes = [float((own[name] - slope).norm() / slope.norm()) for name, slope in other.items()]
        apart[dtype] = {"losses": float(((ours - theirs).abs() / theirs).max()), "gradients": max(slopes)}
    return {
        "losses": apart[torch.float32]["losses"],
        "gradients": apart[torch.float64]["gradients"],
        "per_picture": counter.get_total_flops() / pictures,
        "matmul": matmul_rate(device) if device.type == "cuda" else None,
    }


def matmul_rate(device: torch.device, side: int = 8192, rounds: int = 20) -> float:
    """Operations a second of a square bf16 product of random numbers: the median."""
    one, two = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for number in range(rounds + 3):
        wait(device)
        start = time.perf_counter()
        one @ two
        wait(device)
        if number >= 3:
            times.append(time.perf_counter() - start)
    return 2 * side**3 / statistics.median(times)


def in_a_process(what: str) -> dict[str, Any]:
    """What this file finds when it is called for one way, or for the first step."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", what]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def header(options: argparse.Namespace, facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision"))
    size = statistics.mean(file.stat().st_size / 1e3 for file in prepared_folder(options).glob("*.jpg"))
    parts = [
        f"{date.today()}, {'CPU, a look: no figures to keep' if options.look else torch.cuda.get_device_name()}",
        f"Python {platform.python_version()}, {versions}, {usable(options.workers)} loading processes",
        f"{options.batch} pictures of {size:.0f} KB a step at {options.px} px",
        f"medians of blocks of {options.steps} steps, {options.blocks} in each of {options.turns} processes",
        f"first losses {facts['losses']:.0e} apart, gradients {facts['gradients']:.0e}",
        f"{facts['per_picture'] / 1e9:,.0f} GFLOP a picture",
        f"a bf16 matmul reaches {facts['matmul'] / 1e12:,.0f} TFLOP/s" if facts["matmul"] else "no MFU",
    ]
    return textwrap.fill("; ".join(parts), 120)


def table(found: dict[str, list[dict[str, Any]]], facts: dict[str, Any]) -> Iterator[str]:
    yield "| loop | images/s from files | slowest to fastest | images/s in memory | peak, GB | MFU, files / memory |"
    yield "|---|---|---|---|---|---|"
    middle = {}
    for way, turns in found.items():
        files, memory = ([speed for turn in turns for speed in turn[kind]] for kind in ("loop", "memory"))
        speeds = statistics.median(files), statistics.median(memory)
        middle[way] = *speeds, max(turn["bytes"] for turn in turns) / 1e9
        share = facts["matmul"] and facts["per_picture"] / facts["matmul"]
        used = " / ".join(f"{speed * share:.0%}" for speed in speeds) if share else ""
        spread = f"{min(files):.1f} to {max(files):.1f}"
        yield f"| {way} | {speeds[0]:.1f} | {spread} | {speeds[1]:.1f} | {middle[way][2]:.2f} | {used} |"
    for way in [way for way in middle if way != "torchvision" and "torchvision" in middle]:
        files, memory, peak = (a / b for a, b in zip(middle[way], middle["torchvision"], strict=True))
        yield f"| {way} / torchvision | {files:.2f} | | {memory:.2f} | {peak:.2f} | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path("runs/gpu_step"), help="where pictures and weights are kept")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS[:3]))
    parser.add_argument("--workers", type=int, default=8, help="loading processes")
    parser.add_argument("--px", type=int, default=800)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--warm", type=int, default=10, help="steps before anything is timed")
    parser.add_argument("--steps", type=int, default=20, help="of a block")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--turns", type=int, default=2, help="processes of each way")
    parser.add_argument("--look", action="store_true", help="tiny, on the CPU")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.device = "cpu" if options.look else "cuda"
    if options.look:
        options.px, options.batch, options.pictures, options.workers = 96, 2, 12, min(1, options.workers)
        options.warm, options.steps, options.blocks, options.turns = 1, 2, 1, 1
    elif not torch.cuda.is_available():
        print("skipped: no CUDA device")
        return
    prepared_folder(options)
    if options.child:
        warnings.filterwarnings("error", "the loss does without its kernel")
        is_check = options.child == "first step"
        print(json.dumps(first_step(options) if is_check else measured(loop_of(options.child, options), options)))
        return
    facts = in_a_process("first step")
    if not max(facts["losses"], facts["gradients"]) < FARTHEST:
        raise SystemExit(f"the first steps are not the same, nothing is timed: {facts}")
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in options.ways}
    for _ in range(options.turns):
        for way in options.ways:
            found[way].append(in_a_process(way))
            print(f"{way}: {found[way][-1]}", file=sys.stderr, flush=True)
    print(header(options, facts), "", *table(found, facts), sep="\n")


if __name__ == "__main__":
    main()
