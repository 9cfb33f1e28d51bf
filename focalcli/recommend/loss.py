"""The advice for the loss: gamma, alpha, prior, and whether classes get an alpha of their own.

Sources: Lin et al. 2017, arXiv:1708.02002, table 1b, sec. 3.3 and 4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from focalcli.focal_loss import equilibrium, loss_at_rest, negative_share
from focalcli.recommend import rule
from focalcli.recommend.advice import Advice, ClassFit
from focalcli.recommend.measured import UNBACKED, Measured, pair_of

PAPER = (0.25, 2.0)  # alpha and gamma of sec. 4.1, whose losses are added as they are: a box weight of 1
AS_LOUD = 0.15  # a difference that nobody needs to hear of
BALANCE_EVIDENCE = (
    "moderate: on bccd AP 57.7 with the balance kept (one seed), 55.9 to 56.5 with a box weight of 1 (three); see "
    "tests/bench/evidence for short trainings"
)
BY_CLASS_RATIO = 100.0  # head : tail of positives from which the per-class settings are worth a trial


def gamma_and_alpha(
    facts: rule.Facts, given: Mapping[str, Any], measured: Measured | None = None
) -> tuple[Advice, Advice]:
    """The advice for loss.gamma and loss.alpha. measured: a checkpoint's scores, which then decide."""
    if measured is not None:
        return _from_scores(measured, given)
    alpha, gamma = rule.alpha_and_gamma(facts)
    if "loss.gamma" in given:
        gamma = one_number(given["loss.gamma"])
        alpha = round(rule.alpha_for(gamma), 3)
    typical = facts.typical_foreground
    times = typical / 1e-5
    against = f"{times:.2g} times" if times > 0.95 else f"{1 / times:.2g} times less than"
    overwhelming = "less" if times > 1.5 else "as" if times > 0.67 else "more"
    reason = (
        f"a typical class owns {typical:.1e} of the anchors, {against} COCO's 1e-5, for which gamma 2 was found: the "
        f"background is {overwhelming} overwhelming {'than' if overwhelming != 'as' else 'as'} there"
    )
    figures = {
        "foreground_per_class": typical,
        "coco": 1e-5,
        "table_1b_ap": {"0.5": 32.9, "1": 33.7, "2": 34.0, "5": 32.2},
    }
    source = "Lin et al. 2017, table 1b and sec. 3.3"
    gamma_advice = Advice("loss.gamma", gamma, _asked("loss.gamma", reason, given), figures, source, rule.EVIDENCE)
    alpha = one_number(given.get("loss.alpha", alpha))
    reason = (
        f"positives weigh {alpha:g}, negatives {1 - alpha:g}: alpha falls as gamma rises, because gamma already mutes "
        f"the easy negatives (0.75 at gamma 0, 0.5 at 0.5, 0.25 from 1 on)"
    )
    figures = {"gamma": gamma, "table_1b": [list(row) for row in rule.TABLE_1B]}
    source = "Lin et al. 2017, table 1b"
    return gamma_advice, Advice(
        "loss.alpha", alpha, _asked("loss.alpha", reason, given), figures, source, rule.EVIDENCE
    )


def _from_scores(measured: Measured, given: Mapping[str, Any]) -> tuple[Advice, Advice]:
    """What the scores of a trained model say."""
    asked = one_number(given["loss.gamma"]) if "loss.gamma" in given else None
    alpha, gamma = pair_of(measured, asked)
    alpha = one_number(given.get("loss.alpha", alpha))
    at, before = measured.shares(alpha, gamma), measured.shares(alpha, 0.0)
    reason = (
        f"of the negatives' gradient the hardest 1 % of them carry {at.hardest_negatives_gradient:.0%} (cross-entropy: "
        f"{before.hardest_negatives_gradient:.0%}), on {measured.images:,} pictures of {measured.dataset}"
    )
    source = "the scores of the checkpoint on its anchors; Lin et al. 2017, sec. 5.1 and fig. 4"
    gamma_advice = Advice("loss.gamma", gamma, _asked("loss.gamma", reason, given), at.to_dict(), source, UNBACKED)
    reason = (
        f"at gamma {gamma:g} it leaves these scores nearest to rest: negatives carry {at.negatives_gradient:.0%} of "
        f"the gradient and {at.negatives_loss:.0%} of the loss (trained with alpha {_words(measured.alpha)}, gamma "
        f"{_words(measured.gamma)})"
    )
    return gamma_advice, Advice(
        "loss.alpha", alpha, _asked("loss.alpha", reason, given), at.to_dict(), source, UNBACKED
    )


