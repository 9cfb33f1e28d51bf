"""A model's scores, kept as counts by logit, tell what carries its loss: as the loss itself does on the same logits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from command import focal, mistake, one_json
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcli import anchors, coco
from focalcli.focal_loss import equilibrium
from focalcli.recommend.measured import BIN, BINS, LIMIT, Measured, Scores, carried, cumulative, pair_of
from focalcli.training import checkpoint, run, scores
from focalcli.training.loss import BACKGROUND, IGNORE, focal_loss


def counted(logits, labels, names=("a", "b", "c")) -> Measured:
    """What training/scores.py counts of (A, K) logits and (A,) labels."""
    counter = scores.Counter(len(names), torch.device("cpu"))
    counter.add(torch.as_tensor(logits), torch.as_tensor(labels))
    return Measured("model", "data", 1, counter.scores(tuple(names)), 0.25, 2.0)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits as a trained model has them: negatives low with a hard tail, positives around 0; some anchors ignored."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, BACKGROUND, IGNORE], 4000, p=[0.06, 0.03, 0.01, 0.85, 0.05])
    logits = rng.normal(-7, 3, (4000, 3))
    rows = np.flatnonzero(labels >= 0)
    logits[rows, labels[rows]] = rng.normal(0.5, 2, len(rows))
    return logits, labels


def direct(logits, labels, alpha, gamma) -> dict[str, np.ndarray]:
    """Loss and size of the gradient of every (anchor, class), by training's own loss and autograd."""
    kept = labels != IGNORE
    x = torch.tensor(logits[kept].ravel()[:, None], requires_grad=True)
    positive = (labels[kept][:, None] == np.arange(logits.shape[1])).ravel()
    each = torch.stack(
        [
            focal_loss(x[i : i + 1], torch.tensor([0 if positive[i] else BACKGROUND]), alpha, gamma)
            for i in range(len(x))
        ]
    )
    each.sum().backward()
    return {"loss": each.detach().numpy(), "gradient": x.grad.abs().numpy().ravel(), "positive": positive}


@pytest.mark.parametrize(("alpha", "gamma"), [(0.5, 0.0), (0.25, 2.0), (0.75, 0.5), (0.1, 5.0)])
def test_shares_are_those_of_trainings_loss_and_autograd(alpha, gamma):
    """Issue 6: from counts as from the logits themselves; a bin is 1/32 wide, so within 1 % at gamma 5 too."""
    logits, labels = drawn(0)
    logits, labels = logits[:300], labels[:300]
    found, truth = counted(logits, labels).shares(alpha, gamma), direct(logits, labels, alpha, gamma)
    negative = ~truth["positive"]
    for kind in ("loss", "gradient"):
        share = truth[kind][negative].sum() / truth[kind].sum()
        assert getattr(found, f"negatives_{kind}") == pytest.approx(share, rel=0.01, abs=1e-4)
        hardest = np.sort(truth[kind][negative])[::-1]
        n = 0.01 * len(hardest)
        top = hardest[: int(n)].sum() + (n - int(n)) * hardest[int(n)]
        # focal gradients rise with the loss over these logits, so the hardest by loss are the hardest by gradient
        assert getattr(found, f"hardest_negatives_{kind}") == pytest.approx(top / hardest.sum(), rel=0.03)


def test_counts_in_parts_are_counts_in_one(monkeypatch):
    """Memory is bounded by parts of AT_ONCE logits, and a picture more costs none."""
    logits, labels = drawn(1)
    whole = counted(logits, labels).scores
    monkeypatch.setattr(scores, "AT_ONCE", 100)
    parts = counted(logits, labels).scores
    assert (parts.positives == whole.positives).all() and (parts.negatives == whole.negatives).all()


def test_an_anchor_is_a_positive_of_its_class_and_a_negative_of_the_others():
    """One sigmoid output a class (TRAPS 1); an ignored anchor counts nowhere. Logits beyond the limit stay in."""
    found = counted([[0.0, 1e9, -1e9], [3.0, 3.0, 3.0], [1.0, 1.0, 1.0]], [1, IGNORE, BACKGROUND]).scores
    assert found.positives.sum(axis=1).tolist() == [0, 1, 0] and found.negatives.sum(axis=1).tolist() == [2, 1, 2]
    assert found.positives[1, BINS - 1] == 1 and found.negatives[2, 0] == 1
    assert found.negatives[0, int((0.0 + LIMIT) / BIN)] == 1


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0.01, 10)), min_size=1, max_size=20), st.floats(0.001, 1))
def test_what_the_hardest_carry_lies_between_their_number_and_all(bins, hardest):
    """They are the ones that cost most, so they carry at least their share."""
    counts, cost = (np.array(column, dtype=np.float64) for column in zip(*bins, strict=True))
    share = carried(counts, cost, cost, hardest)
    assert share <= 1 + 1e-9
    assert share >= hardest - 1e-9 or not counts.any()


