"""Where people keep COCO files: the layouts of COCO, Roboflow, CVAT and focal, found without a flag."""

from __future__ import annotations

import os
from pathlib import Path

from focalcli.coco.dataset import escapes_root
from focalcli.coco.source import STDIN
from focalcli.errors import FocalError

# instances_* first: COCO keeps captions and keypoints of the same pictures beside them
PATTERNS = ("annotations/instances_*.json", "annotations/*.json", "*/_annotations.coco.json", "*.json")
ORDER = ("train", "val", "test")


def find_splits(path: Path) -> dict[str, Path]:
    """The annotation files of a dataset: split name -> file, train before val before the rest.

    Args:
        path: a COCO JSON, `-` for stdin, or a folder that holds `annotations/instances_*.json` (COCO, CVAT),
            `annotations/*.json` (focal), `*/_annotations.coco.json` (Roboflow) or `*.json`; each may be `.json.gz`.

    Raises:
        FocalError: nothing there, or no annotation file in the folder.
    """
    if path == STDIN:
        return {"stdin": path}
    if not path.exists():
        raise FocalError(f"{path}: no such file or folder", "give a COCO JSON, or a folder with annotations/*.json")
    if not path.is_dir():  # a pipe, /dev/fd/63, is as good as a file
        return {split_name(path): path}
    for pattern in PATTERNS:
        packed, plain = sorted(path.glob(f"{pattern}.gz")), sorted(path.glob(pattern))
        found = {split_name(file): file for file in (*packed, *plain)}  # the plain file, where both are there
        if found:
            return {name: found[name] for name in sorted(found, key=lambda name: (_rank(name), name))}
    raise FocalError(
        f"{path}: no COCO annotation file in this folder",
        "expected annotations/train.json (and val.json), train/_annotations.coco.json, or give the JSON itself",
    )


def _rank(name: str) -> int:
    return next((rank for rank, word in enumerate(ORDER) if name.lower().startswith(word)), len(ORDER))


def split_name(file: Path) -> str:
    """What a file's split is called: train of train.json.gz and train/_annotations.coco.json."""
    name = file.name.removesuffix(".gz")
    if name == "_annotations.coco.json":
        return file.absolute().parent.name
    return name.removesuffix(".json").removeprefix("instances_")


def find_image_root(file: Path, file_names: tuple[str, ...]) -> Path:
    """The folder that the file_names are relative to: the first usual place that holds one of the first pictures.

    Beside stdin there is nothing; the working folder is taken.
    """
    if file == STDIN:
        return Path()
    split = split_name(file)
    base = file.parent.parent if file.parent.name == "annotations" else file.parent
    places = [base / "images" / split, base / split, base / "images", base, file.parent]
    safe = [name for name in file_names[:8] if not escapes_root(name)]
    for place in places:
        if any(os.path.isfile(place / name) for name in safe):  # unlike Path.is_file it takes names too long for a file
            return place
    return next((place for place in places if place.is_dir()), file.parent)
