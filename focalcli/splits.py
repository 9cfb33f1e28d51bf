"""The splits of a dataset: which file a name means, and which one a training is scored on.

`coco.find_splits` finds the files; exporters call the validation split val, valid, validation or val2017.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from focalcli.coco import Dataset, find_splits, load
from focalcli.errors import FocalError


def split_file(path: Path, name: str | None) -> Path:
    """The annotation file of a split of `path`: of this name, else the only one that starts with it.

    Args:
        path: a dataset folder, or a COCO JSON or `-` for stdin, which is its own only split.
        name: None takes the validation split, or the only split that there is.

    Raises:
        FocalError: nothing there, no such split, or several that `name` could mean.
    """
    splits = find_splits(path)
    if not path.is_dir():
        if name is not None:
            raise FocalError(f"--split {name}: {path} is one file, without splits", "leave --split out")
        return path
    if name is None:
        chosen = next(iter(splits)) if len(splits) == 1 else validation_split(splits)
        if chosen is None:
            raise FocalError(f"{path}: no validation split; it has {', '.join(splits)}", "choose one with --split")
        return splits[chosen]
    likely = [name] if name in splits else [split for split in splits if split.startswith(name)]
    if len(likely) != 1:
        several = f"{path}: {name!r} could be {' or '.join(likely)}" if likely else f"{path}: no split {name!r}"
        raise FocalError(f"{several}; it has {', '.join(splits)}", "name one of these, or give its JSON file")
    return splits[likely[0]]


def validation_split(splits: Iterable[str], train: str = "") -> str | None:
    """The split to score a training on (val, valid, validation, val2017); None when no name says so.

    Args:
        train: the split to train on; of several, the one with the same ending is chosen (val2017 for train2017).
    """
    named = [name for name in splits if name.lower().startswith("val")]
    return next((name for name in named if is_counterpart(train, name)), named[0] if named else None)


def is_counterpart(train: str, name: str) -> bool:
    """True when `name` is what one calls the validation split of `train`: train2017 and val2017, train and valid."""
    ending = re.escape(train.lower().removeprefix("train"))
    return re.fullmatch(f"val(id(ation)?)?{ending}", name.lower()) is not None


def load_split(file: Path, images: Path | None) -> Dataset:
    """Read one COCO JSON; `images` is where its pictures are, when the user says so.

    Raises:
        FocalError: as coco.load, or `images` is no folder.
    """
    if images is not None and not images.is_dir():
        raise FocalError(f"{images}: no such folder of pictures", f"the file_names in {file} are relative to it")
    return load(file, images)


def refuse_missing_pictures(dataset: Dataset, option: str) -> None:
    """Raise FocalError before a detector meets the gap; `option` is how the user names the folder of the pictures."""
    root = str(dataset.image_root)
    missing = [name for name in dataset.file_names if not os.path.isfile(f"{root}/{name}")]  # 118,000 in 0.5 s
    if missing:
        raise FocalError(
            f"{dataset.path}: {len(missing):,} of {len(dataset.file_names):,} pictures are not in {root}, "
            f"the first is {missing[0]!r}",
            f"name their folder with {option}",
        )


def load_splits(path: Path, images: Path | None) -> dict[str, Dataset]:
    """Every split of a dataset folder, or the one of a COCO JSON or of stdin, `-`.

    Raises:
        FocalError: as find_splits and load_split.
    """
    return {name: load_split(file, images) for name, file in find_splits(path).items()}
