"""Small datasets and detections, written on the spot, that the tests of evaluation and of detections share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from focalcli import coco, evaluation
from focalcli.coco import Dataset
from focalcli.detections import Detections, load_detections

NAMES = ("cell", "platelet", "ghost")


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def ground_truth(boxes: list[dict], n_images: int = 1, names: tuple[str, ...] = ("cell",)) -> dict:
    """A COCO dict with image ids 1.. and category ids 1..; `boxes` fill in what they do not say."""
    annotations = [
        {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0}
        | {"area": entry["bbox"][2] * entry["bbox"][3]}
        | entry
        for number, entry in enumerate(boxes, start=1)
    ]
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(1, n_images + 1)],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
    }


def found(bbox: list[float], score: float = 0.9, image_id: object = 1, category_id: object = 1) -> dict:
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def perfect(content: dict) -> list[dict]:
    return [found(a["bbox"], 0.9, a["image_id"], a["category_id"]) for a in content["annotations"]]


def score(folder: Path, content: dict, results: list[dict], **options) -> evaluation.ApTable:
    dataset = coco.load(write(folder / "gt.json", content))
    return evaluation.evaluate(dataset, load_detections(write(folder / "dt.json", results), dataset), **options)


def dataset_of(tmp_path: Path, boxes: list[tuple[int, list[float]]], images: int = 1, names=NAMES, crowd=()) -> Dataset:
    """Boxes (label, xywh) of one picture, or an image index as a third entry."""
    annotations = [
        {"id": n + 1, "image_id": (rest[0] if rest else 0) + 1, "category_id": label + 1, "bbox": box, "iscrowd": 0}
        | {"area": box[2] * box[3]}
        | ({"iscrowd": 1} if n in crowd else {})
        for n, (label, box, *rest) in enumerate(boxes)
    ]
    content = {
        "images": [{"id": n + 1, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(images)],
        "annotations": annotations,
        "categories": [{"id": n + 1, "name": name} for n, name in enumerate(names)],
    }
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(content))
    return coco.load(path)


def detections_of(rows: list[tuple[int, list[float], float]]) -> Detections:
    """(label, xywh, score), all in the first picture."""
    return Detections(
        image=np.zeros(len(rows), dtype=np.int64),
        label=np.array([row[0] for row in rows], dtype=np.int64),
        boxes=np.array([row[1] for row in rows], dtype=np.float64).reshape(-1, 4),
        scores=np.array([row[2] for row in rows], dtype=np.float64),
    )
