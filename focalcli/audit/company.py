"""Which classes meet in the same pictures. Crowds (iscrowd) are left out.

Shapes: P pairs of a picture and a class that it holds, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from focalcli.audit.figures import MOST_TOGETHER, Company, Together
from focalcli.audit.pairs import Pairs
from focalcli.coco import Ints

MOST_CLASSES = 200  # a picture with more of them is left out of `partner`: its pairs alone would be tens of thousands
AT_ONCE = 4_000_000  # meetings that are held before they are added up


def find_company(pairs: Pairs, names: Sequence[str]) -> tuple[tuple[Company, ...], Together]:
    """Each class's company, and the matrix of the most frequent. names: of the K classes."""
    k = len(names)
    own = np.bincount(pairs.label, minlength=k)  # pictures of each class
    first = np.flatnonzero(np.diff(pairs.image, prepend=-1))  # where the classes of the next picture begin
    classes_beside = np.repeat(np.diff(first, append=len(pairs.image)), np.diff(first, append=len(pairs.image)))
    alone = np.bincount(pairs.label[classes_beside == 1], minlength=k)
    head = int(np.argmax(own)) if k else 0
    beside_head = _beside(pairs, head, k)
    few = classes_beside <= MOST_CLASSES
    partner, met = _partners(pairs.image[few], pairs.label[few], k)
    rows = tuple(
        Company(
            alone=int(alone[c]),
            partner=names[partner[c]] if met[c] else None,
            partner_share=float(met[c] / own[c]) if met[c] else None,
            only_with_head=bool(c != head and own[c] and beside_head[c] == own[c]),
        )
        for c in range(k)
    )
    return rows, _together(pairs, names, own)


def _beside(pairs: Pairs, head: int, k: int) -> Ints:
    """(K,) pictures of each class that hold the head class too."""
    with_head = np.isin(pairs.image, pairs.image[pairs.label == head])
    return np.bincount(pairs.label[with_head], minlength=k)


def _partners(image: Ints, label: Ints, k: int) -> tuple[Ints, Ints]:
    """(K,) the class that each meets in most pictures (the first of equals), and in how many; 0 where it meets none."""
    first, second, pictures = _meetings(image, label, k)
    one, other, n = np.concatenate([first, second]), np.concatenate([second, first]), np.tile(pictures, 2)
    order = np.lexsort((other, -n, one))
    one, best = np.unique(one[order], return_index=True)
    partner, met = np.zeros(k, dtype=np.int64), np.zeros(k, dtype=np.int64)
    partner[one], met[one] = other[order][best], n[order][best]
    return partner, met


def _together(pairs: Pairs, names: Sequence[str], own: Ints) -> Together:
    """The matrix of the MOST_TOGETHER classes with the most pictures. own: (K,) pictures of each class."""
    chosen = np.argsort(-own, kind="stable")[:MOST_TOGETHER]
    chosen = chosen[own[chosen] > 0]
    place = np.full(len(names), -1)
    place[chosen] = np.arange(len(chosen))
    kept = place[pairs.label] >= 0
    first, second, pictures = _meetings(pairs.image[kept], place[pairs.label[kept]], len(chosen))
    images = np.diag(own[chosen])
    images[first, second] = images[second, first] = pictures
    return Together(tuple(names[c] for c in chosen), tuple(map(tuple, images.tolist())))


def _meetings(image: Ints, label: Ints, k: int) -> tuple[Ints, Ints, Ints]:
    """(M,) two classes and the pictures that hold both, for every two that meet.

    The pairs of a picture stand side by side, so the two are fewer places apart than the picture has classes.
    """
    keys, counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    waiting: list[Ints] = []
    left, step = np.arange(len(image)), 1
    while left.size:
        left = left[left + step < len(image)]
        left = left[image[left] == image[left + step]]
        waiting.append(label[left] * k + label[left + step])
        step += 1
        if not left.size or sum(map(len, waiting)) > AT_ONCE:
            keys, counts = _add_up(keys, counts, np.concatenate(waiting))
            waiting = []
    return keys // k, keys % k, counts


def _add_up(keys: Ints, counts: Ints, more: Ints) -> tuple[Ints, Ints]:
    """Counts by key, with the new ones counted in."""
    new, found = np.unique(more, return_counts=True)
    merged, place = np.unique(np.concatenate([keys, new]), return_inverse=True)
    total = np.zeros(len(merged), dtype=np.int64)
    np.add.at(total, place, np.concatenate([counts, found]))
    return merged, total
