"""The rule for alpha and gamma: what goes in, what comes out, and nothing else, so that evidence can replace it.

What it rests on: Lin et al. 2017, arXiv:1708.02002, table 1b, which is COCO alone. What it lacks: AP measured on other
data. On bccd its pair and the paper's ended level (tests/bench/RESULTS.md); tests/bench/evidence is to decide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from focalcli.focal_loss import equilibrium

# gamma -> the alpha that was best with it on COCO
TABLE_1B = ((0.0, 0.75), (0.1, 0.75), (0.2, 0.75), (0.5, 0.50), (1.0, 0.25), (2.0, 0.25), (5.0, 0.25))
PAPER_PRIOR = 0.01
GAMMA_RANGE = (0.5, 2.0)  # below and above it table 1b loses AP: 31.9 at 0.2, 32.9 at 0.5, 34.0 at 2, 32.2 at 5
EVIDENCE = "low to moderate: table 1b is COCO's; on bccd this pair and (0.25, 2) ended level; AP elsewhere not measured"


@dataclass(frozen=True)
class Facts:
    """What a rule may look at; the present one uses `foreground` alone.

    Attributes:
        foreground: positives over all other anchors, of each class. objects: of each class, in the same order.
        images: in the training set. steps: that the training will take.
    """

    foreground: tuple[float, ...]
    objects: tuple[int, ...]
    images: int
    steps: int

    @property
    def typical_foreground(self) -> float:
        """The geometric mean over the classes."""
        return float(np.exp(np.mean(np.log(np.maximum(self.foreground, 1e-9)))))


def alpha_and_gamma(facts: Facts) -> tuple[float, float]:
    """The pair to train with, one for all classes."""
    gamma = gamma_for(facts.typical_foreground)
    return round(alpha_for(gamma), 3), gamma


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
