"""Dataset -> Recommendation: alpha, gamma, prior, anchors, size and length of training, each with its reason.

No torch, no training: all follows from the annotations and the anchor assignment that training will use. The rules:

* anchors: one base size a level, doubling from P3 to P7; the base that starves boxes of positives least, every class
  counted alike;
* gamma: as strong as the dataset's own scarcity of foreground asks for. Lin et al. chose gamma 2 where a class owns
  1e-5 of the anchors; there the bias-only equilibrium lies at 0.01. The recommended gamma puts it there for *this*
  dataset's fraction;
* alpha: what Lin et al. found best at that gamma (table 1b: it falls as gamma rises);
* prior: where each class rests under that alpha and gamma, so that no step is spent on moving biases.

Sources: Lin et al. 2017, arXiv:1708.02002 (table 1, sec. 3.3, 4.1); Gupta et al. 2019, arXiv:1908.03195 (sampling).
Shapes: B boxes, K classes with objects. Sides are in pixels at network size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from focalcli import anchors
from focalcli.anchors import AnchorSpec
from focalcli.coco import Dataset
from focalcli.errors import FocalError
from focalcli.focal_loss import equilibrium, negative_share

# Lin et al. 2017, table 1b: gamma -> the alpha that was best with it on COCO
TABLE_1B = ((0.0, 0.75), (0.1, 0.75), (0.2, 0.75), (0.5, 0.50), (1.0, 0.25), (2.0, 0.25), (5.0, 0.25))
PAPER_PRIOR = 0.01
GAMMA_RANGE = (0.5, 2.0)  # below and above it table 1b loses AP: 31.9 at 0.2, 32.9 at 0.5, 34.0 at 2, 32.2 at 5
BASE_SIZES = (8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 36, 40, 48, 56, 64)  # of P3; 32 is RetinaNet's own
FREQUENT_SHARE = 0.1  # images of a class on fewer than this share are repeated when classes are imbalanced


@dataclass(frozen=True)
class Hardware:
    """Defaults that depend on where and from what the recipe trains, not on the data."""

    backbone: str
    weights: str
    min_size: int
    max_size: int
    width: int
    head_depth: int
    head_norm: str
    batch_size: int
    lr: float  # of AdamW, at batch_size
    samples: int  # pictures to train on in all, for a small dataset
    epochs: tuple[int, int]  # fewest, most


CPU = Hardware("mobilenet_v2", "imagenet", 256, 427, 128, 2, "none", 4, 4e-4, 3300, (8, 60))
GPU = Hardware("resnet50", "coco", 800, 1333, 256, 4, "none", 16, 1e-4, 24_000, (12, 100))
# without pretrained weights: normalised heads and a high learning rate, or the first epochs are lost
CPU_SCRATCH = Hardware("mobilenet_v2", "none", 256, 427, 64, 2, "group", 8, 2e-3, 3600, (15, 100))
GPU_SCRATCH = Hardware("resnet50", "none", 800, 1333, 256, 4, "group", 16, 1e-3, 60_000, (36, 300))


def hardware_for(gpu: bool, weights: str | None) -> Hardware:
    """The defaults of a machine with or without a GPU; `weights` is the recipe's model.weights where it was given."""
    if weights == "none":
        return GPU_SCRATCH if gpu else CPU_SCRATCH
    return GPU if gpu else CPU


@dataclass(frozen=True)
class Advice:
    """One recommended value: what, why, on which figures, from where, and how sure."""

    key: str
    value: Any
    reason: str
    figures: Mapping[str, Any]
    source: str
    confidence: str


@dataclass(frozen=True)
class ClassFit:
    """How the recommended anchors serve one class.

    Attributes:
        foreground: positives of the class over all other anchors. positives_per_box: their median.
        reached: share of its boxes with IoU >= 0.5 to an anchor. prior: the score at which its bias rests.
    """

    name: str
    objects: int
    foreground: float
    positives_per_box: float
    reached: float
    prior: float


