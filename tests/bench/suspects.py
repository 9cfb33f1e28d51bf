"""How many planted label mistakes are among the first suspects of `focal eval --suspects`, as a markdown row.

    python tests/bench/suspects.py runs/bench/bccd-0/eval/predictions.coco.json ../shared/data/bccd

Some of a validation set's own labels are made wrong, in four ways with equal chances: left out, renamed to another
class, shifted by 15 to 30 % of their side, moved to anywhere in their picture. The figure is the share of planted
mistakes among the first N suspects, N being how many were planted; labels at random would give the share that was
planted. A set's own mistakes count against it. A suspect is right when it names a label that was changed, or a box that
overlaps one that was left out or moved away by IoU 0.5.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from focalcli.coco import Dataset
from focalcli.detections import Detections, load_detections
from focalcli.evaluation import Suspect, find_suspects
from focalcli.splits import load_split, split_file

WAYS = ("left out", "renamed", "shifted", "moved")


def plant(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, dict[int, str]]:
    """The dataset with mistakes, its annotations numbered by their rows, and what was done to which row."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(dataset.boxes))[: round(share * len(dataset.boxes))]
    done = {row: WAYS[way] for row, way in zip(rows.tolist(), rng.integers(len(WAYS), size=len(rows)), strict=True)}
    boxes, label, keep = dataset.boxes.copy(), dataset.box_label.copy(), np.ones(len(dataset.boxes), dtype=np.bool_)
    for row, way in done.items():
        if way == "left out":
            keep[row] = False
        elif way == "renamed":
            label[row] = rng.choice([other for other in np.unique(dataset.box_label) if other != label[row]])
        elif way == "shifted":
            boxes[row, :2] += rng.choice([-1, 1], size=2) * boxes[row, 2:] * rng.uniform(0.15, 0.3, size=2)
        else:
            room = np.maximum(dataset.image_wh[dataset.box_image[row]] - boxes[row, 2:], 1)
            boxes[row, :2] = rng.uniform(0, 1, 2) * room
    wrong = replace(
        dataset, boxes=boxes[keep], box_label=label[keep], box_image=dataset.box_image[keep],
        annotation_ids=np.arange(len(boxes))[keep], area=dataset.area[keep], iscrowd=dataset.iscrowd[keep],
    )  # fmt: skip
    return wrong, done


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Of two boxes, x, y, width, height."""
    inside = np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])
    both = float(inside.clip(0).prod())
    return both / (float(a[2:].prod() + b[2:].prod()) - both)


def is_right(suspect: Suspect, dataset: Dataset, done: dict[int, str]) -> bool:
    if suspect.annotation_id is not None:
        return suspect.annotation_id in done
    gone = [row for row, way in done.items() if way in ("left out", "moved")]
    near = [row for row in gone if dataset.box_image[row] == suspect.image]
    return any(iou(dataset.boxes[row], np.array(suspect.found_box)) >= 0.5 for row in near)


def share_found(dataset: Dataset, found: Detections, share: float, seed: int) -> float:
    wrong, done = plant(dataset, share, seed)
    suspects = find_suspects(wrong, found)[: len(done)]
    return sum(is_right(suspect, dataset, done) for suspect in suspects) / len(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detections", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args()
    dataset = load_split(split_file(options.dataset, None), None)
    found = load_detections(options.detections, dataset)
    cells = []
    for share in options.shares:
        figures = [share_found(dataset, found, share, seed) for seed in options.seeds]
        cells.append(", ".join(f"{100 * figure:.0f} %" for figure in figures))
    print("| detections | " + " | ".join(f"{100 * share:g} % planted" for share in options.shares) + " |")
    print("|---|" + "---|" * len(cells))
    print(f"| {options.detections} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
