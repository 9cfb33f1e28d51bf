"""Scores of a trained model -> the shares of loss and gradient of every (alpha, gamma) -> a pair to train with next.

The scores are kept as counts by class and logit, so that a pass over any number of pictures needs the same memory, and
any alpha and gamma can be tried afterwards. A bin is BIN wide and stands for its centre: the loss of an anchor is then
wrong by up to (1 + gamma) BIN / 2 of itself, their sum by far less, as the errors cancel (tests/test_measured.py).

Source: Lin et al. 2017, arXiv:1708.02002, sec. 5.1 and fig. 4 (cumulative loss of a converged model).
Shapes: K classes, N bins. Losses are in nats, gradients in nats a logit, both summed and not divided by positives.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from focalcli.coco import Floats, Ints
from focalcli.focal_loss import focal_gradient, focal_loss

LIMIT, BIN = 32.0, 1 / 32  # logits beyond the limit (p of 1e-14) are counted at it
BINS = int(2 * LIMIT / BIN)
ALPHAS = (0.1, 0.25, 0.5, 0.75, 0.9)
GAMMAS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)
HARDEST = 0.01
FOCUSED = 0.8  # of the negatives' gradient, on the hardest 1 % of them: from here on gamma has done its work
RARE_SHARE = 1 / 3  # of the classes, by their positives
SCORES_EVIDENCE = (
    "the pair from a model's scores follows from the shares of loss and gradient, but on five small sets it was "
    "RetinaNet's three times and tied with it twice (AP -1.1 and +1.7); 400 steps, one seed"
)


@dataclass(frozen=True)
class Scores:
    """How often a model gave which logit.

    Attributes:
        names: K classes. positives, negatives: (K, N) anchors of each class by their logit, without the ignored ones.
    """

    names: tuple[str, ...]
    positives: Ints
    negatives: Ints

    @staticmethod
    def centres() -> Floats:
        """(N,) the logit that each bin stands for."""
        return (np.arange(BINS) + 0.5) * BIN - LIMIT


@dataclass(frozen=True)
class Shares:
    """What carries the loss and the gradient under one alpha and gamma, in 0..1; None where there is nothing.

    Attributes:
        negatives_loss, negatives_gradient: of all anchors'. rare_loss, rare_gradient: of the rarest third of the
            classes, of all classes'. hardest_negatives_loss, hardest_negatives_gradient: of the negatives', on the 1 %
            of them with the highest loss. hardest_loss: of the loss of all anchors, the 1 % with the highest.
    """

    alpha: float
    gamma: float
    negatives_loss: float
    negatives_gradient: float
    rare_loss: float
    rare_gradient: float
    hardest_negatives_loss: float
    hardest_negatives_gradient: float
    hardest_loss: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ClassScores:
    """One class of a trained model: how its anchors score, and what they carry.

    Attributes:
        positive_score, negative_score: medians of p; hard_negative_score: exceeded by 1 in 1000 negatives.
        negatives_loss: share of the class's loss. loss, positive_loss: share of all classes' loss, of all positives'.
        balanced_alpha: the alpha at which its positives and negatives pull alike; None without positives.
    """

    name: str
    positives: int
    negatives: int
    positive_score: float | None
    negative_score: float | None
    hard_negative_score: float | None
    negatives_loss: float | None
    loss: float
    positive_loss: float
    balanced_alpha: float | None


@dataclass(frozen=True)
class Measured:
    """The scores of a checkpoint on a dataset.

    Attributes:
        alpha, gamma: what it was trained with, one number or one for each class. images: that were looked at.
    """

    checkpoint: str
    dataset: str
    images: int
    scores: Scores
    alpha: float | tuple[float, ...]
    gamma: float | tuple[float, ...]

    @cached_property
    def _rare(self) -> npt.NDArray[np.bool_]:
        """(K,) the rarest third of the classes, at least one; those without any positive are left out."""
        n = self.scores.positives.sum(axis=1)
        present = np.flatnonzero(n)
        rare = np.zeros(len(n), dtype=np.bool_)
        rare[present[np.argsort(n[present], kind="stable")[: max(1, round(RARE_SHARE * len(present)))]]] = True
        return rare

    def shares(self, alpha: float, gamma: float) -> Shares:
        """What would carry the loss and the gradient of these scores under one alpha and gamma for all classes."""
        positive, negative = self.scores.positives, self.scores.negatives
        loss, slope = _per_anchor(alpha, gamma)
        lp, ln = (positive * loss[0]).sum(axis=1), (negative * loss[1]).sum(axis=1)
        gp, gn = (positive * slope[0]).sum(axis=1), (negative * slope[1]).sum(axis=1)
        together = np.concatenate([positive.sum(axis=0), negative.sum(axis=0)])
        return Shares(
            alpha=alpha,
            gamma=gamma,
            negatives_loss=_share(ln.sum(), lp.sum() + ln.sum()),
            negatives_gradient=_share(gn.sum(), gp.sum() + gn.sum()),
            rare_loss=_share((lp + ln)[self._rare].sum(), (lp + ln).sum()),
            rare_gradient=_share((gp + gn)[self._rare].sum(), (gp + gn).sum()),
            hardest_negatives_loss=carried(negative.sum(axis=0), loss[1], loss[1]),
            hardest_negatives_gradient=carried(negative.sum(axis=0), slope[1], loss[1]),
            hardest_loss=carried(together, np.concatenate(loss), np.concatenate(loss)),
        )

    def grid(self) -> tuple[Shares, ...]:
        """The shares of every pair of GAMMAS and ALPHAS."""
        return tuple(self.shares(alpha, gamma) for gamma in GAMMAS for alpha in ALPHAS)

    def classes(self, alpha: float, gamma: float) -> tuple[ClassScores, ...]:
        """Each class under one alpha and gamma, in the order of the model."""
        loss, slope = _per_anchor(alpha, gamma)
        pos, neg = self.scores.positives, self.scores.negatives
        lp, ln = (pos * loss[0]).sum(axis=1), (neg * loss[1]).sum(axis=1)
        gp, gn = (pos * slope[0]).sum(axis=1) / alpha, (neg * slope[1]).sum(axis=1) / (1 - alpha)
        return tuple(
            ClassScores(
                name=name,
                positives=int(pos[k].sum()),
                negatives=int(neg[k].sum()),
                positive_score=_score_at(pos[k], 0.5),
                negative_score=_score_at(neg[k], 0.5),
                hard_negative_score=_score_at(neg[k], 0.999),
                negatives_loss=float(ln[k] / (lp[k] + ln[k])) if lp[k] + ln[k] > 0 else None,
                loss=_share((lp + ln)[k], (lp + ln).sum()),
                positive_loss=_share(lp[k], lp.sum()),
                balanced_alpha=float(gn[k] / (gn[k] + gp[k])) if gp[k] > 0 else None,
            )
            for k, name in enumerate(self.scores.names)
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the histograms."""
        return {
            "checkpoint": self.checkpoint,
            "dataset": self.dataset,
            "images": self.images,
            "trained_alpha": self.alpha,
            "trained_gamma": self.gamma,
            "rare_classes": [n for n, rare in zip(self.scores.names, self._rare.tolist(), strict=True) if rare],
            "grid": [entry.to_dict() for entry in self.grid()],
        }


