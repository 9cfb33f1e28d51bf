"""evaluation.calibration and scaling: ECE worked by hand, and drawn detectors whose true chances are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_detections import dataset_of, detections_of

from focalcli import coco, evaluation
from focalcli.detections import Detections, load_detections
from focalcli.errors import FocalError
from focalcli.evaluation.calibration import BINS
from focalcli.evaluation.scaling import Scaling, fit


def test_ece_and_laece_by_hand(tmp_path):
    """Two detections say 0.9 and one is right, at IoU 0.8: the gap is 0.4; against precision x IoU = 0.4 it is 0.5. One
    says 0.3 and is wrong. ECE = (2 x 0.4 + 0.3) / 3, LaECE = (2 x 0.5 + 0.3) / 3."""
    dataset = dataset_of(tmp_path, [(0, [0, 0, 100, 100])])
    rows = [(0, [0, 0, 100, 80], 0.9), (0, [300, 0, 50, 50], 0.9), (0, [300, 300, 50, 50], 0.3)]
    entry = evaluation.calibration(dataset, detections_of(rows)).classes[0]
    assert pytest.approx((2 * 0.4 + 0.3) / 3) == entry.ECE and entry.LaECE == pytest.approx((2 * 0.5 + 0.3) / 3)
    assert (entry.detections, entry.mean_score, entry.precision) == (3, pytest.approx(0.7), pytest.approx(1 / 3))
    assert entry.bins[9].detections == 2 and entry.bins[9].precision == 0.5 and entry.bins[0].precision is None
    assert entry.verdict == "too few detections to say (3)"


def drawn(chance, seed: int = 0, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and whether each is right, which it is with `chance(score)`."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.05, 0.99, n)
    return scores, rng.random(n) < chance(scores)


def sharpened(scores):
    """The chance behind a score of a detector that is twice as sure as it should be: the logit halved."""
    return 1 / (1 + ((1 - scores) / scores) ** 0.5)


@pytest.mark.parametrize(
    ("chance", "word"),
    [(lambda s: s, "calibrated"), (lambda s: s**2, "overconfident"), (lambda s: s**0.5, "underconfident"),
     (lambda s: np.where(s > 0.52, 0.25, 0.79), "right on average only")],
)  # fmt: skip
def test_confidence_is_told_in_words(tmp_path, chance, word):
    """Detections drawn with a known chance; each stands alone in its place, on an object where it is right."""
    scores, right = drawn(chance, n=2000)
    place = [[float(n % 50) * 12, float(n // 50 % 40) * 12, 8.0, 8.0] for n in range(2000)]
    boxes = [(0, place[n], n // 50) for n in range(2000) if right[n]]
    dataset = dataset_of(tmp_path, boxes, images=40)
    found = Detections(np.arange(2000) // 50, np.zeros(2000, dtype=int), np.array(place), scores)
    entry = evaluation.calibration(dataset, found).classes[0]
    assert entry.verdict.startswith(word + ":"), entry.verdict
    assert entry.precision == pytest.approx(right.mean()) and sum(b.detections for b in entry.bins) == 2000
    assert (entry.ECE < 0.05) == (word == "calibrated")


def ece(scores: np.ndarray, right: np.ndarray) -> float:
    """Guo et al. 2017, eq. 3, in plain Python."""
    total = 0.0
    for number in range(BINS):
        inside = [
            n for n, s in enumerate(scores) if number / BINS <= s < (number + 1) / BINS or (s == 1 and number == 9)
        ]
        if inside:
            total += abs(sum(scores[n] for n in inside) - sum(bool(right[n]) for n in inside))
    return total / len(scores)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_scaling_brings_ece_down_on_held_out_data(method):
    """Fitted on one draw, measured on another: the error of a detector twice as sure as it should be nearly goes."""
    scaling = fit(*drawn(sharpened, seed=1), method)
    scores, right = drawn(sharpened, seed=2)
    assert ece(scores, right) > 0.08
    assert ece(scaling.apply(scores), right) < 0.03


def test_the_fitted_temperature_is_the_true_one():
    """Guo et al. 2017, sec. 4.2: the logits were doubled, so the temperature is 2. 20,000 draws are off by 0.03."""
    assert fit(*drawn(sharpened, n=20_000), "temperature").temperature == pytest.approx(2.0, abs=0.1)


def test_isotonic_pools_violators_by_hand():
    """Shares of hits 0.5, 0.25, 1 at 0.2, 0.4, 0.8: the first two are pooled to 0.375 at 0.3."""
    scores = np.repeat([0.2, 0.4, 0.8], 20)
    right = np.r_[np.arange(20) < 10, np.arange(20) < 5, np.ones(20)].astype(bool)
    assert fit(scores, right, "isotonic").points == (pytest.approx((0.3, 0.375)), pytest.approx((0.8, 1.0)))


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
@given(scores=st.lists(st.integers(1, 9999), min_size=2, max_size=30, unique=True))
def test_scaling_never_changes_the_order(method, scores):
    """A strictly rising map leaves AP what it is."""
    scaling = fit(*drawn(sharpened, n=500), method)
    before = np.sort(np.array(scores) / 10_000)
    after = scaling.apply(before)
    assert (np.diff(after) > 0).all() and (after >= 0).all() and (after <= 1).all()


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_ap_is_unchanged_to_the_last_bit(shared, method):
    """On COCO's own example; a perfect detector is the easiest to be wrong about, so scores are drawn anew."""
    dataset = coco.load(shared / "json/instances_val2014_100.json")
    found = load_detections(shared / "json/instances_val2014_fakebbox100_results.json", dataset)
    scaling = fit(*drawn(sharpened), method)
    scaled = Detections(found.image, found.label, found.boxes, scaling.apply(found.scores))
    before, after = (evaluation.evaluate(dataset, each) for each in (found, scaled))
    assert after.summary == before.summary
    same = evaluation.calibration(dataset, found, scaling=scaling).overall
    assert same.detections == evaluation.calibration(dataset, found).overall.detections


def test_a_scaling_survives_a_checkpoint():
    """DESIGN.md: a checkpoint holds tensors and plain JSON only."""
    for method in ("temperature", "isotonic"):
        scaling = fit(*drawn(sharpened), method)
        assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


def test_too_few_detections_to_fit_are_refused():
    """With nothing wrong the best temperature is 0, and every score 1."""
    with pytest.raises(FocalError, match="too few to fit"):
        fit(np.linspace(0.1, 0.9, 40), np.ones(40, dtype=bool), "temperature")
    with pytest.raises(FocalError, match="100 detections, 100 of them right"):
        fit(np.linspace(0.1, 0.9, 100), np.ones(100, dtype=bool), "temperature")
