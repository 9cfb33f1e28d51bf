"""The evidence as markdown tables: regret of each arm, the noise between seeds, the rare third, table 1's order, ECE.

    python tests/bench/evidence/analyse.py              # without the datasets that are held out
    python tests/bench/evidence/analyse.py --unseal     # once the rule is written

AP x100. Drawn sets of one family share their pictures' making and their validation split, so a family counts once: a
mean is one of families, its interval Student's 95 % over them, none below three. `~` marks a difference of less than
twice its standard error by the pooled standard deviation between seeds; with so many arms, some others are luck too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from record import RESULTS, Row, rows

from focalcli.chance import t_quantile

DEFAULT = "retinanet"
LEARNED = 10.0
LEAST_POINTS = 12  # of the grid, before anything is called its best
BALANCED = ("deeppcb_600", "shapes-1", "textures-1", "glyphs-1", "letters-1")  # below 3:1: no class is rare
COPIES = {"retinanet": "grid 0.25 2", "ce": "grid 0.5 0"}  # arms that are points of the grid
SUMMARY = {
    "AP": "AP", "rare_AP": "AP of the rare third", "worst_AP": "AP of the worst class",
    "frequent_AP50": "AP50 of the most frequent class", "ECE": "ECE",
}  # fmt: skip
COMMON_PAIRS = ("grid 0.5 5", "grid 0.75 2", "grid 0.25 0.5")
Value = dict[tuple[str, str], dict[int, float]]  # (dataset, arm) -> seed -> x100


def values(done: Iterable[Row], metric: str) -> Value:
    """A run that diverged has AP 0 and no ECE; an undefined figure is left out.

    `frequent_AP50` is that of the class with most training objects.
    """
    found: Value = defaultdict(dict)
    for row in done:
        where, seed = (row["dataset"], row["arm"]), int(row["seed"])
        if row["diverged"]:
            if metric != "ECE":
                found[where][seed] = 0.0
        elif metric == "frequent_AP50":
            found[where][seed] = 100 * list(json.loads(row["classes"]).values())[-1]
        elif row[metric]:
            found[where][seed] = 100 * float(row[metric])
    return dict(found)


def with_copies(found: Value) -> Value:
    """The grid with the arms that are points of it, where only the arm was run with a seed."""
    whole = {key: dict(seeds) for key, seeds in found.items()}
    for (dataset, arm), seeds in found.items():
        if arm in COPIES:
            whole[dataset, COPIES[arm]] = seeds | whole.get((dataset, COPIES[arm]), {})
    return whole


def noise(found: Value) -> tuple[float, int]:
    """Standard deviation between seeds of one dataset and arm, pooled over all that have several; and how many."""
    groups = [
        list(seeds.values()) for (_, arm), seeds in found.items() if len(seeds) > 1 and arm not in COPIES.values()
    ]
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(float(np.var(group)) * len(group) for group in groups)
    return (squares / freedom) ** 0.5 if freedom else float("nan"), len(groups)


def noise_by_dataset(found: Value) -> dict[str, float]:
    return {
        dataset: noise({key: seeds for key, seeds in found.items() if key[0] == dataset})[0]
        for dataset in dict.fromkeys(key[0] for key in found)
    }


def difference(found: Value, dataset: str, arm: str, other: str) -> tuple[float, int] | None:
    """Mean over the seeds that both have of arm minus other, and how many seeds those are."""
    one, two = found.get((dataset, arm), {}), found.get((dataset, other), {})
    shared = sorted(one.keys() & two.keys())
    return (float(np.mean([one[s] - two[s] for s in shared])), len(shared)) if shared else None


def regrets(
    found: Value, dataset: str, arm: str, least_points: int = LEAST_POINTS
) -> tuple[float, float | None] | None:
    """How far an arm stays behind the grid's best, by the same seeds and by others; None before enough points are done.

    The best of many noisy figures is too good by luck, so the first is too large. In the second the best point is
    chosen by other seeds and judged by one that had no say, each seed of the arm in turn; None where that cannot be. A
    seed in which only the best points were run again judges, but does not choose.
    """
    grid = {a: seeds for (d, a), seeds in with_copies(found).items() if d == dataset and a.startswith("grid ")}
    mine = found.get((dataset, arm), {})
    every = {seed for seeds in grid.values() for seed in seeds}
    choosing = {seed for seed in every if sum(seed in seeds for seeds in grid.values()) >= least_points}

    def best(chosen_by: set[int]) -> tuple[float, str] | None:
        seen = {
            a: [seeds[s] for s in chosen_by] for a, seeds in grid.items() if chosen_by and chosen_by <= seeds.keys()
        }
        return max(((float(np.mean(aps)), a) for a, aps in seen.items()), default=None)

    common = choosing & mine.keys()
    top = best(common)
    if top is None:
        return None
    same = top[0] - float(np.mean([mine[s] for s in common]))
    chosen = {seed: best(choosing - {seed}) for seed in mine}
    judged = [grid[point[1]][s] - mine[s] for s, point in chosen.items() if point and s in grid[point[1]]]
    return same, float(np.mean(judged)) if judged else None


def family(dataset: str) -> str:
    """What a dataset shares its pictures' making with: shapes-10-sparse is one of the shapes, letters are glyphs."""
    return dataset.split("-")[0].replace("letters", "glyphs")