@dataclass(frozen=True)
class Recommendation:
    """Values for a recipe (`values`, by dotted key) with the advice behind those that the data decided."""

    dataset: str
    advice: tuple[Advice, ...]
    classes: tuple[ClassFit, ...]
    values: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"schema_version": 1, "kind": "recommendation", **asdict(self)}

    def comments(self) -> dict[str, str]:
        """Dotted recipe key -> its reason, for the written recipe."""
        return {entry.key: entry.reason for entry in self.advice if entry.key in self.values}


def recommend(train: Dataset, hardware: Hardware, overrides: Mapping[str, Any] | None = None) -> Recommendation:
    """What to train this dataset with.

    Args:
        train: the training split. hardware: CPU or GPU.
        overrides: dotted recipe keys that the user decided (input.min_size, schedule.epochs); the rest follows them.

    Raises:
        FocalError: no objects, or no picture of known size.
    """
    given = dict(overrides or {})
    solid = _trainable(train)
    sizes = _input_size(train, hardware, given)
    boxes, grid, image = _at_network_size(train, solid, sizes.value)
    label = train.box_label[solid]
    spec_advice = _anchors(boxes, image, label, grid, train, given)
    spec = AnchorSpec(tuple(spec_advice.value))
    fits = _class_fits(boxes, image, label, grid, spec, train)
    gamma = _gamma(fits, given)
    alpha = _alpha(gamma.value, given)
    prior = _prior(fits, alpha.value, gamma.value, given)
    rest = (_per_class_alpha(fits), _repeats(train, given), _epochs(train, hardware, given), sizes)
    advice = (spec_advice, gamma, alpha, prior, *rest)
    starts = prior.value if isinstance(prior.value, dict) else {}
    fits = tuple(replace(fit, prior=starts.get(fit.name, fit.prior)) for fit in fits)
    return Recommendation(str(train.path), advice, fits, _values(train, hardware, advice, given))


# ----------------------------------------------------------------------------------------------------- what is there


def _trainable(train: Dataset) -> np.ndarray:
    """(B',) indices of the boxes that training uses: no crowds, only pictures of known size, some area when clipped."""
    corners, known = train.boxes_xyxy, (train.image_wh > 0).all(axis=1)
    solid = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    keep = np.flatnonzero(~train.iscrowd & solid & known[train.box_image])
    if not len(keep):
        raise FocalError(
            f"{train.path}: no objects to recommend for",
            f"expected a usable box in a picture of known size; `focal audit {train.path}` lists what is wrong",
        )
    return keep


