"""Whether the gain of rare classes is one of an even validation split: the same models, scored where they stay rare.

    python tests/bench/evidence/natural.py --jobs 2       # about 25 minutes of one core; results/natural.csv

The protocol validates drawn sets on as many rare objects as frequent ones, so that AP of the rare class is exact. But a
detector that cries a rare class too often pays for it less there. Here each model is also scored on PICTURES new ones
drawn with the imbalance of training. Rows that are there are not run again.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from record import PROTOCOL, RESULTS  # noqa: E402 (the path comes first)
from run import WEIGHTS, _material  # noqa: E402

PICTURES = 2000
DATASETS = ("shapes-100", "textures-100", "glyphs-100", "letters-100")
ARMS, SEEDS = ("retinanet", "recommend"), (0, 1)
FIGURES = ("AP", "AP50", "rare_AP", "rare_AP50", "ECE")
FIELDS = ("dataset", "arm", "seed", "validation", *FIGURES)


def work(dataset: str, arm: str, seed: int, cache: Path, weights: str) -> list[dict[str, object]]:
    """The two rows of one model, trained here."""
    import torch
    from arms import ARMS as KNOWN
    from arms import Bench
    from families import FAMILIES, draw
    from material import write
    from PIL import Image
    from protocol import BUDGET, SUBJECTS
    from safetensors.torch import load_file
    from trial import new_model, run, scored

    from focalcli import coco

    torch.set_num_threads(1)
    material, subject = _material(dataset, cache, BUDGET.steps), SUBJECTS[dataset]
    folder = cache / "natural" / dataset
    file = folder / "annotations" / "val.json"
    if not file.is_file():
        pictures = (draw(FAMILIES[subject.family], subject.dial, "train", n, seed=1) for n in range(PICTURES))
        shown = ((Image.fromarray(p.pixels), p.boxes, p.labels, p.labels < 0) for p in pictures)
        aside = folder.with_name(f"{dataset}.{os.getpid()}.part")
        write(aside, list(material.train.class_names), {"val": shown})
        try:
            aside.rename(folder)
        except OSError:  # another job was faster; what it wrote is the same
            shutil.rmtree(aside)
    loss = KNOWN[arm](Bench(material, seed, weights, cache / "models" / f"{dataset}-{seed}.safetensors"))
    kept = cache / "natural" / f"{dataset}-{arm}-{seed}.safetensors"
    even = run(material, loss, seed, weights, keep=kept)
    model = new_model(material, material.prior(loss), seed, weights)
    model.load_state_dict(load_file(kept))
    natural = scored(model.eval(), material, coco.load(file))
    return [
        {"dataset": dataset, "arm": arm, "seed": seed, "validation": name, **{f: round(found[f], 5) for f in FIGURES}}
        for name, found in (("even", even), ("as in training", natural))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "focal-evidence")
    parser.add_argument("--results", type=Path, default=RESULTS.with_name("natural.csv"))
    parser.add_argument("--weights", default=str(WEIGHTS) if WEIGHTS.is_file() else "imagenet", help="of the backbone")
    options = parser.parse_args()
    cache = options.cache / f"protocol-{PROTOCOL}"
    (cache / "natural").mkdir(parents=True, exist_ok=True)
    done = list(csv.DictReader(options.results.open())) if options.results.is_file() else []
    there = {(row["dataset"], row["arm"], int(row["seed"])) for row in done}
    left = [(d, a, s) for d in DATASETS for s in SEEDS for a in ARMS if (d, a, s) not in there]
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        for rows in pool.map(work, *zip(*left, strict=True), [cache] * len(left), [options.weights] * len(left)):
            with options.results.open("a", newline="") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerows(rows)
            for row in rows:
                print(*row.values(), flush=True)


if __name__ == "__main__":
    main()