def interval(per_dataset: dict[str, list[float]]) -> tuple[float, float]:
    """Mean over families of the mean over their datasets, and half of its 95 % interval (nan below three families)."""
    families: dict[str, list[float]] = defaultdict(list)
    for dataset, each in per_dataset.items():
        families[family(dataset)].append(float(np.mean(each)))
    means = [float(np.mean(each)) for each in families.values()]
    if len(means) < 3:
        return float(np.mean(means)), float("nan")
    width = t_quantile(0.95, len(means) - 1) * float(np.std(means, ddof=1)) / len(means) ** 0.5
    return float(np.mean(means)), width


def with_interval(per_dataset: dict[str, list[float]]) -> str:
    mean, width = interval(per_dataset)
    return f"{mean:+.1f}" if np.isnan(width) else f"{mean:+.1f} ({mean - width:+.1f} to {mean + width:+.1f})"


def table(head: list[str], body: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body)) + "\n"


def signed(value: float, error: float) -> str:
    """A difference, with ~ where it is less than twice its standard error."""
    return f"{value:+.1f}" + ("~" if not abs(value) >= 2 * error else "")


# ---------------------------------------------------------------------------------------------------------- the tables


def arms_table(done: list[Row], metric: str, arms: list[str], datasets: list[str]) -> str:
    """Mean over the seeds of each arm."""
    found, sd = values(done, metric), noise_by_dataset(values(done, metric))
    body = []
    for dataset in datasets:
        best = max(
            ((np.mean(list(v.values())), a) for (d, a), v in found.items() if d == dataset and a.startswith("grid ")),
            default=None,
        )
        cells = [f"{np.mean(list(v.values())):.1f}" if (v := found.get((dataset, arm))) else "" for arm in arms]
        top = [f"{best[0]:.1f} ({best[1].removeprefix('grid ')})"] if best else [""]
        body.append([dataset, *cells, *top, f"{sd.get(dataset, float('nan')):.1f}"])
    return table(["dataset", *arms, "best of grid (alpha gamma)", "sd between seeds"], body)


def regret_table(done: list[Row], arms: list[str], datasets: list[str]) -> str:
    found = values(done, "AP")
    body = []
    for arm in arms:
        each = {dataset: r for dataset in datasets if (r := regrets(found, dataset, arm))}
        if not each:
            continue
        crossed = {dataset: [r[1]] for dataset, r in each.items() if r[1] is not None}
        same = with_interval({dataset: [r[0]] for dataset, r in each.items()})
        other = f"{with_interval(crossed)} on {len(crossed)}" if crossed else ""
        body.append([arm, str(len(each)), same, other])
    return table(["arm", "datasets", "regret, same seeds", "regret, best chosen by other seeds"], body)


