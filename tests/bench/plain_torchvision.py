"""A plain torchvision training loop beside `focal train`: the same data, network and time, and the AP of both.

    python tests/bench/plain_torchvision.py recipes/bccd.yaml                both take the recipe's epochs
    python tests/bench/plain_torchvision.py recipes/bccd.yaml --same-time    torchvision gets as many minutes
    python tests/bench/plain_torchvision.py recipes/bccd.yaml schedule.epochs=1 --pictures 24      a look, in a minute

focal runs first, then torchvision, each in a process of its own; then pycocotools scores what both found. Prints one
row of markdown for each. Runs are left in --runs; a focal run that is finished there is not trained again.

Equal: pictures and boxes, the network (MobileNetV2, pyramid and heads of the recipe's width and depth, frozen batch
norm), the file of weights, input size, anchors, flips, the range of scale jitter, batch, optimizer, learning rate, its
warm-up and cosine, clipping, epochs or minutes, how often is evaluated and that the best AP is kept, thresholds of the
detections, fp32 on a CPU, number of loading processes, seed.
Torchvision's own, as its references/detection has it: the loss (alpha 0.25, gamma 2, normalised picture by picture),
its initial prior of 0.01, the Matcher in the training process, GeneralizedRCNNTransform (a size drawn for each picture,
not for each batch), weight decay on every parameter, the data set, collate function and loader, post-processing.
Not done by it: checkpoints, resume, a log. Its numbers drawn at random are others, although the seed is the same.

Minutes are wall time of the process, start and evaluations included; memory is the largest resident size of the process
that trains, without those that load pictures.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import platform
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch.utils.data import DataLoader, Subset
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection
from torchvision.models import mobilenet_v2
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.transforms import v2

from focalcli import recipe as recipes
from focalcli.work import unpack

EVAL_BATCH = 8  # as in focal


# ------------------------------------------------------------------------------------------------- plain torchvision


class Pictures(CocoDetection):
    """torchvision's data set with targets as its detectors take them; boxes without area are left out."""

    def __init__(self, root: str, file: str, labels: dict[int, int], flip: float) -> None:
        super().__init__(root, file)
        self.labels = labels
        steps = [v2.RandomHorizontalFlip(flip)] if flip else []
        self.change = v2.Compose([*steps, v2.PILToTensor(), v2.ToDtype(torch.float, scale=True), v2.ToPureTensor()])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, Any]]:
        image, annotations = super().__getitem__(index)
        image = image.convert("RGB")
        annotations = [a for a in annotations if a.get("iscrowd", 0) == 0]
        boxes = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes[:, 0::2].clamp_(min=0, max=image.width)
        boxes[:, 1::2].clamp_(min=0, max=image.height)
        labels = torch.tensor([self.labels[a["category_id"]] for a in annotations], dtype=torch.int64)
        keep = (boxes[:, 3] > boxes[:, 1]) & (boxes[:, 2] > boxes[:, 0])
        boxed = tv_tensors.BoundingBoxes(boxes[keep], format="XYXY", canvas_size=(image.height, image.width))
        image, target = self.change(image, {"boxes": boxed, "labels": labels[keep]})
        return image, {**target, "image_id": self.ids[index]}


def collate(samples: list) -> tuple:
    return tuple(zip(*samples, strict=True))


def network(recipe: recipes.Recipe, classes: int) -> RetinaNet:
    """torchvision's RetinaNet around its MobileNetV2; the heads have as many convolutions as the recipe says."""
    width = recipe.model.width
    body = mobilenet_v2(norm_layer=FrozenBatchNorm2d)
    body.features.load_state_dict(torch.load(recipe.resolve(recipe.model.weights), weights_only=True), strict=False)
    backbone = BackboneWithFPN(
        body.features, {"6": "0", "13": "1", "18": "2"}, [32, 96, 1280], width, LastLevelP6P7(width, width)
    )
    sizes = tuple((int(s), int(s * 2 ** (1 / 3)), int(s * 2 ** (2 / 3))) for s in recipe.anchors.sizes)
    low, high = recipe.data.scale_jitter
    short = recipe.input.min_size
    model = RetinaNet(
        backbone,
        classes,
        # a size of these is drawn for each picture in training, the last one is used in evaluation
        min_size=(*range(round(low * short), round(high * short) + 1), short),
        max_size=round(high * recipe.input.max_size),
        anchor_generator=AnchorGenerator(sizes, (tuple(recipe.anchors.ratios),) * 5),
        score_thresh=recipe.eval.score_threshold,
        nms_thresh=recipe.eval.nms_iou,
        detections_per_img=recipe.eval.max_detections,
    )
    for head in (model.head.classification_head, model.head.regression_head):
        head.conv = head.conv[: recipe.model.head_depth]
    return model


