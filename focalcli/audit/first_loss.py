"""The share of the first step's loss that negatives carry, over all sigmoid outputs and for each class.

Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", arXiv:1708.02002, sec. 3.3: every score starts at the
prior, so every positive costs the same and so does every negative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from focalcli.audit.figures import FirstLoss
from focalcli.audit.report import ClassRow
from focalcli.errors import FocalError
from focalcli.focal_loss import focal_loss

PerClass = float | Mapping[str, float]  # as in a recipe: one for all, or by name with `default` for the rest
LossSettings = tuple[str, PerClass, PerClass, PerClass]  # source, alpha, gamma, prior
RETINANET: LossSettings = ("RetinaNet", 0.25, 2.0, 0.01)  # Lin et al. 2017, sec. 4.1


def first_loss_share(classes: Sequence[ClassRow], settings: LossSettings) -> FirstLoss:
    """classes: of the training split; those without objects have no output in the model, so no loss."""
    source, *values = settings
    shares: list[float | None] = []
    positive, negative, units = 0.0, 0.0, {}
    for row in classes:
        if not row.anchors.positives:
            shares.append(None)
        if not row.instances:
            continue
        chosen = tuple(_of_class(value, row.name, source) for value in values)
        if chosen not in units:
            units[chosen] = _unit_losses(*chosen)
        pull, push = row.anchors.positives * units[chosen][0], row.anchors.negatives * units[chosen][1]
        positive, negative = positive + pull, negative + push
        if row.anchors.positives:
            shares.append(push / (push + pull))
    alpha, gamma, prior = (None if isinstance(value, Mapping) else value for value in values)
    total = positive + negative
    return FirstLoss(source, alpha, gamma, prior, negative / total if positive and total else None, tuple(shares))


def _of_class(value: PerClass, name: str, source: str) -> float:
    chosen = value.get(name, value.get("default")) if isinstance(value, Mapping) else value
    if chosen is None:
        raise FocalError(
            f"{source}: no alpha, gamma or prior for class {name!r}", "name the class there, or add `default`"
        )
    return chosen


def _unit_losses(alpha: float, gamma: float, prior: float) -> tuple[float, float]:
    """What one positive and one negative cost at the prior, in nats."""
    logit = math.log(prior) - math.log1p(-prior)
    positive, negative = focal_loss([logit, logit], [True, False], alpha=alpha, gamma=gamma).tolist()
    return positive, negative
