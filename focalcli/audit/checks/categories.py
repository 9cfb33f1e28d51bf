"""The names and ids of categories."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator

from focalcli.audit.checks.finding import few, make
from focalcli.audit.report import Finding
from focalcli.coco import Dataset


def of_categories(split: str, dataset: Dataset) -> Iterator[Finding]:
    """What the list of categories alone shows; F205, which needs the training split, is in splits."""
    yield from _similar_names(split, dataset)
    yield from _blank_names(split, dataset)
    yield from _id_zero(split, dataset)


def _similar_names(split: str, dataset: Dataset) -> Iterator[Finding]:
    spellings: dict[str, set[str]] = defaultdict(set)
    for name in dataset.class_names:
        spellings[_letters(name)].add(name)
    alike = [sorted(names) for names in spellings.values() if len(names) > 1]
    if alike:
        words = [" and ".join(map(repr, names)) for names in alike]
        yield make("F206", split, few(words, 2), count=sum(map(len, alike)))


def _letters(name: str) -> str:
    """The name without case, blanks, hyphens and underscores; all of it where nothing else is left."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(letter for letter in folded if not letter.isspace() and letter not in "_-\u2010\u2013") or name


def _blank_names(split: str, dataset: Dataset) -> Iterator[Finding]:
    odd = [name for name in dataset.class_names if name != name.strip() or not name.isprintable()]
    if odd:
        yield make("F207", split, few(list(map(repr, odd))), count=len(odd))


def _id_zero(split: str, dataset: Dataset) -> Iterator[Finding]:
    for label, category in enumerate(dataset.categories):
        if category.id == 0 and (objects := int(dataset.objects_per_class[label])):
            message = f"{category.name!r}, which has {objects:,} object{'s' * (objects != 1)}, is category 0"
            yield make("F209", split, message, count=1)