def rate_at(step: int, warm_steps: int, warm_share: float, share: float) -> float:
    """What lr is multiplied by: linear warm-up by steps, then half a cosine by the share of the run that is done."""
    left = 0.0 if step < warm_steps else (share - warm_share) / max(1e-9, 1 - warm_share)
    return min(1.0, (step + 1) / max(1, warm_steps)) * 0.5 * (1 + math.cos(math.pi * min(1.0, left)))


@torch.inference_mode()
def found(model: RetinaNet, loader: DataLoader, ids: list[int]) -> list[dict[str, Any]]:
    """COCO results. ids: the category of each label."""
    model.eval()
    records = []
    for images, targets in loader:
        for output, target in zip(model(list(images)), targets, strict=True):
            boxes = output["boxes"].clone()
            boxes[:, 2:] -= boxes[:, :2]
            columns = (boxes.tolist(), output["scores"].tolist(), output["labels"].tolist())
            records += [
                {"image_id": target["image_id"], "category_id": ids[label], "bbox": box, "score": score}
                for box, score, label in zip(*columns, strict=True)
            ]
    return records


def train(recipe: recipes.Recipe, out: Path, until: float | None) -> None:
    """The loop; leaves the detections of the evaluation with the best AP, and what it did, in `out`.

    Args:
        until: when it shall be over, as time.time() counts; None takes the recipe's epochs.
    """
    start = time.time()
    torch.manual_seed(recipe.schedule.seed)
    train_set, val_set = (unpack.dataset_of(recipe, split) for split in ("train", "val"))
    ids = [c.id for c, n in zip(train_set.categories, train_set.objects_per_class, strict=True) if n]
    labels = {category: label for label, category in enumerate(ids)}
    pictures = Pictures(str(train_set.image_root), str(train_set.path), labels, recipe.data.flip)
    annotations = {number: pictures.coco.imgToAnns[number] for number in pictures.ids}
    with_boxes = [i for i, n in enumerate(pictures.ids) if any(min(a["bbox"][2:]) > 0 for a in annotations[n])]
    workers = recipe.data.workers
    loader = DataLoader(
        Subset(pictures, with_boxes), recipe.schedule.batch_size, shuffle=True, num_workers=workers, collate_fn=collate,
        drop_last=True,
    )  # fmt: skip
    val = Pictures(str(val_set.image_root), str(val_set.path), labels, 0)
    val_loader = DataLoader(val, EVAL_BATCH, num_workers=workers, collate_fn=collate)
    model = network(recipe, len(ids))
    settings = recipe.schedule
    lr = settings.lr * settings.batch_size / settings.base_batch
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=settings.weight_decay)

    steps, step = len(loader) * settings.epochs, 0
    share = warm_share = evaluated = reserve_seconds = 0.0
    every = recipe.eval.every / settings.epochs
    best: tuple[float, list] = (-1.0, [])
    while share < 1:
        for images, targets in loader:
            model.train()
            for group in optimizer.param_groups:
                group["lr"] = lr * rate_at(step, settings.warmup_steps, warm_share, share)
            loss = sum(model(list(images), list(targets)).values())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
            if not math.isfinite(loss.item()):
                raise SystemExit("torchvision: the loss is not finite")
            step += 1
            share = step / steps if until is None else (time.time() - start) / (until - reserve_seconds - start)
            if step == settings.warmup_steps:
                warm_share = share
            if share >= 1 or share >= evaluated + every - 1e-9:
                evaluated = share
                before = time.time()
                records = found(model, val_loader, ids)
                score = scores(val_set.path, records)["AP"]
                best = max(best, (score, records), key=lambda pair: pair[0])
                print(f"torchvision: step {step}, loss {loss.item():.3f}, AP {100 * score:.1f}", file=sys.stderr)
                reserve_seconds = time.time() - before  # for the last one, which takes as long
            if share >= 1:
                break
    out.mkdir(parents=True, exist_ok=True)
    (out / "predictions.coco.json").write_text(json.dumps(best[1]))
    (out / "did.json").write_text(json.dumps({"epochs": step / len(loader)}))


# ------------------------------------------------------------------------------------------------------------- both


