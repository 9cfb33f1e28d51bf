"""The advice for the loss: gamma, alpha of all classes or of each, prior, and the weight of the box loss.

Sources: Lin et al. 2017, arXiv:1708.02002, table 1b, sec. 3.3 and 4.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from focalcli.focal_loss import equilibrium, loss_at_rest, negative_share
from focalcli.recommend import rule
from focalcli.recommend.advice import YOURS, Advice, ClassFit
from focalcli.recommend.measured import SCORES_EVIDENCE, Measured, pair_of
from focalcli.recommend.per_class import by_name, varied_alpha

AS_LOUD = 0.15  # a difference that nobody needs to hear of
LEAST_PRIOR, MOST_PRIOR = 1e-4, 0.2  # that a new head can start from
BALANCE_EVIDENCE = (
    "a box weight that keeps the two losses' balance is worth 0.8 to 4.4 AP to cross-entropy on ten small datasets; "
    "near RetinaNet's alpha and gamma it hardly matters; 400 steps"
)

PRIOR_EVIDENCE = (
    "such a prior follows from the loss and the counts; against 0.01 it was worth 2.2 to 7.0 AP on each of four small "
    "datasets in 400 steps (two seeds), 2.4 and 5.3 on two of them in 1,600 (one seed)"
)


def gamma_and_alpha(
    facts: rule.Facts, names: Sequence[str], given: Mapping[str, Any], measured: Measured | None = None
) -> tuple[Advice, Advice]:
    """The advice for loss.gamma and loss.alpha: one number, or {class: number} where there are rare classes.

    Args:
        names: of the classes, in the order of facts.objects. measured: a checkpoint's scores, which then decide on the
            pair that the classes start from.
    """
    gamma_given = _completed(given.get("loss.gamma"), rule.RETINANET[1], names, "loss.gamma")
    chosen = None if gamma_given is None else mean_of(gamma_given, names)
    asked = mean_of(given["loss.alpha"], names) if _is_whole(given.get("loss.alpha"), names) else None
    gamma, alpha, source = _by_rule(chosen) if measured is None else _from_scores(measured, chosen, asked)
    by = given.get("loss.alpha_by", "none")
    each = rule.alpha_of_each(facts, alpha.value) if by == "none" else alpha.value
    if by != "none":
        alpha = replace(alpha, reason=f"what the classes' alphas start from, which loss.alpha_by={by} then makes")
    if isinstance(each, list):
        rarest, commonest = (names[k] for k in (np.argmin(facts.objects), np.argmax(facts.objects)))
        reason = (
            f"{commonest} has {facts.imbalance:.0f} objects for each of {rarest}: the odds alpha / (1 - alpha) "
            f"of a class are {source} times (geometric mean of the counts / its count)^{rule.STRENGTH:g}, at most "
            f"{rule.MOST_WEIGHT:g} times, so that the rare are not drowned by the frequent"
        )
        evidence: tuple[str, ...] = (rule.RARE_EVIDENCE,)
        if measured is not None:
            reason, evidence = f"{reason}; {alpha.reason}", (*evidence, *alpha.evidence)
        alpha = replace(alpha, value=dict(zip(names, each, strict=True)), reason=reason, evidence=evidence)
    alpha = replace(alpha, figures={**alpha.figures, "head_to_tail": facts.imbalance})
    if gamma_given is not None:
        gamma = gamma.chosen(gamma_given, gamma.reason)
    if "loss.alpha" in given:
        own = _completed(given["loss.alpha"], alpha.value, names, "loss.alpha")
        kept = isinstance(own, Mapping) and own != given["loss.alpha"]
        if kept:
            reason = f"as asked for {', '.join(given['loss.alpha'])}; {alpha.reason}"
            alpha = replace(alpha, value=own, reason=reason, confidence=YOURS)
        else:
            alpha = alpha.chosen(own)
    return gamma, alpha


def _by_rule(chosen: float | None) -> tuple[Advice, Advice, str]:
    """gamma, alpha, and whose odds they are."""
    alpha, gamma = rule.pair(chosen)
    source = "Lin et al. 2017, sec. 4.1 and table 1b"
    why = "RetinaNet's gamma and alpha: no other pair did better on small datasets of all kinds"
    weigh = f"positives weigh {alpha:g}, negatives {1 - alpha:g}; no class is rare enough for one of its own"
    return (
        Advice("loss.gamma", gamma, "" if chosen is not None else why, {}, source, "moderate", (rule.PAIR_EVIDENCE,)),
        Advice("loss.alpha", alpha, weigh, {}, source, "moderate", (rule.PAIR_EVIDENCE,)),
        "RetinaNet's" if chosen is None else "those that table 1b has for this gamma,",
    )


def _from_scores(measured: Measured, chosen: float | None, asked: float | None) -> tuple[Advice, Advice, str]:
    """What the scores of a trained model say; as for `_by_rule`. asked: the user's alpha, the mean of the classes'."""
    alpha, gamma = pair_of(measured, chosen)
    alpha = alpha if asked is None else asked
    at, before = measured.shares(alpha, gamma), measured.shares(alpha, 0.0)
    of_gamma = (
        f"of the negatives' gradient the hardest 1 % of them carry {at.hardest_negatives_gradient:.0%} (cross-entropy: "
        f"{before.hardest_negatives_gradient:.0%}), on {measured.images:,} pictures of {measured.dataset}"
    )
    source = "the scores of the checkpoint on its anchors; Lin et al. 2017, sec. 5.1 and fig. 4"
    of_alpha = (
        f"at gamma {gamma:g} an alpha of {alpha:g} leaves these scores nearest to rest: negatives carry "
        f"{at.negatives_gradient:.0%} of the gradient and {at.negatives_loss:.0%} of the loss (trained with alpha "
        f"{_words(measured.alpha)}, gamma {_words(measured.gamma)})"
    )
    return (
        Advice("loss.gamma", gamma, of_gamma, at.to_dict(), source, "low", (SCORES_EVIDENCE,)),
        Advice("loss.alpha", alpha, of_alpha, at.to_dict(), source, "low", (SCORES_EVIDENCE,)),
        "the measured alpha's",
    )


def prior(fits: tuple[ClassFit, ...], alpha: Any, gamma: Any, given: Mapping[str, Any]) -> Advice:
    """Where each class's bias rests under this alpha and gamma, so that no step is spent on moving biases.

    Args:
        alpha, gamma: one number, or a mapping of classes.
    """
    pairs = list(zip(fits, of_each(fits, alpha), of_each(fits, gamma), strict=True))
    exact = {fit.name: equilibrium(fit.foreground, 1.0, alpha=a, gamma=g) for fit, a, g in pairs}
    rests = {name: _neat(rest) for name, rest in exact.items()}
    low, high = min(rests, key=rests.__getitem__), max(rests, key=rests.__getitem__)
    value: Any = dict(rests) if len(rests) > 1 else rests[low]
    reason = "the score at which a class's bias has no reason to move under this alpha and gamma"
    reason += f": {high} {rests[high]:g}, {low} {rests[low]:g}" if rests[low] < rests[high] else ""
    if any(not LEAST_PRIOR <= rest <= MOST_PRIOR for rest in exact.values()):
        reason += f"; kept within {LEAST_PRIOR:g} and {MOST_PRIOR:g}"
    total = sum(fit.foreground for fit in fits)
    figures = {"first_loss_from_negatives_at_half": negative_share(total, 1.0, 0.5, alpha=0.5, gamma=0.0)}
    if "loss.prior" in given:
        own = _completed(given["loss.prior"], value, list(rests), "loss.prior")
        return Advice("loss.prior", own, "as asked", {}, "", YOURS)
    source = "Lin et al. 2017, sec. 3.3 and 4.1 (pi); gradient of the bias"
    return Advice("loss.prior", value, reason, figures, source, "high", (PRIOR_EVIDENCE,))


def box_weight(fits: tuple[ClassFit, ...], alpha: Any, gamma: Any, given: Mapping[str, Any]) -> Advice:
    """What leaves the two losses the balance with which RetinaNet's own pair begins; arguments as for `prior`."""
    shares = [fit.foreground for fit in fits]
    theirs = loss_at_rest(shares, alpha=rule.RETINANET[0], gamma=rule.RETINANET[1])
    times = loss_at_rest(shares, alpha=of_each(fits, alpha), gamma=of_each(fits, gamma)) / theirs
    value = 1.0 if abs(times - 1) < AS_LOUD else float(f"{times:.2g}")
    much = "about" if value == 1 else f"{times:.2g} times"
    reason = f"with this alpha and gamma the classification loss is {much} as large as with RetinaNet's, 0.25 and 2"
    source = "the loss of every class at such a prior"
    advice = Advice("loss.box_weight", value, reason, {"loudness": times}, source, "moderate", (BALANCE_EVIDENCE,))
    if "loss.box_weight" in given:
        return advice.chosen(given["loss.box_weight"], reason)
    balanced = "; the box loss is scaled alike, so that neither drowns the other"
    return advice if value == 1 else replace(advice, reason=reason + balanced)


