"""Which pictures a step sees: a function of the seed and the step alone, so that a resumed run sees what it would have.

Sources: Gupta et al. 2019 (LVIS), arXiv:1908.03195, sec. 4.2 (repeat factors); Shen et al. 2016, "Relay
Backpropagation", arXiv:1512.05830, sec. 3.2 (class-aware sampling).
Shapes: I pictures of the dataset, L showings of pictures in an epoch, K trained classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from focalcli.coco import Dataset
from focalcli.errors import FocalError


class Key(NamedTuple):
    """One showing of a picture.

    Attributes:
        index: of the picture. seed: of everything random about it; None is no augmentation.
        factor: on the input size.
        canvas: (width, height) in px that its batch is padded to at least: what the pictures of the whole step need.
    """

    index: int
    seed: int | None
    factor: float = 1.0
    canvas: tuple[int, int] = (0, 0)


class Repeat:
    """Every picture floor or ceil of its factor times an epoch, the fractions by systematic sampling."""

    def __init__(self, factors: np.ndarray) -> None:
        """factors: (I,) as from repeat_factors; all 1 is a plain shuffle."""
        self.factors = factors
        self.length = max(len(factors), int(factors.sum()))

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """(L,) the pictures of an epoch, shuffled."""
        times = self.factors.astype(np.int64)
        fraction, extra = self.factors - times, self.length - times.sum()
        reach = np.cumsum(fraction) * (extra / max(fraction.sum(), 1e-12))
        picked = np.searchsorted(reach, np.arange(extra) + rng.random(), side="right")
        times[np.minimum(picked, len(times) - 1)] += 1
        return rng.permutation(np.repeat(np.arange(len(times)), times))

    def times(self) -> np.ndarray:
        """(I,) showings of each picture to expect in an epoch."""
        return self.factors * (self.length / self.factors.sum())


class ClassAware:
    """Every class equally often: a class is drawn, then the next of its pictures. One without objects never comes."""

    def __init__(self, dataset: Dataset, labels: np.ndarray) -> None:
        """labels: (K of the file,) the trained class of each category, -1 where it is not trained."""
        label = labels[dataset.box_label]
        keep = ~dataset.iscrowd & (label >= 0)
        pairs = np.unique(np.stack([label[keep], dataset.box_image[keep]]), axis=1)
        self.holders = [pairs[1, pairs[0] == k] for k in range(int(labels.max()) + 1)]
        self.length = len(dataset.image_ids)

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """(L,) the pictures of an epoch, shuffled."""
        share, more = divmod(self.length, len(self.holders))
        turns = share + (rng.permutation(len(self.holders)) < more)
        chosen = [
            np.concatenate([rng.permutation(pictures) for _ in range(-(-turn // len(pictures)))])[:turn]
            for pictures, turn in zip(self.holders, turns, strict=True)
            if turn
        ]
        return rng.permutation(np.concatenate(chosen))

    def times(self) -> np.ndarray:
        """(I,) showings of each picture to expect in an epoch."""
        times = np.zeros(self.length)
        for pictures in self.holders:
            times[pictures] += self.length / len(self.holders) / len(pictures)
        return times


class BatchKeys(Sampler):
    """The batches of one epoch after another, from any step on: a function of (seed, epoch) and nothing else.

    Wide and tall pictures come in batches of their own: mixed, each would be padded to the other's long side.
    """

    def __init__(
        self,
        sampler: Repeat | ClassAware,
        batch_size: int,
        seed: int,
        epochs: int,
        *,
        scale: tuple[float, float] = (1.0, 1.0),
        wide: np.ndarray | None = None,
        canvas: Callable[[np.ndarray, float], tuple[int, int]] | None = None,
        parts: int = 1,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """What is shown when.

        Args:
            batch_size: pictures of a step, over all parts and processes.
            scale: range of a factor on the input size, drawn once for each step.
            wide: (I,) True where width >= height; None takes all as alike.
            canvas: (width, height) that the given pictures need with the given factor; see Key.
            parts: batches that each process gets for a step. rank, ranks: which process this is, of how many.

        Raises:
            FocalError: a step has too few pictures for so many parts and processes.
        """
        self.sampler, self.batch_size, self.seed, self.epochs, self.scale = sampler, batch_size, seed, epochs, scale
        self.wide, self.canvas = wide, canvas
        self.steps_per_epoch = max(1, sampler.length // batch_size)
        self.start = 0
        self.parts, self.pieces = range(rank * parts, (rank + 1) * parts), ranks * parts
        if min(batch_size, sampler.length) < self.pieces:
            raise FocalError(
                f"a step of {min(batch_size, sampler.length)} pictures cannot be cut into {parts} parts for {ranks} "
                "processes: each needs a picture at least",
                "lower schedule.accumulate, raise schedule.batch_size, or start fewer processes",
            )

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.start, self.steps_per_epoch * self.epochs):
            epoch, position = divmod(step, self.steps_per_epoch)
            if position == 0 or step == self.start:
                order = self._order(epoch)
            rng = np.random.default_rng((self.seed, epoch, position))
            low, high = np.log(self.scale)
            factor = float(np.exp(rng.uniform(low, high)))
            chosen = order[position * self.batch_size : (position + 1) * self.batch_size]
            canvas = (0, 0) if self.canvas is None else self.canvas(chosen, factor)
            seeds = rng.integers(2**62, size=len(chosen))
            keys = [Key(int(i), int(seed), factor, canvas) for i, seed in zip(chosen, seeds, strict=True)]
            ends = [len(keys) * piece // self.pieces for piece in range(self.pieces + 1)]
            yield from (keys[ends[piece] : ends[piece + 1]] for piece in self.parts)

    def __len__(self) -> int:
        return (self.steps_per_epoch * self.epochs - self.start) * len(self.parts)

    def _order(self, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, epoch))
        order = self.sampler.order(rng)
        wide = np.ones(len(order), dtype=np.bool_) if self.wide is None else self.wide[order]
        if wide.all() or not wide.any():
            return order
        if rng.random() < 0.5:  # which kind comes last, and loses the pictures that fill no batch
            wide = ~wide
        sorted_by_kind = np.concatenate([order[wide], order[~wide]])
        starts = rng.permutation(self.steps_per_epoch) * self.batch_size
        return np.concatenate([sorted_by_kind[start : start + self.batch_size] for start in starts])

    def objects_per_epoch(self, dataset: Dataset, labels: np.ndarray) -> Sequence[float]:
        """(K,) objects of each trained class that an epoch is expected to show; labels as in ClassAware."""
        share = min(1.0, self.steps_per_epoch * self.batch_size / self.sampler.length)
        label = labels[dataset.box_label]
        keep = ~dataset.iscrowd & (label >= 0)
        weights = self.sampler.times()[dataset.box_image[keep]] * share
        return np.bincount(label[keep], weights, minlength=int(labels.max()) + 1).tolist()
