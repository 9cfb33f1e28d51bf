"""What explain-loss says of a loss follows from the paper's formulas; and per-class settings from theirs."""

from __future__ import annotations

import pytest
from command import focal, mistake, one_json
from hypothesis import given, settings
from hypothesis import strategies as st

from focalcli import coco
from focalcli import recipe as recipes
from focalcli.focal_loss import equilibrium, negative_share
from focalcli.recommend import per_class
from focalcli.recommend.explained import explain, weights_at
from focalcli.work.unpack import setup_of


def test_an_easy_example_costs_100_times_less():
    """Lin et al. 2017, sec. 3.2: at p_t = 0.9 gamma 2 costs 100 times less than gamma 0; at 0.5, 4 times."""
    table = {entry.p_t: entry for entry in weights_at(0.5, 2.0)}
    assert 0.5 * table[0.9].cross_entropy / table[0.9].positive == pytest.approx(100)
    assert table[0.5].cross_entropy * 0.5 / table[0.5].negative == pytest.approx(4)


def test_the_first_loss_is_that_of_the_counts():
    """Sec. 3.3: every score starts at the prior; one class, 1 positive for 1000 others."""
    found = explain("r", "d", ["a"], [5], [1e-3], [0.25], [2.0], [0.01])
    assert found.negatives == pytest.approx(negative_share(1, 1000, 0.01, alpha=0.25, gamma=2.0))
    assert found.classes[0].share == 1.0
    assert found.classes[0].rest == pytest.approx(equilibrium(1, 1000, alpha=0.25, gamma=2.0))


def test_effective_numbers_by_hand():
    """Cui et al. 2019, eq. 2: with beta 0.9, one object is worth 1 and two are worth 1.9; weights have a mean of 1.

    1 / 1 and 1 / 1.9 over their mean 0.76316 are 1.31034 and 0.68966; alpha 0.25 has the odds 1/3, so 0.30400, 0.18692.
    """
    weights = per_class.effective_number_weights([1, 2], 0.9)
    assert weights == pytest.approx([1.31034, 0.68966], abs=1e-5)
    assert per_class.alphas(0.25, weights) == pytest.approx([0.30400, 0.18692], abs=1e-5)


def test_effective_number_goes_from_even_to_inverse_frequency():
    """Cui et al. 2019, sec. 3.2: beta 0 weighs all alike, beta near 1 by 1 / n."""
    assert per_class.effective_number_weights([5, 50, 500], 0.0) == pytest.approx([1, 1, 1])
    weights = per_class.effective_number_weights([10, 100], 1 - 1e-9)
    assert weights[0] / weights[1] == pytest.approx(10, rel=1e-5)


@settings(max_examples=20)
@given(st.lists(st.floats(1e-6, 1e-3), min_size=2, max_size=6), st.floats(0.1, 0.6), st.sampled_from([0.5, 1.0, 2.0]))
def test_equilibrium_alpha_brings_every_class_to_rest_at_one_score(foreground, alpha, gamma):
    """alpha f = (1 - alpha) (1 + gamma) p^(1 + gamma): the formula is for small p, hence the tolerance."""
    values = per_class.alphas(alpha, per_class.equilibrium_weights(foreground))
    rests = [
        equilibrium(f, 1.0, alpha=a, gamma=gamma)
        for f, a in zip(foreground, values, strict=True)
        if per_class.LEAST < a < 1 - per_class.LEAST
    ]
    assert not rests or max(rests) == pytest.approx(min(rests), rel=0.05)


def test_the_settings_reach_the_training_as_numbers(world):
    """A recipe names how classes differ; training gets one number for each, from the training set's counts."""
    train = coco.load(world / "data/annotations/train.json")
    plain = setup_of(recipes.load(world / "r.yaml", ["loss.alpha=0.25", "loss.gamma=2"]), train).objective
    words = ["loss.alpha=0.25", "loss.gamma=2", "loss.alpha_by=effective_number", "loss.beta=0.9"]
    objective = setup_of(recipes.load(world / "r.yaml", words), train).objective
    objects = train.objects_per_class.tolist()
    assert (plain.alpha, plain.gamma) == (0.25, 2.0)
    assert objective.alpha == per_class.alphas(0.25, per_class.effective_number_weights(objects, 0.9))
    assert objective.alpha[1] > objective.alpha[0] and objective.gamma == 2.0
    balanced = setup_of(recipes.load(world / "r.yaml", ["loss.alpha_by=equilibrium"]), train).objective
    assert balanced.alpha[1] > balanced.alpha[0]


def test_the_audit_of_a_recipe_knows_them(world, tmp_path):
    """The share of the first loss is the same in `focal audit --recipe` and in `focal explain-loss`."""
    text = (world / "r.yaml").read_text().replace("alpha_by: none", "alpha_by: effective_number")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(text)
    size = ["--format", "json"]
    report = one_json(focal("audit", world / "data", "--recipe", recipe, "--fail-on", "never", *size).stdout)
    path = f"data.path={world / 'data'}"
    found = one_json(focal("explain-loss", recipe, path, *size).stdout)
    assert "effective_number" in text
    assert report["first_loss"]["negatives"] == pytest.approx(found["negatives"])


def test_a_run_with_them_trains_and_explains_itself(world, tmp_path):
    """The checkpoint says what its loss is, and the run prints each class's numbers."""
    words = ["loss.alpha_by=effective_number", "name=tail"]
    told = focal("train", world / "r.yaml", *words, "--runs", tmp_path, "--device", "cpu").stderr
    assert "square" in next(line for line in told.splitlines() if line.startswith("loss"))
    found = one_json(focal("explain-loss", tmp_path / "tail", "--pictures", 4, "--format", "json").stdout)
    alphas = [entry["alpha"] for entry in found["classes"]]
    assert alphas[1] > alphas[0] and found["now"]["images"] == 4
    assert found["now"]["trained_alpha"] == pytest.approx(alphas)


def test_explain_loss_of_a_recipe(world, tmp_path):
    """Table, plots and page; keys try other values."""
    shown = focal("explain-loss", world / "r.yaml", "loss.gamma=2", "loss.alpha=0.25", "--plots", tmp_path).stdout
    assert "alpha 0.25, gamma 2" in shown and "rests at" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gradient.png", "loss.png"]
    assert focal("explain-loss", world / "r.yaml", "--format", "html").stdout.count("<svg") == 2
    assert focal("explain-loss", world / "r.yaml", "--format", "csv").stdout.startswith("name,objects,alpha")


def test_mistakes_are_named(world):
    """Exit 2 with the next step."""
    mistake("explain-loss", world / "no.yaml", says="no such file")
    mistake("explain-loss", world / "nothing.safetensors", says="no such checkpoint")
    mistake("explain-loss", world / "runs/r", "loss.gamma=1", says="a checkpoint's loss is what it is")
    mistake("explain-loss", world / "r.yaml", "loss.alpha={sqare: 0.3}", says="sqare", hint="square")
    mistake("explain-loss", world / "r.yaml", "loss.alpha_by=frequency", says="loss.alpha_by")


def test_pictures_of_a_recipe_are_refused(world):
    """A recipe has no model that could score them."""
    mistake("explain-loss", world / "r.yaml", "--pictures", 5, says="only a checkpoint", hint="leave it out")
