"""Train a recipe with several seeds and print what came of each: the figures in the recipes' headers and in RESULTS.md.

    python tests/bench/seeds.py recipes/bccd.yaml 0 1 2 --runs runs/bench
    python tests/bench/seeds.py recipes/bccd.yaml 0 1 2 --defaults      the same with RetinaNet's anchors and loss

A run that is there already is not trained again, so the command can be stopped and repeated. Minutes are wall time from
the first to the last line of train.log, evaluations included; AP is what `focal eval` prints for the best checkpoint.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path

from focalcli import recipe as recipes

# Lin et al. 2017, sec. 4 and 4.1: what torchvision's RetinaNet has, whatever the size of its pictures
DEFAULTS = (
    "anchors.sizes=[32,64,128,256,512]", "anchors.ratios=[0.5,1.0,2.0]",
    "loss.alpha=0.25", "loss.gamma=2.0", "loss.prior=0.01",
)  # fmt: skip


def focal(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "focalcli", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def minutes(log: Path) -> float:
    stamps = [datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S") for line in log.read_text().splitlines()]
    return (stamps[-1] - stamps[0]).total_seconds() / 60


def run(recipe: Path, seed: int, runs: Path, changed: tuple[str, ...] = ()) -> dict:
    """Metrics of one seed; trains and evaluates what is not there yet."""
    name = f"{recipes.load(recipe).name}{'-defaults' * bool(changed)}-{seed}"
    folder = runs / name
    finished = (folder / "train.log").is_file() and "next: " in (folder / "train.log").read_text()
    if not finished:
        resume = ["--resume"] if (folder / "checkpoints" / "last.safetensors").is_file() else []
        focal("train", recipe, *changed, f"schedule.seed={seed}", f"name={name}", "--runs", runs, *resume)
    if not (folder / "eval" / "metrics.json").is_file():
        focal("eval", folder)
    metrics = json.loads((folder / "eval" / "metrics.json").read_text())
    return {"seed": seed, "minutes": minutes(folder / "train.log"), **metrics}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench"))
    parser.add_argument("--defaults", action="store_true", help="what a recipe is compared with: see DEFAULTS")
    options = parser.parse_args()
    changed = DEFAULTS if options.defaults else ()
    results = [run(options.recipe, seed, options.runs, changed) for seed in options.seeds]
    first = options.runs / f"{recipes.load(options.recipe).name}{'-defaults' * options.defaults}-{options.seeds[0]}"
    env = json.loads((first / "env.json").read_text())
    where = f"{env['device']}, torch {env['torch']}, Python {platform.python_version()}"
    print(f"{options.recipe}{' with ' * bool(changed)}{' '.join(changed)}, {date.today()}, {where}\n")
    names = [entry["name"] for entry in results[0]["classes"]]
    print("| seed | minutes | AP | AP50 | " + " | ".join(f"{name} AP50" for name in names) + " |")
    print("|---|---|---|---|" + "---|" * len(names))
    for result in results:
        figures = [result["summary"]["AP"], result["summary"]["AP50"], *(entry["AP50"] for entry in result["classes"])]
        cells = [f"{100 * value:.1f}" for value in figures]
        print(f"| {result['seed']} | {result['minutes']:.1f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
