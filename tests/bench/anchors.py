"""Time the exact assignment of anchors to every box of a dataset: numpy, machine code, and torchvision on a sample.

    python tests/bench/generate.py coco coco.json
    python tests/bench/anchors.py coco.json

Each way runs in a process of its own and prints what it took from having the boxes in memory: `seconds` to the counts,
imports and compilation included, `count` the counting alone. The first run of the compiled way finds nothing kept from
earlier ones. `CPU` is the processor time of the whole, which a busy machine does not lengthen. `MB` is the process's
peak above what it had needed to read its input. torchvision's time is that of a sample of
pictures, times how many there are; its counts of the sample must be those of the others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np

from focalcli import anchors, coco
from focalcli.anchors import AnchorSpec

MIN_SIZE, MAX_SIZE = 800, 1333


def boxes_of(file: Path) -> dict[str, np.ndarray]:
    """The arguments of anchors.count for every object of a COCO file."""
    dataset = coco.load(file)
    network = anchors.network_size(dataset.image_wh, MIN_SIZE, MAX_SIZE)
    solid = ~dataset.iscrowd
    image = dataset.box_image[solid]
    boxes = anchors.resize_boxes(dataset.boxes_xyxy[solid], dataset.image_wh[image], network[image])
    return {"boxes": boxes, "box_image": image, "grid": anchors.grids(anchors.padded(network)), "network": network}


def count_with_torchvision(given: dict[str, np.ndarray], pictures: np.ndarray) -> list[int]:
    """[positives, ignored] of some pictures, every anchor against every box."""
    import torch
    from torchvision.models.detection._utils import Matcher
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList
    from torchvision.ops import box_iou

    generator = AnchorGenerator(AnchorSpec().level_sizes, (AnchorSpec().ratios,) * 5)
    matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
    total = [0, 0]
    for index in pictures:
        width, height = anchors.padded(given["network"][index]).tolist()
        maps = [torch.zeros(1, 1, rows, columns) for rows, columns in given["grid"][index, :, :2].tolist()]
        batch = ImageList(torch.zeros(1, 3, height, width), [(height, width)])
        boxes = torch.from_numpy(given["boxes"][given["box_image"] == index])
        matches = matcher(box_iou(boxes, generator(batch, maps)[0]))
        total[0] += int((matches >= 0).sum())
        total[1] += int((matches == Matcher.BETWEEN_THRESHOLDS).sum())
    return total


def measure(way: str, file: Path, sample: int) -> None:
    """Print one way's figures as JSON: what a process of its own does."""
    given = dict(np.load(file))
    arguments = given["boxes"], given["box_image"], given["grid"], AnchorSpec()
    pictures = np.unique(given["box_image"])
    chosen = pictures[np.linspace(0, len(pictures) - 1, min(sample, len(pictures))).astype(np.int64)]
    held, start = peak_mb(), clocks()
    if way == "torchvision":
        count_with_torchvision(given, chosen[:1])  # imports torch
        ready = clocks()
        of_sample = total = count_with_torchvision(given, chosen)
        end = clocks()
    else:
        if way == "numpy":
            from focalcli.anchors.counting import count_with_numpy as count
        else:
            from focalcli.anchors.compiled import count
        ready = clocks()
        counts = count(*arguments)
        end = clocks()
        in_sample = np.isin(given["box_image"], chosen)
        total = [int(kind.sum()) for kind in (counts.positives, counts.ignored)]
        of_sample = [int(kind[in_sample].sum()) for kind in (counts.positives, counts.ignored)]
    counting = (end - ready) * (len(pictures) / len(chosen) if way == "torchvision" else 1.0)
    seconds, cpu = ready - start + counting
    figures = {"seconds": seconds, "count": counting[0], "cpu": cpu, "mb": peak_mb() - held}
    print(json.dumps(figures | {"total": total, "of_sample": of_sample}))


def clocks() -> np.ndarray:
    """Seconds on the wall and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts KiB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="a COCO JSON")
    parser.add_argument("--sample", type=int, default=100, help="pictures for torchvision")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure, options.file, options.sample)
        return
    with tempfile.TemporaryDirectory() as folder:
        given = boxes_of(options.file)
        np.savez(Path(folder) / "boxes.npz", **given)
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        results = {}
        for name in ("numpy", "compiled, first run", "compiled, later", "torchvision"):
            words = [Path(folder) / "boxes.npz", "--measure", name.split(",")[0], "--sample", options.sample]
            command = [sys.executable, __file__, *map(str, words)]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            results[name] = json.loads(done.stdout)
    if len({str(result["of_sample"]) for result in results.values()}) > 1:
        sys.exit(f"the counts differ: {results}")

    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "torch", "torchvision"))
    cores = len(os.sched_getaffinity(0))
    total = anchors.anchors_per_image(AnchorSpec(), given["grid"]).sum()
    boxes, pictures = len(given["boxes"]), len(given["grid"])
    print(f"{options.file}: {boxes:,} boxes, {pictures:,} pictures at {MIN_SIZE}/{MAX_SIZE} px, {total:,} anchors;")
    print(f"{date.today()}, {cores} cores, load {os.getloadavg()[0]:.1f},")
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}\n")
    print("| way | seconds | count | CPU | MB | positives | ignored |\n|---|---|---|---|---|---|---|")
    for name, result in results.items():
        sampled = name == "torchvision"
        label = f"{name}, from {options.sample} pictures" if sampled else name
        counts = ["", ""] if sampled else [f"{value:,}" for value in result["total"]]
        cells = [label, *(f"{result[key]:,.1f}" for key in ("seconds", "count", "cpu")), f"{result['mb']:.0f}", *counts]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
