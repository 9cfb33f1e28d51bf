"""What recommend says follows from the paper and from the anchors that training will use."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torchvision.ops import sigmoid_focal_loss

from focalcli import coco, recipe
from focalcli.anchors import AnchorSpec
from focalcli.audit import audit
from focalcli.errors import FocalError
from focalcli.focal_loss import equilibrium
from focalcli.recommend import (
    CPU,
    CPU_SCRATCH,
    GPU,
    Facts,
    alpha_for,
    anchoring,
    hardware_for,
    recipe_values,
    recommend,
    rule,
)
from focalcli.recommend.boxes import at_network_size


@pytest.fixture
def dataset(write_coco):
    """A Dataset of (image id, category id, box) triples in pictures of one size."""

    def make(boxes, size=(640, 480), names=("a", "b", "c"), first_id=1, n_images=3):
        path = write_coco(
            [{"image_id": image, "category_id": category, "bbox": box} for image, category, box in boxes],
            [{"id": i, "file_name": f"{i}.jpg", "width": size[0], "height": size[1]} for i in range(1, n_images + 1)],
            [{"id": first_id + i, "name": name} for i, name in enumerate(names)],
        )
        return coco.load(path)

    return make


@pytest.mark.parametrize(("gamma", "alpha"), [(0, 0.75), (0.2, 0.75), (0.5, 0.5), (1, 0.25), (2, 0.25), (5, 0.25)])
def test_alpha_is_table_1b_at_its_rows(gamma, alpha):
    """Lin et al. 2017, table 1b."""
    assert alpha_for(gamma) == alpha


def test_even_classes_get_retinanets_pair():
    """Lin et al. 2017, sec. 4.1; there is nothing to weigh and nothing to repeat."""
    facts = Facts((120, 100, 90))
    assert rule.pair() == (0.25, 2.0) and rule.alpha_of_each(facts, 0.25) == 0.25
    assert rule.repeat_threshold(facts) == 0.0


def test_a_rare_class_gets_odds_of_its_own_and_its_pictures_are_repeated():
    """By hand: the geometric mean of 160, 10 and 40 is 40, and odds of 1 to 3 times 0.5, 2 and 1 are 1/6, 2/3 and 1/3,
    so alpha is 1/7, 2/5 and 1/4."""
    facts = Facts((160, 10, 40))
    assert rule.alpha_of_each(facts, 0.25) == [0.143, 0.4, 0.25]
    assert rule.repeat_threshold(facts) == 0.5


def test_a_gamma_of_the_users_own_leaves_rare_classes_their_odds(dataset):
    """Table 1b has alpha 0.5 at gamma 0.5: odds of 1, times (t / 30)^0.5 and (t / 10)^0.5 with t the root of 300."""
    boxes = [(1, 1, [10 + i, 10, 50, 50]) for i in range(30)] + [(2, 2, [10 + i, 10, 50, 50]) for i in range(10)]
    result = recommend(dataset(boxes), CPU, {"loss.gamma": 0.5})
    odds = {name: value / (1 - value) for name, value in result.values["loss.alpha"].items()}
    assert odds == pytest.approx({"a": 3**-0.25, "b": 3**0.25}, rel=0.01)
    assert of(result, "loss.gamma").confidence == "your choice"


def test_what_is_said_of_an_alpha_of_the_users_own_is_that_it_was_asked_for(dataset):
    """No rule and no experiment stands behind it."""
    boxes = [(1, 1, [10 + i, 10, 50, 50]) for i in range(30)] + [(2, 2, [10, 10, 50, 50])]
    said = of(recommend(dataset(boxes), CPU, {"loss.alpha": {"b": 0.6, "default": 0.2}}), "loss.alpha")
    assert (said.reason, said.confidence) == ("as asked", "your choice")


@pytest.mark.parametrize(("key", "other"), [("loss.alpha", 0.25), ("loss.gamma", 2.0), ("loss.prior", None)])
def test_classes_that_a_choice_leaves_out_keep_the_advice(dataset, key, other):
    """A mapping that does not name every class, and no default, is no recipe; 25 of each class are even, so RetinaNet's
    pair serves the other one."""
    train = dataset([(i, 1 + i % 2, [10 + i, 10, 50, 50]) for i in range(50)], n_images=50)
    result = recommend(train, CPU, {key: {"b": 0.4}})
    advised = other if other is not None else recommend(train, CPU).values["loss.prior"]["a"]
    assert result.values[key] == {"a": advised, "b": 0.4} and of(result, key).value == result.values[key]
    with pytest.raises(FocalError, match=f"{key}: no class 'c'"):
        recommend(train, CPU, {key: {"c": 0.4}})


def test_no_class_goes_further_than_was_measured():
    """A million to one would leave the frequent class an alpha of 0.0003: its odds are a quarter of RetinaNet's, 1 to
    12, and the rare class's four times them, 4 to 3."""
    assert rule.alpha_of_each(Facts((1_000_000, 1)), 0.25) == [0.0769, 0.571]