def against_default(done: list[Row], metric: str, arms: list[str], datasets: list[str]) -> str:
    """Each arm minus the default, by dataset, and the mean with its interval."""
    found = values(done, metric)
    sd = noise(found)[0]
    body = []
    for arm in arms:
        cells, each = [], {}
        for dataset in datasets:
            pair = difference(found, dataset, arm, DEFAULT)
            cells.append(signed(pair[0], sd * (2 / pair[1]) ** 0.5) if pair else "")
            if pair:
                each[dataset] = [pair[0]]
        body.append([arm, *cells, with_interval(each) if each else ""])
    return table(["arm", *datasets, "mean"], body)


def by_dataset(done: list[Row], arm: str, datasets: list[str]) -> str:
    """The default and the arm, mean over the seeds that both have."""
    names = {"AP": "AP", "rare_AP": "AP of the rare third", "frequent_AP50": "AP50 of the most frequent class"}
    found = {metric: values(done, metric) for metric in names}
    body = []
    for dataset in datasets:
        cells = []
        for each in found.values():
            one, two = each.get((dataset, DEFAULT), {}), each.get((dataset, arm), {})
            seeds = one.keys() & two.keys()
            if seeds:
                means = [float(np.mean([mine[seed] for seed in seeds])) for mine in (one, two)]
                cells.append(f"{means[0]:.1f} to {means[1]:.1f}")
        if cells:
            body.append([dataset, str(len(seeds)), *cells])
    return table(["dataset", "seeds", *names.values()], body)


def summary_table(done: list[Row], arms: list[str], datasets: list[str]) -> str:
    """The default's figures, and each arm minus it over the datasets that the arm has, seed by seed."""
    by_metric = {metric: values(done, metric) for metric in SUMMARY}
    body = []
    for arm in arms:
        cells, runs = [], {}
        for found in by_metric.values():
            mine, default = ({d: found.get((d, a), {}) for d in datasets} for a in (arm, DEFAULT))
            shared = {d: sorted(mine[d].keys() & default[d].keys()) for d in datasets}
            runs = {d: seeds for d, seeds in shared.items() if seeds} if not cells else runs
            less = 0 if arm == DEFAULT else 1
            each = {d: [mine[d][s] - less * default[d][s] for s in seeds] for d, seeds in shared.items() if seeds}
            cells.append("" if not each else with_interval(each) if less else f"{interval(each)[0]:.1f}")
        if runs:
            body.append([arm, f"{len(runs)} ({sum(map(len, runs.values()))})", *cells])
    return table(["arm", "datasets (runs)", *SUMMARY.values()], body)


def learned_table(done: list[Row]) -> str:
    """AP50 of the default arm's worst class, the lowest seed: below LEARNED a dataset says nothing of that class."""
    worst = {dataset: seeds for (dataset, arm), seeds in values(done, "worst_AP50").items() if arm == DEFAULT}
    body = [
        [dataset, " ".join(f"{seeds[s]:.1f}" for s in sorted(seeds)), "yes" if min(seeds.values()) > LEARNED else "no"]
        for dataset, seeds in worst.items()
    ]
    return table(["dataset", "AP50 of the worst class, by seed", f"above {LEARNED:g}"], body)


def order_table(done: list[Row], datasets: list[str]) -> str:
    """Whether CE < alpha-CE < focal (Lin et al. 2017, table 1) holds; focal is (0.25, 2)."""
    found = values(done, "AP")
    sd = noise(found)[0]
    body = []
    for dataset in datasets:
        steps = [difference(found, dataset, *pair) for pair in (("alpha_ce", "ce"), (DEFAULT, "alpha_ce"))]
        if None in steps:
            continue
        words = [signed(step[0], sd * (2 / step[1]) ** 0.5) for step in steps if step]
        holds = "within the noise" if any("~" in w for w in words) else "yes" if "-" not in "".join(words) else "no"
        body.append([dataset, *words, holds])
    return table(["dataset", "alpha-CE - CE", "focal - alpha-CE", "order of table 1"], body)


