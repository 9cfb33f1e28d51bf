"""Dataset -> Recommendation: alpha, gamma, prior, anchors, size and length of training, each with its reason.

No torch, no training: all follows from the annotations and the anchor assignment that training will use. A checkpoint's
scores, measured elsewhere (training/scores.py), may decide alpha and gamma in place of the rule. By module: hardware
(the defaults of a machine), boxes (what training will see), anchoring (sizes and ratios), rule (alpha and gamma), loss
(their advice, the prior), measured (scores -> shares of loss and gradient -> alpha and gamma), per_class (settings for
long tails), schedule (the rest).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from focalcli.anchors import AnchorSpec
from focalcli.coco import Dataset
from focalcli.errors import FocalError, nearest
from focalcli.recommend import anchoring, loss, schedule
from focalcli.recommend.advice import Advice, ClassFit, Recommendation, recipe_values
from focalcli.recommend.boxes import at_network_size
from focalcli.recommend.hardware import CPU, CPU_SCRATCH, GPU, GPU_SCRATCH, Hardware, hardware_for
from focalcli.recommend.measured import Measured, Scores
from focalcli.recommend.rule import PAPER_PRIOR, Facts, alpha_for

__all__ = [
    "CPU",
    "CPU_SCRATCH",
    "GPU",
    "GPU_SCRATCH",
    "Advice",
    "ClassFit",
    "Facts",
    "Hardware",
    "Measured",
    "Recommendation",
    "Scores",
    "alpha_for",
    "hardware_for",
    "recipe_values",
    "recommend",
]


def recommend(
    train: Dataset, hardware: Hardware, overrides: Mapping[str, Any] | None = None, measured: Measured | None = None
) -> Recommendation:
    """What to train this dataset with.

    Args:
        train: the training split. hardware: CPU or GPU.
        overrides: dotted recipe keys that the user decided (input.min_size, schedule.epochs); the rest follows them.
        measured: a checkpoint's scores on it.

    Raises:
        FocalError: no objects, or no picture of known size.
    """
    given = dict(overrides or {})
    size = schedule.input_size(train, hardware, given)
    boxes = at_network_size(train, size.value, size.figures["max_size"])
    sizes, ratios = anchoring.advise(boxes, train.class_names, given)
    more = anchoring.larger_input(train, size, sizes.figures["reached_class_mean"])
    size = replace(size, reason=size.reason + more)
    fits = anchoring.class_fits(boxes, AnchorSpec(sizes.value, ratios.value), train.class_names, PAPER_PRIOR)
    _refuse_namesakes([fit.name for fit in fits], train)
    _refuse_strangers(given.get("eval.best", "AP"), [fit.name for fit in fits])
    facts = Facts(tuple(fit.objects for fit in fits))
    repeats = schedule.repeats(train, facts, given)
    epochs = schedule.epochs(train, hardware, given | {"data.repeat_threshold": repeats.value})
    gamma, alpha = loss.gamma_and_alpha(facts, [fit.name for fit in fits], given, measured)
    of_loss = loss.in_training(alpha.value, facts, fits, given), gamma.value, given
    prior, box_weight = loss.prior(fits, *of_loss), loss.box_weight(fits, *of_loss)
    advice = (sizes, ratios, gamma, alpha, prior, box_weight, repeats, epochs, size)
    fits = tuple(replace(fit, prior=p) for fit, p in zip(fits, loss.of_each(fits, prior.value), strict=True))
    values = schedule.recipe_keys(train, hardware, advice, given)
    return Recommendation(str(train.path), advice, fits, values, measured)


def _refuse_namesakes(names: list[str], train: Dataset) -> None:
    """A recipe names classes, so two of one name cannot have values of their own."""
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise FocalError(
            f"{train.path}: two classes are called {twice!r}",
            "give each a name of its own; `focal explain F202` says why",
        )


def _refuse_strangers(metric: str, names: list[str]) -> None:
    """eval.best=class:NAME of a class that is not there would be refused by the training, after its weights."""
    if metric.startswith("class:") and metric[6:] not in names:
        near = nearest(metric[6:], names)
        raise FocalError(
            f"override eval.best={metric}: no such class",
            f"did you mean class:{near}?" if near else f"its classes are {', '.join(names[:8])}",
        )