@settings(max_examples=40)
@given(st.lists(st.integers(1, 100_000), min_size=2, max_size=6))
def test_the_rarer_class_never_has_the_smaller_alpha(objects):
    """And all of them stay weights."""
    alpha = rule.alpha_of_each(Facts(tuple(objects)), 0.25)
    if isinstance(alpha, list):
        rarest_first = [a for _, a in sorted(zip(objects, alpha, strict=True))]
        assert rarest_first == sorted(rarest_first, reverse=True)
        assert all(0 < a < 1 for a in alpha)
    else:
        assert max(objects) < 3 * min(objects)


def test_repeats_make_an_epoch_longer_and_the_training_no_longer(dataset):
    """Gupta et al. 2019, sec. 4.2: 2 of 200 pictures hold the rare class, sqrt(0.5 / 0.01) = 7.07 showings each."""
    boxes = [(i, 1, [10, 10, 50, 50]) for i in range(1, 201)] + [(i, 2, [100, 100, 50, 50]) for i in (1, 2)]
    train = dataset(boxes, n_images=200)
    with_repeats, without = recommend(train, CPU), recommend(train, CPU, {"data.repeat_threshold": 0.0})
    assert with_repeats.values["data.repeat_threshold"] == 0.5
    assert of(with_repeats, "schedule.epochs").figures["steps"] == pytest.approx(
        with_repeats.values["schedule.epochs"] * (198 + 2 * 7.07) / with_repeats.values["schedule.batch_size"], rel=0.02
    )
    assert with_repeats.values["schedule.epochs"] <= without.values["schedule.epochs"]


def test_where_every_class_is_on_few_pictures_only_the_rarer_ones_are_repeated(dataset):
    """20 of 100 pictures hold a, 2 hold b: a threshold of 0.5 would show a sqrt(2.5) times and b five times, which is
    the same mixture as 1 and sqrt(0.2 / 0.02) = 3.16 and a longer epoch."""
    boxes = [(i, 1, [10, 10, 50, 50]) for i in range(1, 21)] + [(i, 2, [10, 10, 50, 50]) for i in (21, 22)]
    result = recommend(dataset(boxes, n_images=100), CPU)
    assert result.values["data.repeat_threshold"] == 0.2
    said = of(result, "data.repeat_threshold").reason
    assert said == "b is on 2 % of the pictures: they are shown 3.2 times an epoch"


def test_the_fewest_epochs_are_of_pictures_without_repeats(dataset):
    """A CPU makes 8 epochs of 1000 pictures at least; a class on 100 of them, shown twice, makes an epoch 1,100."""
    frequent = [(i, 1, [10, 10, 50, 50]) for i in range(1, 101)]
    boxes = frequent + [(i, 2, [10 + j, 80, 50, 50]) for i in range(101, 1001) for j in range(4)]
    steps = {}
    for threshold in (0.0, 0.4):
        result = recommend(dataset(boxes, n_images=1000), CPU, {"data.repeat_threshold": threshold})
        steps[threshold] = of(result, "schedule.epochs").figures["steps"]
    assert steps[0.0] == 8 * 1000 // 4
    assert steps[0.4] == pytest.approx(steps[0.0], rel=0.06)


def test_priors_rest_where_the_small_p_formula_says(dataset):
    """Issue 1: alpha n = (1 - alpha) N (1 + gamma) p^(gamma + 1), with the alpha of each class; holds to a few percent
    for p below 0.01."""
    boxes = [(1, 1, [10 + i, 20, 40, 40]) for i in range(4)] + [(2, 2, [50, 60, 30, 30])]
    train = dataset(boxes, names=("many", "few"), n_images=30)
    result = recommend(train, CPU)
    alphas, gamma = result.values["loss.alpha"], result.values["loss.gamma"]
    assert alphas["few"] > alphas["many"]
    for fit in result.classes:
        alpha = alphas[fit.name]
        closed = (alpha * fit.foreground / ((1 - alpha) * (1 + gamma))) ** (1 / (1 + gamma))
        assert fit.prior == pytest.approx(closed, rel=0.1)


