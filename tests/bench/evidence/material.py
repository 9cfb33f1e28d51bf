"""A protocol's dataset as a small COCO dataset on the disk: pictures drawn, or windows of real photographs.

Everything that reads COCO can then be run on the very pictures that the evidence is about: `focal audit`, `recommend`,
`tune`. Windows of real photographs stay in the cache, outside the project.

Shapes: boxes are xyxy in pixels of the window once it is resized.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from families import FAMILIES, Dial, draw
from PIL import Image

from focalcli import coco
from focalcli.training.data import read_image

LEAST_VISIBLE = (
    0.5  # share of a box inside a window; below it the object becomes a crowd region, which counts for nothing
)


@dataclass(frozen=True)
class Windows:
    """Which part of each photograph is seen: everything (share 0), or one window around an object.

    Attributes:
        wh: of the written picture. share: side of the window over the short side of the photograph.
        around: the window's least size in sides of the object that it is drawn around.
        rarest: that object is of the picture's rarest class; otherwise any of its objects.
    """

    wh: tuple[int, int] = (128, 128)
    share: float = 0.0
    around: float = 3.0
    rarest: bool = True


Picture = tuple[Image.Image, np.ndarray, np.ndarray, np.ndarray]  # pixels, (B, 4) boxes, (B,) labels, (B,) iscrowd


def write(folder: Path, names: list[str], splits: dict[str, Iterator[Picture]]) -> None:
    """annotations/{split}.json and images/{split}/N.png."""
    for split, pictures in splits.items():
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
        (folder / "annotations").mkdir(exist_ok=True)
        images, annotations = [], []
        for number, (image, boxes, labels, crowds) in enumerate(pictures, start=1):
            image.save(folder / "images" / split / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": image.width, "height": image.height})
            for box, label, crowd in zip(boxes.tolist(), labels.tolist(), crowds.tolist(), strict=True):
                width, height = box[2] - box[0], box[3] - box[1]
                annotations.append(
                    {
                        "id": len(annotations) + 1, "image_id": number, "category_id": label + 1,
                        "bbox": [box[0], box[1], width, height], "area": width * height, "iscrowd": int(crowd),
                    }
                )  # fmt: skip
        categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))


def drawn(family: str, dial: Dial, split: str, count: int) -> Iterator[Picture]:
    for index in range(count):
        picture = draw(FAMILIES[family], dial, split, index)
        no_crowd = np.zeros(len(picture.labels), dtype=np.bool_)
        yield Image.fromarray(picture.pixels), picture.boxes, picture.labels, no_crowd


def windows(dataset: coco.Dataset, cut: Windows) -> Iterator[Picture]:
    """One window of each photograph that has objects, always the same one."""
    for index in range(len(dataset.image_ids)):
        rows = np.flatnonzero(dataset.box_image == index)
        if not len(rows):
            continue
        photo = read_image(dataset, index)
        boxes, crowds = dataset.boxes_xyxy[rows], dataset.iscrowd[rows].copy()
        labels = dataset.box_label[rows]
        x, y, width, height = _window(np.random.default_rng(index), photo.size, boxes, labels, dataset, cut)
        scale = np.array([cut.wh[0] / width, cut.wh[1] / height] * 2)
        inside = (boxes - np.array([x, y, x, y])) * scale
        clipped = inside.clip(0, np.array(cut.wh * 2))
        area = (inside[:, 2:] - inside[:, :2]).prod(axis=1)
        seen = (clipped[:, 2:] - clipped[:, :2]).clip(0).prod(axis=1) / np.maximum(1e-9, area)
        keep = seen > 0
        crowds |= seen < LEAST_VISIBLE
        image = photo.resize(cut.wh, Image.Resampling.BILINEAR, box=(x, y, x + width, y + height))
        yield image, np.round(clipped[keep], 2), labels[keep], crowds[keep]


def _window(
    rng: np.random.Generator, size: tuple[int, int], boxes: np.ndarray, labels: np.ndarray, dataset: coco.Dataset,
    cut: Windows,
) -> tuple[float, float, float, float]:  # fmt: skip
    """x, y, width, height in pixels of the photograph."""
    if not cut.share:
        return 0, 0, *size
    rarest = labels[np.argmin(dataset.objects_per_class[labels])]
    box = boxes[rng.choice(np.flatnonzero((labels == rarest) | (not cut.rarest)))]
    side = min(min(size), max(cut.share * min(size), cut.around * float((box[2:] - box[:2]).max())))
    low = np.maximum(0, box[2:] - side)
    high = np.minimum(np.array(size) - side, box[:2])
    x, y = np.floor(rng.uniform(np.minimum(low, high), np.maximum(low, high)))
    return float(x), float(y), float(int(side)), float(int(side))
