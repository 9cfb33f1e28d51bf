"""Run the evidence: train every arm on every dataset, one CSV row a run. See README.md for the protocol.

    python tests/bench/evidence/run.py --status                     # what is done, hours left
    python tests/bench/evidence/run.py --jobs 2 --minutes 120       # go on for two hours
    python tests/bench/evidence/run.py --datasets bccd --arms retinanet ce --seeds 0 1 2
    python tests/bench/evidence/run.py --datasets bccd --arms retinanet ce --seeds 0 --steps 1600

Rows that are there are not run again, so it can be killed and repeated at any time. Each job is a process with one
thread; one driver at a time writes a CSV. An arm that comes to a loss that is done already takes over its figures.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from record import PROTOCOL, RESULTS, SETTINGS, Row, append, rows, settings_of  # noqa: E402 (the path comes first)

WEIGHTS = HERE.parents[3] / "shared" / "data" / "weights" / "mobilenet_v2_features_torchvision.pth"
TYPICAL_SECONDS = 60.0  # of CPU a run, until there are rows to say

Task = tuple[str, str, int]  # dataset, arm, seed


@lru_cache(maxsize=1)
def _material(dataset: str, cache: Path, steps: int) -> Any:
    """A dataset of the protocol in memory; made and written to the cache where it is not there."""
    from dataclasses import replace

    from protocol import BUDGET, SUBJECTS
    from trial import Material

    folder = cache / dataset
    if not (folder / "annotations" / "val.json").is_file():
        aside = cache / f"{dataset}.{os.getpid()}.part"
        SUBJECTS[dataset].write(aside)
        try:
            aside.rename(folder)
        except OSError:  # another job was faster; what it wrote is the same
            shutil.rmtree(aside)
    return Material(folder, SUBJECTS[dataset].spec, replace(BUDGET, steps=steps))


def _end_with_driver() -> None:
    """A job whose driver was killed would train on, with nobody to write its row."""
    driver = os.getppid()

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def work(task: Task, cache: Path, weights: str, known: list[Row], steps: int) -> dict[str, Any]:
    """The row of one task. known: rows of its dataset and seed, whose figures serve where the loss is the same."""
    import torch
    from arms import ARMS, Bench
    from protocol import BUDGET
    from trial import run

    torch.set_num_threads(1)
    dataset, arm, seed = task
    material = _material(dataset, cache, steps)
    own_place = "" if steps == BUDGET.steps else f"steps-{steps}"
    model = cache / own_place / "models" / f"{dataset}-{seed}.safetensors"
    loss = ARMS[arm](Bench(material, seed, weights, model))
    settings = settings_of(loss)
    where = {"dataset": dataset, "arm": arm, "seed": seed, **settings, "steps": steps}
    for row in known:
        if row["steps"] == str(steps) and all(row[name] == settings[name] for name in SETTINGS):
            return {**row, **where, "cpu_seconds": 0}
    figures = run(material, loss, seed, weights, keep=model if arm == "retinanet" else None)
    figures = {name: round(value, 5) if isinstance(value, float) else value for name, value in figures.items()}
    figures["classes"] = json.dumps({name: round(ap, 4) for name, ap in figures.pop("classes", {}).items()})
    return {**where, **figures, "machine": _machine(torch.__version__), "when": time.strftime("%Y-%m-%d %H:%M")}


def _machine(torch_version: str) -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, torch {torch_version}"


def _commit() -> str:
    """Of the tree whose focalcli is measured, with a + where it is changed."""
    import focalcli

    def git(*words: str) -> subprocess.CompletedProcess:
        folder = Path(focalcli.__file__).parent
        return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=False)

    return git("rev-parse", "--short", "HEAD").stdout.strip() + "+" * bool(
        git("diff", "--quiet", "HEAD", "--", ".").returncode
    )


def todo(done: list[Row], options: argparse.Namespace) -> list[Task]:
    """What is left of the plan, or of the chosen part of the product of datasets, arms and seeds."""
    from protocol import plan

    if options.arms and options.seeds:
        tasks = [(d, a, s) for s in options.seeds for d in options.datasets for a in options.arms]
    else:
        tasks = [
            (d, a, s) for d, a, s in plan()
            if d in options.datasets and a in (options.arms or [a]) and s in (options.seeds or [s])
        ]  # fmt: skip
    there = {} if options.again else {(row["dataset"], row["arm"], int(row["seed"])): row for row in done}
    return [task for task in dict.fromkeys(tasks) if task not in there]


def drive(options: argparse.Namespace) -> None:
    """Work through the tasks, the first of them first, until they or the minutes are used up."""
    from protocol import SUBJECTS

    done = rows(options.results)
    left = todo(done, options)
    total, commit, started = len(left), _commit(), time.monotonic()
    running: dict[Future, Task] = {}
    failed: list[Task] = []
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # inherited by the jobs
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), _end_with_driver) as pool:
        while running or left:
            late = options.minutes is not None and time.monotonic() - started > 60 * options.minutes
            if late:
                left = []
            while left and len(running) < options.jobs:
                task = left.pop(0)
                same = [row for row in done if (row["dataset"], int(row["seed"])) == (task[0], task[2])]
                known = [] if options.again else same
                running[pool.submit(work, task, options.cache, options.weights, known, options.steps)] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                task = running.pop(future)
                count = total - len(left) - len(running)
                try:
                    row = {"commit": commit, **future.result()}
                except BrokenProcessPool:  # a job was killed; the others went with it
                    raise
                except Exception as error:  # one run that fails is no reason to lose a night
                    failed.append(task)
                    print(f"{count}/{total} {' '.join(map(str, task))}: failed, {error!r}", file=sys.stderr, flush=True)
                    continue
                append(options.results, row)
                done = rows(options.results)
                ap = "diverged" if row.get("diverged") else f"AP {100 * float(row['AP']):.1f}"
                said = "held out" if SUBJECTS[task[0]].held_out else ap
                print(f"{count}/{total} {' '.join(map(str, task))}: {said}", flush=True)
    if failed:
        sys.exit(f"{len(failed)} runs failed")


def status(options: argparse.Namespace) -> None:
    done = rows(options.results)
    left = todo(done, options)
    seconds = [float(row["cpu_seconds"]) for row in done if float(row["cpu_seconds"])]
    typical = statistics.median(seconds) if seconds else TYPICAL_SECONDS
    hours = typical * len(left) / 3600 / options.jobs
    print(
        f"{len(done)} rows, {len(left)} runs left: {hours:.1f} h with {options.jobs} jobs at {typical:.0f} CPU s a run"
    )
    for dataset in options.datasets:
        mine = [row for row in done if row["dataset"] == dataset]
        missing = sum(task[0] == dataset for task in left)
        print(f"  {dataset:22} {len(mine):4} done {missing:4} left")


def main() -> None:
    from arms import ARMS
    from protocol import BUDGET, SUBJECTS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS), metavar="NAME")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), metavar="NAME", help=", ".join(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="with --arms: beyond the plan's 0 and 1 too")
    parser.add_argument("--minutes", type=float, help="start no run after so many")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="run the chosen arms again, for instance after a new rule")
    parser.add_argument("--status", action="store_true", help="only say what is done and what is left")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "focal-evidence")
    parser.add_argument(
        "--steps", type=int, default=BUDGET.steps, help="of a run; others than the protocol's have a CSV of their own"
    )
    parser.add_argument("--results", type=Path)
    parser.add_argument("--weights", default=str(WEIGHTS) if WEIGHTS.is_file() else "imagenet", help="of the backbone")
    options = parser.parse_args()
    of_steps = RESULTS if options.steps == BUDGET.steps else RESULTS.with_name(f"steps-{options.steps}.csv")
    options.results = options.results or of_steps
    if options.again and not options.arms:
        parser.error("--again needs --arms")
    if options.status:
        return status(options)
    options.cache /= f"protocol-{PROTOCOL}"
    options.cache.mkdir(parents=True, exist_ok=True)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with options.results.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            parser.error(f"another driver writes {options.results}")
        drive(options)


if __name__ == "__main__":
    main()
