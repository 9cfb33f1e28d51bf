"""The example of the loss without pictures runs, and measures what it says it measures."""

from __future__ import annotations

import runpy
import subprocess
import sys

import numpy as np
import pytest
from command import ROOT, environment

EXAMPLE = ROOT / "docs/tabular_loss.py"


def test_the_example_runs_and_prints_a_line_for_each_loss():
    """docs/tabular.md names the command; on few rows, for this is no measurement."""
    words = [sys.executable, EXAMPLE, "--rows", "20000", "--epochs", "2"]
    done = subprocess.run(list(map(str, words)), env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[3:]
    assert [line[:28].strip() for line in lines] == list(runpy.run_path(str(EXAMPLE))["LOSSES"])
    for line in lines:
        *precisions, error, mean = map(float, line[28:].split())
        assert all(0 < value < 1 for value in (*precisions, error, mean))


def test_average_precision_and_calibration_error_by_hand():
    """Frauds at places 1 and 3 of 4: (1/1 + 2/3) / 2. Fifteen rows, each a bin: the mean of |score - truth|."""
    example = runpy.run_path(str(EXAMPLE))
    fraud = np.array([False, True, True, False])
    assert example["average_precision"](np.array([0.4, 0.9, 0.3, 0.1]), fraud) == pytest.approx((1 + 2 / 3) / 2)
    scores = np.linspace(0.1, 0.8, 15)
    assert example["calibration_error"](scores, np.arange(15) == 14) == pytest.approx((scores[:14].sum() + 0.2) / 15)


def test_the_table_has_one_fraud_in_a_thousand():
    """As the example says; 200,000 rows give 200, give or take four deviations of 14."""
    example = runpy.run_path(str(EXAMPLE))
    _, labels = example["draw"](200_000, seed=1)
    assert abs(int((labels >= 0).sum()) - 200) < 56
