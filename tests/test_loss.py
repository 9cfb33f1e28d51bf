"""The torch losses are torchvision's and the paper's, where those are defined, and stay right where they are not."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection._utils import BoxCoder, _box_loss
from torchvision.ops import sigmoid_focal_loss

from focalcli import focal_loss as in_numpy
from focalcli.training import loss
from focalcli.training.loss import BACKGROUND, IGNORE, box_loss, decode_boxes, encode_boxes, focal_loss

EXTREME = [-1e4, -1e3, -100.0, -20.0, -12.0, -1.0, 0.0, 1.0, 12.0, 20.0, 100.0, 1e3, 1e4]
SLOPE_ERROR = {
    torch.float32: {"rel": 1e-5, "abs": 1e-30},
    torch.float16: {"rel": 1e-3, "abs": 6e-8},
    torch.bfloat16: {"rel": 8e-3, "abs": 1e-30},
}
coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))


def one_hot(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """(A, K) 1.0 where the anchor is an object of the class."""
    return (labels[:, None] == torch.arange(num_classes)).double()


def torchvision_loss(logits: torch.Tensor, labels: torch.Tensor, alpha: list[float], gamma: list[float]):
    """torchvision's loss on one-hot targets, one class after another, rows of ignored anchors left out."""
    kept = labels != IGNORE
    target = one_hot(labels, logits.shape[1])[kept]
    columns = zip(logits[kept].T, target.T, alpha, gamma, strict=True)
    return sum(sigmoid_focal_loss(x, t, alpha=a, gamma=g, reduction="sum") for x, t, a, g in columns)


def numpy_loss(logits: torch.Tensor, labels: torch.Tensor, alpha: list[float], gamma: list[float]):
    """Loss (A, K) and gradient (A, K) of focal_loss.py in float64, 0 for ignored anchors."""
    positive = one_hot(labels, logits.shape[1]).bool().numpy()
    x, kept = logits.detach().double().numpy(), (labels != IGNORE).numpy()[:, None]
    columns = [
        (
            in_numpy.focal_loss(x[:, k], positive[:, k], alpha=a, gamma=g),
            in_numpy.focal_gradient(x[:, k], positive[:, k], alpha=a, gamma=g),
        )
        for k, (a, g) in enumerate(zip(alpha, gamma, strict=True))
    ]
    values, slopes = (np.stack(part, axis=1) * kept for part in zip(*columns, strict=True))
    return values, slopes


