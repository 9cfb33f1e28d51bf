"""How uneven the classes are, in numbers that each have a unit one can say aloud.

All are taken over the classes that have at least one object: a category that nobody drew is a finding, not a tail.
Shapes: counts is (K,) objects per class.
"""

from __future__ import annotations

import numpy as np

from focalcli.coco import Floats, Ints


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


def entropy(counts: Ints) -> float | None:
    """Shannon's entropy of the shares, in bits: log2(K) when K classes are even, 0 when there is one; None without
    objects."""
    present = counts[counts > 0]
    if not present.size:
        return None
    share = present / present.sum()
    return max(0.0, float(-(share * np.log2(share)).sum()))


def effective_classes(counts: Ints) -> float | None:
    """2^H, H the entropy in bits: how many equally frequent classes are this even (Hill 1973, number of order 1)."""
    bits = entropy(counts)
    return None if bits is None else 2.0**bits


def effective_numbers(counts: Ints, beta: float = 0.999) -> Floats:
    """(K,) (1 - beta^n) / (1 - beta) for n objects, at most 1 / (1 - beta): what they are worth when each next one is
    ever more likely to resemble one already there (Cui et al. 2019, arXiv:1901.05555, eq. 2)."""
    return (1 - beta ** counts.astype(np.float64)) / (1 - beta)
