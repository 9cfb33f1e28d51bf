"""The sample dataset is what its script draws, has the tail it promises, and its boxes hold what can be seen.

Source: sample_data/draw.py, imported from its path and run again (once for all tests, about 15 s on one core).
Pictures are compared as (192, 192, 3) levels in 0-255. JPEG moves single levels, so limits are well above its noise.
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

SAMPLE = Path(__file__).parents[1] / "sample_data"
SPLITS = ("train", "val")
OUTSIDE_LEVELS, OUTSIDE_PX = 48, 4  # JPEG rings up to 4 px beyond a mark, by 35 levels at most
INSIDE_LEVELS, REACH_PX = 20, 4  # below what draw.py calls visible (24), so JPEG may blur a faint end


def annotations(folder: Path, split: str) -> dict:
    """The COCO file of a split."""
    return json.loads((folder / "annotations" / f"{split}.json").read_text(encoding="utf-8"))


def levels(picture: Path | io.BytesIO) -> np.ndarray:
    """(192, 192, 3) levels of a JPEG, wide enough to subtract."""
    return np.asarray(Image.open(picture).convert("RGB"), dtype=np.int16)


def boxes_by_image(coco: dict) -> dict[int, list[list[int]]]:
    """The boxes of each image id, also of those without any."""
    boxes: dict[int, list[list[int]]] = {image["id"]: [] for image in coco["images"]}
    for annotation in coco["annotations"]:
        boxes[annotation["image_id"]].append(annotation["bbox"])
    return boxes


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    """sample_data/draw.py, which is a script and no part of the package."""
    spec = importlib.util.spec_from_file_location("sample_data_draw", SAMPLE / "draw.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawn(draw: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset drawn again."""
    folder = tmp_path_factory.mktemp("sample_data")
    draw.main(folder)
    return folder


@pytest.mark.parametrize("split", SPLITS)
def test_drawing_again_gives_the_same_annotations(drawn: Path, split: str):
    """sample_data/README.md: same numpy and Pillow, same bytes."""
    name = f"annotations/{split}.json"
    assert (drawn / name).read_bytes() == (SAMPLE / name).read_bytes()


@pytest.mark.parametrize("split", SPLITS)
def test_drawing_again_gives_the_same_pictures(drawn: Path, split: str):
    """Mean difference below 2 levels: another libjpeg passes, a mark more or less does not."""
    names = [image["file_name"] for image in annotations(SAMPLE, split)["images"]]
    assert names == sorted(path.name for path in (SAMPLE / "images" / split).iterdir())
    for name in names:
        new, old = (levels(folder / "images" / split / name) for folder in (drawn, SAMPLE))
        assert np.abs(new - old).mean() < 2, name


def test_head_outnumbers_tail_30_to_1_and_val_can_measure_the_tail():
    """sample_data/README.md, table of counts: a long tail in train, at least 8 of each kind in val."""
    for split, least in (("train", 10), ("val", 8)):
        coco = annotations(SAMPLE, split)
        ids = [category["id"] for category in coco["categories"]]
        counts = np.bincount([a["category_id"] for a in coco["annotations"]], minlength=len(ids) + 1)[1:]
        assert ids == [1, 2, 3, 4, 5] and counts.min() >= least
        if split == "train":
            assert counts.max() >= 30 * counts.min()


@pytest.mark.parametrize("split", SPLITS)
def test_a_sixth_of_the_pictures_has_no_defect(split: str):
    """A detector that always finds something has to be found out: 15-20 % of each split is clean."""
    boxes = boxes_by_image(annotations(SAMPLE, split))
    assert 0.15 <= sum(not marks for marks in boxes.values()) / len(boxes) <= 0.20


def test_folder_is_at_most_4_mb():
    """It travels with the repository; no file reaches 1.5 MB."""
    sizes = [path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(sizes) <= 4e6 and max(sizes) < 1.5e6


@pytest.mark.parametrize("split", SPLITS)
def test_coco_file_is_consistent(split: str):
    """COCO data format: ids from 1 without gaps, known references, area of the box, boxes inside their image."""
    coco = annotations(SAMPLE, split)
    assert {"info", "licenses", "images", "annotations", "categories"} == set(coco)
    for key in ("images", "annotations", "categories"):
        assert [entry["id"] for entry in coco[key]] == list(range(1, len(coco[key]) + 1))
    images = {image["id"]: image for image in coco["images"]}
    for image in images.values():
        with Image.open(SAMPLE / "images" / split / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) and picture.mode == "RGB"
    for annotation in coco["annotations"]:
        x, y, w, h = annotation["bbox"]
        image = images[annotation["image_id"]]
        assert min(x, y) >= 0 and x + w <= image["width"] and y + h <= image["height"]
        assert min(w, h) > 0 and max(w, h) <= 3 * min(w, h)
        assert annotation["area"] == w * h and annotation["iscrowd"] == 0


@pytest.mark.parametrize("split", SPLITS)
def test_boxes_hold_all_that_a_defect_changed_and_no_more(draw: ModuleType, split: str):
    """Against the same picture drawn without defects: no change outside the boxes, change up to all four sides."""
    coco = annotations(SAMPLE, split)
    boxes = boxes_by_image(coco)
    for image in coco["images"]:
        clean, _ = draw.draw_picture(split, image["id"] - 1, kinds=())
        picture = levels(SAMPLE / "images" / split / image["file_name"])
        change = np.abs(picture - levels(io.BytesIO(draw.encode(clean)))).max(axis=-1)
        outside = change > OUTSIDE_LEVELS
        for x, y, w, h in boxes[image["id"]]:
            outside[max(y - OUTSIDE_PX, 0) : y + h + OUTSIDE_PX, max(x - OUTSIDE_PX, 0) : x + w + OUTSIDE_PX] = False
            rows, columns = np.nonzero(change[y : y + h, x : x + w] > INSIDE_LEVELS)
            assert len(rows), f"{image['file_name']}: nothing to see in {[x, y, w, h]}"
            slack = max(rows.min(), h - 1 - rows.max(), columns.min(), w - 1 - columns.max())
            assert slack <= REACH_PX, f"{image['file_name']}: {[x, y, w, h]} is {slack} px too wide on a side"
        assert not outside.any(), f"{image['file_name']}: a change outside every box"
