"""evaluation.calibration and scaling: ECE worked by hand, and drawn detectors whose true chances are known."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_detections import dataset_of, detections_of

from focalcli import coco, evaluation
from focalcli.detections import Detections, load_detections, results_json
from focalcli.errors import FocalError
from focalcli.evaluation.calibration import BINS, Judged
from focalcli.evaluation.held_out import ece_by_luck, ece_of_draws, hold_out
from focalcli.evaluation.scaling import SHRINKAGE, ClassScaling, Scaling, fit, fit_classes

METHODS = ("platt", "temperature", "isotonic")


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


def test_ece_is_that_of_another_implementation(tmp_path):
    """netcal 1.4.0 gives 0.1425 of these scores and hits: ECE(bins=10, detection=True).measure(scores, hits)."""
    scores = [.05, .07, .12, .15, .18, .22, .27, .31, .34, .38, .41, .46,
              .52, .55, .57, .63, .66, .71, .74, .79, .83, .88, .93, .97]  # fmt: skip
    hits = [0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0]
    boxes = [[20.0 * n, 0, 10, 10] for n in range(24)]
    dataset = dataset_of(tmp_path, [(0, box) for box, hit in zip(boxes, hits, strict=True) if hit])
    found = detections_of([(0, box, score) for box, score in zip(boxes, scores, strict=True)])
    overall = evaluation.calibration(dataset, found).overall
    assert overall.detections == 24
    assert pytest.approx(0.1425, abs=1e-12) == overall.ECE


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
     (sharpened, "scores too far from the middle"),
     (lambda s: 1 / (1 + ((1 - s) / s) ** 3), "scores too near to the middle"),
     (lambda s: np.where(s < 0.25, 0.4, np.where(s < 0.5, 0.12, s)), "right on average only")],
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


@pytest.mark.parametrize("method", METHODS)
def test_scaling_brings_ece_down_on_held_out_data(method):
    """Fitted on one draw, measured on another: the error of a detector twice as sure as it should be nearly goes."""
    scaling = fit(*drawn(sharpened, seed=1), method)
    scores, right = drawn(sharpened, seed=2)
    assert ece(scores, right) > 0.08
    assert ece(scaling.apply(scores), right) < 0.03


def test_the_fitted_temperature_is_the_true_one():
    """Guo et al. 2017, sec. 4.2: the logits were doubled, so the temperature is 2. 20,000 draws are off by 0.03."""
    assert fit(*drawn(sharpened, n=20_000), "temperature").temperature == pytest.approx(2.0, abs=0.1)


def test_platt_finds_the_factor_and_the_shift():
    """Platt 1999: the chance is a sigmoid of 0.5 logit - 1. 40,000 draws are off by 0.02."""
    scores, right = drawn(lambda s: 1 / (1 + np.e * ((1 - s) / s) ** 0.5), n=40_000)
    scaling = fit(scores, right, "platt")
    assert scaling.temperature == pytest.approx(2.0, abs=0.1) and scaling.shift == pytest.approx(-1.0, abs=0.05)


def test_a_temperature_alone_cannot_shift():
    """A score of 0.5 stays 0.5 at any temperature (Guo et al. 2017, eq. 9, for two classes), here it is right 12 % of
    the time."""
    scores, right = drawn(lambda s: 1 / (1 + np.e**2 * (1 - s) / s))
    errors = {method: ece(fit(scores, right, method).apply(scores), right) for method in METHODS}
    assert errors["temperature"] > 5 * errors["platt"] and errors["platt"] < 0.02


def test_scores_that_mean_nothing_are_refused():
    """A map that rises cannot make chances of scores that fall with them."""
    with pytest.raises(FocalError, match="right no more often than unsure ones"):
        fit(*drawn(lambda s: 1 - s), "platt")


def test_isotonic_pools_violators_by_hand():
    """Shares of hits 0.5, 0.25, 1 at 0.2, 0.4, 0.8: the first two are pooled to 0.375 at 0.3."""
    scores = np.repeat([0.2, 0.4, 0.8], 20)
    right = np.r_[np.arange(20) < 10, np.arange(20) < 5, np.ones(20)].astype(bool)
    assert fit(scores, right, "isotonic").points == (pytest.approx((0.3, 0.375)), pytest.approx((0.8, 1.0)))


@pytest.mark.parametrize("method", METHODS)
@given(scores=st.lists(st.integers(1, 9999), min_size=2, max_size=30, unique=True))
def test_scaling_never_changes_the_order(method, scores):
    """A strictly rising map leaves AP what it is."""
    scaling = fit(*drawn(sharpened, n=500), method)
    before = np.sort(np.array(scores) / 10_000)
    after = scaling.apply(before)
    assert (np.diff(after) > 0).all() and (after >= 0).all() and (after <= 1).all()


@pytest.mark.parametrize("method", METHODS)
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
    for method in METHODS:
        scaling = fit(*drawn(sharpened), method)
        assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


@cache
def scaled(method: str) -> ClassScaling:
    """Of two classes, one of them rare, twice and three times too sure."""
    scores, right = drawn(sharpened, n=900)
    rare = drawn(lambda s: 1 / (1 + ((1 - s) / s) ** 0.33), seed=3, n=80)
    label = np.repeat([0, 2], [900, 80])
    return fit_classes(np.r_[scores, rare[0]], np.r_[right, rare[1]], label, ("a", "b", "c"), method, per_class=True)


@pytest.mark.parametrize("method", METHODS)
@given(pairs=st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 2)), min_size=1, max_size=40))
def test_order_and_ties_of_a_class_survive_the_map_and_the_file(method, pairs, tmp_path_factory):
    """Raw scores have five digits in a file. Mapped ones keep all theirs: five would tie what is told apart today."""
    raw, label = np.array([score for score, _ in pairs]) / 100_000, np.array([label for _, label in pairs])
    folder = tmp_path_factory.getbasetemp()
    dataset = dataset_of(folder, [(0, [0, 0, 10, 10])], names=("a", "b", "c"))
    found = Detections(np.zeros(len(raw), dtype=int), label, np.tile([0.0, 0, 10, 10], (len(raw), 1)), raw)
    (folder / "dt.json").write_bytes(results_json(scaled(method).of_detections(found, "abc"), dataset))
    after = load_detections(folder / "dt.json", dataset).scores
    for index in range(3):
        rows = label == index
        order = np.argsort(raw[rows], kind="stable")
        assert (np.sign(np.diff(after[rows][order])) == np.sign(np.diff(raw[rows][order]))).all()
    assert (after >= 0).all() and (after <= 1).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_score_becomes_the_same_wherever_it_stands(method):
    """Detections are mapped batch by batch; were the last digit another in another batch, ties would part."""
    scores, scaling = np.round(np.random.default_rng(1).random(999), 5), scaled(method)
    whole = scaling.apply(scores, np.zeros(999, dtype=int), "abc")
    for size in (1, 3, 7):
        parts = [
            scaling.apply(part, np.zeros(len(part), dtype=int), "abc") for part in np.array_split(scores, 999 // size)
        ]
        assert (np.concatenate(parts) == whole).all()


def test_a_class_has_its_own_map_as_far_as_it_has_detections():
    """80 detections weigh 80 / 180; class b was never seen, so its map is that of all."""
    scaling = scaled("platt")
    assert set(scaling.own) == {"a", "c"} and scaling.own["c"][1] == pytest.approx(80 / (80 + SHRINKAGE))
    scores = np.linspace(0.1, 0.9, 9)
    unseen, rare = (scaling.apply(scores, np.full(9, index), "abc") for index in (1, 2))
    assert (unseen == scaling.common.apply(scores)).all()
    own, weight = scaling.own["c"]
    assert rare == pytest.approx(weight * own.apply(scores) + (1 - weight) * unseen)
    assert ClassScaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


# ------------------------------------------------------------------------------------------------------- held out


def on_pictures(dataset, chance, n: int = 4000, seed: int = 0) -> Judged:
    """Drawn detections of class 0, dealt over the pictures of a dataset."""
    scores, right = drawn(chance, seed, n)
    image = np.random.default_rng(seed).integers(len(dataset.image_ids), size=n)
    return Judged(image, np.zeros(n, dtype=int), scores, right, right * 0.8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return dataset_of(tmp_path_factory.mktemp("pictures"), [(0, [0, 0, 10, 10])], images=60)


@pytest.mark.parametrize("share", [None, 0.5])
def test_an_overconfident_detector_is_mended_on_pictures_that_the_map_has_not_seen(pictures, share):
    """Half of the pictures fit and half judge, or every fifth is judged by the others' map."""
    result = hold_out(pictures, on_pictures(pictures, sharpened), [0], "platt", per_class=True, share=share)
    change = result.overall
    assert change.before.ECE > 0.08 and change.after.ECE < 0.04 and result.helps
    assert change.ECE_low < change.ECE_change < change.ECE_high < 0
    assert (result.n_fitted, result.n_images) == ((60, 60) if share is None else (30, 30))
    assert change.detections == 4000 if share is None else 1500 < change.detections < 2500


