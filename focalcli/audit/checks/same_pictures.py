"""The same picture twice: within a split, and in training and another split; by bytes, and with --deep by its looks."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from focalcli.audit.checks.decode import Pixels
from focalcli.audit.checks.finding import make
from focalcli.audit.checks.likeness import find_alike
from focalcli.audit.checks.picture_files import Pictures
from focalcli.audit.report import PLACES, Finding
from focalcli.coco import Dataset

Place = tuple[str, int]  # split, index of the picture in it
Twins = dict[int, int]  # picture -> one that it repeats


@dataclass(frozen=True)
class Repeats:
    """Which pictures repeat which.

    Attributes:
        within: split -> its pictures that repeat an earlier one of it. across: split -> those that repeat one of the
            reference.
    """

    within: Mapping[str, Twins]
    across: Mapping[str, Twins]


def find_same(found: Mapping[str, Pictures], reference: str) -> Repeats:
    """Pictures with the same bytes; an image that is listed twice by one name is F308's."""
    digests = _digests(found)
    within: dict[str, Twins] = {name: {} for name in found}
    across: dict[str, Twins] = {name: {} for name in found if name != reference}
    first: dict[tuple[str, bytes], int] = {}
    for (name, index), digest in digests.items():
        twin = first.setdefault((name, digest), index)
        if found[name].paths[twin] != found[name].paths[index]:
            within[name][index] = twin
    for name, index in digests:
        twin = first.get((reference, digests[name, index]))
        if name != reference and twin is not None:
            across[name][index] = twin
    return Repeats(within, across)


def _digests(found: Mapping[str, Pictures]) -> dict[Place, bytes]:
    """Of the pictures that share their length and last bytes with another, in the order of the splits and files.

    The last bytes of a JPEG are coded pixels, those of a PNG a checksum of them: nearly all that agree are the same.
    """
    groups: dict[tuple[int, bytes], list[Place]] = defaultdict(list)
    for name, pictures in found.items():
        for index, header in pictures.headers.items():
            groups[header.n_bytes, header.tail].append((name, index))
    shared = {place for group in groups.values() if len(group) > 1 for place in group}
    return {
        (name, index): _digest(pictures.paths[index])
        for name, pictures in found.items()
        for index in pictures.headers
        if (name, index) in shared
    }


def _digest(path: str) -> bytes:
    """Of the content; of the path where it cannot be read any more, so that it is like no other."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError:
        digest.update(path.encode(errors="surrogateescape"))
    return digest.digest()


def find_similar(pixels: Mapping[str, Mapping[int, Pixels]], same: Repeats, reference: str) -> Repeats:
    """Pictures that look alike (likeness.py) without having the same bytes."""
    likenesses = {
        name: {index: shown.likeness for index, shown in of_split.items() if shown.likeness}
        for name, of_split in pixels.items()
    }
    within, across = {}, {}
    for name, own in likenesses.items():
        others = {index: data for index, data in own.items() if index not in same.within[name]}
        within[name] = _alike({}, others)
        if name != reference:
            others = {index: data for index, data in own.items() if index not in same.across[name]}
            across[name] = _alike(likenesses[reference], others)
    return Repeats(within, across)


def _alike(known: Mapping[int, bytes], asked: Mapping[int, bytes]) -> Twins:
    """Those of `asked` that are like one of `known`; where that is empty, like an earlier one of their own."""
    indices = [*known, *asked]
    twin = find_alike([*known.values(), *asked.values()], len(known) or None)
    return {indices[row]: indices[other] for row, other in enumerate(twin.tolist()) if other >= 0}


def of_repeats(
    splits: Mapping[str, Dataset], reference: str, same: Repeats, similar: Repeats | None
) -> Iterator[Finding]:
    """One finding a split for each of: repeats within it, pictures that look alike, and pictures of training."""
    for name, dataset in splits.items():
        twins = same.within[name]
        if twins:
            yield _about("F309", name, dataset, twins, f"{_pair(dataset, dataset, twins)} byte by byte")
        if similar and (twins := similar.within[name]):
            yield _about("F316", name, dataset, twins, f"{_pair(dataset, dataset, twins)}, nearly")
        if name == reference:
            continue
        exact, near = same.across[name], similar.across[name] if similar else {}
        words = [
            f"{len(twins):,} {how} ({_pair(dataset, splits[reference], twins)})"
            for twins, how in ((exact, "byte by byte"), (near, "nearly"))
            if twins
        ]
        if words:
            message = f"pictures of {reference}: {', '.join(words)}"
            yield _about("F503", name, dataset, exact | near, message, sure=bool(exact))


def _pair(dataset: Dataset, other: Dataset, twins: Twins) -> str:
    index, twin = next(iter(twins.items()))
    return f"{dataset.file_names[index]!r} is {other.file_names[twin]!r}"


def _about(code: str, split: str, dataset: Dataset, twins: Twins, message: str, sure: bool = True) -> Finding:
    ids = [dataset.image_ids[index] for index in list(twins)[:PLACES]]
    return make(code, split, message, count=len(twins), image_ids=ids, severity=None if sure else "warning")
