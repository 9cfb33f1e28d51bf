"""A checkpoint comes back as it was, is never half there, and nothing that is not one gets through."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models.detection import retinanet_resnet50_fpn

from focalcli.errors import FocalError
from focalcli.training import checkpoint
from focalcli.training.model import build_model

META = {"classes": [{"id": 7, "name": "hélice"}], "progress": {"step": 12, "best": 0.25}, "versions": {"focal": "9.9"}}


def tiny(seed: int = 0) -> nn.Module:
    """Every kind of state that a detector has: weights, biases, running statistics, a counter of whole numbers."""
    torch.manual_seed(seed)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    return layers.to(memory_format=torch.channels_last)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, times: int = 2) -> None:
    for number in range(times):
        optimizer.zero_grad()
        model(torch.randn(2, 3, 8, 8, generator=torch.manual_seed(number))).square().sum().backward()
        optimizer.step()


def optimizer_of(kind: str, model: nn.Module) -> torch.optim.Optimizer:
    if kind == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=0.01)
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_checkpoint_comes_back_bit_for_bit(tmp_path, kind):
    """The next steps of the restored model are those of the one that went on."""
    model, path = tiny(), tmp_path / "checkpoints" / "last.safetensors"
    optimizer = optimizer_of(kind, model)
    step(model, optimizer)
    checkpoint.save(path, model, META, optimizer)
    saved = checkpoint.load(path)
    assert saved.meta == {"format": 2, **META}

    again = tiny(seed=1)
    again.load_state_dict(saved.model)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    restored = optimizer_of(kind, again)
    checkpoint.restore_optimizer(restored, saved.optimizer)
    for original, copy in ((model, optimizer), (again, restored)):
        step(original, copy)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert files(path.parent) == ["last.safetensors"]


def test_saving_leaves_the_model_as_it_was(tmp_path):
    """Training goes on after a checkpoint: the layout in memory and the gradients' flags are not touched."""
    model = tiny()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    checkpoint.save(tmp_path / "x.safetensors", model, {})
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("where", ["focalcli.training.checkpoint.save_file", "os.replace", "os.fsync"])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch, where):
    """DESIGN: written to a temporary name and moved into place; errno 28 is `No space left on device`."""
    path, model = tmp_path / "last.safetensors", tiny()
    checkpoint.save(path, model, {"step": 1})

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(where, full)
    with pytest.raises(FocalError, match=r"last\.safetensors: cannot be written .*No space left") as caught:
        checkpoint.save(path, tiny(seed=1), {"step": 2})
    assert "the checkpoint before it is still there" in caught.value.hint
    assert checkpoint.load(path).meta["step"] == 1
    assert files(tmp_path) == ["last.safetensors"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    """A file where the folder of the checkpoints should be."""
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(FocalError, match=r"last\.safetensors: cannot be written"):
        checkpoint.save(tmp_path / "checkpoints" / "last.safetensors", tiny(), {})


def test_what_a_kill_left_aside_is_cleared_away_later(tmp_path):
    """A killed save leaves a file of the checkpoint's size; that of a save going on beside us is not touched."""
    old, fresh = tmp_path / ".last.safetensors.123", tmp_path / ".last.safetensors.124"
    old.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(old, (time.time() - 3600,) * 2)
    checkpoint.save(tmp_path / "last.safetensors", tiny(), {})
    assert files(tmp_path) == [fresh.name, "last.safetensors"]


SAVE_FOR_EVER = """
import sys, itertools, torch
from pathlib import Path
from focalcli.training import checkpoint
model = torch.nn.Linear(700, 700)
for step in itertools.count():
    torch.nn.init.constant_(model.weight, step)
    checkpoint.save(Path(sys.argv[1]), model, {"step": step})
    print(step, flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    """SIGKILL, five times, to a process that does nothing but save: what is there is one of its checkpoints."""
    path = tmp_path / "last.safetensors"
    for attempt in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVE_FOR_EVER, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
        )
        process.stdout.readline()
        time.sleep(0.017 * attempt)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        saved = checkpoint.load(path)
        assert (saved.model["weight"] == saved.meta["step"]).all()


# --------------------------------------------------------------------------------------------------- what is not loaded


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a good checkpoint, and a place to put worse ones."""
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoint.save(folder / "good.safetensors", tiny(), META)
    return (folder / "good.safetensors").read_bytes(), folder / "bad.safetensors"


@settings(max_examples=150, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_checkpoint_cut_short_anywhere_is_refused(whole, share):
    """A copy that stopped, at any byte: in the length of the header, in the header, in the tensors."""
    data, path = whole
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FocalError, match=r"bad\.safetensors: not a readable checkpoint, or cut short") as caught:
        checkpoint.load(path)
    assert "another one of the run's checkpoints" in caught.value.hint


@settings(max_examples=300, deadline=None)
@given(places=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_damaged_header_is_a_focal_error_or_harmless(whole, places):
    """Bytes changed in the header, where names, types, shapes and focal's JSON stand: never a traceback."""
    data, path = bytearray(whole[0]), whole[1]
    for place, value in places:
        data[place] = value
    path.write_bytes(data)
    try:
        checkpoint.load(path)
    except FocalError as error:
        assert "bad.safetensors" in error.message


def test_a_checkpoint_of_a_later_format_is_refused(tmp_path):
    """The version that wrote it is what the reader needs to know."""
    path = tmp_path / "x.safetensors"
    save_file({"w": torch.zeros(1)}, path, {"focal": json.dumps({"format": 3, "versions": {"focal": "9.9"}})})
    with pytest.raises(FocalError, match=r"checkpoint format 3, this focal reads formats 1 to 2") as caught:
        checkpoint.load(path)
    assert "'focal': '9.9'" in caught.value.hint


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "{}", '{"format": 1', "", '{"format": 3, "versions": 3}'])
def test_an_odd_description_is_refused(tmp_path, text):
    """JSON that another program wrote under our key."""
    save_file({"w": torch.zeros(1)}, tmp_path / "x.safetensors", {"focal": text})
    with pytest.raises(FocalError, match=r"x\.safetensors: "):
        checkpoint.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_weights_from_elsewhere_are_told_apart(tmp_path, metadata):
    """timm and Hugging Face write {"format": "pt"}, or nothing."""
    save_file({"w": torch.zeros(1)}, tmp_path / "x.safetensors", metadata)
    with pytest.raises(FocalError, match="tensors without focal's description") as caught:
        checkpoint.load(tmp_path / "x.safetensors")
    assert "model.weights" in caught.value.hint