def scores(file: Path, records: list[dict[str, Any]]) -> dict[str, float]:
    """AP and AP50 of all classes, and of each, by pycocotools; annotations are numbered from 1 (TRAPS 5)."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        for number, annotation in enumerate(truth.dataset["annotations"], start=1):
            annotation["id"] = number
        truth.createIndex()
        if not records:
            return {"AP": 0.0, "AP50": 0.0}
        evaluation = COCOeval(truth, truth.loadRes(records), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    result = {"AP": float(evaluation.stats[0]), "AP50": float(evaluation.stats[1])}
    for number, category in enumerate(evaluation.params.catIds):
        precision = evaluation.eval["precision"][:, :, number, 0, 2]  # (IoU, recall) of all areas, 100 detections
        if (precision > -1).any():
            result[f"{truth.cats[category]['name']} AP50"] = float(precision[0].mean())
    return result


def refuse_what_is_not_equal(recipe: recipes.Recipe) -> None:
    """End on recipes that ask for what the plain loop does not do."""
    data, plain = recipe.data, recipe.schedule
    others = {
        "model.backbone": recipe.model.backbone != "mobilenet_v2",
        "model.head_norm": recipe.model.head_norm != "none",
        "model.trainable_layers": recipe.model.trainable_layers != 5,
        "data": any((data.repeat_threshold, data.crop, data.brightness, data.contrast, data.saturation)),
        "data.sampler": data.sampler != "shuffle",
        "schedule": plain.optimizer != "adamw" or plain.decay != "cosine" or plain.ema or plain.accumulate != 1,
    }
    if unequal := [key for key, is_other in others.items() if is_other]:
        raise SystemExit(f"the plain loop does not do what the recipe has in {', '.join(unequal)}")


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds and GiB of a process that must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


def part_of(recipe: recipes.Recipe, pictures: int, folder: Path) -> list[str]:
    """Recipe keys that take only the first pictures of both splits."""
    keys = []
    for split in ("train", "val"):
        data = unpack.dataset_of(recipe, split)
        content = json.loads(Path(data.path).read_text())
        content["images"] = content["images"][:pictures]
        kept = {image["id"] for image in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
        file = folder / f"{split}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
        keys += [f"data.{split}={file.absolute()}", f"data.{split}_images={Path(data.image_root).absolute()}"]
    return keys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="recipe keys, for both")
    parser.add_argument("--runs", type=Path, default=Path("runs/plain"))
    parser.add_argument("--same-time", action="store_true", help="as many minutes as focal took, not as many epochs")
    parser.add_argument("--pictures", type=int, help="only the first ones of train and val")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    recipe = recipes.load(options.recipe, options.overrides)
    refuse_what_is_not_equal(recipe)
    if options.child:
        train(recipe, options.child, options.until)
        return

    keys = list(options.overrides)
    if options.pictures:
        keys += part_of(recipe, options.pictures, options.runs / "part")
    name = f"{recipe.name}-{recipe.schedule.seed}"
    run, theirs = options.runs / name, options.runs / f"{name}-torchvision"
    both = [str(options.recipe), *keys]
    took = run / "took.json"
    if not took.is_file():
        focal = [sys.executable, "-m", "focalcli", "train", *both, f"name={name}", "--runs", str(options.runs)]
        took.write_text(json.dumps(timed(focal)))
    seconds, memory = json.loads(took.read_text())
    subprocess.run(
        [sys.executable, "-m", "focalcli", "eval", str(run), "--rounds", "0"], check=True, stdout=subprocess.DEVNULL
    )
    limit = ["--until", str(time.time() + seconds)] if options.same_time else []
    their_seconds, their_memory = timed([sys.executable, __file__, *both, "--child", str(theirs), *limit])

    val = unpack.dataset_of(recipes.load(options.recipe, keys), "val").path
    rows = {
        "focal train": (run / "eval", recipe.schedule.epochs, seconds, memory),
        "plain torchvision": (
            theirs,
            json.loads((theirs / "did.json").read_text())["epochs"],
            their_seconds,
            their_memory,
        ),
    }
    measured = {
        label: scores(val, json.loads((folder / "predictions.coco.json").read_text()))
        for label, (folder, *_) in rows.items()
    }
    metrics = list(dict.fromkeys(metric for score in measured.values() for metric in score))
    where = f"{torch.get_num_threads()} threads, {', '.join(f'{n} {version(n)}' for n in ('torch', 'torchvision'))}"
    mode = "the same time" if options.same_time else "the same epochs"
    shown = " ".join(
        [str(options.recipe), *options.overrides, f"--pictures {options.pictures}" if options.pictures else ""]
    )
    print(f"{shown.strip()}, {mode}; {date.today()}, Python {platform.python_version()}, {where}\n")
    print("| loop | " + " | ".join(metrics) + " | epochs | minutes | memory, GiB |")
    print("|---|" + "---|" * (len(metrics) + 3))
    for label, (_, epochs, spent, gigabytes) in rows.items():
        cells = [f"{100 * measured[label].get(metric, 0):.1f}" for metric in metrics]
        print(f"| {label} | {' | '.join(cells)} | {epochs:.1f} | {spent / 60:.1f} | {gigabytes:.2f} |")


if __name__ == "__main__":
    main()
