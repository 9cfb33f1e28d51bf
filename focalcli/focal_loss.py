"""Focal loss in numpy: what alpha and gamma do to each anchor, without torch. The one place with the formula in numpy.

Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", arXiv:1708.02002, eq. 5 and appendix B.
Shapes: A anchors. Losses are in nats and never reduced here: callers divide by positives.
Training uses training/loss.py; tests/test_focal_loss.py holds the two together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from focalcli.errors import FocalError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def _log_pt(logits: Any, positive: Any) -> tuple[Floats, Floats]:
    """log(p_t) and log(1 - p_t), exact for logits of any size."""
    signed = np.where(positive, logits, np.negative(logits)).astype(np.float64)
    return -np.logaddexp(0.0, -signed), -np.logaddexp(0.0, signed)


def _check(alpha: float, gamma: float) -> None:
    if not 0 < alpha < 1 or not gamma >= 0:
        raise FocalError(f"alpha {alpha}, gamma {gamma}: out of range", "expected 0 < alpha < 1 and gamma >= 0")


def focal_loss(logits: Any, positive: Any, *, alpha: float, gamma: float) -> Floats:
    """Sigmoid focal loss of each anchor: -alpha_t (1 - p_t)^gamma log(p_t), eq. 5.

    Args:
        logits: (A,) raw scores, before the sigmoid.
        positive: (A,) True where the anchor matched an object of this class.
        alpha: weight of positives, in (0, 1); negatives get 1 - alpha.
        gamma: focusing exponent, >= 0; 0 is alpha-weighted cross-entropy.

    Returns:
        (A,) losses in nats, >= 0, not reduced.

    Raises:
        FocalError: alpha or gamma is out of range.
    """
    _check(alpha, gamma)
    log_pt, log_rest = _log_pt(logits, positive)
    return -np.where(positive, alpha, 1 - alpha) * np.exp(gamma * log_rest) * log_pt


def focal_gradient(logits: Any, positive: Any, *, alpha: float, gamma: float) -> Floats:
    """Derivative of focal_loss by the logit, appendix B: y alpha_t (1 - p_t)^gamma (gamma p_t log(p_t) + p_t - 1).

    y is +1 for positives and -1 for negatives. Arguments, returns and errors as for focal_loss; per nat and logit.
    """
    _check(alpha, gamma)
    log_pt, log_rest = _log_pt(logits, positive)
    pull = np.exp(gamma * log_rest) * (gamma * np.exp(log_pt) * log_pt - np.exp(log_rest))
    return np.where(positive, alpha, -(1 - alpha)) * pull


def equilibrium(positives: float, negatives: float, *, alpha: float, gamma: float) -> float:
    """The one score at which a head that says the same everywhere is at rest: the gradients of its bias cancel.

    Solves positives * dFL/dx(p, +) + negatives * dFL/dx(p, -) = 0 for p. For small p this is
    alpha n = (1 - alpha) N (1 + gamma) p^(gamma + 1); with COCO's n / N of 1e-5, alpha 0.25 and gamma 2 it gives the
    paper's prior of 0.01 (sec. 3.3).

    Args:
        positives: anchors that matched an object of the class, > 0. negatives: all the other anchors, > 0.

    Returns:
        p in (0, 1).
    """
    low, high = -60.0, 60.0  # logits; p between 1e-26 and 1 - 1e-26
    for _ in range(80):
        middle = (low + high) / 2
        pull = positives * focal_gradient(middle, True, alpha=alpha, gamma=gamma)
        push = negatives * focal_gradient(middle, False, alpha=alpha, gamma=gamma)
        low, high = (middle, high) if pull + push < 0 else (low, middle)
    return float(1 / (1 + np.exp(-(low + high) / 2)))


def negative_share(positives: float, negatives: float, score: float, *, alpha: float, gamma: float) -> float:
    """Share of the loss that negatives carry when every anchor has this score, in 0..1 (sec. 3.3: the first step)."""
    logit = np.log(score) - np.log1p(-score)
    from_negatives = negatives * float(focal_loss(logit, False, alpha=alpha, gamma=gamma))
    from_positives = positives * float(focal_loss(logit, True, alpha=alpha, gamma=gamma))
    total = from_negatives + from_positives
    return from_negatives / total if total > 0 else 0.0


def loss_at_rest(foreground: Any, *, alpha: Any, gamma: Any) -> float:
    """The focal loss for each positive when every anchor has the score at which its class's bias rests (equilibrium).

    About what a training starts with, and so how loud it is beside the box loss: at a foreground of 1e-3 it is 0.77 for
    (0.25, 2) and 3.9 for cross-entropy, (0.5, 0); the ratio of the two is 5.1 to 5.2 from 1e-5 to 5e-3.

    Args:
        foreground: positives over all other anchors, > 0, of one class or (K,) of each.
        alpha, gamma: one number, or (K,).

    Returns:
        nats for each positive, the mean over the positives of all classes.
    """
    shares = np.atleast_1d(np.asarray(foreground, dtype=np.float64))
    each = [
        _class_at_rest(f, alpha=a, gamma=g)
        for f, a, g in zip(shares, *(np.broadcast_to(value, len(shares)) for value in (alpha, gamma)), strict=True)
    ]
    return float(np.average(each, weights=shares))


def _class_at_rest(foreground: float, *, alpha: float, gamma: float) -> float:
    score = equilibrium(foreground, 1.0, alpha=alpha, gamma=gamma)
    logit = np.log(score) - np.log1p(-score)
    of_positive, of_negative = (float(focal_loss(logit, y, alpha=alpha, gamma=gamma)) for y in (True, False))
    return of_positive + of_negative / foreground
