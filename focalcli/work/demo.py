"""`focal demo`: the main job on the sample dataset, by the ordinary commands, each printed before it runs."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from focalcli.errors import FocalError


def sample_data() -> Path:
    """The sample dataset: inside an installed package, or beside it in a clone.

    Raises:
        FocalError: it is in neither place.
    """
    package = Path(__file__).parents[1]
    for place in (package / "sample_data", package.parent / "sample_data"):
        if (place / "annotations").is_dir():
            return Path(os.path.relpath(place)) if place.is_relative_to(Path.cwd()) else place
    raise FocalError(
        "sample_data is not installed with focal", "install focal again, or run the demo in a clone of its repository"
    )


def commands(runs: Path) -> list[list[str]]:
    """The chain that a newcomer can repeat: audit, recommend, train, eval."""
    data, recipe = sample_data(), runs / "sample.yaml"
    return [
        ["audit", str(data)],
        # no download and no GPU needed: from random weights, on the CPU
        ["recommend", str(data), "-o", str(recipe), "--device", "cpu", "model.weights=none", "name=sample"],
        ["train", str(recipe), "--runs", str(runs)],
        ["eval", str(runs / "sample")],
    ]


def run_demo(runs: Path) -> int:
    """Run the chain; returns the exit code of the first command that fails, else 0.

    Raises:
        FocalError: an earlier demo is still in `runs`, or it cannot be made.
    """
    if (runs / "sample").exists():
        raise FocalError(f"{runs / 'sample'}: holds an earlier demo", "delete it, or choose another folder: --runs DIR")
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FocalError(f"{runs}: cannot be made ({error.strerror})", "choose another folder: --runs DIR") from None
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the command that runs; it saves, and ends the chain
    for words in commands(runs):
        print(f"\n$ focal {shlex.join(words)}\n", flush=True)
        code = subprocess.run([sys.executable, "-m", "focalcli", *words], check=False).returncode
        if code:
            return code if code > 0 else 128 - code  # ended by a signal: what a shell says of that
    return 0
