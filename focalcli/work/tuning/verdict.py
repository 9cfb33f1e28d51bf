"""Scores of repeated runs -> which difference is more than the luck of the seed.

A search shows the best of many lucky runs, so nothing is judged by the runs that it was found with: a challenger and
the recipe as it was are trained again with seeds that the search has not seen, and compared by Student's t with the
variance of a run pooled over all arms (arms differ in their mean, hardly in their noise). With several challengers the
level is divided among them (Bonferroni).

Source: Student 1908 and Dunn 1961 for the parts; Cawley & Talbot 2010, JMLR 11, for why a search's own scores do not
do.
Scores are AP-like, 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from focalcli.chance import t_quantile

LEVEL = 0.95  # that no challenger is called better (or worse) by luck


@dataclass(frozen=True)
class Standing:
    """One challenger against the recipe as it was.

    Attributes:
        repeats, own_repeats: runs of it and of the recipe as it was. mean: of its scores.
        difference: to the recipe's own mean. interval: where that lies by the luck of the seeds.
    """

    arm: str
    repeats: int
    own_repeats: int
    mean: float
    difference: float
    interval: tuple[float, float]

    @property
    def real(self) -> bool:
        """The difference is more than the noise."""
        return not self.interval[0] <= 0 <= self.interval[1]


@dataclass(frozen=True)
class Verdict:
    """What the repeats show.

    Attributes:
        noise: standard deviation of a run's score between seeds; None while no arm has two runs.
        standings: the challengers that were repeated, best first. winner: one of their names, or None for a tie.
    """

    noise: float | None
    standings: tuple[Standing, ...]
    winner: str | None


def judge(own: Sequence[float], challengers: Mapping[str, Sequence[float]]) -> Verdict:
    """Compare challengers with the recipe as it was, by runs of fresh seeds.

    Args:
        own: scores of the recipe as it was. challengers: name -> scores; those without any are left out.
    """
    arms = {name: list(scores) for name, scores in challengers.items() if scores}
    groups = [list(own), *arms.values()]
    freedom = sum(len(group) - 1 for group in groups if group)
    if freedom < 1:
        return Verdict(None, (), None)
    squares = sum(float(((np.array(group) - np.mean(group)) ** 2).sum()) for group in groups if group)
    noise = math.sqrt(squares / freedom)
    if not own or not arms:
        return Verdict(noise, (), None)
    width = t_quantile(1 - (1 - LEVEL) / len(arms), freedom)
    standings = []
    for name, scores in arms.items():
        difference = float(np.mean(scores) - np.mean(own))
        reach = width * noise * math.sqrt(1 / len(scores) + 1 / len(own))
        standings.append(
            Standing(
                name,
                len(scores),
                len(own),
                float(np.mean(scores)),
                difference,
                (difference - reach, difference + reach),
            )
        )
    standings.sort(key=lambda standing: -standing.mean)
    better = [standing for standing in standings if standing.real and standing.difference > 0]
    return Verdict(noise, tuple(standings), better[0].arm if better else None)