def prior(fits: tuple[ClassFit, ...], alpha: float, gamma: float, given: Mapping[str, Any]) -> Advice:
    """Where each class rests under this alpha and gamma, so that no step is spent on moving biases."""
    if "loss.prior" in given:
        return Advice("loss.prior", given["loss.prior"], "as asked", {}, "", "your choice")
    rests = {fit.name: _neat(equilibrium(max(fit.foreground, 1e-9), 1.0, alpha=alpha, gamma=gamma)) for fit in fits}
    low, high = min(rests, key=rests.__getitem__), max(rests, key=rests.__getitem__)
    value: Any = dict(rests) if len(rests) > 1 else rests[low]
    reason = (
        f"where each bias is at rest under this alpha and gamma: {high} at {rests[high]:g}, {low} at {rests[low]:g}"
    )
    total = sum(fit.foreground for fit in fits)
    figures = {
        "first_loss_from_negatives_at_half": negative_share(total, 1.0, 0.5, alpha=0.5, gamma=0.0),
        "first_loss_from_negatives": negative_share(total, 1.0, rests[high], alpha=alpha, gamma=gamma),
    }
    source = "Lin et al. 2017, sec. 3.3 and 4.1 (pi); equilibrium of the bias, focal_loss.equilibrium"
    return Advice("loss.prior", value, reason, figures, source, "high: it follows from the loss and the counts")


def box_weight(fits: tuple[ClassFit, ...], alpha: float, gamma: float, given: Mapping[str, Any]) -> Advice:
    """What leaves the two losses the balance with which RetinaNet's own pair begins."""
    shares = [max(fit.foreground, 1e-9) for fit in fits]
    times = loss_at_rest(shares, alpha=alpha, gamma=gamma) / loss_at_rest(shares, alpha=PAPER[0], gamma=PAPER[1])
    value = 1.0 if abs(times - 1) < AS_LOUD else float(f"{times:.2g}")
    reason = f"the classification loss begins {times:.2g} times as loud as with RetinaNet's alpha 0.25 and gamma 2"
    reason += "" if value == 1 else "; the box loss is made so too: that balance moves AP more than alpha and gamma do"
    source = "each class's bias at rest, focal_loss.loss_at_rest"
    value = given.get("loss.box_weight", value)
    reason = _asked("loss.box_weight", reason, given)
    return Advice("loss.box_weight", value, reason, {"loudness": times}, source, BALANCE_EVIDENCE)


def per_class_alpha(fits: tuple[ClassFit, ...]) -> Advice:
    """One alpha for all classes: the reason not to give the rare ones more, and what to try in a long tail."""
    shares = [fit.foreground for fit in fits if fit.foreground > 0]  # a class may have no positive anchor at all
    most, least = max(shares, default=1.0), min(shares, default=1.0)
    reason = (
        f"one alpha for all classes: even the head's negatives outnumber its positives {1 / most:,.0f} to 1; "
        f"what differs between classes ({most / least:,.0f} to 1) is the prior's work; "
        "Lin et al. used one alpha for COCO's 80"
    )
    if most / least >= BY_CLASS_RATIO:
        reason += "; in a tail this long, loss.alpha_by=effective_number and loss.gamma_by=rarity are worth a trial"
    figures = {"head_tail_of_positives": most / least}
    return Advice(
        "loss.alpha per class", None, reason, figures, "Lin et al. 2017, sec. 3.1", "low: not measured on your data"
    )


def one_number(value: Any) -> float:
    """A number, or the mean of a mapping of classes that the user gave: what the other advice is worked out with."""
    return float(np.mean(list(value.values()))) if isinstance(value, Mapping) else float(value)


def _asked(key: str, reason: str, given: Mapping[str, Any]) -> str:
    return f"as asked; {reason}" if key in given else reason


def _words(value: float | tuple[float, ...]) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{min(value):g} to {max(value):g}"


def _neat(p: float) -> float:
    """Two significant digits, within what a new head can start from."""
    return float(f"{min(max(p, 1e-4), 0.2):.2g}")
