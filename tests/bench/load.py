"""Time and peak memory of loading COCO files, focal and pycocotools side by side, as a markdown table.

    python tests/bench/generate.py coco /tmp/bench/coco.json
    python tests/bench/load.py /tmp/bench/coco.json

Each load is a process of its own, from start to end, imports included; the two take turns, so that what else the
machine does meets both. Of several rounds the median is printed, of memory (ru_maxrss) the largest. That
is of the larger process where focal uses two: the smaller one holds 90 MB of the file of 450 MB, 20 of them shared.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

PROGRAMS = {
    "focal": "import sys, pathlib, focalcli.coco; focalcli.coco.load(pathlib.Path(sys.argv[1]))",
    "pycocotools": "import sys, pycocotools.coco; pycocotools.coco.COCO(sys.argv[1])",
}


class Cost(NamedTuple):
    seconds: float
    cpu_seconds: float
    peak_mb: float


def measured(program: str, *words: str) -> Cost:
    """One run of a Python program in a process of its own."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]  # pycocotools prints
    start = time.perf_counter()
    command = [sys.executable, "-c", program, *words]
    pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{program}: ended with status {status}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)


def machine() -> str:
    """Processor, cores, versions and date."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    packages = ", ".join(f"{name} {version(name)}" for name in ("focal", "msgspec", "numpy", "pycocotools"))
    return f"{date.today()}, {model}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{machine()}; load {os.getloadavg()[0]:.1f} at the start, {options.rounds} rounds\n")
    print("| file | program | seconds | CPU seconds | peak MB |\n|---|---|---|---|---|")
    for file in options.files:
        with file.open("rb") as content:  # into the page cache, for both; a child's ru_maxrss begins with its parent's
            while content.read(1 << 20):
                pass
        costs: dict[str, list[Cost]] = {name: [] for name in PROGRAMS}
        for _ in range(options.rounds):
            for name, program in PROGRAMS.items():
                costs[name].append(measured(program, str(file)))
        size = f"{file.name}, {file.stat().st_size / 1e6:,.0f} MB"
        figures = {
            name: Cost(*(statistics.median(c[k] for c in runs) for k in (0, 1)), max(c.peak_mb for c in runs))
            for name, runs in costs.items()
        }
        for name, cost in figures.items():
            print(f"| {size} | {name} | {cost.seconds:.2f} | {cost.cpu_seconds:.2f} | {cost.peak_mb:,.0f} |")
        times, cpu, memory = (theirs / ours for ours, theirs in zip(*figures.values(), strict=True))
        print(f"| {size} | ratio | {times:.1f} | {cpu:.1f} | {memory:.1f} |", flush=True)


if __name__ == "__main__":
    main()