def surface(done: list[Row], metric: str, datasets: list[str]) -> str:
    """AP of each grid point minus the dataset's best, mean over the datasets that have it: the shape of the loss."""
    found = values(done, metric)
    means = {key: float(np.mean(list(seeds.values()))) for key, seeds in found.items() if key[1].startswith("grid ")}
    best = {dataset: max((v for (d, _), v in means.items() if d == dataset), default=None) for dataset in datasets}
    points = sorted({tuple(map(float, arm.split()[1:])) for _, arm in means})
    alphas, gammas = sorted({a for a, _ in points}), sorted({g for _, g in points})
    body = []
    for alpha in alphas:
        cells = []
        for gamma in gammas:
            arm = f"grid {alpha:g} {gamma:g}"
            behind = [means[d, arm] - best[d] for d in datasets if (d, arm) in means]
            cells.append(f"{np.mean(behind):.1f} ({len(behind)})" if behind else "")
        body.append([f"alpha {alpha:g}", *cells])
    return table(["", *(f"gamma {gamma:g}" for gamma in gammas)], body)


def groups_of(datasets: list[str]) -> dict[str, list[str]]:
    """By how many objects the most frequent class has for each of the rarest."""
    steep = [name for name in datasets if name.endswith("-100")]
    even = [name for name in datasets if name in BALANCED]
    between = [name for name in datasets if name not in steep + even]
    return {"100:1": steep, "about 10:1": between, "even": even}


def report(done: list[Row], datasets: list[str], say: Callable[[str], None] = print) -> None:
    """All tables of these datasets."""
    done = [row for row in done if row["dataset"] in datasets]
    datasets = [dataset for dataset in datasets if any(row["dataset"] == dataset for row in done)]
    arms = [arm for arm in dict.fromkeys(row["arm"] for row in done) if not arm.startswith("grid ")]
    if not done:
        return say("no rows yet")
    for metric, title in (
        ("AP", "AP"), ("AP50", "AP50"), ("rare_AP", "AP of the rare third"), ("rare_AP50", "AP50 of the rare third"),
        ("worst_AP", "AP of the worst class"), ("ECE", "ECE (x100)"),
    ):  # fmt: skip
        sd, groups = noise(values(done, metric))
        say(f"\n### {title}\n\nPooled sd between seeds {sd:.2f}, from {groups} pairs of dataset and arm.\n")
        say(arms_table(done, metric, arms, datasets))
    for title, chosen in groups_of(datasets).items():
        say(f"\n### {DEFAULT}, and each arm minus it, on the {title} datasets\n")
        say(summary_table(done, [DEFAULT, *(a for a in arms if a != DEFAULT), *COMMON_PAIRS], chosen))
    say(f"\n### {DEFAULT} to recommend\n")
    say(by_dataset(done, "recommend", datasets))
    say("\n### Regret against the best of the grid, AP\n")
    say(regret_table(done, arms, datasets))
    for metric, title in (("AP", "AP"), ("rare_AP", "AP of the rare third")):
        say(f"\n### {title}, each arm minus {DEFAULT} (~: within the noise)\n")
        say(against_default(done, metric, [arm for arm in arms if arm != DEFAULT], datasets))
    say("\n### Order of the paper's table 1 (~: within the noise)\n")
    say(order_table(done, datasets))
    for metric, title in (("AP", "AP"), ("rare_AP", "AP of the rare third")):
        say(f"\n### {title} of the grid, behind each dataset's best; in brackets the number of datasets\n")
        say(surface(done, metric, datasets))


def main() -> None:
    from protocol import SUBJECTS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unseal", action="store_true", help="show the datasets that are held out too, by themselves")
    parser.add_argument("--together", action="store_true", help="with --unseal: all datasets in one set of tables too")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    done = rows(options.results)
    open_ones = [name for name, subject in SUBJECTS.items() if not subject.held_out]
    held_out = [name for name, subject in SUBJECTS.items() if subject.held_out]
    print(f"### What {DEFAULT} learned, on every dataset\n\n{learned_table(done)}")
    report(done, open_ones)
    if options.unseal:
        print("\n## Held out\n")
        report(done, held_out)
        if options.together:
            print("\n## All datasets\n")
            report(done, open_ones + held_out)
    else:
        count = sum(row["dataset"] in held_out for row in done)
        print(f"\n{count} rows of {', '.join(held_out)} are held out; --unseal shows them once the rule is written")


if __name__ == "__main__":
    main()
