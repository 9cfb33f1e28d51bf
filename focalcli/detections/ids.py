"""Ids that a dataset does not have: which, how many, and what other program writes them so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from focalcli.coco import Dataset, Id, Ids, Ints
from focalcli.coco.records import id_column
from focalcli.errors import FocalError

_Explain = Callable[[Sequence[Id], set[Id], Dataset], str]  # unknown ids, all ids found, dataset -> hint


def image_positions(path: Path, dataset: Dataset, found: Ids) -> Ints:
    """(D,) index into Dataset.image_ids.

    Raises:
        FocalError: an id is not there.
    """
    return _positions(path, dataset, "image_id", found, dataset.image_ids, _image_hint)


def category_positions(path: Path, dataset: Dataset, found: Ids) -> Ints:
    """(D,) index into Dataset.categories.

    Raises:
        FocalError: an id is not there.
    """
    known = [category.id for category in dataset.categories]
    return _positions(path, dataset, "category_id", found, known, _category_hint)


def _positions(path: Path, dataset: Dataset, key: str, found: Ids, known: Sequence[Id], explain: _Explain) -> Ints:
    column = id_column(list(known))
    if found.dtype != object and column.dtype != object:
        order = np.argsort(column)
        near = order[np.searchsorted(column, found, sorter=order).clip(max=len(known) - 1)]
        positions = np.where(column[near] == found, near, -1)
    else:
        place = {value: index for index, value in enumerate(known)}
        positions = np.fromiter((place.get(value, -1) for value in found.tolist()), dtype=np.int64, count=len(found))
    if (positions < 0).any():
        unknown = list(dict.fromkeys(found[positions < 0].tolist()))
        raise FocalError(
            f"{path}: {(positions < 0).sum()} of {len(found)} detections have {key}s that are not in {dataset.path}: "
            f"{_first_few(unknown)}; expected one of {_first_few(known)}",
            explain(unknown, set(found.tolist()), dataset),
        )
    return positions


def _first_few(values: Sequence[Id]) -> str:
    more = f" and {len(values) - 5} more" if len(values) > 5 else ""
    return ", ".join(map(repr, values[:5])) + more


def _as_written(unknown: Sequence[Id], known: set[Id]) -> str | None:
    """A hint when the ids differ only in being text on one side and numbers on the other."""
    if not {str(value) for value in known}.issuperset(map(str, unknown)):
        return None
    here, there = ("text", "numbers") if isinstance(unknown[0], str) else ("numbers", "text")
    return f"the ids are {here} in the detections and {there} in the dataset: write them as the dataset does"


def _image_hint(unknown: Sequence[Id], found: set[Id], dataset: Dataset) -> str:
    if hint := _as_written(unknown, set(dataset.image_ids)):
        return hint
    known = set(dataset.image_ids)
    if all(isinstance(value, int) for value in found | known):
        for shift, verb in ((1, "add 1 to"), (-1, "take 1 from")):
            if {value + shift for value in found} <= known:
                return f"they all fit after a shift by one: {verb} every image_id"
        if found <= set(range(len(known))):
            return f"they look like positions, 0 to {len(known) - 1}, in `images`: write the `id` of each image"
    names = {*dataset.file_names, *(PurePosixPath(name).name for name in dataset.file_names)}
    names |= {PurePosixPath(name).stem for name in names}
    if names.issuperset(unknown):
        return "these are file names: write the `id` that `images` gives each of them"
    return "were they found in another split? Score them against the file that lists their images"


def _category_hint(unknown: Sequence[Id], found: set[Id], dataset: Dataset) -> str:
    known = {category.id for category in dataset.categories}
    if hint := _as_written(unknown, known):
        return hint
    if set(dataset.class_names).issuperset(unknown):
        return "these are names: write the `id` that `categories` gives each of them"
    if all(isinstance(value, int) for value in found):
        for shift, verb in ((1, "add 1 to"), (-1, "take 1 from")):
            if {value + shift for value in found} <= known:
                return f"they all fit after a shift by one: {verb} every category_id"
        if found <= set(range(len(known))):
            return f"they look like positions, 0 to {len(known) - 1}, in the categories sorted by id: write the ids"
    return "was the detector trained with another class list? category_id must be an `id` of `categories`"
