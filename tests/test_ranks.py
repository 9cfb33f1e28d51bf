"""Several processes train as one: the same losses, no picture scored twice, one writer, and an end for all of them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from command import environment, focal
from torch import nn

from focalcli.training import ranks
from focalcli.training.ranks import Ranks
from focalcli.training.sampling import BatchKeys, Repeat

# frozen statistics: those of a batch are each process's own
TOTAL = ("schedule.batch_size=4", "model.batch_norm=frozen", "model.head_norm=none", "schedule.warmup_steps=0")


def together(folder: Path, *words: object, processes: int = 2) -> subprocess.Popen[str]:
    """`torchrun --nproc-per-node=2 -m focalcli ...`, on the CPU over gloo."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    command = [*torchrun, "-m", "focalcli", *map(str, words), "--runs", str(folder), "--device", "cpu"]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def kept(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_have_the_losses_of_one_with_the_same_batch(world, tmp_path):
    """1 x 4 and 2 x 2 pictures over three steps, in two parts each: losses, gradient norm and AP within 1e-5."""
    one = focal("train", world / "r.yaml", *TOTAL, "schedule.epochs=3", "--runs", tmp_path / "one", "--device", "cpu")
    words = ("schedule.epochs=3", "schedule.accumulate=2")
    child = together(tmp_path / "two", "train", world / "r.yaml", *TOTAL, *words)
    stdout, said = child.communicate(timeout=120)
    assert child.returncode == 0, said
    lines = [kept(tmp_path / name / "r") for name in ("one", "two")]
    assert [line["kind"] for line in lines[0]] == ["train", "eval"] * 3 and len(lines[1]) == 6
    for single, double in zip(*lines, strict=True):
        for key in ("loss_cls", "loss_box", "grad_norm") if single["kind"] == "train" else ("AP", "AP50", "AR100"):
            assert double[key] == pytest.approx(single[key], rel=1e-5, abs=1e-6), (single["step"], key)
    for text in (one.stderr, said):  # once, not twice
        assert stdout == "" and len(re.findall("^trained in", text, re.MULTILINE)) == 1
        assert len(re.findall("^an epoch shows", text, re.MULTILINE)) == 1
    assert "on cpu x 2 processes" in said
    assert json.loads((tmp_path / "two/r/env.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_a_signal_stops_all_processes_after_the_same_step_and_they_resume(world, tmp_path):
    """SIGTERM to torchrun, which passes it on: saved once, and --resume ends the run."""
    words = ("train", world / "r.yaml", *TOTAL, "schedule.epochs=200", "eval.every=200")
    child = together(tmp_path, *words)
    last = tmp_path / "r/checkpoints/last.safetensors"
    deadline = time.monotonic() + 120
    while not last.is_file() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=120)
    assert len(re.findall(r"stopped by SIGTERM after step \d+ of 200, saved", said)) == 1, said
    again = together(tmp_path, *words, "--resume")
    _, said = again.communicate(timeout=400)
    assert again.returncode == 0 and "resuming" in said, said


@pytest.mark.slow
def test_what_one_process_finds_ends_both_with_one_message(own_world, tmp_path):
    """A picture that only one of the two is to load cannot be read: exit 2, not a wait for ever."""
    (own_world / "data/images/train/train3.jpg").write_bytes(b"not a picture")
    child = together(tmp_path, "train", own_world / "r.yaml", *TOTAL, "name=new")
    _, said = child.communicate(timeout=120)
    assert child.returncode != 0
    assert len(re.findall("^error: .*train3.jpg: not a readable picture", said, re.MULTILINE)) == 1, said
    assert "hint: " in said and not (tmp_path / "new").exists()


# ------------------------------------------------------------------------------------------------- without any process


@pytest.mark.parametrize(("parts", "ranks"), [(1, 2), (2, 2), (3, 1), (2, 3)])
def test_processes_and_parts_share_a_step_without_gap_or_overlap(parts, ranks):
    """Together they give what one process gets, in its order, with the same seeds, factors and canvas."""
    options = {"scale": (0.8, 1.25), "canvas": lambda chosen, factor: (int(chosen.sum()), int(100 * factor))}
    whole = list(BatchKeys(Repeat(np.ones(20)), 7, 3, 2, **options))
    shares = [
        list(BatchKeys(Repeat(np.ones(20)), 7, 3, 2, parts=parts, rank=r, ranks=ranks, **options)) for r in range(ranks)
    ]
    assert all(len(share) == len(whole) * parts for share in shares)
    for number, keys in enumerate(whole):
        cut = [part for share in shares for part in share[number * parts : (number + 1) * parts]]
        assert [key for part in cut for key in part] == keys
        assert max(map(len, cut)) - min(map(len, cut)) <= 1


def test_one_process_alone_needs_no_messages():
    """Every exchange is the identity; nothing of torch.distributed is started."""
    alone = Ranks()
    assert alone.first and alone.sums(1, 2.5) == [1, 2.5] and alone.largest(True) == [True]
    assert alone.gathered("x") == ["x"] and alone.once(lambda: 7) == 7
    alone.raise_any(None)


def test_batch_statistics_are_of_all_processes_on_gpus(monkeypatch):
    """torch.nn.SyncBatchNorm, in place and with the same names and parameters; on the CPU torch has none."""
    monkeypatch.setattr(ranks, "DistributedDataParallel", lambda model, device_ids: model)
    for device, kind in (("cuda", nn.SyncBatchNorm), ("cpu", nn.BatchNorm2d)):
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        names, weight = list(model.state_dict()), model[1].weight
        assert Ranks(0, 2).replica(model, torch.device(device, 0)) is model
        assert type(model[1]) is kind and list(model.state_dict()) == names and model[1].weight is weight
