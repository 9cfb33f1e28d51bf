"""Write the two big COCO files that the speed of loading and auditing is measured on, the same bytes every time.

    python tests/bench/generate.py coco coco.json   # 118,287 pictures, 860,001 boxes, 80 classes, 450 MB
    python tests/bench/generate.py lvis lvis.json   # 100,000 pictures, 1,270,141 boxes, 1,203 classes, 1 GB

What is true of the originals: the numbers of pictures, boxes and classes, the share of small, medium and large objects
(41, 34 and 24 %, by `area`: https://cocodataset.org/#detection-eval), boxes per picture (7.3 with a long tail, some
pictures without any), a polygon per object and a run-length mask per crowd, so that the sizes of the files are those
too. For `lvis` each class has its true numbers of pictures and objects where shared/data is there. All else is drawn.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

LVIS_CLASSES = Path(__file__).parents[3] / "shared" / "data" / "json" / "lvis_v1_train_cat_info.json"
PICTURE_SIZES = (
    (640, 480, 0.45),
    (480, 640, 0.15),
    (640, 427, 0.2),
    (427, 640, 0.1),
    (500, 375, 0.05),
    (612, 612, 0.05),
)
BLOCK = 2_000  # annotations drawn and written at once
Ints = npt.NDArray[np.int64]


class Layout(NamedTuple):
    """Which object is of which class on which picture: (B,) each, by picture."""

    images: int
    names: list[str]
    image: Ints
    label: Ints
    points: float  # of a polygon, on average
    crowds: float  # share


def coco_layout(rng: np.random.Generator) -> Layout:
    """Every class has half as many objects as the one a dozen ranks before, after one that has three in ten."""
    images, boxes, classes = 118_287, 860_001, 80
    crowded = rng.lognormal(0, 0.75, images)  # most pictures hold a few objects, some hold dozens
    image = np.sort(rng.choice(images, boxes, p=crowded / crowded.sum()))
    share = np.concatenate([[0.3], 0.7 * 0.94 ** np.arange(classes - 1) / (0.94 ** np.arange(classes - 1)).sum()])
    label = rng.choice(classes, boxes, p=share)
    return Layout(images, [f"class {number}" for number in range(classes)], image, label, points=27, crowds=0.012)


def lvis_layout(rng: np.random.Generator) -> Layout:
    """LVIS v1's own counts of each class, or a long tail like theirs."""
    images = 100_000
    if LVIS_CLASSES.is_file():
        content = json.loads(LVIS_CLASSES.read_text())
        classes = [(entry["name"], entry["image_count"], entry["instance_count"]) for entry in content]
    else:
        counts = (80_000 / np.arange(1, 1204) ** 1.25).astype(int) + 1
        classes = [(f"class {number}", count, 4 * count) for number, count in enumerate(counts.tolist())]
    image, label = [], []
    for number, (_, pictures, objects) in enumerate(classes):
        chosen = rng.choice(images, pictures, replace=False)
        image.append(np.concatenate([chosen, rng.choice(chosen, objects - pictures)]))
        label.append(np.full(objects, number))
    order = np.argsort(np.concatenate(image), kind="stable")
    names = [name for name, _, _ in classes]
    return Layout(images, names, np.concatenate(image)[order], np.concatenate(label)[order], points=46, crowds=0.0)


def annotations(rng: np.random.Generator, layout: Layout, wh: Ints) -> Iterator[list[dict[str, Any]]]:
    """Blocks of records; `wh` is (I, 2), the pictures' sizes in pixels."""
    sides = ((3, 32, 0.415), (32, 96, 0.345), (96, 330, 0.24))  # square roots of the areas: small, medium, large
    angles = np.sort(rng.uniform(0, 2 * np.pi, (64, 256)), axis=1)
    for start in range(0, len(layout.image), BLOCK):
        rows = slice(start, min(start + BLOCK, len(layout.image)))
        count = rows.stop - rows.start
        low, high = np.array([(low, high) for low, high, _ in sides])[rng.choice(3, count, p=[s for *_, s in sides])].T
        area = np.round(np.exp(rng.uniform(np.log(low), np.log(high))) ** 2, 4)
        aspect, filled = np.exp(rng.normal(0, 0.45, count)), rng.uniform(0.5, 0.95, count)
        limit = wh[layout.image[rows]]
        size = np.sqrt(area / filled)[:, None] * np.stack([aspect**0.5, aspect**-0.5], axis=1)
        size = np.round(np.minimum(size, limit - 2), 2)
        corner = np.round(rng.uniform(0, 1, (count, 2)) * (limit - size - 1), 2)
        points = np.minimum(3 + rng.exponential(layout.points - 3, count).astype(int), 256)
        crowd = rng.uniform(size=count) < layout.crowds
        block = []
        for row in range(count):
            if crowd[row]:
                counts = rng.integers(1, 400, 250).tolist()
                mask: Any = {"counts": counts, "size": limit[row][::-1].tolist()}
            else:
                turn = angles[row % 64, :: 256 // points[row]][: points[row]]
                outline = np.stack([np.cos(turn), np.sin(turn)], axis=1) * (size[row] / 2) + corner[row] + size[row] / 2
                mask = [np.round(outline, 2).ravel().tolist()]
            block.append(
                {
                    "segmentation": mask,
                    "area": float(area[row]),
                    "iscrowd": int(crowd[row]),
                    "image_id": 9 + 5 * int(layout.image[start + row]),
                    "bbox": np.concatenate([corner[row], size[row]]).tolist(),
                    "category_id": 1 + int(layout.label[start + row]),
                    "id": 1_768 + 3 * (start + row),
                }
            )
        yield block


def write(kind: str, path: Path, seed: int = 0) -> None:
    """Write one of the files, a few MB at a time."""
    rng = np.random.default_rng(seed)
    layout = {"coco": coco_layout, "lvis": lvis_layout}[kind](rng)
    wh = np.array([size[:2] for size in PICTURE_SIZES])[
        rng.choice(len(PICTURE_SIZES), layout.images, p=[size[2] for size in PICTURE_SIZES])
    ]
    encode = msgspec.json.Encoder().encode
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        file.write(b'{"info":{"description":"drawn by tests/bench/generate.py"},"licenses":[],"images":[')
        images = [
            {"license": 3, "file_name": f"{9 + 5 * number:012}.jpg", "height": height, "width": width,
             "coco_url": f"http://images.cocodataset.org/train2017/{9 + 5 * number:012}.jpg",
             "date_captured": "2013-11-14 11:18:45", "id": 9 + 5 * number}
            for number, (width, height) in enumerate(wh.tolist())
        ]  # fmt: skip
        file.write(encode(images)[1:])
        file.write(b',"annotations":[')
        for number, block in enumerate(annotations(rng, layout, wh)):
            file.write(b"," * bool(number) + encode(block)[1:-1])
        names = enumerate(layout.names, start=1)
        categories = [{"supercategory": "thing", "id": number, "name": name} for number, name in names]
        file.write(b'],"categories":' + encode(categories) + b"}")
    aside.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["coco", "lvis"])
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    write(options.kind, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