def test_the_misfit_of_bccd_is_seen_and_cured(shared):
    """Issue 1: with octaves from 16 px the white cells meet P6 and are learned by luck; these sizes avoid it."""
    train = coco.load(shared / "bccd" / "annotations" / "train.json")
    result = recommend(train, CPU, {"input.min_size": 320})
    sizes = result.values["anchors.sizes"]

    def coarse(spec: AnchorSpec) -> list[str]:
        report = audit({"train": train}, spec, min_size=320, max_size=534, check_images=False)
        return [finding.message for finding in report.findings if finding.code == "F402"]

    assert any("WBC" in message for message in coarse(AnchorSpec((16, 32, 64, 128, 256))))
    assert coarse(AnchorSpec(tuple(sizes))) == []
    assert min(fit.reached for fit in result.classes) > 0.99


def test_anchors_follow_the_boxes_at_network_size(dataset):
    """The same pictures at twice the resolution are resized to the same network input, so they get the same anchors."""
    rng = np.random.default_rng(0)
    boxes = [(1, 1, [*rng.uniform(0, 300, 2).round(1), *rng.uniform(10, 90, 2).round(1)]) for _ in range(40)]
    double = [(image, label, [2 * value for value in box]) for image, label, box in boxes]
    small, large = dataset(boxes, size=(512, 512)), dataset(double, size=(1024, 1024))
    assert recommend(small, CPU).values["anchors.sizes"] == recommend(large, CPU).values["anchors.sizes"]


def of(result, key):
    return next(entry for entry in result.advice if entry.key == key)


def test_where_retinanets_own_anchors_serve_they_stay(dataset):
    """Lin et al. 2017, sec. 4: made for objects of 32 to 813 px at 800 px; then the advice says that they are fine."""
    rng = np.random.default_rng(1)
    boxes = [(1, 1, [*rng.uniform(0, 500, 2), *rng.uniform(60, 250, 2)]) for _ in range(60)]
    result = recommend(dataset(boxes, size=(1200, 800)), GPU)
    assert result.values["anchors.sizes"] == AnchorSpec().sizes and result.values["anchors.ratios"] == (0.5, 1.0, 2.0)
    assert "fine here" in of(result, "anchors.sizes").reason and "fine here" in of(result, "anchors.ratios").reason


def test_poles_get_ratios_of_their_own(dataset):
    """A box of 1:6 meets no anchor of 1:2 at IoU 0.5: two of one centre and area share at most 0.41 of their union."""
    rng = np.random.default_rng(2)
    boxes = [(1, 1, [*rng.uniform(0, 380, 2), w, 6 * w]) for w in rng.uniform(24, 42, 60)]
    train = dataset(boxes, size=(640, 640))
    own, fitted = recommend(train, CPU, {"anchors.ratios": [0.5, 1.0, 2.0]}), recommend(train, CPU)
    assert own.classes[0].reached < 0.1
    assert fitted.classes[0].reached > 0.9 and min(fitted.values["anchors.ratios"]) > 3


def test_small_objects_ask_for_a_larger_input(shared):
    """deeppcb's boxes are 24 to 70 px in pictures of 640: at 256 px a fifth meets no anchor (TRAPS 20)."""
    train = coco.load(shared / "deeppcb_600" / "annotations" / "train.json")
    assert "px anchors would reach 9" in of(recommend(train, CPU), "input.min_size").reason
    assert "would reach" not in of(recommend(train, CPU, {"input.min_size": 640}), "input.min_size").reason


def test_the_fit_of_a_sample_is_that_of_all_boxes(shared):
    """The search looks at some boxes of each class; on all of bccd's the reach differs by less than two points."""
    train = coco.load(shared / "bccd" / "annotations" / "train.json")
    boxes = at_network_size(train, 256, 427)
    spec = AnchorSpec((18, 36, 72, 144, 288))
    part, every = (anchoring.fit_of(some, spec) for some in (boxes.some(600, 5), boxes))
    assert part.reached == pytest.approx(every.reached, abs=0.02)


def test_a_class_on_one_picture_of_many_is_not_shown_a_hundred_times(dataset):
    """Gupta et al. 2019, sec. 4.2: sqrt(t / f); their t of 0.001 shows LVIS's rarest, 1 of 100,000, ten times."""
    boxes = [(i, 1, [10, 10, 50, 50]) for i in range(1, 2001)] + [(1, 2, [100, 100, 50, 50])]
    repeats = of(recommend(dataset(boxes, n_images=2000), CPU), "data.repeat_threshold")
    assert repeats.figures["factor"] == pytest.approx(10, rel=0.01) and repeats.value == pytest.approx(100 / 2000)


