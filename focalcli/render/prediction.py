"""What a detector found in pictures, as tables for people: by class, and picture by picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from focalcli.render.console import LABEL, Column, Plain, print_line, print_table
from focalcli.render.text import plural

if TYPE_CHECKING:
    from rich.console import Console

    from focalcli.work.predicting import Prediction

MOST_PICTURES, MOST_CLASSES, MOST_NOT_FOUND = 30, 40, 10  # json has all


def print_prediction(prediction: Prediction, console: Console | Plain) -> None:
    """How many objects of each class have min_score or more, and what is in each of the first pictures."""
    names = prediction.dataset.class_names
    objects, pictures = [0] * len(names), [0] * len(names)
    for found in prediction.found:
        for label, count in found.items():
            objects[label] += count
            pictures[label] += 1
    total = plural(len(prediction.found), "picture")
    sure = f"{plural(sum(objects), 'object')} with a score of {prediction.min_score:g} or more"
    print_line(console, (f"{prediction.checkpoint} on {total}", "bold"), f": {sure}")
    console.print()
    seen = sorted((label for label in range(len(names)) if objects[label]), key=lambda label: -objects[label])
    if seen:
        _print_classes(seen[:MOST_CLASSES], len(seen), prediction, objects, pictures, console)
    if nothing := [name for name, count in zip(names, objects, strict=True) if not count]:
        more = f" and {len(nothing) - MOST_NOT_FOUND:,} more" if len(nothing) > MOST_NOT_FOUND else ""
        print_line(console, ", ".join(nothing[:MOST_NOT_FOUND]) + more, label="Not found", indent=LABEL)
    console.print()
    _print_pictures(prediction, console)


def _print_classes(
    shown: list[int], seen: int, prediction: Prediction, objects: list[int], pictures: list[int],
    console: Console | Plain,
) -> None:  # fmt: skip
    names = prediction.dataset.class_names
    columns = [
        Column("class", [names[label] for label in shown], left=True, style="bold"),
        Column("objects", [f"{objects[label]:,}" for label in shown]),
        Column("pictures", [f"{pictures[label]:,}" for label in shown]),
    ]
    print_table(console, columns, f"and {seen - len(shown):,} more classes" if seen > len(shown) else "")


def _print_pictures(prediction: Prediction, console: Console | Plain) -> None:
    names = prediction.dataset.class_names
    shown = list(zip(prediction.dataset.places, prediction.found, strict=True))[:MOST_PICTURES]
    what = [
        ", ".join(
            f"{count} {names[label]}" for label, count in sorted(found.items(), key=lambda item: (-item[1], item[0]))
        )
        for _, found in shown
    ]
    columns = [
        Column("picture", [place for place, _ in shown], left=True),
        Column("objects", [f"{sum(found.values()):,}" for _, found in shown]),
        Column("of which class", [text or "-" for text in what], left=True),
    ]
    more = len(prediction.found) - len(shown)
    print_table(console, columns, f"and {more:,} more; -o FILE.json and --format json have all" if more else "")
