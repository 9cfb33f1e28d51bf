"""Training and prediction on a GPU against the same on the CPU; what no CPU can show is tried where there is CUDA only.

GPU_TESTS_ON=cpu runs the bodies on the CPU: it shows that they run, not that they hold.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import CPU, SETUP, Display, at_step, draw, lines, stop
from torch import nn

from focalcli import coco
from focalcli.errors import FocalError
from focalcli.training import loop, metrics, run
from focalcli.training.data import Batch, Collate, Sample
from focalcli.training.description import Sampling
from focalcli.training.model import build_model
from focalcli.training.norms import FoldedConv
from focalcli.training.predict import predict
from focalcli.training.ranks import Ranks
from focalcli.training.schedule import Schedule

DEVICE = torch.device(os.environ.get("GPU_TESTS_ON", "cuda"))
if DEVICE.type == "cuda" and not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)
on_cuda_only = pytest.mark.skipif(DEVICE.type != "cuda", reason="needs CUDA itself")

LABELS = np.array([0, 1])
LEARNING = replace(SETUP, sampling=Sampling(), schedule=Schedule(epochs=2, lr=0.01, clip_norm=1.0, eval_every=9))
# with fixed norms of 0 and 1 a new network hardly reaches its outputs, and hardly shows in the losses either what
# is rounded in it
PLAIN = replace(LEARNING, network=replace(SETUP.network, frozen_batch_norm=True))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return coco.load(draw(tmp_path_factory.mktemp("data")))


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """fp32 means fp32: TF32, which cuDNN's convolutions use by default, has 10 bits of mantissa."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(metrics, "LOG_EVERY_SECONDS", 0)


def prepared(data, device, setup=PLAIN):
    """The training before its first step, and the batches of an epoch."""
    model = run.new_model(setup, 2)
    ready = run.prepare(setup, model, data, LABELS, device, Ranks())
    model.train()
    keys = list(ready.keys)[: ready.keys.steps_per_epoch]
    return ready, [Collate(setup.spec)([ready.pictures[key] for key in some]) for some in keys]


def stepped(data, device, setup=LEARNING, dtype=torch.float32):
    """What the two steps of an epoch came to, and the weights after them."""
    ready, batches = prepared(data, device, setup)
    ready.stepper.model.to(dtype)
    updates = [ready.stepper.step([batch], setup.schedule.lr, number) for number, batch in enumerate(batches)]
    return updates, {name: tensor.cpu() for name, tensor in ready.stepper.model.state_dict().items()}


def assert_close(found, wanted, tolerance):
    for name, rel in tolerance.items():
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=rel), name


# ---------------------------------------------------------------------------------------------------------------- steps


def test_a_step_in_fp32_has_the_cpus_losses_and_gradient(data):
    """The CPU's, whose own two ways of convolving (oneDNN and not) are 2e-6 and 1e-3 apart here."""
    (found, *_), _ = stepped(data, DEVICE)
    (wanted, *_), _ = stepped(data, CPU)
    assert found.updated
    assert_close(found, wanted, {"loss_cls": 1e-4, "loss_box": 1e-4, "grad_norm": 0.02})


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_steps_in_fp64_leave_the_cpus_weights(data, optimizer):
    """Gradients, clipping, both optimizers, weights and running statistics. In fp32 a step of a new network makes of
    the last digit a tenth of the next gradient, on one device too."""
    setup = replace(LEARNING, schedule=replace(LEARNING.schedule, optimizer=optimizer, lr=1e-3))
    (found, weights), (wanted, of_cpu) = (stepped(data, device, setup, torch.float64) for device in (DEVICE, CPU))
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, {"loss_cls": 1e-5, "loss_box": 1e-5, "grad_norm": 1e-4})
    for name, tensor in of_cpu.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp16", marks=on_cuda_only)])
def test_losses_in_half_precision_are_close_to_those_in_fp32(data, precision):
    """8 bits of mantissa: 0.3 % on a CPU; fp16 may skip steps until its scale is found."""
    (half, *_), _ = stepped(data, DEVICE, replace(LEARNING, precision=precision))
    (full, *_), _ = stepped(data, CPU)
    assert half.updated or half.skipped
    assert_close(half, full, {"loss_cls": 0.02, "loss_box": 0.02})


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_waits_for_the_gpu_once(data, accumulate):
    """For the losses and the norm of the gradient, whatever it is cut into (torch.cuda.set_sync_debug_mode); with
    alphas of their own for the classes, average and pinned batches, in bf16."""
    setup = replace(PLAIN, precision="bf16", schedule=replace(PLAIN.schedule, ema=0.9, optimizer="adamw"))
    ready, batches = prepared(data, DEVICE, setup)
    parts = [batch.pin_memory() if DEVICE.type == "cuda" else batch for batch in batches[:accumulate]]
    ready.stepper.step(parts, 0.01, 0)  # kernels are tried, state is made
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if DEVICE.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            assert ready.stepper.step(parts, 0.01, 1).updated
        finally:
            if DEVICE.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    waits = [f"{Path(w.filename).name}:{w.lineno}" for w in said if "called a synchronizing" in str(w.message)]
    assert len(waits) == (DEVICE.type == "cuda"), waits


