"""A step's gradient does not depend on how it is cut, averages are averages, and what is not finite changes nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import CPU, SETUP, assert_same_weights, at_step, draw, lines, stop, timeless, train
from torch import nn

from focalcli import coco
from focalcli.errors import ExitCode, FocalError
from focalcli.training import checkpoint, loop, metrics, run, step, winograd
from focalcli.training.description import Sampling
from focalcli.training.device import autocast_type, scaler_of
from focalcli.training.ema import Ema
from focalcli.training.ranks import Ranks
from focalcli.training.schedule import Schedule
from focalcli.training.step import SMALLEST_SCALE


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return coco.load(draw(tmp_path_factory.mktemp("data")))


@pytest.fixture(autouse=True)
def every_step_is_reported(monkeypatch):
    monkeypatch.setattr(metrics, "LOG_EVERY_SECONDS", 0)


FROZEN = replace(
    SETUP, network=replace(SETUP.network, frozen_batch_norm=True), sampling=Sampling(),
    schedule=Schedule(epochs=2, lr=0.01, clip_norm=1.0, eval_every=9),
)  # fmt: skip


def with_schedule(setup, **changes):
    return replace(setup, schedule=replace(setup.schedule, **changes))


# ------------------------------------------------------------------------------------------------------ parts of a step


def gradient(data, parts: int) -> tuple[list[int], dict[str, torch.Tensor], tuple[float, float, float]]:
    """Pictures and gradient of the first step, in so many parts."""
    setup = with_schedule(FROZEN, accumulate=parts, clip_norm=0.0)
    model = run.new_model(setup, 2)
    labels = np.array([0, 1])
    ready = run.prepare(setup, model, data, labels, CPU, Ranks())
    batches = [batch for batch, _ in zip(ready.loader, range(parts), strict=False)]
    figures = ready.stepper._gradient(batches, sum(len(batch.positive) for batch in batches))
    shown = [index for batch in batches for index in batch.indices.tolist()]
    return shown, {name: p.grad for name, p in model.named_parameters()}, figures


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_parts_of_a_step_give_the_gradient_of_the_whole(data, parts):
    """Sums over all parts by the positives of all parts: the same pictures (of four sizes), anchors and padding."""
    shown, whole, figures = gradient(data, 1)
    shown_in_parts, cut, figures_of_parts = gradient(data, parts)
    assert shown == shown_in_parts and len(shown) == 4
    assert figures_of_parts == pytest.approx(figures, rel=1e-5)
    for name, grad in whole.items():
        assert (cut[name] - grad).norm() <= 1e-5 * grad.norm() + 1e-9, name


def test_the_box_head_at_the_objects_alone_gives_the_gradient_of_the_whole(data, monkeypatch):
    """Box loss is taken at positive anchors (Lin et al. 2017, sec. 4.1): against the head on whole maps, by torch's own
    convolutions. In float64 to the last digits: test_head."""
    _, few, figures = gradient(data, 1)
    monkeypatch.setattr(winograd, "can_serve", lambda x: False)
    _, whole, figures_of_whole = gradient(data, 1)
    assert figures == pytest.approx(figures_of_whole, rel=1e-5)
    assert any(not torch.equal(few[name], grad) for name, grad in whole.items())
    for name, grad in whole.items():
        assert (few[name] - grad).norm() <= 1e-5 * grad.norm() + 1e-9, name


def test_a_run_in_parts_has_the_losses_of_one_that_is_not(data, tmp_path):
    """Four steps, with clipping: class loss, box loss and gradient norm within 1e-5, the last after three updates."""
    runs = [train(tmp_path / str(n), data, with_schedule(FROZEN, accumulate=n)).steps for n in (1, 4)]
    for one, other in zip(*runs, strict=True):
        for key in ("loss_cls", "loss_box", "grad_norm"):
            assert getattr(other, key) == pytest.approx(getattr(one, key), rel=1e-5), (one.step, key)


def test_more_parts_than_pictures_are_refused(data, tmp_path):
    """A part without a picture is no batch."""
    with pytest.raises(FocalError, match="a step of 4 pictures cannot be cut into 5 parts") as caught:
        train(tmp_path, data, with_schedule(FROZEN, accumulate=5))
    assert "schedule.accumulate" in caught.value.hint


def test_a_run_in_parts_goes_on_in_others(data, tmp_path):
    """The answer to running out of memory: `schedule.accumulate` decides no weight, and may change at --resume."""
    with pytest.raises(loop.Interrupted):
        train(tmp_path, data, FROZEN, at=at_step(2, stop()))
    assert [
        report.step for report in train(tmp_path, data, with_schedule(FROZEN, accumulate=2), resume=True).steps
    ] == [3, 4]


class Starved(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        # the text is that of PyTorch 2.15 on Linux
        RuntimeError("[enforce fail at alloc_cpu.cpp:125] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                     "tried to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"),
    ],
    ids=["cuda", "python", "cpu"],
)  # fmt: skip
def test_out_of_memory_says_what_to_lower_and_keeps_the_checkpoint(data, tmp_path, monkeypatch, error):
    """Exit 2, the pictures that were too many, and the key that needs less without being another run."""
    honest, calls = step.focal_loss, []

    def starve(*args):
        calls.append(args)
        if len(calls) == 3:
            raise error
        return honest(*args)

    monkeypatch.setattr(step, "focal_loss", starve)
    with pytest.raises(FocalError, match=r"out of memory with 4 pictures of \d+ x \d+ px at once") as caught:
        train(tmp_path, data, FROZEN)
    assert "--resume with schedule.accumulate=2" in caught.value.hint
    assert checkpoint.load(tmp_path / "checkpoints/last.safetensors").meta["progress"]["step"] == 2


def test_the_cpu_allocator_still_says_what_we_listen_for():
    """A real refusal of this torch: 4 TB."""
    with pytest.raises(RuntimeError, match="allocate memory"):
        torch.empty(10**12)


def test_an_error_of_ours_is_not_called_out_of_memory(data, tmp_path, monkeypatch):
    """Another RuntimeError is a bug, and stays a traceback."""
    monkeypatch.setattr(step, "focal_loss", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        train(tmp_path, data, FROZEN)


# -------------------------------------------------------------------------------------------------------------- average


def test_the_average_moves_by_the_decay_and_at_first_faster():
    """By hand: after step n it keeps min(0.999, (1 + n) / (10 + n)): 0.1, then 2/11; buffers too, counters copied."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    with torch.no_grad():
        model[0].weight.fill_(0.0)
    ema = Ema(model, 0.999)
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[1].running_mean.fill_(10.0)
        model[1].num_batches_tracked.fill_(7)
    ema.update(0)
    assert ema.tensors["0.weight"].item() == pytest.approx(0.9)
    ema.update(1)
    assert ema.tensors["0.weight"].item() == pytest.approx(1 - 0.1 * 2 / 11)
    assert ema.tensors["1.running_mean"].item() == pytest.approx(10 - 1 * 2 / 11)
    assert ema.tensors["1.num_batches_tracked"].item() == 7
    before = 1 - ema.tensors["0.weight"].item()
    ema.update(10**6)
    assert 1 - ema.tensors["0.weight"].item() == pytest.approx(before * 0.999, rel=1e-3)


