"""Time, memory and agreement of evaluation: focal and pycocotools side by side, as a markdown table.

    python tests/bench/eval.py            # 5,000 pictures, 80 classes, 37,000 objects, 500,000 detections; some minutes
    python tests/bench/eval.py --scale 0.1

The files are drawn, the same bytes every time: objects of all sizes with a long tail of classes and some crowds,
detections near them (some of a wrong class) and elsewhere. Each run is a process of its own from files to numbers,
imports included, and they take turns. `everything` adds error types, confusion, curves, calibration, a temperature and
1,000 bootstrap rounds of AP and AP50. The difference is the largest of the 12 figures and of the seven of each class.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from audit import machine

FOCAL = """
import sys
from focalcli import cli
sys.argv = ["focal", "eval", *sys.argv[1:], "--format", "json"]
cli.main()
"""
EVERYTHING = """
import json, sys
from pathlib import Path
from focalcli import evaluation
from focalcli.coco import load
from focalcli.detections import load_detections
dataset = load(Path(sys.argv[2]))
found = load_detections(Path(sys.argv[1]), dataset)
table = evaluation.evaluate(dataset, found, rounds=1000)
why = evaluation.diagnose(dataset, found)
judged = evaluation.judge(dataset, found)
scaling = evaluation.fit(judged.scores, judged.hit, "temperature")
evaluation.calibration(dataset, found, scaling=scaling)
json.dumps(why.to_dict())
print(json.dumps(table.to_dict()))
"""
PYCOCOTOOLS = """
import contextlib, json, os, sys
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
    truth = COCO(sys.argv[2])
    engine = COCOeval(truth, truth.loadRes(sys.argv[1]), "bbox")
    engine.evaluate()
    engine.accumulate()
    engine.summarize()
best, recall = engine.eval["precision"][..., 2], engine.eval["recall"]
def mean(values):
    values = values[values > -1]
    return float(values.mean()) if values.size else None
names = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()
classes = [
    {"AP": mean(best[:, :, k, 0]), "AP50": mean(best[0, :, k, 0]), "AP75": mean(best[5, :, k, 0]),
     "APs": mean(best[:, :, k, 1]), "APm": mean(best[:, :, k, 2]), "APl": mean(best[:, :, k, 3]),
     "AR100": mean(recall[:, k, 0, 2]), "category_id": int(category)}
    for k, category in enumerate(engine.params.catIds)
]
summary = {name: None if value == -1 else float(value) for name, value in zip(names, engine.stats)}
print(json.dumps({"summary": summary, "classes": classes}))
"""
PLAIN = FOCAL.replace(
    "*sys.argv[1:]", '*sys.argv[1:], "--rounds", "0"'
)  # the figures that pycocotools has, no intervals
PROGRAMS = {
    "focal eval --rounds 0": PLAIN,
    "focal eval": FOCAL,
    "focal, everything": EVERYTHING,
    "pycocotools": PYCOCOTOOLS,
}


class Run(NamedTuple):
    seconds: float
    cpu_seconds: float
    peak_mb: float
    result: dict[str, Any]


def draw(folder: Path, scale: float, seed: int = 0) -> tuple[Path, Path]:
    """Write the detections and the dataset; returns both paths."""
    images, classes, objects, found = int(5000 * scale), 80, int(37_000 * scale), int(500_000 * scale)
    rng = np.random.default_rng(seed)
    crowded = rng.lognormal(0, 0.9, images)
    image = rng.choice(images, objects, p=crowded / crowded.sum())
    tail = 0.94 ** np.arange(classes - 1)
    share = np.concatenate([[0.3], 0.7 * tail / tail.sum()])
    label = rng.choice(classes, objects, p=share)
    side, aspect = np.exp(rng.uniform(np.log(6), np.log(320), objects)), np.exp(rng.normal(0, 0.3, objects))
    wh = np.round(np.clip(np.stack([side * aspect, side / aspect], axis=1), 3, 470), 2)
    boxes = np.hstack([np.round(rng.uniform(0, 1, (objects, 2)) * (np.array([640, 480]) - wh), 2), wh])
    crowd = rng.random(objects) < 0.012

    near = rng.choice(objects, int(found * 0.4))
    far = found - len(near)
    noise = rng.normal(0, 1, (len(near), 4)) * wh[near][:, [0, 1, 0, 1]]
    near_boxes = boxes[near] + noise * np.abs(rng.normal(0, 0.15, (len(near), 1)))
    near_boxes[:, 2:] = np.maximum(near_boxes[:, 2:], 1)
    same = rng.random(len(near)) < 0.85
    near_label = np.where(same, label[near], rng.choice(classes, len(near), p=share))
    far_side = np.exp(rng.uniform(np.log(6), np.log(320), (far, 1)))
    far_boxes = np.hstack([rng.uniform(0, 300, (far, 2)), far_side, far_side])
    order = rng.permutation(found)
    columns = (
        np.concatenate([image[near], rng.integers(0, images, far)])[order],
        np.concatenate([near_label, rng.choice(classes, far, p=share)])[order],
        np.round(np.vstack([near_boxes, far_boxes]), 2)[order],
        np.round(np.concatenate([rng.beta(2, 2, len(near)), rng.beta(1, 8, far)]), 5)[order],
    )
    truth, detections = folder / "truth.json", folder / "detections.json"
    numbers = zip(image.tolist(), label.tolist(), boxes.tolist(), crowd.tolist(), strict=True)
    content = {
        "images": [{"id": 7 + 3 * n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(images)],
        "categories": [{"id": n + 1, "name": f"class {n}"} for n in range(classes)],
        "annotations": [
            {"id": n, "image_id": 7 + 3 * i, "category_id": k + 1, "bbox": b, "area": round(0.7 * b[2] * b[3], 3)}
            | {"iscrowd": int(c)}
            for n, (i, k, b, c) in enumerate(numbers, start=1)
        ],
    }
    truth.write_bytes(msgspec.json.encode(content))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    results = [{"image_id": 7 + 3 * i, "category_id": k + 1, "bbox": b, "score": s} for i, k, b, s in rows]
    detections.write_bytes(msgspec.json.encode(results))
    return detections, truth


def measured(program: str, folder: Path, *words: Path) -> Run:
    """One run in a process of its own, which prints its numbers as JSON."""
    out = folder / "out.json"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [(os.POSIX_SPAWN_OPEN, 1, str(out), flags, 0o600)]
    start = time.perf_counter()
    command = [sys.executable, "-c", program, *map(str, words)]
    pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{program}\nended with status {status}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, json.loads(out.read_text()))


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """The largest of all figures that pycocotools gives; infinite where one is undefined on one side only."""
    pairs = [(ours["summary"][name], value) for name, value in theirs["summary"].items()]
    by_id = {entry["category_id"]: entry for entry in ours["classes"]}
    for entry in theirs["classes"]:
        mine = by_id[entry["category_id"]]
        pairs += [(mine[name], value) for name, value in entry.items()]
    return max(
        0.0 if a is None and b is None else float("inf") if a is None or b is None else abs(a - b) for a, b in pairs
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of pictures, objects and detections")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = draw(folder, options.scale)
        megabytes = " + ".join(f"{file.stat().st_size / 1e6:,.0f}" for file in files)
        print(f"{machine()}; load {os.getloadavg()[0]:.1f} at the start, {options.rounds} rounds, {megabytes} MB\n")
        runs: dict[str, list[Run]] = {program: [] for program in PROGRAMS}
        for _ in range(options.rounds):
            for program, code in PROGRAMS.items():
                runs[program].append(measured(code, folder, *files))
    theirs = runs["pycocotools"]
    print("| program | seconds | CPU seconds | peak MB | x faster | x less CPU | x less memory | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for program, own in runs.items():
        cost = [statistics.median(run[k] for run in own) for k in (0, 1)] + [max(run.peak_mb for run in own)]
        base = [statistics.median(run[k] for run in theirs) for k in (0, 1)] + [max(run.peak_mb for run in theirs)]
        ratios = " | ".join(f"{b / c:.1f}" for b, c in zip(base, cost, strict=True))
        apart = difference(own[0].result, theirs[0].result)
        print(f"| {program} | {cost[0]:.2f} | {cost[1]:.2f} | {cost[2]:,.0f} | {ratios} | {apart:g} |", flush=True)


if __name__ == "__main__":
    main()