def test_what_the_user_decided_stays(dataset):
    """An override is kept, and the rest follows it."""
    train = dataset([(1, 1, [10, 10, 50, 50])])
    given_values = {"input.min_size": 640, "loss.gamma": 3.0, "loss.alpha": 0.4, "schedule.epochs": 7}
    result = recommend(train, CPU, given_values)
    assert {key: result.values[key] for key in given_values} == given_values
    assert recommend(train, CPU, {"loss.alpha": {"a": 0.3}}).values["loss.alpha"] == {"a": 0.3}


def test_the_box_loss_is_made_as_loud_as_the_classification_loss(dataset):
    """RetinaNet's pair goes with 1. Cross-entropy at rest costs the entropy of the labels for each positive, times
    alpha; (0.25, 2) by torchvision.ops.sigmoid_focal_loss at its own rest. What the user decided stays."""
    train = dataset([(1, 1, [10, 10, 50, 50])])
    asked = {"loss.alpha": 0.5, "loss.gamma": 0.0}
    result = recommend(train, CPU, asked)
    (fit,) = result.classes
    share = fit.foreground / (1 + fit.foreground)
    entropy = -(share * math.log(share) + (1 - share) * math.log1p(-share))
    p = equilibrium(fit.foreground, 1.0, alpha=0.25, gamma=2.0)
    logit = torch.full((2,), math.log(p / (1 - p)), dtype=torch.float64)
    yes, no = sigmoid_focal_loss(logit, torch.tensor([1.0, 0.0], dtype=torch.float64), 0.25, 2.0).tolist()
    assert result.values["loss.box_weight"] == pytest.approx(
        0.5 * entropy / share / (yes + no / fit.foreground), rel=0.05
    )
    assert recommend(train, CPU, {"loss.alpha": 0.25, "loss.gamma": 2.0}).values["loss.box_weight"] == 1.0
    assert recommend(train, CPU, asked | {"loss.box_weight": 3.0}).values["loss.box_weight"] == 3.0


def test_ghost_categories_get_no_advice(dataset):
    """TRAPS 13: the category without boxes that exporters write is not a class to train."""
    result = recommend(dataset([(1, 1, [10, 10, 50, 50])], names=("ghost", "real"), first_id=0), CPU)
    assert [fit.name for fit in result.classes] == ["real"]


def test_without_objects_there_is_nothing_to_recommend(dataset):
    """Issue 1: a dataset without boxes is exit 2 with the file named."""
    with pytest.raises(FocalError, match="no objects"):
        recommend(dataset([]), CPU)