@pytest.mark.parametrize("share", [None, 0.3])
def test_no_picture_is_judged_by_a_map_that_has_seen_it(pictures, monkeypatch, share):
    """Stone 1974. No two scores are equal here, so a map's pictures can be told from the scores that it gets."""
    judged = on_pictures(pictures, sharpened, n=500)
    picture_of = dict(zip(judged.scores.tolist(), judged.image.tolist(), strict=True))
    mapped = set()

    class Spy(ClassScaling):
        def apply(self, scores, *rest):
            new = {picture_of[score] for score in scores.tolist()}
            assert not new & fitted[-1] and not new & mapped
            mapped.update(new)
            return scores

    fitted = []

    def spying(scores, *_):
        fitted.append({picture_of[score] for score in scores.tolist()})
        return Spy(Scaling(1.0))

    monkeypatch.setattr("focalcli.evaluation.held_out.fit_classes", spying)
    result = hold_out(pictures, judged, [0], "platt", per_class=True, share=share)
    assert len(mapped) == result.n_images == (60 if share is None else 42) and result.n_fitted == len(fitted[-1])


def test_one_draw_is_the_ece_of_the_pictures_that_it_drew(pictures):
    """A picture drawn twice counts twice, one not drawn does not count: worked out by repeating detections."""
    judged = on_pictures(pictures, sharpened, n=500)
    weights = np.random.default_rng(1).integers(0, 3, size=(4, 60))
    for row, value in zip(weights, ece_of_draws(judged.image, judged.scores, judged.hit, weights), strict=True):
        times = row[judged.image]
        assert value == pytest.approx(ece(np.repeat(judged.scores, times), np.repeat(judged.hit, times)))
    assert np.isnan(ece_of_draws(judged.image, judged.scores, judged.hit, np.zeros((1, 60)))).all()


