"""Time and peak memory of the audit and of its loading, against pycocotools' loading alone, as a markdown table.

    python tests/bench/generate.py coco coco.json
    python tests/bench/generate.py lvis lvis.json
    python tests/bench/audit.py coco.json lvis.json

Every figure is of a process of its own, from start to end, imports included. The programs take turns, so that what else
the machine does meets all of them. Of several rounds the median is printed, of memory (ru_maxrss) the largest; that is
of the larger process where focal loads with two: the smaller one holds 90 MB of a file of 450 MB, 20 of them shared.
The first audit finds no compiled anchors from earlier ones. The last row is `focal audit sample_data`, many times.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

SAMPLE_DATA = Path(__file__).parents[2] / "sample_data"
FOCAL = "import sys; from focalcli import cli; sys.argv[0] = 'focal'; cli.main()"
FOCAL_LOAD = "import sys, pathlib, focalcli.coco; focalcli.coco.load(pathlib.Path(sys.argv[1]))"
THEIR_LOAD = "import sys, pycocotools.coco; pycocotools.coco.COCO(sys.argv[1])"
AUDIT = ("audit", "{file}", "--fail-on", "never")
PROGRAMS = {
    "pycocotools `COCO()`": (THEIR_LOAD, ("{file}",)),
    "focal load": (FOCAL_LOAD, ("{file}",)),
    "`focal audit`, the first": (FOCAL, AUDIT),
    "`focal audit`": (FOCAL, AUDIT),
}


class Cost(NamedTuple):
    seconds: float
    cpu_seconds: float
    peak_mb: float


def measured(program: str, words: tuple[str, ...], environment: Mapping[str, str]) -> Cost:
    """One run of a Python program in a process of its own."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]  # what they print is not the question
    start = time.perf_counter()
    command = [sys.executable, "-c", program, *words]
    pid = os.posix_spawn(sys.executable, command, environment, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{words}: ended with status {status}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)


def rounds(programs: Mapping[str, tuple[str, tuple[str, ...]]], file: Path, times: int) -> dict[str, Cost]:
    """The cost of each program on a file: medians, and the largest memory."""
    costs: dict[str, list[Cost]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as kept:
        for number in range(times):
            for name, (program, words) in programs.items():
                # every first audit compiles anchors, the others find what the round's first one has kept; focal's own
                # bytecode is there in all but the first round, as it is once a package is installed
                environment = os.environ | {"NUMBA_CACHE_DIR": f"{kept}/{number}", "PYTHONPYCACHEPREFIX": kept}
                environment.pop("PYTHONDONTWRITEBYTECODE", None)
                costs[name].append(measured(program, tuple(w.format(file=file) for w in words), environment))
    return {
        name: Cost(*(statistics.median(cost[k] for cost in runs) for k in (0, 1)), max(cost.peak_mb for cost in runs))
        for name, runs in costs.items()
    }


def machine() -> str:
    """Processor, cores, versions and date."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    packages = ", ".join(f"{name} {version(name)}" for name in ("focal", "msgspec", "numba", "numpy", "pycocotools"))
    return f"{date.today()}, {model}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{machine()}; load {os.getloadavg()[0]:.1f} at the start, {options.rounds} rounds\n")
    print("| file | program | seconds | CPU seconds | peak MB | times faster | times less memory |")
    print("|---|---|---|---|---|---|---|")
    for file in options.files:
        with file.open("rb") as content:  # into the page cache, for all; a child's ru_maxrss begins with its parent's
            while content.read(1 << 20):
                pass
        size = f"{file.name}, {file.stat().st_size / 1e6:,.0f} MB"
        costs = rounds(PROGRAMS, file, options.rounds)
        theirs = next(iter(costs.values()))
        for name, cost in costs.items():
            ratios = f"{theirs.seconds / cost.seconds:.1f} | {theirs.peak_mb / cost.peak_mb:.1f}"
            print(f"| {size} | {name} | {cost.seconds:.2f} | {cost.cpu_seconds:.2f} | {cost.peak_mb:,.0f} | {ratios} |")
            sys.stdout.flush()
    small = {"`focal audit`": (FOCAL, AUDIT), "python alone": ("import sys", ()), "python, numpy": ("import numpy", ())}
    for name, cost in rounds(small, SAMPLE_DATA, 10 * options.rounds).items():
        print(f"| sample_data | {name} | {cost.seconds:.2f} | {cost.cpu_seconds:.2f} | {cost.peak_mb:,.0f} | | |")


if __name__ == "__main__":
    main()
