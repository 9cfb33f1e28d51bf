"""The arms: how each comes to the loss that it trains with, from the training split alone.

A new arm is a function of a Bench and an entry in ARMS; the driver, the plan and the tables know it by that name.
Sources: Lin et al. 2017, arXiv:1708.02002, table 1; Cui et al. 2019, arXiv:1901.05555, eq. 2; Gupta et al. 2019,
arXiv:1908.03195, sec. 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from trial import LEAST_SCORE, RETINANET, Loss, Material, new_model, run

from focalcli import recipe, recommend
from focalcli.recommend import rule
from focalcli.recommend.per_class import alphas, frequency_weights, repeat_factors, varied_alpha
from focalcli.training.data import Collate
from focalcli.training.loss import BACKGROUND, IGNORE
from focalcli.work import tuning

ALPHAS, GAMMAS = (0.1, 0.25, 0.5, 0.75, 0.9), (0.0, 0.5, 1.0, 2.0, 5.0)
GRID = {f"grid {alpha:g} {gamma:g}": Loss(alpha, gamma) for alpha in ALPHAS for gamma in GAMMAS}
# every second point, as on a chessboard, with (0.25, 2), (0.5, 0) and (0.75, 0.5) among them: 13 of the 25
COARSE = tuple(
    f"grid {alpha:g} {gamma:g}" for i, alpha in enumerate(ALPHAS) for j, gamma in enumerate(GAMMAS) if (i + j) % 2 == 0
)
# pairs that were tried with the repeats and the odds of each class that `recommend` gives to rare ones
RARE_PAIRS = ((0.1, 5.0), (0.25, 5.0), (0.1, 3.0), (0.25, 3.0))
BOX_WEIGHTS = (0.25, 0.5, 2.0, 4.0)
ALPHA_RANGE = (0.01, 0.99)
REPEAT = 0.5  # threshold of repeat-factor sampling: classes on fewer than half of the pictures
COVERAGE = 0.999  # beta of Cui et al., who try 0.9 to 0.9999
TUNE_TRIALS = 10  # of the search of an arm that tunes; the repeats of its verdict, nine whole runs, come on top
TUNE_MINUTES = 600.0  # no limit: the trials are the budget


@dataclass(frozen=True)
class Bench:
    """What an arm may look at. model: where the default arm leaves its trained weights."""

    material: Material
    seed: int
    weights: str
    model: Path

    def default_model(self) -> torch.nn.Module:
        """The default arm as it was trained with this seed; trained now where it was not."""
        if not self.model.is_file():
            run(self.material, RETINANET, self.seed, self.weights, keep=self.model)
        model = new_model(self.material, self.material.prior(RETINANET), self.seed, self.weights)
        model.load_state_dict(load_file(self.model))
        return model.eval()


def inverse_frequency(bench: Bench) -> Loss:
    """alpha of each class in proportion to 1 / objects, their sum 1 (all 1 / K where balanced), gamma 2."""
    inverse = 1.0 / np.maximum(1, bench.material.train.objects_per_class)
    return Loss(_alphas(inverse / inverse.sum()), 2.0)


def effective_number(bench: Bench) -> Loss:
    """alpha of each class in proportion to (1 - b) / (1 - b^n), their mean RetinaNet's 0.25, gamma 2."""
    weight = (1 - COVERAGE) / (1 - COVERAGE ** np.maximum(1, bench.material.train.objects_per_class))
    return Loss(_alphas(0.25 * weight / weight.mean()), 2.0)


def by_strength(bench: Bench, strength: float) -> Loss:
    """(0.25, 2) with the odds alpha / (1 - alpha) of each class times (typical count / count)^strength, as tune."""
    weights = frequency_weights(bench.material.train.objects_per_class.tolist(), strength)
    return replace(RETINANET, alpha=_alphas(np.array(alphas(RETINANET.alpha, weights))))


def rare_pair(bench: Bench, alpha: float, gamma: float) -> Loss:
    """A pair with all else as `recommend` has it."""
    train = bench.material.train
    facts = rule.Facts(tuple(train.objects_per_class.tolist()))
    each = rule.alpha_of_each(facts, alpha)
    return Loss(
        _alphas(np.array(each)) if isinstance(each, list) else each,
        gamma,
        repeat_threshold=rule.repeat_threshold(facts),
    )


