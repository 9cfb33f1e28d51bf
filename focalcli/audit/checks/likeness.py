"""Which pictures are nearly the same: scaled, compressed again, a little brighter, or the next frame of a video.

Two pictures are alike when their hashes differ in at most MOST_BITS of 63 bits and the grey levels of their likenesses
(decode.py) have a correlation of at least LEAST_CORRELATION. A bit of the hash says whether one of the 63 lowest
frequencies of the likeness, 8 x 8 without the mean, is above their median.
Source: the perceptual hash from a discrete cosine transform, Zauner 2010, "Implementation and Benchmarking of
Perceptual Image Hash Functions", sec. 3.2.1. The bounds are ours: of the pairs in bccd and face_mask that pass, every
one shows the same scene; the hash alone confuses pictures of one conveyor, the correlation alone stripes with stripes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from focalcli.audit.checks.decode import SIDE
from focalcli.coco import Ints

MOST_BITS, LEAST_CORRELATION = 4, 0.95
BANDS, AGREEING = 7, 3  # 63 bits: hashes that differ in 4 agree in 3 of 7 bands of 9, and only those are compared
MOST_STEPS, MOST_REFUSED = 50, 20  # what a picture among a mass of its like costs at most
BLOCK = 1 << 10  # pairs or pictures at once

Hashes = npt.NDArray[np.uint64]
Levels = npt.NDArray[np.uint8]
_MASKS = [np.uint64(0x1FF << 9 * band) for band in range(BANDS)]


def find_alike(likenesses: Sequence[bytes], known: int | None = None) -> Ints:
    """For each likeness the index of one that it is like, -1 where there is none.

    A picture whose hash is near those of MOST_REFUSED others that it is not like is given up: it is one of a mass (one
    conveyor, one fixed camera), and the search would be quadratic. So is one with MOST_STEPS others in a band.

    Args:
        likenesses: SIDE * SIDE bytes each.
        known: without it, each is compared with those before it; else those from `known` on with those before `known`.

    Returns:
        (N,) indices; of several, any.
    """
    grey = np.frombuffer(b"".join(likenesses), dtype=np.uint8).reshape(-1, SIDE * SIDE)
    search = _Search(grey)
    for bands in combinations(range(BANDS), AGREEING):
        key = search.hashes & np.bitwise_or.reduce([_MASKS[band] for band in bands])
        order = np.argsort(key[:known], kind="stable")
        if known is None:
            queries, last = order, np.arange(len(order)) - 1
        else:
            queries = np.arange(known, len(key))
            last = np.searchsorted(key[order], key[queries], side="right") - 1
        # pairs that agree in one of these too were compared when the three lowest bands they agree in had their turn
        earlier = [_MASKS[band] for band in range(bands[-1]) if band not in bands]
        search.sweep(queries, last, order, key, earlier)
    return search.twin


class _Search:
    """What is known of N likenesses so far: their twins, and how many near hashes were refused."""

    def __init__(self, grey: Levels) -> None:
        n = len(grey)
        self.grey = grey
        self.hashes = np.concatenate([_hash(grey[at : at + BLOCK]) for at in range(0, max(1, n), BLOCK)])
        self.twin, self.refused = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.int64)

    def sweep(self, queries: Ints, at: Ints, order: Ints, key: Hashes, earlier: list[np.uint64]) -> None:
        """Compare each query with order[at], then with the one before it, while the keys are the same."""
        for _ in range(MOST_STEPS):
            going = (at >= 0) & (self.twin[queries] < 0) & (self.refused[queries] < MOST_REFUSED)
            queries, at = queries[going], at[going]
            going = key[order[at]] == key[queries]
            queries, at = queries[going], at[going]
            if not queries.size:
                return
            self._compare(queries, order[at], earlier)
            at = at - 1

    def _compare(self, queries: Ints, others: Ints, earlier: list[np.uint64]) -> None:
        """Pairs of one query each."""
        differ = self.hashes[queries] ^ self.hashes[others]
        near = _bits(differ) <= MOST_BITS
        for mask in earlier:
            near &= (differ & mask) != 0
        queries, others = queries[near], others[near]
        for start in range(0, len(queries), BLOCK):
            one, two = queries[start : start + BLOCK], others[start : start + BLOCK]
            alike = _correlation(self.grey[one], self.grey[two]) >= LEAST_CORRELATION
            self.twin[one[alike]] = two[alike]
            self.refused[one[~alike]] += 1


def _hash(grey: Levels) -> Hashes:
    """(N,) 63 bits each."""
    at = np.arange(SIDE)
    waves = np.cos(np.pi / SIDE * (at + 0.5) * np.arange(8)[:, None])  # (8, SIDE) of the DCT-II
    levels = grey.reshape(-1, SIDE, SIDE).astype(np.float64)
    lowest = (waves @ levels @ waves.T).reshape(-1, 64)[:, 1:]
    bits = lowest > np.median(lowest, axis=1, keepdims=True)
    return bits @ (np.uint64(1) << np.arange(63, dtype=np.uint64))


def _bits(value: Hashes) -> Ints:
    """How many bits are set (numpy has bitwise_count from 2.0 on only)."""
    return np.unpackbits(value.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1, dtype=np.int64)


def _correlation(one: Levels, two: Levels) -> npt.NDArray[np.float32]:
    """(N,) Pearson's, of N pairs of likenesses, none of them flat."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (one.astype(np.float32), two.astype(np.float32)))
    inner, *squares = (np.einsum("ij,ij->i", left, right) for left, right in ((a, b), (a, a), (b, b)))
    return inner / np.sqrt(squares[0] * squares[1])
