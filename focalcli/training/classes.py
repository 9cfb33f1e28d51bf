"""Which classes are trained, and how the categories of a file become them: by name (TRAPS 3, 13)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from focalcli.coco import Category, Dataset
from focalcli.errors import FocalError


def trained_classes(train: Dataset) -> tuple[Category, ...]:
    """The classes to train: every category with an object in train. A category without any is a ghost (TRAPS 13).

    Raises:
        FocalError: no object at all.
    """
    classes = tuple(c for c, n in zip(train.categories, train.objects_per_class, strict=True) if n)
    if not classes:
        raise FocalError(
            f"{train.path}: no objects to train on", "expected at least one usable box that is not a crowd"
        )
    return classes


def labels_of(dataset: Dataset, classes: Sequence[Category], trained_on: str) -> np.ndarray:
    """(K of the dataset,) index into `classes` of each category, by name; -1 for a category without objects.

    Raises:
        FocalError: the dataset has objects of other classes, lacks one of `classes`, or has one twice.
    """
    index = {category.name: label for label, category in enumerate(classes)}
    times = Counter(category.name for category in dataset.categories)
    if twice := [name for name in index if times[name] > 1]:
        ids = [category.id for category in dataset.categories if category.name == twice[0]]
        raise FocalError(
            f"{dataset.path}: categories {', '.join(map(repr, ids))} are all named {twice[0]!r}",
            "classes are matched by name: merge them or rename all but one (`focal explain F202`)",
        )
    unknown = [
        c.name for c, n in zip(dataset.categories, dataset.objects_per_class, strict=True) if n and c.name not in index
    ]
    missing = sorted(index.keys() - {category.name for category in dataset.categories})
    if unknown or missing:
        said = [f"it has {names_in_words(unknown)}, unknown to the model"] * bool(unknown)
        said += [f"it lacks {names_in_words(missing)}"] * bool(missing)
        raise FocalError(
            f"{dataset.path}: other classes than {trained_on}: {'; '.join(said)}",
            f"the trained classes are {names_in_words(list(index))}; classes are matched by name",
        )
    return np.array([index.get(category.name, -1) for category in dataset.categories])


def names_in_words(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
