"""Fixtures that several test files share: small COCO files and a tiny run made on the spot, and the real data."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import TINY, draw_dataset, focal
from hypothesis import settings

# machines are shared and noisy: how long an example takes says nothing about the claim
settings.register_profile("focal", deadline=None)
settings.load_profile("focal")

# before torch is imported: in networks this small threads only wait for each other, on a busy machine for minutes
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real datasets, which are not the project's own; tests that need them are skipped elsewhere."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at {SHARED_DATA}")
    return SHARED_DATA


def coco_file(
    boxes: list[dict[str, Any]] | None = None,
    images: list[dict[str, Any]] | None = None,
    categories: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The content of a COCO file: by default two pictures of 640 x 480 with a cat and a dog.

    Args:
        boxes: the annotations; each needs only what differs from a cat of 100 x 80 px in picture 1.
    """
    default = {"image_id": 1, "category_id": 1, "bbox": [10, 20, 100, 80], "area": 8000, "iscrowd": 0}
    given = [{}, {"image_id": 2, "category_id": 2}] if boxes is None else boxes
    return {
        "images": images or [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in (1, 2)],
        "annotations": [{"id": number, **default, **box} for number, box in enumerate(given, start=1)],
        "categories": categories or [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[..., Path]:
    """Write `coco_file(...)` below tmp_path and return its path."""

    def write(*args: Any, name: str = "train.json", **kwargs: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(coco_file(*args, **kwargs)))
        return path

    return write


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny dataset `data`, a recipe `r.yaml`, its run `runs/r` and what `eval` saved, `scored`; only to be read."""
    folder = tmp_path_factory.mktemp("world")
    draw_dataset(folder / "data")
    focal("recommend", folder / "data", "-o", folder / "r.yaml", "--device", "cpu", *TINY)
    focal("train", folder / "r.yaml", "--runs", folder / "runs", "--device", "cpu")
    focal("eval", folder / "runs/r", "--out", folder / "scored", "--workers", 0)
    return folder


@pytest.fixture
def own_world(world: Path, tmp_path: Path) -> Path:
    """A copy of it to change; of checkpoints, which are only ever replaced as a whole, links."""

    def copy(source: str, target: str) -> object:
        return os.link(source, target) if source.endswith(".safetensors") else shutil.copy(source, target)

    return shutil.copytree(world, tmp_path / "w", copy_function=copy)
