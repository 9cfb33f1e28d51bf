"""How often `focal tune` names a winner, by how far a point really leads: studies whose scores are normal noise.

    python tests/bench/tune_power.py

A study has the recipe and two challengers, three runs of each; a leader and the recipe go on to six, and a lead that
is lost on the way ends it (work/tuning/study.py). Leads are in standard deviations between seeds.
"""

from __future__ import annotations

import numpy as np

from focalcli.work.tuning.study import CONFIRMED, REPEATS
from focalcli.work.tuning.verdict import judge

STUDIES = 1500
LEADS = (0.0, 1.5, 2.0, 2.4, 2.8, 3.1, 3.5)


def study(rng: np.random.Generator, lead: float) -> tuple[str | None, str | None]:
    """Who leads after REPEATS runs, and who after CONFIRMED."""
    means = {"leads": lead, "no better": 0.0}
    own = list(rng.normal(0, 1, REPEATS))
    runs = {name: list(rng.normal(mean, 1, REPEATS)) for name, mean in means.items()}
    first = winner = judge(own, runs).winner
    while winner and min(len(own), len(runs[winner])) < CONFIRMED:
        fewer = own if len(own) <= len(runs[winner]) else runs[winner]
        fewer.append(rng.normal(0.0 if fewer is own else means[winner], 1))
        winner = judge(own, runs).winner
    return first, winner


def main() -> None:
    rng = np.random.default_rng(0)
    print(f"| lead | found by {REPEATS} runs | by {CONFIRMED} | any winner by {REPEATS} | by {CONFIRMED} |")
    print("|---|---|---|---|---|")
    for lead in LEADS:
        pairs = [study(rng, lead) for _ in range(STUDIES)]
        found = [np.mean([pair[stage] == "leads" for pair in pairs]) for stage in (0, 1)]
        named = [np.mean([pair[stage] is not None for pair in pairs]) for stage in (0, 1)]
        print(f"| {lead:g} | " + " | ".join(f"{share:.1%}" for share in (*found, *named)) + " |")


if __name__ == "__main__":
    main()
