"""chance: adjusted p-values and Student's distribution, against worked cases and printed tables."""

from __future__ import annotations

import numpy as np
import pytest

from focalcli.chance import holm, t_quantile, t_tail


def test_holm_steps_down():
    """Worked by hand: 0.01 x 4, then 0.02 x 3, 0.03 x 2 (not below the one before), and 0.5."""
    adjusted = holm(np.array([0.5, 0.01, 0.03, 0.02]))
    assert adjusted == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm(np.array([0.6, 0.7])) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(
    ("freedom", "value"), [(1, 12.706), (2, 4.303), (3, 3.182), (10, 2.228), (30, 2.042), (120, 1.980), (5000, 1.960)]
)
def test_students_quantiles_are_those_of_the_tables(freedom, value):
    """Student's t, two-sided, 5 %: Abramowitz & Stegun 1964, table 26.10; 1.960 is the normal distribution's."""
    assert t_quantile(0.95, freedom) == pytest.approx(value, abs=0.001)
    assert t_tail(value, freedom) == t_tail(-value, freedom) == pytest.approx(0.05, abs=0.0001)
