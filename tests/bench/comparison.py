"""How often `focal compare` calls equal detectors different: pairs drawn with the same skill, many times over.

    python tests/bench/comparison.py [--pairs 100]

Each picture holds one object of each of 10 classes; both detectors find an object with the chance 0.6. What is asked: a
class alone looks real (p < 0.05) in 5 % of the cases, 95 % of the intervals hold 0, and after Holm any class at all is
called real in 5 % of the pairs. `percentiles` are the intervals that the rounds' percentiles would give.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny_detections import dataset_of

from focalcli.coco import Dataset
from focalcli.detections import Detections
from focalcli.evaluation import compare, measure

CLASSES, SKILL, ROUNDS = 10, 0.6, 200


def detector(dataset: Dataset, rng: np.random.Generator) -> Detections:
    """A box on each object that it finds and one beside each that it does not; hits score higher."""
    hit = rng.random(len(dataset.boxes)) < SKILL
    boxes = dataset.boxes + np.where(hit[:, None], 0.0, [0, 200, 0, 0])
    scores = np.where(hit, rng.beta(4, 2, len(hit)), rng.beta(2, 4, len(hit)))
    return Detections(dataset.box_image, dataset.box_label, boxes, scores)


def row(images: int, pairs: int) -> list[str]:
    """Shares, in %, over `pairs` pairs of detectors on this many pictures."""
    boxes = [(k, [60 * k, 10, 50, 50], n) for n in range(images) for k in range(CLASSES)]
    with tempfile.TemporaryDirectory() as folder:
        dataset = dataset_of(Path(folder), boxes, images=images, names=tuple(f"c{k}" for k in range(CLASSES)))
    rng = np.random.default_rng(0)
    alone, holds, percentiles, any_class, mean = [], [], [], [], []
    for _ in range(pairs):
        before, after = (measure(dataset, detector(dataset, rng), rounds=ROUNDS) for _ in range(2))
        result = compare(before, after)
        ends = np.quantile(after.luck.AP50 - before.luck.AP50, [0.025, 0.975], axis=0)
        percentiles += ((ends[0] <= 0) & (ends[1] >= 0)).tolist()
        alone += [(entry.AP50.p_value or 1.0) < 0.05 for entry in result.classes]
        holds += [entry.AP50.interval[0] <= 0 <= entry.AP50.interval[1] for entry in result.classes]
        any_class.append(any(entry.AP50.real for entry in result.classes))
        mean.append(result.mean.AP50.real)
    return [f"{100 * np.mean(values):.1f}" for values in (alone, holds, percentiles, any_class, mean)]


def main() -> None:
    """One Markdown row for each number of pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100)
    pairs = parser.parse_args().pairs
    print(f"{pairs} pairs of equal detectors, {CLASSES} classes, {ROUNDS} rounds, AP50; shares in %\n")
    print("| images | a class alone | interval holds 0 | percentiles hold 0 | any class, Holm | the mean |")
    print("|---:|---:|---:|---:|---:|---:|")
    for images in (5, 8, 15, 40):
        print(f"| {images} | {' | '.join(row(images, pairs))} |", flush=True)


if __name__ == "__main__":
    main()
