"""Train one recipe with several alphas and gammas, all else equal, and print how far scores are from chances.

    python tests/bench/calibration.py recipes/bccd.yaml --runs runs/calibration
    python tests/bench/calibration.py recipes/sample.yaml --arms 0.5,0 0.25,2 --seed 1 --split test

An arm is alpha,gamma: 0.5,0 is cross-entropy (times 0.5), 0.75,0 Lin et al.'s best with weights only, 0.25,2 theirs of
focal loss. Every arm starts from the same prior (0.01) and the same seed, and its checkpoint is the one of the best AP.
A run that is there already is not trained again, so the command can be stopped and repeated.

ECE and LaECE x100 of the scores from 0.05 on, at IoU 0.5; the maps are cross-fitted: no picture is judged by a map that
has seen it. "luck" is the ECE that so many detections would show if their scores, as platt maps them, were exactly
their chances. AP is the same before and after each map, which is checked here.

The second table has the bins of each arm, and the share of positives at which its loss is at rest at the bin's mean
score: where the gradients of positive and of negative anchors cancel. "loss" in the first table is the ECE after that
map, which nothing was fitted for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from focalcli import coco, evaluation
from focalcli import recipe as recipes
from focalcli.coco import Dataset, Floats
from focalcli.detections import Detections, load_detections
from focalcli.evaluation import ApTable, Calibration, HeldOut
from focalcli.evaluation.calibration import measure
from focalcli.focal_loss import focal_gradient

ARMS = ("0.5,0", "0.75,0", "0.25,2", "0.5,0.5")
PRIOR = 0.01


def focal(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "focalcli", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def trained(recipe: Path, arm: str, seed: int, runs: Path, device: str) -> Path:
    """The run folder of an arm; trains or resumes what is not finished."""
    alpha, gamma = arm.split(",")
    folder = runs / f"{recipes.load(recipe).name}-a{alpha}-g{gamma}-{seed}"
    log, last = folder / "train.log", folder / "checkpoints" / "last.safetensors"
    if not (log.is_file() and "next: " in log.read_text()):
        values = (f"loss.alpha={alpha}", f"loss.gamma={gamma}", f"loss.prior={PRIOR}", f"schedule.seed={seed}")
        resume = ["--resume"] if last.is_file() else []
        focal("train", recipe, *values, f"name={folder.name}", "--runs", runs, "--device", device, *resume)
    return folder


def detected(folder: Path, data: Path | None, split: str, device: str) -> tuple[Dataset, Detections]:
    """The pictures of the split, and what the run finds there by its own scores."""
    out = folder / f"raw-{split}"
    if not (out / "predictions.coco.json").is_file():
        where = [] if data is None else [data]
        focal("eval", folder, *where, "--split", split, "--raw-scores", "--rounds", 0, "--out", out, "--device", device)
    dataset = coco.load(Path(json.loads((out / "metrics.json").read_text())["dataset"]))
    return dataset, load_detections(out / "predictions.coco.json", dataset)


def at_rest(scores: Floats, arm: str) -> Floats:
    """The share of positives at which an arm's loss neither raises nor lowers a score."""
    alpha, gamma = map(float, arm.split(","))
    logit = np.log(scores) - np.log1p(-scores)
    pull, push = (focal_gradient(logit, kind, alpha=alpha, gamma=gamma) for kind in (True, False))
    return push / (push - pull)


def judged(arm: str, dataset: Dataset, found: Detections) -> tuple[ApTable, dict[str, HeldOut], Calibration]:
    """The AP table, each method with its held-out figures, and the calibration of scores mapped by the loss alone."""
    labels = list(range(len(dataset.categories)))
    table = evaluation.evaluate(dataset, found)
    hits = evaluation.judge(dataset, found)
    results = {}
    for method, per_class in (("temperature", False), ("platt", True), ("isotonic", True)):
        results[method] = evaluation.hold_out(dataset, hits, labels, method, per_class=per_class)
        mapped = results[method].scaling.of_detections(found, dataset.class_names)
        assert evaluation.evaluate(dataset, mapped).summary == table.summary
    by_loss = replace(hits, scores=at_rest(np.minimum(hits.scores, 1 - 1e-7), arm))
    return table, results, measure(dataset, by_loss, labels)


def rows(arm: str, table: ApTable, results: dict[str, HeldOut], by_loss: Calibration) -> list[str]:
    """A markdown row for all detections together, and one for each class."""
    whole = [("all", table.summary["AP"], table.summary["AP50"], [result.overall for result in results.values()])]
    changes = zip(*(result.classes for result in results.values()), strict=True)
    whole += [(entry.name, entry.AP, entry.AP50, own) for entry, own in zip(table.classes, changes, strict=True)]
    lines = []
    of_loss = (by_loss.overall, *by_loss.classes)
    for (name, ap, ap50, (temperature, platt, isotonic)), loss in zip(whole, of_loss, strict=True):
        before = temperature.before
        if before.ECE is None:
            lines.append(f"| {arm.replace(',', ', ')} | {name} | {x100(ap)} | {x100(ap50)} | 0 |" + " - |" * 11)
            continue
        after = [each.after.ECE for each in (temperature, platt, isotonic)]
        figures = (before.ECE, loss.ECE, *after, platt.ECE_luck, before.LaECE, platt.after.LaECE)
        cells = [
            arm.replace(",", ", "),
            name,
            x100(ap),
            x100(ap50),
            f"{before.detections:,}",
            f"{before.mean_score:.2f}",
        ]
        cells += [f"{before.precision:.2f}", before.verdict.split(":")[0], *map(x100, figures)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def bins(arm: str, dataset: Dataset, found: Detections) -> list[str]:
    """A markdown row for each bin of scores, all classes together."""
    lines = []
    for each in evaluation.calibration(dataset, found).overall.bins:
        if each.mean_score is None or each.precision is None:
            continue
        expected = float(at_rest(np.array(each.mean_score), arm))
        cells = [arm.replace(",", ", "), f"{each.low:.1f}-{each.high:.1f}", f"{each.detections:,}"]
        cells += [f"{each.mean_score:.3f}", f"{expected:.3f}", f"{each.precision:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def x100(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--arms", nargs="+", default=ARMS, metavar="ALPHA,GAMMA")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/calibration"))
    parser.add_argument("--data", type=Path, help="dataset to judge on; the recipe's own without it")
    parser.add_argument("--split", default="val")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    print(f"{options.recipe}, seed {options.seed}, judged on {options.split}, {date.today()}\n")
    print(
        "| alpha, gamma | class | AP | AP50 | detections | mean score | right | verdict | ECE | loss | temperature "
        "| platt | isotonic | luck | LaECE | platt |"
    )
    print("|---|---|" + "---|" * 14)
    scored = {}
    for arm in options.arms:
        folder = trained(options.recipe, arm, options.seed, options.runs, options.device)
        scored[arm] = detected(folder, options.data, options.split, options.device)
        print("\n".join(rows(arm, *judged(arm, *scored[arm]))), flush=True)
    print("\n| alpha, gamma | score | detections | mean score | the loss at rest | right |\n|---|---|" + "---|" * 4)
    for arm, (dataset, found) in scored.items():
        print("\n".join(bins(arm, dataset, found)))


if __name__ == "__main__":
    main()