def gradient_of(value: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(value, leaf)
    return gradient


@st.composite
def problem(draw, gammas):
    """(A, K) float64 logits, (A,) labels with background and ignored ones, alpha and gamma: numbers or lists of K."""
    anchors, classes = draw(st.integers(0, 30)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    logits = torch.randn(anchors, classes, generator=generator, dtype=torch.float64) * draw(st.sampled_from([1, 4]))
    labels = torch.tensor(
        draw(st.lists(st.integers(IGNORE, classes - 1), min_size=anchors, max_size=anchors)), dtype=torch.int64
    )

    def number_or_list(values):
        return draw(values | st.lists(values, min_size=classes, max_size=classes))

    return logits.requires_grad_(), labels, number_or_list(st.floats(0.01, 0.99)), number_or_list(gammas)


def per_class(value, classes: int) -> list[float]:
    return value if isinstance(value, list) else [value] * classes


# ----------------------------------------------------------------------------------------------------------- focal loss


@settings(max_examples=150, deadline=None)
@given(problem(st.sampled_from([0.0, 1.0, 2.0]) | st.floats(1, 5)))
def test_focal_loss_and_gradient_are_torchvisions(given_problem):
    """torchvision.ops.sigmoid_focal_loss and its autograd, on one-hot targets, where both are finite."""
    logits, labels, alpha, gamma = given_problem
    expected = torchvision_loss(logits, labels, *(per_class(v, logits.shape[1]) for v in (alpha, gamma)))
    ours = focal_loss(logits, labels, alpha, gamma)
    assert ours.item() == pytest.approx(float(torch.as_tensor(expected).detach()), rel=1e-9, abs=1e-12)
    if len(logits):
        torch.testing.assert_close(gradient_of(ours, logits), gradient_of(expected, logits), rtol=1e-7, atol=1e-10)


@settings(max_examples=100, deadline=None)
@given(problem(st.floats(0, 5)))
def test_focal_loss_and_gradient_are_those_of_the_numpy_one(given_problem):
    """focal_loss.py, which test_focal_loss.py holds to the paper; any gamma >= 0."""
    logits, labels, alpha, gamma = given_problem
    values, slopes = numpy_loss(logits, labels, *(per_class(v, logits.shape[1]) for v in (alpha, gamma)))
    ours = focal_loss(logits, labels, alpha, gamma)
    assert ours.item() == pytest.approx(values.sum(), rel=1e-9, abs=1e-12)
    if len(logits):
        np.testing.assert_allclose(gradient_of(ours, logits).numpy(), slopes, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.7, 1.0, 2.0, 5.0, [0.0, 0.3, 2.0]], ids=str)
@pytest.mark.parametrize("alpha", [0.25, [0.1, 0.5, 0.9]], ids=str)
def test_gradient_is_the_slope_of_the_loss(alpha, gamma):
    """torch.autograd.gradcheck in float64: finite differences, which know nothing of the closed form."""
    logits = torch.linspace(-6, 6, 21, dtype=torch.float64).reshape(7, 3).requires_grad_()
    labels = torch.tensor([0, 1, 2, BACKGROUND, IGNORE, 2, BACKGROUND])
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, labels, alpha, gamma), (logits,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 5.0])
def test_extreme_logits_give_the_loss_and_gradient_of_float64(gamma, dtype):
    """TRAPS 16: the usual form has NaN gradients for 0 < gamma < 1 at logit 20; here |logit| goes up to 1e4."""
    for label in (BACKGROUND, 0):
        for value in EXTREME:
            x = torch.full((1, 1), value, dtype=dtype, requires_grad=True)
            labels = torch.tensor([label])
            (expected,), (slope,) = numpy_loss(x, labels, [0.25], [gamma])
            ours = focal_loss(x, labels, 0.25, gamma)
            assert ours.item() == pytest.approx(expected[0], rel=1e-5, abs=1e-12), (label, value)
            # the gradient travels in the type of the logits; below fp16's smallest number it is 0
            assert gradient_of(ours, x).item() == pytest.approx(slope[0], **SLOPE_ERROR[dtype]), (label, value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_logits_are_summed_in_fp32(dtype):
    """TRAPS 17: 400,000 x 0.13 comes near the end of fp16, 65,504, and stalls in bf16. By hand: 0.75 p^2 ln 2."""
    logits = torch.zeros(100_000, 4, dtype=dtype)
    ours = focal_loss(logits, torch.full((100_000,), BACKGROUND), 0.25, 2.0)
    assert ours.dtype == torch.float32
    assert ours.item() == pytest.approx(400_000 * 0.75 * 0.25 * math.log(2), rel=1e-6)


def test_background_of_a_new_head_does_not_vanish_in_bf16():
    """TRAPS 17: log(1 - p) of p = 0.0009 rounds to 0.0 in bf16; by hand, 0.75 p^2 (-log(1 - p)) for each anchor."""
    logits = torch.full((1000, 1), -7.0, dtype=torch.bfloat16)
    p = 1 / (1 + math.exp(7))
    ours = focal_loss(logits, torch.full((1000,), BACKGROUND), 0.25, 2.0)
    assert ours.item() == pytest.approx(1000 * 0.75 * p**2 * -math.log1p(-p), rel=1e-5)


def test_gamma_0_and_alpha_half_is_half_of_cross_entropy():
    """Lin et al. 2017, eq. 5, with both set; torch's own binary_cross_entropy_with_logits."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(50, 4, generator=generator) * 5, torch.randint(-1, 4, (50,), generator=generator)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits.double(), one_hot(labels, 4), reduction="sum"
    )
    assert focal_loss(logits, labels, 0.5, 0.0).item() == pytest.approx(expected.item() / 2, rel=1e-6)


@pytest.mark.parametrize("gamma", [2.0, [0.0, 0.5, 2.0]], ids=str)
@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_chunks_do_not_change_the_result(monkeypatch, chunk, gamma):
    """One pass over everything; a chunk smaller than a row is one row."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(40, 3, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(IGNORE, 3, (40,), generator=generator)
    whole = focal_loss(logits, labels, 0.3, gamma)
    slope = gradient_of(whole, logits)
    monkeypatch.setattr(loss, "CHUNK", chunk)
    parts = focal_loss(logits, labels, 0.3, gamma)
    assert parts.item() == pytest.approx(whole.item(), rel=1e-13)
    torch.testing.assert_close(gradient_of(parts, logits), slope, rtol=1e-13, atol=0)


def test_the_gradient_is_scaled_by_what_comes_after():
    """Chain rule: a loss divided by 10, before or after the sum, has a gradient divided by 10."""
    logits = torch.tensor([[0.3, -2.0]], requires_grad=True)
    labels = torch.tensor([1])
    one = gradient_of(focal_loss(logits, labels, 0.25, 2.0), logits)
    after, before = focal_loss(logits, labels, 0.25, 2.0) / 10, focal_loss(logits, labels, 0.25, 2.0, 10.0)
    assert before.item() == pytest.approx(after.item(), rel=1e-6)
    for tenth in (after, before):
        torch.testing.assert_close(gradient_of(tenth, logits) * 10, one)


def test_fp16_gradients_are_rounded_after_they_are_scaled():
    """TRAPS 17: fp16 ends at 6e-8. A background at logit -8 has a gradient of 1.7e-7, which GradScaler's first factor,
    65,536, is there to save; that factor itself is more than fp16 can hold."""
    logits = torch.full((20, 1), -8.0, dtype=torch.float16, requires_grad=True)
    labels = torch.full((20,), BACKGROUND)
    _, slopes = numpy_loss(logits, labels, [0.25], [1.0])
    gradient = gradient_of(focal_loss(logits, labels, 0.25, 1.0) * 65536, logits)
    assert gradient.dtype == torch.float16
    torch.testing.assert_close(gradient.double(), torch.from_numpy(slopes * 65536), rtol=1e-3, atol=0)


class Large(TorchDispatchMode):
    """Remembers the storages of at least `size` numbers that operations make."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.made = size, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.numel() >= self.size:
            storage = result.untyped_storage()
            if storage.data_ptr() not in given:
                self.made[storage.data_ptr()] = storage  # kept, so that no address is used again
        return result


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_gradient_is_the_only_tensor_made_of_the_size_of_the_logits(gamma):
    """For 2 x 200k anchors x 80 classes torchvision makes 1.45 GB of them (DESIGN); the gradient alone is 128 MB."""
    logits = torch.zeros(20_000, 40, requires_grad=True)
    labels = torch.full((20_000,), BACKGROUND)
    with Large(logits.numel()) as large:
        (focal_loss(logits, labels, 0.25, gamma) / 7).backward()
    assert len(large.made) == 1


def test_a_retained_graph_can_be_walked_twice():
    """The first backward pass gives its buffer away; the second must not scale that one again."""
    logits = torch.tensor([[0.3, -2.0], [1.0, 0.1]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([1, BACKGROUND]), 0.25, 1.5)
    first = torch.autograd.grad(3 * loss, logits, retain_graph=True)[0]
    before = first.clone()
    second = torch.autograd.grad(6 * loss, logits)[0]
    assert torch.equal(first, before) and torch.equal(second, 2 * before)


# ------------------------------------------------------------------------------------------------------------- box loss


def boxes_and_anchors(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner, size = (torch.rand(2, count, 2, generator=generator) * 200 for _ in range(2))
    return tuple(torch.cat([corner[i], corner[i] + size[i] + 8], dim=1) for i in range(2))


@given(seed=st.integers(0, 2**31), count=st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_boxes_are_encoded_as_in_torchvision_and_back(seed, count):
    """torchvision's BoxCoder with weights 1, as its RetinaNet has it; decoding is the inverse."""
    boxes, anchors = boxes_and_anchors(count, seed)
    deltas = encode_boxes(boxes, anchors)
    decoded = decode_boxes(deltas, anchors)
    torch.testing.assert_close(deltas, coder.encode_single(boxes, anchors), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(decoded, coder.decode_single(deltas, anchors), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(decoded, boxes, rtol=1e-4, atol=1e-2)


def test_an_untrained_head_cannot_make_endless_boxes():
    """torchvision's BoxCoder caps log sizes at log(1000 / 16): an anchor of 16 px grows to 1000 px at most."""
    anchor, deltas = torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.tensor([[0.0, 0.0, 1e4, 1e4]])
    box = decode_boxes(deltas, anchor)
    assert (box[:, 2:] - box[:, :2]).tolist() == [[pytest.approx(1000), pytest.approx(1000)]]
    torch.testing.assert_close(box, coder.decode_single(deltas, anchor))


@pytest.mark.parametrize("kind", ["l1", "smooth_l1", "giou"])
def test_box_loss_is_torchvisions(kind):
    """torchvision.models.detection._utils._box_loss; beta 1/9 as in Detectron's RetinaNet."""
    boxes, anchors = boxes_and_anchors(30)
    deltas = (encode_boxes(boxes, anchors) + torch.randn(30, 4, generator=torch.manual_seed(0)) * 0.2).requires_grad_()
    expected = _box_loss(kind, coder, anchors, boxes, deltas, {"beta": 1 / 9})
    ours = box_loss(deltas, anchors, boxes, kind)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient_of(ours, deltas), gradient_of(expected, deltas), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["l1", "smooth_l1", "giou"])
def test_no_positives_cost_nothing(kind):
    """TRAPS 11, 19: a batch without objects is valid; its box loss is 0, and so is the gradient, not NaN."""
    deltas, none = torch.zeros(5, 4, requires_grad=True), torch.zeros(0, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = box_loss(deltas[:0], none, none, kind)
    assert ours.item() == 0
    assert gradient_of(ours, deltas).tolist() == [[0.0] * 4] * 5


@pytest.mark.parametrize("kind", ["l1", "giou"])
def test_box_loss_of_bf16_deltas_is_summed_in_fp32(kind):
    """TRAPS 17: bf16 has 8 bits, so a sum of thousands of equal terms would stall."""
    anchors = torch.tensor([[0.0, 0.0, 32.0, 32.0]]).repeat(5000, 1)
    deltas = torch.full((5000, 4), 0.5, dtype=torch.bfloat16)
    one = box_loss(deltas[:1], anchors[:1], anchors[:1], kind)
    assert one.dtype == torch.float32
    assert box_loss(deltas, anchors, anchors, kind).item() == pytest.approx(5000 * one.item(), rel=1e-4)
