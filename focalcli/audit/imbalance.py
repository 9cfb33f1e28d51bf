"""How uneven the classes are, in four numbers that each have a unit one can say aloud.

All are taken over the classes that have at least one object: a category that nobody drew is a finding, not a tail.
Shapes: counts is (K,) objects per class.
"""

from __future__ import annotations

import numpy as np

from focalcli.coco import Ints


def head_tail(counts: Ints) -> float | None:
    """Largest count over smallest, e.g. 153.0 for "153:1"; None without objects."""
    present = counts[counts > 0]
    return float(present.max() / present.min()) if present.size else None


def gini(counts: Ints) -> float | None:
    """Gini coefficient of the counts: 0 is even, (K - 1) / K is everything in one class of K; None without objects.

    G = 2 sum_i i x_i / (K sum_i x_i) - (K + 1) / K with x sorted upwards and i from 1 (half the relative mean
    absolute difference).
    """
    x = np.sort(counts[counts > 0]).astype(np.float64)
    if not x.size:
        return None
    rank = np.arange(1, x.size + 1)
    return max(0.0, float(2 * (rank * x).sum() / (x.size * x.sum()) - (x.size + 1) / x.size))


def effective_classes(counts: Ints) -> float | None:
    """exp(H), H the entropy of the shares in nats: how many equally frequent classes are this even (Hill number 1)."""
    present = counts[counts > 0]
    if not present.size:
        return None
    share = present / present.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
