"""Recommendation -> recipe file: which data it names, relative to where it lies, and which file it may replace."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focalcli.audit import reference_split
from focalcli.coco import find_splits
from focalcli.errors import FocalError
from focalcli.recipe.checking import ALWAYS_PATHS, MAYBE_PATHS, from_dict, load
from focalcli.recipe.schema import ANNOTATIONS
from focalcli.recipe.writing import dump
from focalcli.recommend import Recommendation, recipe_values
from focalcli.splits import is_counterpart, split_file, validation_split


@dataclass(frozen=True)
class Data:
    """The files of a recommended recipe.

    Attributes:
        train: the annotation file to look at. val: the one that the training will be scored on, None when unknown.
        keys: what the recipe's data section says of them, by the last word of the key.
    """

    train: Path
    val: Path | None
    keys: Mapping[str, str]


def find_data(dataset: Path, given: Mapping[str, Any], images: Path | None) -> Data:
    """The training and validation files of a dataset.

    A COCO JSON that lies in a dataset folder as its training split has its validation split there too.

    Args:
        dataset: a folder or a COCO JSON. given: dotted recipe keys that the user decided, data.val among them.
        images: the folder of the pictures, when not beside the JSON.

    Raises:
        FocalError: nothing there, or `given` names a split or file that is not.
    """
    if "data.path" in given:
        raise FocalError("override data.path: the dataset is the first argument", "leave it out")
    folder, splits = (_folder_around(dataset) or (None, {})) if dataset.is_file() else (dataset, find_splits(dataset))
    train_key, train = str(dataset), dataset
    if folder is not None:
        train_key = reference_split(splits)
        train = splits[train_key]
    if "data.train" in given:
        train_key, train = given["data.train"], _file_of(given["data.train"], folder, "data.train")
    val_key = given.get("data.val") or validation_split(splits, train_key)
    val = _file_of(val_key, folder, "data.val") if val_key else None
    if "data.val" not in given and val is not None and val.samefile(train):
        val = None
    keys = {"path": str(folder or ""), "train": train_key, "val": val_key or "val"}
    if images is not None:
        keys |= {"train_images": str(images), "val_images": str(images)}
    return Data(train, val, keys | {k.removeprefix("data."): v for k, v in given.items() if k in ALWAYS_PATHS})


def _folder_around(file: Path) -> tuple[Path, dict[str, Path]] | None:
    """The dataset folder whose training split a JSON is, when it has the validation split that belongs to it."""
    around = file.parent
    for folder in (around.parent if around.name else around.absolute().parent, around):
        try:
            splits = find_splits(folder)
        except FocalError:
            continue
        train = reference_split(splits)
        if splits[train].samefile(file) and any(is_counterpart(train, name) for name in splits):
            return folder, splits
    return None


def _file_of(value: str, folder: Path | None, key: str) -> Path:
    """The file that data.train or data.val means."""
    if value.endswith(ANNOTATIONS):
        if not Path(value).is_file():
            raise FocalError(f"override {key}={value}: no such file", "give a COCO JSON file, or the name of a split")
        return Path(value)
    if folder is None:
        raise FocalError(f"override {key}={value}: the dataset is one file, without splits", "give a COCO JSON file")
    return split_file(folder, value)


def save_recommendation(
    result: Recommendation, data: Data, given: Mapping[str, Any], output: Path, *, command: str
) -> bool:
    """Write the recommended recipe, whole or not at all; True when it replaced another recipe.

    Args:
        given: the user's own keys, for the name. command: what the recipe says it was written by.

    Raises:
        FocalError: no validation set, or `output` cannot be written or is some other file that must not be lost.
    """
    if data.val is None:
        raise FocalError(
            f"{data.train}: no validation set beside it, and a recipe needs one",
            f"add data.val=FILE.json; data.val={data.train} scores the training pictures: that shows memory, not skill",
        )
    replaced = refuse_other_file(output)
    values = recipe_values(result, given.get("name") or _name_of(output), {})
    values["data"] |= data.keys
    for key in (*ALWAYS_PATHS, *MAYBE_PATHS):
        section, leaf = key.split(".")
        values[section][leaf] = _relative(key, values[section].get(leaf), output.parent)
    values["data"] = {key: value for key, value in values["data"].items() if value is not None}
    recipe = from_dict(values, folder=output.parent, place=str(output))
    header = f"focal train {shlex.quote(str(output))}\nWritten by `{command}`"
    text = dump(recipe, header=header, comments=result.comments())
    aside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, output)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise FocalError(f"{output}: cannot be written ({error.strerror})", "give another file with -o") from None
    return replaced


def refuse_other_file(output: Path) -> bool:
    """True when `output` holds a recipe, False when it holds nothing; anything else is not ours to replace."""
    if str(output) == "-":
        raise FocalError("-o -: a recipe goes into a file", "give its name, such as -o recipe.yaml")
    if not output.exists():
        return False
    if not output.is_file():
        raise FocalError(f"{output}: is not a file", "give -o a file name such as recipe.yaml")
    try:
        load(output)
    except FocalError:
        raise FocalError(f"{output}: exists and is not a recipe", "choose another name, or delete it first") from None
    return True


def _name_of(output: Path) -> str:
    """A recipe's name must do as a folder's name everywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", output.stem).strip(".-")[:100] or "recipe"


def _relative(key: str, value: Any, folder: Path) -> Any:
    """A path as seen from `folder`; keywords and names of splits stay as they are."""
    if not isinstance(value, str) or not value:
        return value
    if key in ALWAYS_PATHS or os.path.isabs(value) or (key in MAYBE_PATHS and value.endswith(ANNOTATIONS)):
        return Path(os.path.relpath(Path(value).resolve(), folder.resolve())).as_posix()
    return value