def test_hardware_follows_gpu_and_weights():
    """From random weights the heads are normalised; a GPU gets the paper's backbone and size."""
    assert hardware_for(False, None) is CPU
    assert hardware_for(True, "somewhere.pth") is GPU
    assert hardware_for(False, "none") is CPU_SCRATCH
    assert (GPU.backbone, GPU.min_size, CPU_SCRATCH.head_norm) == ("resnet50", 800, "group")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    boxes=st.lists(
        st.tuples(
            st.integers(1, 3),
            st.integers(1, 3),
            st.tuples(st.floats(-9, 600), st.floats(-9, 440), st.floats(0.5, 600), st.floats(0.5, 400)).map(list),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_recommendation_is_a_valid_recipe(dataset, boxes):
    """Whatever the boxes, the values pass the recipe's strict schema."""
    train = dataset([(1, 1, [10, 10, 50, 50]), *boxes])
    values = recipe_values(recommend(train, CPU), "any", {"path": "somewhere"})
    loaded = recipe.from_dict(values)
    assert recipe.as_dict(loaded)["anchors"]["sizes"] == list(values["anchors"]["sizes"])
    alpha = loaded.loss.alpha
    assert all(0 < a < 1 for a in (alpha.values() if isinstance(alpha, dict) else [alpha]))


# ------------------------------------------------------------------------------------------------ what the user decides


def test_the_table_has_the_prior_that_the_recipe_has(dataset):
    """Of one class, of one number for all, and of a mapping with a default."""
    one = recommend(dataset([(1, 1, [10, 10, 50, 50])]), CPU)
    assert one.classes[0].prior == one.values["loss.prior"]
    train = dataset([(i, 1 + i % 2, [10 + i, 10, 50, 50]) for i in range(50)], n_images=50)
    for given_prior, expected in ((0.2, [0.2, 0.2]), ({"b": 0.1, "default": 0.03}, [0.03, 0.1])):
        assert [fit.prior for fit in recommend(train, CPU, {"loss.prior": given_prior}).classes] == expected


def test_alpha_by_takes_the_place_of_the_odds_and_the_rest_follows_it(dataset):
    """equilibrium brings every class to rest at one score (issue 6), so the priors are one number; 60, 20 and 5 objects
    would otherwise get alphas of their own on top of it."""
    boxes = [(i, k, [10 + i, 10 * k, 40, 40]) for k, n in ((1, 60), (2, 20), (3, 5)) for i in range(n)]
    train = dataset(boxes, names=("a", "b", "c"), n_images=60)
    plain, equal = recommend(train, CPU), recommend(train, CPU, {"loss.alpha_by": "equilibrium"})
    assert isinstance(plain.values["loss.alpha"], dict) and equal.values["loss.alpha"] == 0.25
    priors = list(equal.values["loss.prior"].values())
    assert max(priors) == pytest.approx(min(priors), rel=0.05)
    assert max(plain.values["loss.prior"].values()) > 1.2 * min(plain.values["loss.prior"].values())
    assert "loss.alpha_by=equilibrium" in of(equal, "loss.alpha").reason


def test_a_sampler_by_class_takes_the_place_of_the_repeats(dataset):
    """Its epochs are as long as the pictures are many (Shen et al. 2016)."""
    boxes = [(i, 1, [10, 10, 50, 50]) for i in range(1, 201)] + [(i, 2, [100, 100, 50, 50]) for i in (1, 2)]
    result = recommend(dataset(boxes, n_images=200), CPU, {"data.sampler": "class_aware"})
    assert result.values["data.repeat_threshold"] == 0.0
    assert "with repeats" not in of(result, "schedule.epochs").reason


@pytest.mark.parametrize("spelling", [{"a": 0.0, "b": 0.0, "c": 3.0}, {"c": 3.0, "default": 0.0}])
def test_a_mapping_means_the_same_however_it_is_spelt(dataset, spelling):
    """The mean gamma is 1 for both, and table 1b has alpha 0.25 with it."""
    train = dataset([(i, 1 + i % 3, [10 + i, 10, 50, 50]) for i in range(60)], names=("a", "b", "c"), n_images=60)
    assert recommend(train, CPU, {"loss.gamma": spelling}).values["loss.alpha"] == 0.25


def test_a_backbone_without_coco_weights_gets_imagenets(dataset):
    """torchvision has COCO weights of a RetinaNet on resnet50 alone."""
    train = dataset([(1, 1, [10, 10, 50, 50])])
    assert recommend(train, GPU).values["model.weights"] == "coco"
    assert recommend(train, GPU, {"model.backbone": "resnet18"}).values["model.weights"] == "imagenet"


def test_sgd_gets_the_papers_learning_rate(dataset):
    """Lin et al. 2017, sec. 4.1: 0.01 with 16 pictures a step, weight decay 0.0001."""
    values = recommend(dataset([(1, 1, [10, 10, 50, 50])]), CPU, {"schedule.optimizer": "sgd"}).values
    keys = ("schedule.lr", "schedule.base_batch", "schedule.weight_decay")
    assert [values[key] for key in keys] == [0.01, 16, 1e-4]


def test_two_classes_of_one_name_are_refused(dataset):
    """A recipe's mapping could not tell them apart, and train refuses them (F202)."""
    train = dataset([(1, 1, [10, 10, 50, 50]), (2, 2, [10, 10, 50, 50])], names=("a", "a"))
    with pytest.raises(FocalError, match="two classes are called 'a'"):
        recommend(train, CPU)


def test_no_class_is_shown_more_than_ten_times_an_epoch(dataset):
    """One picture of 1500, as TACO's rarest class: sqrt(t / (1 / 1500)) is 10 at t = 0.0667, rounded down."""
    boxes = [(i, 1, [10, 10, 50, 50]) for i in range(1, 801)] + [(801, 2, [10, 10, 50, 50])]
    assert recommend(dataset(boxes, n_images=1500), CPU).values["data.repeat_threshold"] == 0.06


def test_a_class_to_choose_the_best_checkpoint_by_has_to_be_there(dataset):
    """The training would refuse it once it had loaded everything."""
    train = dataset([(1, 1, [10, 10, 50, 50]), (2, 2, [10, 10, 50, 50])], names=("crack", "chip"))
    assert recommend(train, CPU, {"eval.best": "class:crack"}).values["eval.best"] == "class:crack"
    with pytest.raises(FocalError, match=r"eval\.best=class:crak: no such class") as caught:
        recommend(train, CPU, {"eval.best": "class:crak"})
    assert "class:crack" in caught.value.hint
