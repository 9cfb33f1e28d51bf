"""How tests run focal: in this process (fast), in a process of its own (what a shell sees), and on which tiny data."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from PIL import Image, ImageDraw

from focalcli import cli

ROOT = Path(__file__).parents[1]
# a network that takes a step in a blink, and whose checkpoints are small
TINY = (
    "model.weights=none", "model.backbone=mobilenet_v2", "model.width=16", "model.head_depth=1", "input.min_size=64",
    "input.max_size=96", "schedule.batch_size=4", "schedule.epochs=1", "schedule.optimizer=sgd", "eval.every=1",
    "data.workers=0",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    stdout: str
    stderr: str


def focal(*words: object, exit_code: int = 0) -> Result:
    """Run a command here, through the same boundary as the real one; any other exit code fails the test."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    with (
        patch.object(sys, "argv", ["focal", *map(str, words)]),
        patch.object(sys, "stdout", streams[0]),
        patch.object(sys, "stderr", streams[1]),
    ):
        try:
            cli.main()
            code: Any = 0
        except SystemExit as end:
            code = end.code or 0
    result = Result(*(stream.buffer.getvalue().decode() for stream in streams))
    assert code == exit_code, f"exit code {code}, expected {exit_code}\n{result.stdout}\n{result.stderr}"
    return result


def mistake(*words: object, says: str = "", hint: str = "") -> str:
    """Run a command that must end as a user's mistake does: exit 2, nothing on stdout, one error and one hint line."""
    result = focal(*words, exit_code=2)
    assert result.stdout == ""
    *before, error, last = result.stderr.splitlines()
    assert error.startswith("error: ") and last.startswith("hint: "), result.stderr
    assert not any(line.startswith(("error:", "hint:", "Traceback")) for line in before), result.stderr
    assert says in error, f"{says!r} is not in {error!r}"
    assert hint in last, f"{hint!r} is not in {last!r}"
    return error


def environment(**more: str) -> dict[str, str]:
    """That of the tests, where focal is found wherever the process runs; without colour or thread surprises."""
    plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    return {**plain, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def process(*words: object, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m focalcli` in a process of its own."""
    command = [sys.executable, "-m", "focalcli", *map(str, words)]
    return subprocess.run(
        command, cwd=cwd, env=environment(**more), capture_output=True, text=True, encoding="utf-8", check=False
    )


def one_json(text: str) -> dict[str, Any]:
    """The one JSON object that a text is; NaN and Infinity, which are not JSON, fail."""
    value = json.loads(text, parse_constant=lambda word: pytest_fail(f"{word} is not JSON"))
    assert (isinstance(value, dict) and "schema_version" in value) or "$schema" in value
    return value


def pytest_fail(message: str) -> None:
    raise AssertionError(message)


def files_below(folder: Path) -> set[str]:
    """Every file and folder below `folder`, as relative paths."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def draw_dataset(folder: Path, layout: str = "annotations/{split}.json", images: str = "images/{split}") -> Path:
    """Six pictures to train on and four to score, with a head of five squares to one cross; returns the folder."""
    for split, count, grey in (("train", 6, 90), ("val", 4, 100)):
        records, boxes = [], []
        place = folder / images.format(split=split)
        place.mkdir(parents=True, exist_ok=True)
        for number in range(1, count + 1):
            picture = Image.new("RGB", (96, 64), (grey, grey, grey))
            draw = ImageDraw.Draw(picture)
            records.append({"id": number, "file_name": f"{split}{number}.jpg", "width": 96, "height": 64})
            for category, x in ((1, 6 + 3 * number), (2 if number % 3 == 0 else 1, 60)):
                draw.rectangle((x, 20, x + 19, 39), fill=[(220, 40, 40), (40, 220, 40)][category - 1])
                box = {"bbox": [x, 20, 20, 20], "area": 400, "iscrowd": 0, "category_id": category}
                boxes.append({"id": len(boxes) + 1, "image_id": number, **box})
            picture.save(place / f"{split}{number}.jpg")
        file = folder / layout.format(split=split)
        file.parent.mkdir(parents=True, exist_ok=True)
        categories = [{"id": 1, "name": "square"}, {"id": 2, "name": "cross"}]
        file.write_text(json.dumps({"images": records, "annotations": boxes, "categories": categories}))
    return folder


def rewrite(file: Path, change: Any) -> Path:
    """Load a JSON file, let `change` alter what it holds, and write it back."""
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


def rows_of_table(text: str) -> list[str]:
    """The first word of each line under a table's rule."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if re.fullmatch("─+ *", line)) + 1
    return [line.split()[0] for line in lines[start:] if line.strip()]
