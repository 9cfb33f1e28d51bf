"""Train a recipe with several seeds and print what came of each: the figures in the recipes' headers and in RESULTS.md.

    python tests/bench/seeds.py recipes/bccd.yaml 0 1 2 --runs runs/bench
    python tests/bench/seeds.py recipes/bccd.yaml 0 1 2 --defaults all     RetinaNet's anchors and loss, equal length
    python tests/bench/seeds.py recipes/bccd.yaml 0 1 2 --defaults loss    the recipe's anchors, RetinaNet's loss

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
from focalcli.recommend.per_class import repeat_factors
from focalcli.work.unpack import dataset_of

# Lin et al. 2017, sec. 4 and 4.1: what torchvision's RetinaNet has, whatever the size of its pictures
ANCHORS = ("anchors.sizes=[32,64,128,256,512]", "anchors.ratios=[0.5,1.0,2.0]")
LOSS = (
    "loss.alpha=0.25", "loss.gamma=2.0", "loss.prior=0.01", "loss.box_weight=1.0", "data.repeat_threshold=0.0",
)  # fmt: skip
DEFAULTS = {"all": ANCHORS + LOSS, "loss": LOSS}


def defaults(recipe: Path, which: str) -> tuple[str, ...]:
    """The keys of DEFAULTS, and so many epochs that they see as many pictures as the recipe with its repeats."""
    said = recipes.load(recipe)
    factors = repeat_factors(dataset_of(said, "train"), said.data.repeat_threshold, said.data.repeat_power)
    return (*DEFAULTS[which], f"schedule.epochs={round(said.schedule.epochs * float(factors.mean()))}")


def focal(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "focalcli", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def minutes(log: Path) -> float:
    stamps = [datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S") for line in log.read_text().splitlines()]
    return (stamps[-1] - stamps[0]).total_seconds() / 60


def run(recipe: Path, name: str, seed: int, runs: Path, changed: tuple[str, ...]) -> dict:
    """Metrics of one seed; trains and evaluates what is not there yet."""
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
    parser.add_argument("--defaults", choices=list(DEFAULTS), help="what the recipe is compared with")
    options = parser.parse_args()
    changed = defaults(options.recipe, options.defaults) if options.defaults else ()
    kind = f"-{options.defaults}-defaults" if options.defaults else ""
    names = [f"{recipes.load(options.recipe).name}{kind}-{seed}" for seed in options.seeds]
    results = [
        run(options.recipe, name, seed, options.runs, changed) for name, seed in zip(names, options.seeds, strict=True)
    ]
    first = options.runs / names[0]
    env = json.loads((first / "env.json").read_text())
    where = f"{env['device']}, torch {env['torch']}, Python {platform.python_version()}"
    print(f"{options.recipe}{' with ' * bool(changed)}{' '.join(changed)}, {date.today()}, {where}\n")
    classes = [entry["name"] for entry in results[0]["classes"]]
    print("| seed | minutes | AP | AP50 | " + " | ".join(f"{name} AP50" for name in classes) + " |")
    print("|---|---|---|---|" + "---|" * len(classes))
    for result in results:
        figures = [result["summary"]["AP"], result["summary"]["AP50"], *(entry["AP50"] for entry in result["classes"])]
        cells = [f"{100 * value:.1f}" for value in figures]
        print(f"| {result['seed']} | {result['minutes']:.1f} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