def test_ece_by_luck_is_the_mean_of_a_simulation():
    """Hits drawn with the scores as their chances, 300 times."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.05, 1, 400)
    simulated = np.mean([ece(scores, rng.random(400) < scores) for _ in range(300)])
    assert ece_by_luck(scores) == pytest.approx(simulated, rel=0.1)


def test_pictures_without_detections_cannot_judge(tmp_path):
    """All detections are on the one picture that is for fitting."""
    dataset = dataset_of(tmp_path, [(0, [0, 0, 10, 10])], images=2)
    scores, right = drawn(sharpened, n=200)
    for image in (0, 1):
        judged = Judged(np.full(200, image), np.zeros(200, dtype=int), scores, right, right * 1.0)
        with pytest.raises(FocalError, match=r"no detections on the 1 pictures|0 detections, 0 of them right"):
            hold_out(dataset, judged, [0], "platt", per_class=False, share=0.5)


def test_too_few_detections_to_fit_are_refused():
    """With nothing wrong the best temperature is 0, and every score 1."""
    with pytest.raises(FocalError, match="too few to fit"):
        fit(np.linspace(0.1, 0.9, 40), np.ones(40, dtype=bool), "temperature")
    with pytest.raises(FocalError, match="100 detections, 100 of them right"):
        fit(np.linspace(0.1, 0.9, 100), np.ones(100, dtype=bool), "temperature")