def pair_of(measured: Measured, gamma: float | None = None) -> tuple[float, float]:
    """The rule for alpha and gamma from measured scores: (alpha, gamma). Ours; no better for AP than RetinaNet's pair.

    A model's scores adapt to its loss, so the rule leans to what it was trained with: on bccd a model of (0.25, 2) gets
    (0.25, 2), two of (0.5, 0.5) get (0.5, 0.5) and (0.45, 0.5); on face_mask one of (0.25, 1.25) gets (0.5, 0.5).

    gamma: the least of GAMMAS at which the hardest 1 % of the negatives carry FOCUSED of the negatives' gradient: more
    only mutes what is muted. alpha: where positives and negatives then pull alike, the rest of every trained model's
    bias; so the new loss starts from the scores that the old one ended at. To 0.05, within 0.05 and 0.95.

    Args:
        gamma: given, only alpha is looked for.
    """
    if gamma is None:
        enough = (g for g in GAMMAS if measured.shares(0.5, g).hardest_negatives_gradient >= FOCUSED)
        gamma = next(enough, GAMMAS[-1])
    balance = measured.shares(0.5, gamma).negatives_gradient  # at 0.5 both kinds weigh the same
    return round(min(max(round(balance * 20) / 20, 0.05), 0.95), 2), gamma


def carried(counts: npt.ArrayLike, value: Floats, difficulty: Floats, hardest: float = HARDEST) -> float:
    """Share of the sum of `value` that the hardest anchors carry; the bin at the border counts in part.

    Args:
        counts: (N,) anchors of each bin. value, difficulty: (N,) of one anchor of the bin.
    """
    counts = np.asarray(counts, dtype=np.float64)
    order = np.argsort(-difficulty, kind="stable")
    n, v = counts[order], value[order]
    left = hardest * n.sum() - (np.cumsum(n) - n)
    return _share((np.clip(left, 0, n) * v).sum(), (n * v).sum())


def cumulative(counts: npt.ArrayLike, loss: Floats) -> tuple[Floats, Floats]:
    """Figure 4: (share of anchors, share of their loss) with the easiest first, both from 0 to 1.

    Args:
        counts: (N,) anchors of each bin. loss: (N,) of one anchor of the bin.
    """
    counts = np.asarray(counts, dtype=np.float64)
    order = np.argsort(loss, kind="stable")
    anchors, carried_loss = np.cumsum(counts[order]), np.cumsum((counts * loss)[order])
    zero = np.zeros(1)
    return (
        np.concatenate([zero, anchors / max(anchors[-1], 1e-300)]),
        np.concatenate([zero, carried_loss / max(carried_loss[-1], 1e-300)]),
    )


def unit_losses(gamma: float) -> tuple[Floats, Floats]:
    """(N,) loss of a positive and of a negative in each bin, without alpha."""
    loss, _ = _per_anchor(0.5, gamma)
    return 2 * loss[0], 2 * loss[1]


def _per_anchor(alpha: float, gamma: float) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Loss and size of the gradient of one (positive, negative) in each bin."""
    x = Scores.centres()
    each = [np.full(BINS, kind) for kind in (True, False)]
    loss = [focal_loss(x, kind, alpha=alpha, gamma=gamma) for kind in each]
    slope = [np.abs(focal_gradient(x, kind, alpha=alpha, gamma=gamma)) for kind in each]
    return (loss[0], loss[1]), (slope[0], slope[1])


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else 0.0


def _score_at(counts: Ints, quantile: float) -> float | None:
    """The score p below which this share of the anchors lies."""
    total = int(counts.sum())
    if not total:
        return None
    place = int(np.searchsorted(np.cumsum(counts), quantile * total))
    return float(1 / (1 + np.exp(-Scores.centres()[min(place, BINS - 1)])))