def test_the_model_gets_its_weights_back_whatever_happens_inside():
    """An evaluation that fails must not leave the average to be trained on."""
    model = nn.Linear(2, 2)
    ema = Ema(model, 0.9)
    before = model.weight.detach().clone()
    ema.tensors["weight"].zero_()
    with pytest.raises(Starved), ema.in_place():
        assert (model.weight == 0).all()
        raise Starved
    assert torch.equal(model.weight, before)


AVERAGED = with_schedule(SETUP, ema=0.9, epochs=2)


def test_a_run_with_an_average_goes_on_bit_for_bit(data, tmp_path):
    """TRAPS 28: weights, average and optimizer."""
    train(tmp_path / "whole", data, AVERAGED)
    with pytest.raises(loop.Interrupted):
        train(tmp_path / "cut", data, AVERAGED, at=at_step(3, stop()))
    train(tmp_path / "cut", data, AVERAGED, resume=True)
    for name in ("last", "best"):
        assert_same_weights(tmp_path / "cut", tmp_path / "whole", name)
    assert timeless(tmp_path / "cut") == timeless(tmp_path / "whole")


def test_what_is_scored_and_saved_as_best_is_the_average(data, tmp_path):
    """The average after two steps by its definition from the weights of each step; scored as the log says."""
    setup = with_schedule(SETUP, ema=0.9, epochs=1, eval_every=1, save_steps=1, keep=9)
    train(tmp_path, data, setup)
    one, two = (checkpoint.load(tmp_path / f"checkpoints/step-{n}.safetensors") for n in (1, 2))
    best = checkpoint.load(tmp_path / "checkpoints/best.safetensors")
    assert best.optimizer == {} and best.weights is best.model
    name = "head.classification_head.cls_logits.weight"
    expected = torch.lerp(one.model[name], two.weights[name], 1 - 2 / 11)
    torch.testing.assert_close(best.model[name], expected)
    assert not torch.equal(best.model[name], two.weights[name])
    trained = run.load_trained(tmp_path, CPU)
    found = run.detect(trained, data, device=CPU, batch_size=8, workers=0)
    (scored,) = (line for line in lines(tmp_path) if line["kind"] == "eval")
    assert run.score(data, found, trained.meta).summary["AP"] == scored["AP"]