def in_training(alpha: Any, facts: rule.Facts, fits: tuple[ClassFit, ...], given: Mapping[str, Any]) -> Any:
    """alpha as loss.alpha_by leaves it: one number, or {class: number}."""
    names, beta = [fit.name for fit in fits], float(given.get("loss.beta", 0.999))
    varied = varied_alpha(
        by_name(alpha, names, "loss.alpha"), given.get("loss.alpha_by", "none"), facts.objects, beta,
        lambda: [fit.foreground for fit in fits],
    )  # fmt: skip
    return dict(zip(names, varied, strict=True)) if isinstance(varied, list) else varied


def of_each(fits: tuple[ClassFit, ...], value: Any) -> list[float]:
    """(K,) of one number, or of a mapping in which `default` serves classes that are not named."""
    if not isinstance(value, Mapping):
        return [float(value)] * len(fits)
    rest = value.get("default", float(np.mean(list(value.values()))))
    return [float(value.get(fit.name, rest)) for fit in fits]


def mean_of(value: Any, names: Sequence[str]) -> float:
    """A number, or the mean over the classes of a mapping: what the other advice is worked out with."""
    return (
        float(np.mean([value.get(name, value.get("default")) for name in names]))
        if isinstance(value, Mapping)
        else float(value)
    )


def _is_whole(own: Any, names: Sequence[str]) -> bool:
    """Whether what the user gave has a value for every class; what it leaves out is advised on, not averaged."""
    return own is not None and (not isinstance(own, Mapping) or "default" in own or set(names) <= own.keys())


def _completed(own: Any, advised: Any, names: Sequence[str], key: str) -> Any:
    """What the user gave for `key`; classes that their mapping leaves out get what is advised.

    Args:
        own: a number, a mapping of classes, or None. advised: a number, or a mapping of all of `names`.

    Raises:
        FocalError: it names a class that is not there.
    """
    if not isinstance(own, Mapping):
        return own
    if "default" not in own:
        rest = advised if isinstance(advised, Mapping) else dict.fromkeys(names, advised)
        own = {**{name: rest[name] for name in names}, **own}
    by_name(own, names, key)
    return dict(own)


def _words(value: float | tuple[float, ...]) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{min(value):g} to {max(value):g}"


def _neat(p: float) -> float:
    """Two significant digits, within what a new head can start from."""
    return float(f"{min(max(p, LEAST_PRIOR), MOST_PRIOR):.2g}")
