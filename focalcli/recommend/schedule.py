"""The advice for the input size, the repeats of pictures and the epochs, and every other value of the recipe.

Sources: Lin et al. 2017, arXiv:1708.02002, table 1e; Gupta et al. 2019, arXiv:1908.03195, sec. 4.2 (repeats).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from focalcli import anchors
from focalcli.coco import Dataset
from focalcli.recommend import rule
from focalcli.recommend.advice import YOURS, Advice
from focalcli.recommend.hardware import Hardware
from focalcli.recommend.per_class import repeat_factors

MOST_REPEATS = 10  # of the rarest class; on LVIS, where a class has one picture of 100,000, that is Gupta's 0.001


def input_size(train: Dataset, hardware: Hardware, given: Mapping[str, Any]) -> Advice:
    """The hardware's size, but pictures are not blown up: that costs time and adds no detail."""
    known = train.image_wh[(train.image_wh > 0).all(axis=1)]
    short = int(np.median(known.min(axis=1))) if len(known) else hardware.min_size
    fitting = min(hardware.min_size, -(-short // anchors.PAD) * anchors.PAD)
    low = int(given.get("input.min_size", fitting))
    high = int(given.get("input.max_size", max(low, round(hardware.max_size * low / hardware.min_size))))
    reason = f"half of the pictures have a short side of {short} px or less"
    figures = {"median_short_side": short, "max_size": high}
    if "input.min_size" in given:
        return Advice("input.min_size", low, f"as asked; {reason}", figures, "", YOURS)
    source = "Lin et al. 2017, table 1e: speed against AP by scale"
    if low < hardware.min_size:
        reason += ": enlarging them would cost time and add nothing"
    else:
        reason += f"; {low} px is what this hardware trains at in reasonable time"
    return Advice("input.min_size", low, reason, figures, source, "rule of thumb")


def repeat_threshold(train: Dataset, facts: rule.Facts, power: float = 0.5) -> float:
    """Of repeat-factor sampling, 0 where no class is rare or all are on pictures enough.

    A threshold above the share of every class would show all of them more often, which is no more than a longer epoch.
    """
    share = train.images_per_class[train.images_per_class > 0] / len(train.image_ids)
    rarest, commonest = float(share.min()), float(share.max())
    most = _rounded_down(rarest * MOST_REPEATS ** (1 / power))
    wanted = min(rule.repeat_threshold(facts), most, float(f"{commonest:.2g}"))
    return wanted if rarest < wanted else 0.0


def repeats(train: Dataset, facts: rule.Facts, given: Mapping[str, Any]) -> Advice:
    """Repeat-factor sampling where classes are rare and on few pictures."""
    power = float(given.get("data.repeat_power", 0.5))
    wanted = repeat_threshold(train, facts, power)
    by_class = given.get("data.sampler") == "class_aware"  # it takes the place of the repeats
    value = float(given.get("data.repeat_threshold", 0.0 if by_class else wanted))
    rarest = float(train.images_per_class[train.images_per_class > 0].min() / len(train.image_ids))
    name = min((n, name) for n, name in zip(train.images_per_class.tolist(), train.class_names, strict=True) if n)[1]
    factor = 1.0 if by_class else max(1.0, (value / rarest) ** power)
    reason = f"{name} is on {_percent(rarest)} of the pictures"
    if by_class:
        reason += "; class_aware shows every class equally often, in place of repeats"
    elif factor > 1:
        reason += f": they are shown {factor:.1f} times an epoch"
    else:
        reason += "; nothing is repeated" if wanted else "; nothing needs repeating"
    figures = {"rarest_class": name, "share_of_images": rarest, "factor": factor}
    source, evidence = "Gupta et al. 2019, sec. 4.2", (rule.RARE_EVIDENCE,) if facts.has_rare_classes else ()
    advice = Advice("data.repeat_threshold", value, reason, figures, source, "moderate", evidence)
    return advice.chosen(value, reason) if "data.repeat_threshold" in given else advice


def epochs(train: Dataset, hardware: Hardware, given: Mapping[str, Any]) -> Advice:
    """As many as show the hardware's number of pictures, within its limits on epochs without repeats.

    Repeats make an epoch longer and the training no longer: arms were compared by equal steps (docs/recommend.md).
    """
    count = len(train.image_ids)
    threshold, power = given.get("data.repeat_threshold", 0.0), given.get("data.repeat_power", 0.5)
    if given.get("data.sampler") == "class_aware":
        threshold = 0.0
    shown = int(repeat_factors(train, float(threshold), float(power)).sum())
    fewest, most = (limit * count for limit in hardware.epochs)
    pictures = min(most, max(fewest, hardware.samples))
    value = int(given.get("schedule.epochs", max(1, round(pictures / shown))))
    batch = int(given.get("schedule.batch_size", hardware.batch_size))
    steps = value * max(1, shown // batch)
    repeated = f", {shown:,} with repeats" if shown > count else ""
    reason = f"{count:,} picture{'s' * (count != 1)}{repeated}: {steps:,} steps of {batch}"
    figures = {"images": count, "steps": steps}
    advice = Advice("schedule.epochs", value, reason, figures, "", "rule of thumb: watch the AP over epochs")
    return advice.chosen(value, reason) if "schedule.epochs" in given else advice


def recipe_keys(
    train: Dataset, hardware: Hardware, advice: tuple[Advice, ...], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Every dotted recipe key that is not at its default."""
    chosen = {entry.key: entry.value for entry in advice if " " not in entry.key}
    size = next(entry for entry in advice if entry.key == "input.min_size")
    batch = given.get("schedule.batch_size", hardware.batch_size)
    steps = next(entry for entry in advice if entry.key == "schedule.epochs").figures["steps"]
    backbone = given.get("model.backbone", hardware.backbone)
    weights = given.get("model.weights", hardware.weights)
    if "model.weights" not in given and weights == "coco" and backbone != "resnet50":
        weights = "imagenet"  # torchvision has COCO's for the one backbone alone
    sgd = given.get("schedule.optimizer") == "sgd"
    values = {
        "model.backbone": backbone,
        "model.weights": weights,
        "model.trainable_layers": 5 if weights == "none" or backbone.startswith("mobilenet") else 3,
        "model.width": hardware.width,
        "model.head_depth": hardware.head_depth,
        "model.head_norm": hardware.head_norm,
        "input.max_size": size.figures["max_size"],
        "schedule.batch_size": batch,
        "schedule.base_batch": 16 if sgd else batch,
        "schedule.optimizer": "adamw",
        "schedule.lr": 0.01 if sgd else hardware.lr,  # of SGD: Lin et al. 2017, sec. 4.1, with 16 pictures a step
        "schedule.weight_decay": 1e-4 if sgd else 0.05,
        "schedule.warmup_steps": max(1, min(500, steps // 10)),
        "schedule.clip_norm": 10.0,
        "eval.every": max(1, chosen["schedule.epochs"] // 4),
        "eval.score_threshold": 0.01,
    }
    return {**values, **given, **chosen}


def _rounded_down(value: float) -> float:
    """To one significant digit."""
    unit = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.floor(value / unit + 1e-9) * unit:.1g}")


def _percent(share: float) -> str:
    """Two significant digits of a percentage: 0.38 %, 4.6 %, 57 %, 100 %."""
    return f"{float(f'{100 * share:.2g}'):g} %"
