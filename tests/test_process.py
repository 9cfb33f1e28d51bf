"""focal as a process: closed pipes, full disks, signals, terminals, encodings, and bugs of our own."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import environment, focal, mistake, process, rewrite

from focalcli import audit as auditing


def test_a_bug_of_ours_is_exit_2_with_a_traceback(monkeypatch, world):
    """1 would tell a script that there are findings."""
    monkeypatch.setattr(auditing, "audit", lambda *_, **__: 1 / 0)
    assert "ZeroDivisionError" in focal("audit", world / "data", exit_code=2).stderr


@pytest.mark.parametrize("command", ["audit {data}", "recommend {data} -f json", "explain", "--help", "recipe schema"])
def test_a_closed_pipe_is_no_mistake(command, world):
    """`focal ... | head -1`: 141 as of any tool that SIGPIPE ends, and not a word."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "focalcli", *command.format(data=world / "data").split()],
        stdout=writer, stderr=subprocess.PIPE, text=True, env=environment(), check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr and "Broken" not in done.stderr and "Exception" not in done.stderr


def test_a_full_disk_is_a_mistake_of_the_environment(world):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "focalcli", "audit", str(world / "data"), "-f", "json"],
            stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False,
        )  # fmt: skip
    assert done.returncode == 2 and done.stderr.splitlines()[0] == "error: No space left on device"


def test_a_stdout_that_is_closed_is_no_traceback(world):
    """`focal ... >&-`: Python gives no stream at all, and the next file that is opened would take its number."""
    command = (
        f"{shlex.join([sys.executable, '-m', 'focalcli'])} audit {shlex.quote(str(world / 'data'))} --fail-on never"
    )
    done = subprocess.run(["sh", "-c", f"{command} >&-"], stderr=subprocess.PIPE, text=True, env=environment())
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert subprocess.run(["sh", "-c", f"{command} --nonsense >&- 2>&-"], env=environment()).returncode == 2


def test_names_that_stdout_cannot_encode_are_escaped(own_world):
    """A lone surrogate and a letter beyond ASCII, in every format."""
    rewrite(own_world / "data/annotations/train.json", lambda c: c["categories"][1].update(name="\ud800ü"))
    for name in ("table", "csv", "json"):
        done = process("audit", own_world / "data/annotations/train.json", "-f", name, "--fail-on", "never",
                       PYTHONIOENCODING="ascii")  # fmt: skip
        assert done.returncode == 0 and "\\ud800" in done.stdout, done.stderr


def in_terminal(*words: object, **more: str) -> tuple[int, str]:
    """Exit code and everything that a terminal of 100 columns shows."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "focalcli", *map(str, words)]
    env = environment(COLUMNS="100", TERM="xterm-256color", **more)
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # EIO: the other side is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    return child.wait(), shown.decode()


def test_a_terminal_gets_colour_unless_no_color_is_set(world):
    """https://no-color.org; and lines that fit."""
    code, shown = in_terminal("audit", world / "data", "--fail-on", "never")
    assert code == 0 and "\x1b[1m" in shown
    code, shown = in_terminal("audit", world / "data", "--fail-on", "never", NO_COLOR="1")
    assert code == 0 and "\x1b[" not in shown and max(map(len, shown.splitlines())) <= 100


def test_ctrl_c_saves_the_run_and_the_printed_command_goes_on_to_its_end(own_world, monkeypatch):
    """Exit 130 after the step that was under way; with other keys than those of the start it is another run."""
    command = [
        "train",
        "r.yaml",
        "name=long",
        "schedule.epochs=25",
        "eval.every=25",
        "loss.alpha={cross: 0.4, default: 0.3}",
    ]
    child = subprocess.Popen(
        [sys.executable, "-m", "focalcli", *command],
        cwd=own_world,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    last = own_world / "runs/long/checkpoints/last.safetensors"
    deadline = time.monotonic() + 60
    while not last.is_file() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130 and "stopped by SIGINT after step" in said, said
    monkeypatch.chdir(own_world)
    mistake("train", "r.yaml", "name=long", "--resume", says="had other")
    again = shlex.split(re.search("go on with `focal (.*)`", said)[1])
    assert again == [*command, "--resume"]
    assert "resuming runs/long/checkpoints/last.safetensors" in focal(*again).stderr


def test_ctrl_c_while_torch_is_imported_is_130_and_leaves_nothing(own_world):
    """A shell calls a process that SIGINT ended 130; 130 itself is what Python code gives."""
    child = subprocess.Popen(
        [sys.executable, "-m", "focalcli", "train", "r.yaml", "name=new"],
        cwd=own_world, env=environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while child.poll() is None and "libtorch" not in Path(f"/proc/{child.pid}/maps").read_text():
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode in (130, -signal.SIGINT) and "Traceback" not in said
    assert not (own_world / "runs/new").exists()