def _input_size(train: Dataset, hardware: Hardware, given: Mapping[str, Any]) -> Advice:
    """The hardware's size, but pictures are not blown up: that costs time and adds no detail."""
    known = train.image_wh[(train.image_wh > 0).all(axis=1)]
    short = int(np.median(known.min(axis=1)))
    fitting = min(hardware.min_size, -(-short // anchors.PAD) * anchors.PAD)
    low = int(given.get("input.min_size", fitting))
    high = int(given.get("input.max_size", max(low, round(hardware.max_size * low / hardware.min_size))))
    reason = f"half of the pictures have a short side of {short} px or less"
    if "input.min_size" in given:
        reason = f"as asked; {reason}"
    elif low < hardware.min_size:
        reason += ": enlarging them would cost time and add nothing"
    else:
        reason += f"; {low} px is what this hardware trains at in reasonable time"
    figures = {"median_short_side": short, "max_size": high}
    return Advice(
        "input.min_size", low, reason, figures, "Lin et al. 2017, table 1e: speed against AP by scale", "rule of thumb"
    )


def _at_network_size(train: Dataset, solid: np.ndarray, min_size: int) -> tuple[Any, Any, Any]:
    """(B', 4) boxes, (I, L, 4) grids, (B',) image index; pictures of unknown size become 32 x 32."""
    wh = np.where(train.image_wh > 0, train.image_wh, 32)
    new_wh = anchors.network_size(wh, min_size, round(min_size * GPU.max_size / GPU.min_size))
    image = train.box_image[solid]
    boxes = anchors.resize_boxes(train.boxes_xyxy[solid], wh[image], new_wh[image])
    return boxes, anchors.grids(anchors.padded(new_wh)), image


# ------------------------------------------------------------------------------------------------------------ anchors


def _positives(boxes: Any, image: Any, grid: Any, spec: AnchorSpec) -> tuple[np.ndarray, np.ndarray, anchors.Matches]:
    """(B',) positives of each box, and of these the ones with IoU >= 0.5; and the matches."""
    found = anchors.match(boxes, image, grid, spec)
    good = found.positive & (found.iou >= anchors.FOREGROUND_IOU)
    every = np.bincount(found.box[found.positive], minlength=len(boxes))
    return every, np.bincount(found.box[good], minlength=len(boxes)), found


def _starvation(good: np.ndarray, label: np.ndarray) -> float:
    """Mean over classes of the mean over their boxes of 1 / positives: low when no box and no class is left hungry.

    The first positives of a box matter most, hence the reciprocal; a box that no anchor meets at IoU 0.5 counts as half
    a positive. Each class counts alike, however many boxes it has.
    """
    hunger = 1.0 / np.maximum(good, 0.5)
    count = np.bincount(label)
    return float((np.bincount(label, weights=hunger)[count > 0] / count[count > 0]).mean())


def _anchors(boxes: Any, image: Any, label: Any, grid: Any, train: Dataset, given: Mapping[str, Any]) -> Advice:
    if "anchors.sizes" in given:
        sizes = tuple(given["anchors.sizes"])
        return Advice("anchors.sizes", sizes, "as asked", {}, "", "your choice")
    sample = _some_of_each(label)
    tried = {}
    for base in BASE_SIZES:
        spec = AnchorSpec(tuple(base * 2**level for level in range(5)))
        _, good, _ = _positives(boxes[sample], image[sample], grid, spec)
        tried[base] = _starvation(good, label[sample])
    base = min(tried, key=tried.__getitem__)
    sizes = tuple(base * 2**level for level in range(5))
    _, good, _ = _positives(boxes, image, grid, AnchorSpec(sizes))
    _, default_good, _ = _positives(boxes, image, grid, AnchorSpec())
    reached, default_reached = float((good > 0).mean()), float((default_good > 0).mean())
    worst = _worst_class(good, label, train)
    default_worst = _worst_class(default_good, label, train)
    reason = (
        f"{reached:.1%} of the boxes meet an anchor at IoU 0.5 (with RetinaNet's own sizes {default_reached:.1%}); "
        f"the hungriest class, {worst[0]}, gets {worst[1]:.1f} positives a box "
        f"(harmonic mean; with RetinaNet's own: {default_worst[1]:.1f})"
    )
    figures = {
        "reached": reached, "reached_by_default": default_reached,
        "hungriest_class": worst[0], "positives_per_box": worst[1], "by_default": default_worst[1],
    }  # fmt: skip
    return Advice(
        "anchors.sizes", sizes, reason, figures, "torchvision's matcher on every box", "exact for these annotations"
    )


def _some_of_each(label: np.ndarray) -> np.ndarray:
    """Indices of up to 1000 boxes of each class, fewer where there are many classes: enough to compare anchor sizes."""
    picked, most = [], min(1000, max(30, 6000 // len(np.unique(label))))
    for k in np.unique(label):
        rows = np.flatnonzero(label == k)
        picked.append(rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)])
    return np.sort(np.concatenate(picked))


def _worst_class(good: np.ndarray, label: np.ndarray, train: Dataset) -> tuple[str, float]:
    """(name, harmonic mean of positives a box) of the class with the least."""
    means = {k: 1.0 / float((1.0 / np.maximum(good[label == k], 0.5)).mean()) for k in np.unique(label)}
    worst = min(means, key=means.__getitem__)
    return train.class_names[worst], means[worst]


def _class_fits(
    boxes: Any, image: Any, label: Any, grid: Any, spec: AnchorSpec, train: Dataset
) -> tuple[ClassFit, ...]:
    every, good, _ = _positives(boxes, image, grid, spec)
    total = float(anchors.anchors_per_image(spec, grid).sum())
    fits = []
    for k in np.unique(label):
        mine = label == k
        fits.append(
            ClassFit(
                name=train.class_names[k],
                objects=int(mine.sum()),
                foreground=float(every[mine].sum() / max(1.0, total - every[mine].sum())),
                positives_per_box=float(np.median(every[mine])),
                reached=float((good[mine] > 0).mean()),
                prior=PAPER_PRIOR,
            )
        )
    return tuple(fits)


# --------------------------------------------------------------------------------------------- alpha, gamma and prior


def alpha_for(gamma: float) -> float:
    """The alpha that was best at this gamma in table 1b, straight lines between its rows."""
    gammas, alphas = zip(*TABLE_1B, strict=True)
    return float(np.interp(gamma, gammas, alphas))


def gamma_for(foreground: float) -> float:
    """The gamma whose equilibrium lies at the paper's prior for this foreground fraction, within GAMMA_RANGE.

    Rounded to 0.25, which is finer than anything table 1b can tell apart.
    """
    grid = np.arange(GAMMA_RANGE[0], GAMMA_RANGE[1] + 0.01, 0.25)
    rests = np.array([equilibrium(foreground, 1.0, alpha=alpha_for(g), gamma=g) for g in grid])
    rising = np.maximum.accumulate(np.log(rests))  # where foreground is plentiful it would fall again
    return float(np.round(np.interp(np.log(PAPER_PRIOR), rising, grid) * 4) / 4)


def _gamma(fits: tuple[ClassFit, ...], given: Mapping[str, Any]) -> Advice:
    typical = float(np.exp(np.mean(np.log([max(fit.foreground, 1e-9) for fit in fits]))))
    value = _one_number(given.get("loss.gamma", gamma_for(typical)))
    times = typical / 1e-5
    reason = (
        f"a typical class owns {typical:.1e} of the anchors, {times:.0f} times COCO's 1e-5, for which gamma 2 was "
        f"found: the background is {'less' if times > 1.5 else 'as'} overwhelming here"
    )
    if "loss.gamma" in given:
        reason = f"as asked; {reason}"
    figures = {
        "foreground_per_class": typical,
        "coco": 1e-5,
        "table_1b_ap": {"0.5": 32.9, "1": 33.7, "2": 34.0, "5": 32.2},
    }
    confidence = (
        "moderate: on COCO gamma 0.5 to 5 stayed within 1.8 AP of the best (table 1b); not measured on your data"
    )
    return Advice("loss.gamma", value, reason, figures, "Lin et al. 2017, table 1b and sec. 3.3", confidence)


def _alpha(gamma: float, given: Mapping[str, Any]) -> Advice:
    value = _one_number(given.get("loss.alpha", round(alpha_for(gamma), 3)))
    reason = (
        f"positives weigh {value:g}, negatives {1 - value:g}: alpha falls as gamma rises, because gamma already mutes "
        f"the easy negatives (0.75 at gamma 0, 0.5 at 0.5, 0.25 from 1 on)"
    )
    figures = {"gamma": gamma, "table_1b": [list(row) for row in TABLE_1B]}
    return Advice(
        "loss.alpha",
        value,
        reason,
        figures,
        "Lin et al. 2017, table 1b",
        "moderate: best on COCO, not measured on your data",
    )


def _prior(fits: tuple[ClassFit, ...], alpha: float, gamma: float, given: Mapping[str, Any]) -> Advice:
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


def _one_number(value: Any) -> float:
    """A number, or the mean of a mapping of classes that the user gave: what the other advice is worked out with."""
    return float(np.mean(list(value.values()))) if isinstance(value, Mapping) else float(value)


def _neat(p: float) -> float:
    """Two significant digits, within what a new head can start from."""
    return float(f"{min(max(p, 1e-4), 0.2):.2g}")


def _per_class_alpha(fits: tuple[ClassFit, ...]) -> Advice:
    """One alpha for all classes: the reason not to give the rare ones more."""
    shares = [fit.foreground for fit in fits if fit.foreground > 0]  # a class may have no positive anchor at all
    most, least = max(shares, default=1.0), min(shares, default=1.0)
    reason = (
        f"one alpha for all classes: even the head's negatives outnumber its positives {1 / most:,.0f} to 1; "
        f"what differs between classes ({most / least:,.0f} to 1) is the prior's work; "
        "Lin et al. used one alpha for COCO's 80"
    )
    figures = {"head_tail_of_positives": most / least}
    return Advice(
        "loss.alpha per class", None, reason, figures, "Lin et al. 2017, sec. 3.1", "low: not measured on your data"
    )


# --------------------------------------------------------------------------------------------- sampling and schedule


def _repeats(train: Dataset, given: Mapping[str, Any]) -> Advice:
    """Repeat-factor sampling where a class is on few pictures: without it the head sees it a few times an epoch."""
    share = train.images_per_class[train.images_per_class > 0] / len(train.image_ids)
    rarest = float(share.min())
    wanted = FREQUENT_SHARE if rarest < FREQUENT_SHARE / 2 else 0.0
    value = float(given.get("data.repeat_threshold", wanted))
    name = min((n, name) for n, name in zip(train.images_per_class, train.class_names, strict=True) if n)[1]
    factor = max(1.0, (value / rarest) ** 0.5)
    reason = f"{name} is on {rarest:.1%} of the pictures"
    reason += f": they are shown {factor:.1f} times an epoch" if factor > 1 else "; nothing needs repeating"
    figures = {"rarest_class": name, "share_of_images": rarest, "factor": factor}
    return Advice(
        "data.repeat_threshold",
        value,
        reason,
        figures,
        "Gupta et al. 2019, sec. 4.2",
        "moderate: helps long tails on LVIS",
    )


def _epochs(train: Dataset, hardware: Hardware, given: Mapping[str, Any]) -> Advice:
    count = len(train.image_ids)
    fewest, most = hardware.epochs
    value = int(given.get("schedule.epochs", min(most, max(fewest, round(hardware.samples / count)))))
    batch = int(given.get("schedule.batch_size", hardware.batch_size))
    steps = value * max(1, count // batch)
    reason = f"{count} pictures: {steps:,} steps of {batch}"
    return Advice(
        "schedule.epochs",
        value,
        reason,
        {"images": count, "steps": steps},
        "",
        "rule of thumb: watch the AP over epochs",
    )


def _values(train: Dataset, hardware: Hardware, advice: tuple[Advice, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """Every dotted recipe key that is not at its default."""
    chosen = {entry.key: entry.value for entry in advice if " " not in entry.key}
    size = next(entry for entry in advice if entry.key == "input.min_size")
    batch = given.get("schedule.batch_size", hardware.batch_size)
    steps = chosen["schedule.epochs"] * max(1, len(train.image_ids) // batch)
    values = {
        "model.backbone": hardware.backbone,
        "model.weights": hardware.weights,
        "model.trainable_layers": 5 if hardware.weights == "none" or hardware.backbone.startswith("mobilenet") else 3,
        "model.width": hardware.width,
        "model.head_depth": hardware.head_depth,
        "model.head_norm": hardware.head_norm,
        "input.max_size": size.figures["max_size"],
        "schedule.batch_size": batch,
        "schedule.base_batch": batch,
        "schedule.optimizer": "adamw",
        "schedule.lr": hardware.lr,
        "schedule.weight_decay": 0.05,
        "schedule.warmup_steps": max(1, min(500, steps // 10)),
        "schedule.clip_norm": 10.0,
        "eval.every": max(1, chosen["schedule.epochs"] // 4),
        "eval.score_threshold": 0.01,
    }
    return {**values, **chosen, **given}


def recipe_values(recommendation: Recommendation, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The nested values of a recipe: what recipe.from_dict takes."""
    nested: dict[str, Any] = {"name": name, "data": dict(data)}
    for key, value in recommendation.values.items():
        section, leaf = key.split(".")
        nested.setdefault(section, {})[leaf] = list(value) if isinstance(value, tuple) else value
    return nested