# ----------------------------------------------------------------------------------------------------------------- fp16


def test_fp16_on_a_cpu_is_refused():
    """STYLE: the key, what was found, what to write."""
    with pytest.raises(FocalError, match="fp16 is for GPUs, and this run is on cpu") as caught:
        autocast_type(CPU, "fp16")
    assert "auto, fp32 or bf16" in caught.value.hint
    assert scaler_of(CPU, torch.bfloat16) is None and scaler_of(CPU, None) is None
    assert scaler_of(torch.device("cpu"), torch.float16).is_enabled()


class Overflow(torch.autograd.Function):
    """A finite loss with an infinite gradient, as fp16 has them while the scale is too large."""

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, upstream):
        return upstream * math.inf


def overflowing(monkeypatch, steps):
    """Let the gradient overflow in the given calls; the scaler is real, the precision is not (this is a CPU)."""
    honest, calls = step.focal_loss, []

    def loss(*args):
        calls.append(args)
        return Overflow.apply(honest(*args)) if len(calls) in steps else honest(*args)

    monkeypatch.setattr(step, "focal_loss", loss)
    monkeypatch.setattr(run, "scaler_of", lambda device, _: torch.amp.GradScaler(device.type, init_scale=1024.0))
    return calls


def test_a_skipped_step_is_counted_and_halves_the_scale(data, tmp_path, monkeypatch):
    """TRAPS 27: GradScaler hides inf steps. Two of six: 1024 / 4, in the log, the checkpoint and the display."""
    overflowing(monkeypatch, (2, 5))
    display = train(tmp_path, data, with_schedule(SETUP, epochs=3, eval_every=3))
    assert [report.skipped for report in display.steps] == [0, 1, 1, 1, 2, 2]
    saved = checkpoint.load(tmp_path / "checkpoints/last.safetensors").meta
    assert saved["progress"]["skipped"] == 2 and saved["scaler"]["scale"] == 256.0
    assert [line["skipped"] for line in lines(tmp_path) if line["kind"] == "train"][-1] == 2


def test_a_run_with_a_scaler_goes_on_bit_for_bit(data, tmp_path, monkeypatch):
    """TRAPS 28: the scale and its count of good steps are part of the state."""
    with monkeypatch.context() as patch:
        overflowing(patch, (2,))
        train(tmp_path / "whole", data, AVERAGED)
    calls = overflowing(monkeypatch, (2,))
    with pytest.raises(loop.Interrupted):
        train(tmp_path / "cut", data, AVERAGED, at=at_step(3, stop()))
    assert len(calls) == 3
    train(tmp_path / "cut", data, AVERAGED, resume=True)
    assert_same_weights(tmp_path / "cut", tmp_path / "whole")
    one, two = (checkpoint.load(tmp_path / name / "checkpoints/last.safetensors").meta for name in ("cut", "whole"))
    assert one["scaler"] == two["scaler"]


def test_gradients_that_overflow_at_every_scale_are_divergence(data, tmp_path, monkeypatch):
    """From 1024 down to below 1 are 11 halvings; a gradient that is infinite even then is no matter of precision."""
    overflowing(monkeypatch, range(1, 99))
    with pytest.raises(FocalError, match=r"diverged at step 11: .*gradient norm") as caught:
        train(tmp_path, data, with_schedule(SETUP, epochs=8, eval_every=8))
    assert caught.value.exit_code == ExitCode.DIVERGED and SMALLEST_SCALE == 1.0


def test_weights_that_are_not_finite_are_never_saved(data, tmp_path, monkeypatch):
    """An update can overflow although loss and gradient are finite; the checkpoint before it must stay."""
    honest = step.Stepper._apply

    def spoil(self, cls, box, norm, number):
        done = honest(self, cls, box, norm, number)
        if number == 3:
            with torch.no_grad():
                self.parameters[0][0] = math.inf
        return done

    monkeypatch.setattr(step.Stepper, "_apply", spoil)
    with pytest.raises(FocalError, match="diverged at step 4: the weights that it left are not finite") as caught:
        train(tmp_path, data)
    assert caught.value.exit_code == ExitCode.DIVERGED
    saved = checkpoint.load(tmp_path / "checkpoints/last.safetensors")
    assert json.loads(json.dumps(saved.meta["progress"]))["step"] == 2
    assert all(tensor.isfinite().all() for tensor in saved.model.values())


def test_a_step_without_any_object_divides_by_one(data):
    """TRAPS 19: kuangliu/pytorch-retinanet#14; the loss of the background is its sum, that of the boxes 0."""
    empty = replace(data, iscrowd=np.ones(len(data.boxes), dtype=np.bool_))
    _, _, (cls, box, norm) = gradient(empty, 1)
    assert box == 0 and cls > 0 and math.isfinite(norm)