def test_a_pickle_is_no_checkpoint(tmp_path):
    """DESIGN: it loads without unpickling code; torch.save's files are refused unread."""
    torch.save({"format": 1}, tmp_path / "last.safetensors")
    with pytest.raises(FocalError, match="not a readable checkpoint"):
        checkpoint.load(tmp_path / "last.safetensors")


def test_what_is_not_there_is_named(tmp_path):
    """STYLE: the place, what was expected, the next step."""
    with pytest.raises(FocalError, match=r"nope: no such checkpoint") as caught:
        checkpoint.load(tmp_path / "nope")
    assert "a run folder or a .safetensors file" in caught.value.hint
    with pytest.raises(FocalError, match="no checkpoint in this folder") as caught:
        checkpoint.load(tmp_path)
    assert "checkpoints/best.safetensors" in caught.value.hint


def test_a_run_folder_means_its_best_checkpoint_else_its_last(tmp_path):
    """`focal eval runs/x` and `focal eval runs/x/checkpoints` are the same."""
    run = tmp_path / "run"
    for name in ("last", "best"):
        checkpoint.save(run / "checkpoints" / f"{name}.safetensors", tiny(), {"name": name})
        for place in (run, run / "checkpoints"):
            assert checkpoint.load(place).meta["name"] == name
    assert checkpoint.find(run, prefer="last").name == "last.safetensors"


# ------------------------------------------------------------------------------------------------- other people's tools


def test_best_loads_into_plain_torchvision(tmp_path):
    """safetensors.torch.load_file and a strict load_state_dict into retinanet_resnet50_fpn: no focal needed."""
    model = build_model(backbone="resnet50", num_classes=4, anchors_per_cell=9)
    checkpoint.save(tmp_path / "best.safetensors", model, META)
    peer = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4)
    peer.load_state_dict(load_file(tmp_path / "best.safetensors"), strict=True)
    assert torch.equal(peer.head.regression_head.bbox_reg.weight, model.head["regression_head"].bbox_reg.weight)
