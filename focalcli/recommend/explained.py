"""What a chosen alpha, gamma and prior do: weights by p_t, and each class's share of the first loss.

Source: Lin et al. 2017, arXiv:1708.02002, eq. 5, fig. 1 and sec. 3.3.
Shapes: K classes. Losses in nats, shares in 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from focalcli.focal_loss import equilibrium, focal_loss
from focalcli.recommend.measured import Measured

SCORES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)  # p_t of the table: hard to easy


@dataclass(frozen=True)
class Weight:
    """What an anchor that is given the right answer with probability p_t costs.

    Attributes:
        cross_entropy: -log(p_t), in nats. factor: (1 - p_t)^gamma. positive, negative: the focal loss of either.
    """

    p_t: float
    cross_entropy: float
    factor: float
    positive: float
    negative: float


@dataclass(frozen=True)
class ClassLoss:
    """One class before the first step.

    Attributes:
        foreground: its positives over all other anchors. rest: the score at which its bias comes to rest.
        negatives: share of its first loss that negatives carry. share: of the first loss of all classes.
    """

    name: str
    objects: int
    alpha: float
    gamma: float
    prior: float
    foreground: float
    rest: float
    negatives: float
    share: float


@dataclass(frozen=True)
class Explained:
    """The loss of a recipe or checkpoint on its training set.

    Attributes:
        weights: of the class in the middle, by objects, which `weights_of` names; all alike unless set by class.
        negatives: share of the first loss of all classes that negatives carry. now: the scores of a trained model.
    """

    source: str
    dataset: str
    weights_of: str
    weights: tuple[Weight, ...]
    classes: tuple[ClassLoss, ...]
    negatives: float
    now: Measured | None = None

    @property
    def typical(self) -> ClassLoss:
        """The class that `weights` is of."""
        return next(entry for entry in self.classes if entry.name == self.weights_of)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        now = None
        if self.now is not None:
            typical = self.typical
            shares = self.now.shares(typical.alpha, typical.gamma)
            classes = self.now.classes(typical.alpha, typical.gamma)
            now = {**self.now.to_dict(), "shares": shares.to_dict(), "classes": [asdict(entry) for entry in classes]}
        return {
            "schema_version": 1,
            "kind": "loss",
            "source": self.source,
            "dataset": self.dataset,
            "weights_of": self.weights_of,
            "weights": [asdict(entry) for entry in self.weights],
            "classes": [asdict(entry) for entry in self.classes],
            "negatives": self.negatives,
            "now": now,
        }


def explain(
    source: str,
    dataset: str,
    names: Sequence[str],
    objects: Sequence[int],
    foreground: Sequence[float],
    alpha: Sequence[float],
    gamma: Sequence[float],
    prior: Sequence[float],
    now: Measured | None = None,
) -> Explained:
    """The loss of K classes, each argument from `names` on with one entry for each."""
    pull, push = [], []
    for f, a, g, p in zip(foreground, alpha, gamma, prior, strict=True):
        logit = np.log(p) - np.log1p(-p)
        one_positive, one_negative = focal_loss([logit, logit], [True, False], alpha=a, gamma=g).tolist()
        positives = f / (1 + f)  # of all anchors
        pull.append(positives * one_positive)
        push.append((1 - positives) * one_negative)
    total = sum(pull) + sum(push)
    classes = tuple(
        ClassLoss(
            name=names[k],
            objects=int(objects[k]),
            alpha=float(alpha[k]),
            gamma=float(gamma[k]),
            prior=float(prior[k]),
            foreground=float(foreground[k]),
            rest=equilibrium(foreground[k], 1.0, alpha=alpha[k], gamma=gamma[k]),
            negatives=push[k] / (push[k] + pull[k]),
            share=(push[k] + pull[k]) / total,
        )
        for k in range(len(names))
    )
    typical = sorted(classes, key=lambda entry: entry.objects)[len(classes) // 2]
    return Explained(
        source, dataset, typical.name, weights_at(typical.alpha, typical.gamma), classes, sum(push) / total, now
    )


def weights_at(alpha: float, gamma: float) -> tuple[Weight, ...]:
    """The table of SCORES under one alpha and gamma."""
    logits = np.log(SCORES) - np.log1p(-np.array(SCORES))
    # a negative of probability p_t of being right has the score 1 - p_t
    positive = focal_loss(logits, np.full(len(SCORES), True), alpha=alpha, gamma=gamma).tolist()
    negative = focal_loss(-logits, np.full(len(SCORES), False), alpha=alpha, gamma=gamma).tolist()
    return tuple(
        Weight(p, float(-np.log(p)), (1 - p) ** gamma, a, b) for p, a, b in zip(SCORES, positive, negative, strict=True)
    )