def test_figure_4_of_three_anchors():
    """Lin et al. 2017, fig. 4: sorted by loss and accumulated; by hand for losses 1, 3, 6."""
    share, loss = cumulative([1, 1, 1], np.array([3.0, 1.0, 6.0]))
    assert share == pytest.approx([0, 1 / 3, 2 / 3, 1]) and loss == pytest.approx([0, 0.1, 0.4, 1])


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.5), (0.75, 0.0)])
def test_a_model_at_rest_is_left_there(alpha, gamma):
    """focal_loss.equilibrium: where pulls cancel, the alpha that balances them is the one that was trained with."""
    positives, negatives = 200, 100_000
    p = equilibrium(positives, negatives, alpha=alpha, gamma=gamma)
    counts = np.zeros((2, 1, BINS), np.int64)
    counts[:, 0, int((np.log(p / (1 - p)) + LIMIT) / BIN)] = positives, negatives
    assert pair_of(Measured("m", "d", 1, Scores(("a",), *counts), alpha, gamma), gamma) == (alpha, gamma)


def test_more_gamma_leaves_less_to_the_easy():
    """Sec. 5.1: with gamma the loss of the negatives concentrates on the hardest."""
    measured = counted(*drawn(2))
    shares = [measured.shares(0.5, gamma).hardest_negatives_loss for gamma in (0, 0.5, 1, 2, 5)]
    assert shares == sorted(shares) and shares[0] < shares[-1]


def test_the_scores_of_a_run_are_those_of_its_anchors(world):
    """Each class's positives are what the matcher gives its boxes, and with the negatives all that is not ignored."""
    device = torch.device("cpu")
    trained = run.load_trained(checkpoint.find(world / "runs/r"), device)
    data = coco.load(world / "data/annotations/train.json")
    found, seen = scores.measure(trained, data, device=device, workers=0, batch_size=4)
    size = anchors.network_size(data.image_wh, trained.size.min_size, trained.size.max_size)
    grid = anchors.grids(anchors.padded(size))
    boxes = anchors.resize_boxes(data.boxes_xyxy, data.image_wh[data.box_image], size[data.box_image])
    counts = anchors.count(boxes, data.box_image, grid, trained.spec)
    expected = np.bincount(data.box_label, weights=counts.positives.sum(axis=1))
    assert seen == 6 and found.positives.sum(axis=1).tolist() == expected.tolist()
    used = anchors.anchors_per_image(trained.spec, grid).sum() - counts.ignored.sum()
    assert ((found.positives + found.negatives).sum(axis=1) == used).all()


def test_recommend_with_a_checkpoint_says_what_it_rests_on(world, tmp_path):
    """One pass of the model decides alpha and gamma, and every value says how sure it is."""
    words = ["recommend", world / "data", "--checkpoint", world / "runs/r", "--device", "cpu"]
    found = one_json(focal(*words, "--format", "json").stdout)
    advice = {entry["key"]: entry for entry in found["advice"]}
    assert found["measured"]["images"] == 6 and len(found["measured"]["grid"]) == 30
    assert any("on five small sets" in text for text in advice["loss.alpha"]["evidence"])
    recipe = tmp_path / "m.yaml"
    shown = focal(*words, "--pictures", 3, "--plots", tmp_path / "plots", "-o", recipe).stdout
    assert "on 3 pictures" in shown and "balanced alpha" in shown
    assert "--pictures 3" in recipe.read_text()
    assert len(list((tmp_path / "plots").glob("*.png"))) == 5
    page = focal(*words, "--format", "html").stdout
    assert page.count("<svg") == 5 and json.dumps("cross")[1:-1] in page


def test_a_checkpoint_that_is_not_there_is_named(world):
    """A user's mistake is exit 2 with the next step."""
    mistake(
        "recommend", world / "data", "--checkpoint", world / "nothing", says="no such checkpoint", hint="run folder"
    )


def test_a_class_of_the_users_own_leaves_the_others_the_measured_alpha(world):
    """What a choice leaves out is advised on as without it; a value for every class is what the shares are of."""
    words = ["recommend", world / "data", "--checkpoint", world / "runs/r", "--device", "cpu", "--format", "json"]
    free = one_json(focal(*words).stdout)["values"]["loss.alpha"]
    names = [entry["name"] for entry in one_json(focal(*words).stdout)["classes"]]
    of_each = free if isinstance(free, dict) else dict.fromkeys(names, free)
    chosen = one_json(focal(*words, f"loss.alpha={{{names[0]}: 0.9}}").stdout)["values"]["loss.alpha"]
    assert chosen == {**of_each, names[0]: 0.9}
