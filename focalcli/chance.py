"""What chance does to a figure that few pictures stand behind, and to many figures that are looked at together.

Sources: Holm 1979, Scandinavian Journal of Statistics 6, 65-70; Abramowitz & Stegun 1964, "Handbook of Mathematical
Functions", 26.7.3 and 26.7.4 (Student's distribution as a finite sum).
"""

from __future__ import annotations

import math

import numpy as np

from focalcli.coco import Floats


def holm(p_values: Floats) -> Floats:
    """(K,) p-values adjusted so that the chance of even one false alarm among the K stays below the bound asked for."""
    order = np.argsort(p_values, kind="stable")
    stepped = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted


def t_tail(t: float, freedom: int) -> float:
    """The chance that Student's t with so many degrees of freedom, 1 or more, is as far from 0 as `t` or farther."""
    angle = math.atan2(abs(t), math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    steps = np.arange(2, freedom - 1, 2) if freedom % 2 == 0 else np.arange(3, freedom - 1, 2)
    factors = np.concatenate([[1.0], (steps - 1) / steps]) * np.concatenate([[1.0], np.full(len(steps), cosine**2)])
    total = float(np.cumprod(factors).sum())
    if freedom % 2 == 0:
        inside = sine * total
    else:
        inside = 2 / math.pi * (angle + (sine * cosine * total if freedom > 1 else 0.0))
    return max(0.0, 1 - inside)


def t_quantile(confidence: float, freedom: int) -> float:
    """How far from 0 Student's t with so many degrees of freedom stays with this chance."""
    low, high = 0.0, 1.0
    while t_tail(high, freedom) > 1 - confidence:
        low, high = high, 2 * high
    for _ in range(60):  # halves the distance to the answer down to rounding
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, freedom) > 1 - confidence else (low, middle)
    return high
