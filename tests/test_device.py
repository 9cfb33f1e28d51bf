"""What is asked of a GPU can at least be asked: the code for it is spelled right where no GPU is."""

from __future__ import annotations

import ast
import re

import torch
from command import ROOT

from focalcli.training.device import device_name


def test_every_name_of_torch_that_is_used_is_there():
    """Tests run on CPUs: `torch.cuda.getdevice_name` would have been found by the first run on a GPU."""
    missing, seen = set(), set()
    for path in (ROOT / "focalcli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if not re.fullmatch(r"torch(\.\w+)+", name):
                continue
            seen.add(name)
            found = torch
            for part in name.split(".")[1:]:
                found = getattr(found, part, None)
            if found is None:
                missing.add(f"{path.name}: {name}")
    assert "torch.cuda.is_available" in seen and not missing


def test_a_gpu_is_called_by_its_name(monkeypatch):
    """What env.json keeps of the machine."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"the name of {device}")
    assert device_name(torch.device("cuda", 1)) == "the name of cuda:1"
    assert device_name(torch.device("cpu")).startswith("CPU, ")