@on_cuda_only
def test_out_of_memory_is_a_message(data):
    """A real refusal of torch's allocator, which is allowed 100 MB more than it holds."""
    ready, batches = prepared(data, DEVICE)
    ready.stepper.step(batches[:1], 0.01, 0)
    none, side = np.zeros((0, 4), np.float32), 1024
    sample = Sample(np.zeros((side, side, 3), np.uint8), none, np.zeros(0, np.int64), none, 0)
    torch.cuda.empty_cache()
    allowed = torch.cuda.memory_reserved() + 100e6
    torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(FocalError, match="out of memory with 8 pictures of 1024 x 1024 px at once") as caught:
            ready.stepper.step([Collate(PLAIN.spec)([sample] * 8)], 0.01, 1)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert "schedule.accumulate=2" in caught.value.hint


@on_cuda_only
def test_a_compiled_backbone_has_the_losses_of_the_other(data):
    """schedule.compile in bf16, where the compiler fuses what is rounded step by step else."""
    half = replace(LEARNING, precision="bf16")
    (found, *_), _ = stepped(data, DEVICE, replace(half, compile=True))
    (wanted, *_), _ = stepped(data, DEVICE, half)
    assert_close(found, wanted, {"loss_cls": 0.02, "loss_box": 0.02})


def test_batches_reach_the_device_as_they_were(data):
    """Pinned, copied without waiting, and back: every tensor."""
    _, (batch, *_) = prepared(data, CPU)
    moved = (batch.pin_memory() if DEVICE.type == "cuda" else batch).to(DEVICE)
    assert isinstance(moved, Batch)
    for name, value in vars(batch).items():
        if isinstance(value, torch.Tensor):
            assert getattr(moved, name).device.type == DEVICE.type
            assert torch.equal(getattr(moved, name).cpu(), value), name


def test_folded_norms_keep_the_backbone_in_bf16():
    """A fixed norm in fp32 behind a convolution in bf16 would double the memory of what is kept for the gradient."""
    model = build_model(
        backbone="mobilenet_v2", num_classes=2, anchors_per_cell=9, width=32, head_depth=1, frozen_batch_norm=True
    ).to(DEVICE)
    body, types = model.backbone.body, {}
    for name, module in body.named_modules():
        if isinstance(module, (FoldedConv, nn.ReLU6)):
            module.register_forward_hook(lambda _m, _i, out, name=name: types.update({name: out.dtype}))
    with torch.autocast(DEVICE.type, torch.bfloat16):
        model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=DEVICE))
    assert len(types) > 50 and set(types.values()) == {torch.bfloat16}, types


# ----------------------------------------------------------------------------------------------------- runs, prediction


def train(folder, data, *, resume=False, at=lambda step: None) -> Display:
    folder.mkdir(exist_ok=True)
    display = Display(at)
    run.train(PLAIN, data, data, folder, recipe={}, device=DEVICE, resume=resume, display=display)
    return display


def test_a_stopped_run_goes_on_as_it_would_have(data, tmp_path):
    """Stopped after its third of four steps; the GPU adds in any order, so that figures agree and bits need not. The
    run says where it was."""
    train(tmp_path / "whole", data)
    with pytest.raises(loop.Interrupted):
        train(tmp_path / "cut", data, at=at_step(3, stop()))
    train(tmp_path / "cut", data, resume=True)
    whole, cut = (lines(tmp_path / name) for name in ("whole", "cut"))
    steps = [[line for line in kept if line["kind"] == "train"] for kept in (whole, cut)]
    assert [line["step"] for line in steps[1]] == [1, 2, 3, 4]
    for one, other in zip(*steps, strict=True):
        for name in ("loss_cls", "loss_box", "grad_norm"):
            assert other[name] == pytest.approx(one[name], rel=1e-4), (one["step"], name)
    env = json.loads((tmp_path / "cut" / "env.json").read_text())
    assert DEVICE.type != "cuda" or env["device"] == torch.cuda.get_device_name()


def test_detections_are_the_cpus(data):
    """In fp32: as many; and each has its like of the same class, with the same box and score, but for the few whose
    scores or overlaps lie on a threshold."""
    setup = replace(PLAIN, thresholds=replace(PLAIN.thresholds, score=0.3))
    model = run.new_model(setup, 2).eval()
    picture = torch.randint(0, 256, (1, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # scores of a new head hardly differ
        logits, _ = model(picture.to(torch.uint8))
        model.head["classification_head"].cls_logits.weight.mul_(2 / logits.std())
    given = (data, LABELS, setup.spec, setup.size, setup.thresholds)
    wanted = predict(model, *given, device=CPU, workers=0)
    found = predict(model.to(DEVICE), *given, device=DEVICE, workers=0)
    count, unlike = len(wanted.scores), 0
    for image, label, box, score in zip(wanted.image, wanted.label, wanted.boxes, wanted.scores, strict=True):
        same = (found.image == image) & (found.label == label)
        near = (np.abs(found.boxes - box).max(axis=1) < 0.1) & (np.abs(found.scores - score) < 1e-3)
        unlike += not (same & near).any()
    assert count > 100 and max(unlike, abs(len(found.scores) - count)) <= 0.02 * count
