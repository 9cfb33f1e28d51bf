"""The rule for alpha, gamma and rare classes, and nothing else, so that evidence can replace it.

What it rests on: short trainings on small sets, tests/bench/evidence. Once the box loss kept its share no pair of alpha
and gamma was better everywhere; what rare classes gained came from repeats of their pictures, and a third of it from
an alpha of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from focalcli.recommend.per_class import alphas, frequency_weights

RETINANET = (0.25, 2.0)  # alpha and gamma of Lin et al. 2017, sec. 4.1, whose loss goes with a box weight of 1
# gamma -> the alpha that was best with it on COCO, table 1b: for a gamma that the user chose
TABLE_1B = ((0.0, 0.75), (0.1, 0.75), (0.2, 0.75), (0.5, 0.50), (1.0, 0.25), (2.0, 0.25), (5.0, 0.25))
PAPER_PRIOR = 0.01
PAIR_EVIDENCE = (
    "of 13 pairs of alpha and gamma the best by one seed was 0.1 AP behind this one by the next seed (0.5 behind to "
    "0.3 ahead) on seven small datasets; 400 steps"
)
RARE_EVIDENCE = (
    "against RetinaNet's loss repeats and an alpha of each class gave the rare third of the classes 16, 29, 15 and 9 "
    "AP on four synthetic datasets of 100:1 and more, 2.8 (1.2 to 4.3) on ten of about 10:1; 400 steps, two seeds; "
    "with 1,600 steps 7 in place of 16"
)
LEAST_IMBALANCE = 3.0  # head to tail; below it there is no rare class
STRENGTH = 0.5  # power of typical count / count on the odds alpha / (1 - alpha) of a class
MOST_WEIGHT = 4.0  # of those odds, up or down: the experiments went to 3.2 (100:1 with a typical class between)
REPEAT_THRESHOLD = 0.5  # share of the pictures: a class on fewer is shown more often


@dataclass(frozen=True)
class Facts:
    """What the rule looks at. objects: of each class."""

    objects: tuple[int, ...]

    @property
    def imbalance(self) -> float:
        """Objects of the most frequent class for each of the rarest."""
        return max(self.objects) / max(1, min(self.objects))

    @property
    def has_rare_classes(self) -> bool:
        return self.imbalance >= LEAST_IMBALANCE


def pair(chosen_gamma: float | None = None) -> tuple[float, float]:
    """alpha and gamma of a class that is neither rare nor frequent.

    Args:
        chosen_gamma: the user's; alpha is then the one that table 1b pairs with it.
    """
    return RETINANET if chosen_gamma is None else (round(alpha_for(chosen_gamma), 3), chosen_gamma)


def alpha_of_each(facts: Facts, alpha: float) -> float | list[float]:
    """alpha as it is, or, where there are rare classes, one for each, in the order of facts.objects."""
    if not facts.has_rare_classes:
        return alpha
    return [float(f"{a:.3g}") for a in alphas(alpha, frequency_weights(facts.objects, STRENGTH, MOST_WEIGHT))]


def repeat_threshold(facts: Facts) -> float:
    """Of repeat-factor sampling; 0 repeats nothing."""
    return REPEAT_THRESHOLD if facts.has_rare_classes else 0.0


def alpha_for(gamma: float) -> float:
    """The alpha that was best at this gamma in table 1b, straight lines between its rows."""
    gammas, best = zip(*TABLE_1B, strict=True)
    return float(np.interp(gamma, gammas, best))