def by_shown(bench: Bench) -> Loss:
    """Repeats, and odds by inverse frequency of the objects that an epoch then shows."""
    train = bench.material.train
    factors = repeat_factors(train, REPEAT)
    shown = np.bincount(train.box_label, factors[train.box_image] * ~train.iscrowd, minlength=len(train.categories))
    weighed = alphas(RETINANET.alpha, frequency_weights(shown.tolist(), 1.0))
    return replace(RETINANET, alpha=_alphas(np.array(weighed)), repeat_threshold=REPEAT)


def _alphas(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{alpha:.4g}") for alpha in np.clip(values, *ALPHA_RANGE))


def alpha_by(bench: Bench, by: str) -> Loss:
    """(0.25, 2) with the recipe's setting loss.alpha_by."""
    material = bench.material
    counts = material.train.objects_per_class.tolist()
    varied = varied_alpha(RETINANET.alpha, by, counts, COVERAGE, lambda: np.maximum(material.foreground, 1e-9).tolist())
    return replace(RETINANET, alpha=_alphas(np.array(varied)))


def gamma_by_rarity(bench: Bench) -> Loss:
    """(0.25, 2 + 1 - (n / most n)^0.5), after Equalized Focal Loss (Li et al. 2022, arXiv:2201.02593, eq. 3 to 5).

    There gamma follows the ratio of gradients that training accumulates, and a factor restores the size of the loss.
    """
    n = bench.material.train.objects_per_class
    return replace(RETINANET, gamma=tuple(float(f"{each:.4g}") for each in 3 - np.sqrt(n / n.max())))


def advised(bench: Bench, measured: Any = None) -> recommend.Recommendation:
    """What `focal recommend` says for this size, these anchors and this length of training."""
    material, budget = bench.material, bench.material.budget
    given = {
        "anchors.sizes": material.spec.sizes, "anchors.ratios": material.spec.ratios,
        "input.min_size": material.size.min_size, "input.max_size": material.size.max_size,
        "schedule.epochs": _epochs(material), "schedule.batch_size": budget.batch_size,
    }  # fmt: skip
    return recommend.recommend(material.train, recommend.CPU, given, measured)


def recommended(bench: Bench, measured: Any = None) -> Loss:
    """alpha, gamma, box weight and repeats of `focal recommend`."""
    return _loss_of(advised(bench, measured).values, bench.material)


def tuned(bench: Bench) -> Loss:
    """What `focal tune` makes of the recommended recipe, by runs of this size and length scored on validation.

    One study serves all seeds; a killed one goes on. Where it calls the difference a tie, the recipe stays.
    """
    material, budget = bench.material, bench.material.budget
    folder = material.train.path.parents[1]
    data = {"path": str(folder), "workers": 0, "vertical_flip": 0.5, "scale_jitter": [1.0, 1.0]}
    values = recommend.recipe_values(advised(bench), folder.name, data)
    values["model"] |= {
        "backbone": budget.backbone, "weights": bench.weights, "trainable_layers": budget.trainable_layers,
        "width": budget.width, "head_depth": budget.head_depth, "head_norm": "none", "batch_norm": "frozen",
    }  # fmt: skip
    values["schedule"] |= {
        "base_batch": budget.batch_size, "lr": budget.lr, "weight_decay": budget.weight_decay,
        "warmup_steps": budget.warmup_steps, "clip_norm": budget.clip_norm, "precision": "fp32",
    }  # fmt: skip
    values["eval"]["score_threshold"] = LEAST_SCORE
    limits = tuning.Budget(TUNE_MINUTES, TUNE_TRIALS, _epochs(material))
    outcome = tuning.tune(
        recipe.from_dict(values, place=str(folder)), bench.model.parents[1] / "tune", limits,
        device="cpu", metric="AP", told=lambda *_: None,  # a dataset may be held out
    )  # fmt: skip
    if outcome.stopped is not None:
        raise KeyboardInterrupt
    found = recipe.as_dict(outcome.recipe)
    keys = ("loss.alpha", "loss.gamma", "loss.box_weight", "data.repeat_threshold")
    return _loss_of({key: found[key.split(".")[0]][key.split(".")[1]] for key in keys}, material)


def _loss_of(values: Mapping[str, Any], material: Material) -> Loss:
    """The loss of a recipe's dotted keys."""
    alpha, names = values["loss.alpha"], material.train.class_names
    found = Loss(
        tuple(alpha[name] for name in names) if isinstance(alpha, dict) else float(alpha), float(values["loss.gamma"]),
        box_weight=float(values["loss.box_weight"]), repeat_threshold=float(values["data.repeat_threshold"]),
    )  # fmt: skip
    return RETINANET if found == replace(RETINANET, box_weight=1.0) else found


def _epochs(material: Material) -> int:
    """Of pictures as they are, that make the protocol's steps."""
    return max(1, round(material.budget.steps * material.budget.batch_size / len(material.samples)))


def recommended_from_scores(bench: Bench) -> Loss:
    """alpha and gamma of `focal recommend --checkpoint` for the default arm's model, on the training split.

    It costs the user a training with the defaults before the one that counts.
    """
    from focalcli.recommend import Measured
    from focalcli.training.scores import Counter

    material, model = bench.material, bench.default_model()
    counter = Counter(len(material.train.categories), torch.device("cpu"))
    for start in range(0, len(material.samples), 32):
        batch = Collate(material.spec)(material.samples[start : start + 32])
        with torch.inference_mode():
            logits = model(batch.images)[0].flatten(0, 1)
        labels = torch.full((len(logits),), BACKGROUND)
        labels[batch.ignored], labels[batch.positive] = IGNORE, batch.positive_label
        counter.add(logits, labels)
    images = len(material.samples)
    scores = counter.scores(material.train.class_names)
    return recommended(bench, Measured("", str(material.train.path), images, scores, RETINANET.alpha, RETINANET.gamma))


ARMS: dict[str, Callable[[Bench], Loss]] = {
    "retinanet": lambda bench: RETINANET,
    "ce": lambda bench: Loss(0.5, 0.0),
    "alpha_ce": lambda bench: Loss(0.75, 0.0),
    "recommend": recommended,
    "recommend_checkpoint": recommended_from_scores,
    "tune": tuned,
    "inverse_frequency": inverse_frequency,
    "retinanet_prior_0.01": lambda bench: Loss(0.25, 2.0, prior=0.01),
    "ce_prior_0.01": lambda bench: Loss(0.5, 0.0, prior=0.01),
    "ce_box_1": lambda bench: Loss(0.5, 0.0, box_weight=1.0),
    "alpha_ce_box_1": lambda bench: Loss(0.75, 0.0, box_weight=1.0),
    "inverse_frequency_box_1": lambda bench: replace(inverse_frequency(bench), box_weight=1.0),
    "effective_number": effective_number,
    "alpha_by_effective_number": lambda bench: alpha_by(bench, "effective_number"),
    "alpha_by_equilibrium": lambda bench: alpha_by(bench, "equilibrium"),
    "gamma_by_rarity": gamma_by_rarity,
    "retinanet_repeat": lambda bench: replace(RETINANET, repeat_threshold=REPEAT),
    "strength_0.5": lambda bench: by_strength(bench, 0.5),
    "strength_1": lambda bench: by_strength(bench, 1.0),
    # the parts of `recommend` apart: repeats with its box weight at 100:1, and all of it but the box weight
    "repeat_box_0.5": lambda bench: replace(RETINANET, box_weight=0.5, repeat_threshold=REPEAT),
    "recommend_box_1": lambda bench: replace(recommended(bench), box_weight=1.0),
    "repeat_strength_0.5": lambda bench: replace(by_strength(bench, 0.5), repeat_threshold=REPEAT),
    "repeat_strength_1": lambda bench: replace(by_strength(bench, 1.0), repeat_threshold=REPEAT),
    "repeat_shown": by_shown,
    **{f"retinanet_box_{w:g}": (lambda bench, w=w: Loss(0.25, 2.0, box_weight=w)) for w in BOX_WEIGHTS},
    **{name: (lambda bench, loss=loss: loss) for name, loss in GRID.items()},
    **{f"rare {a:g} {g:g}": (lambda bench, a=a, g=g: rare_pair(bench, a, g)) for a, g in RARE_PAIRS},
}
