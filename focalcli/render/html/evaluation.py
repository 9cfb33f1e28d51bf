"""Evaluation -> one HTML page to open, attach or print: what came of each class, why, and the pictures of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from focalcli.coco import GROUP_IMAGES
from focalcli.evaluation import (
    FEW_OBJECTS,
    TYPES,
    ApTable,
    ClassAp,
    ClassBreakdown,
    ClassCalibration,
    ClassErrors,
    Diagnosis,
    Evaluation,
    Gate,
    diagnose,
    find_suspects,
)
from focalcli.evaluation.calibration import LEAST_SCORE
from focalcli.evaluation.diagnosis import CROWDED_IOU
from focalcli.evaluation.suspects import Suspect
from focalcli.evaluation.worst import BadPicture, worst_pictures
from focalcli.render.diagnosis import TITLES, in_common, story, weakest
from focalcli.render.html import drawing, page
from focalcli.render.html.audit import SHOWN_ROWS, dataset_name
from focalcli.render.html.evaluation_plots import (
    MANY_CLASSES,
    MOST_CONFUSED,
    confused_most,
    evaluation_plots,
    weakest_first,
)
from focalcli.render.html.evaluation_sheets import Sheets, sheet_in_words, suspect_in_words
from focalcli.render.html.evaluation_words import find_losses, unlabelled
from focalcli.render.html.thumbnails import Thumbnail

MOST_SHEETS = 8
FEW_SHEETS = 3  # up to so many have twice the pictures
PICTURES_OF_A_SHEET = 3
SUSPECT_PICTURES, SUSPECT_ROWS = 32, 200


@dataclass(frozen=True)
class Sheet:
    """The worst pictures of a class; thumbnails are of those that could be opened."""

    entry: ClassAp
    pictures: tuple[BadPicture, ...]
    words: str
    thumbnails: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class Line:
    """One class in the tables: its AP and what the diagnosis says of it; calibration is None where not measured."""

    row: ClassAp
    errors: ClassErrors
    breakdown: ClassBreakdown
    calibration: ClassCalibration | None


def evaluation_page(result: Evaluation, gates: Sequence[Gate] = ()) -> str:
    """The evaluation as a self-contained page; pictures below the dataset's image root are drawn into it."""
    table, dataset = result.table, result.dataset
    ids = {category.id: label for label, category in enumerate(dataset.categories)}
    labels = sorted(ids[row.category_id] for row in table.classes)
    diagnosis = result.diagnosis or diagnose(dataset, result.found, labels)
    with drawing.styled():
        plots = {
            name: plot and drawing.svg(plot.figure, name, plot.title)
            for name, plot in evaluation_plots(table, diagnosis).items()
        }
    maker = Sheets(dataset)
    sheets = _sheets(result, diagnosis, labels, maker)
    suspects = result.suspects
    if suspects is None and diagnosis.calibration is not None:  # scores that are no chances dispute nothing
        suspects = find_suspects(dataset, result.found, labels)
    places = confused_most(diagnosis.confusion)
    return page.render(
        "evaluation.html.jinja",
        result=result,
        table=table,
        dataset=dataset,
        diagnosis=diagnosis,
        name=dataset_name([dataset.path]),
        today=f"{date.today():%d %B %Y}".lstrip("0"),
        gates=gates,
        groups=_groups(table),
        losses=find_losses(table, diagnosis),
        stories=[
            (row, [_sentence(text) for text in (*story(diagnosis, row), *unlabelled(row, suspects or ()))])
            for row in weakest(table.classes)
        ],
        common=in_common(diagnosis),
        lines=_lines(table.classes, diagnosis),
        plots=plots,
        kinds=[(kind, *TITLES[kind]) for kind in TYPES],
        chosen=places,
        confused=len(diagnosis.confusion.names) - 1 > MOST_CONFUSED,
        sheets=sheets,
        suspects=None if suspects is None else _pictured(suspects, maker),
        suspect_rows=SUSPECT_ROWS,
        unopened=maker.unopened,
        first_reason=maker.first_reason,
        suspect_in_words=suspect_in_words,
        shown_rows=SHOWN_ROWS,
        few_objects=FEW_OBJECTS,
        many=len(table.classes) > MANY_CLASSES,
        least_score=LEAST_SCORE,
        crowded_iou=CROWDED_IOU,
        without_objects=_without_objects(diagnosis),
    )


def _groups(table: ApTable) -> dict[str, float]:
    """LVIS's groups that have a class with objects, and their AP."""
    values = {group: table.summary[f"AP{group[0]}"] for group in GROUP_IMAGES}
    return {group: value for group, value in values.items() if value is not None}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _lines(classes: Sequence[ClassAp], diagnosis: Diagnosis) -> list[Line]:
    errors = {row.category_id: row for row in diagnosis.errors.classes}
    breakdown = {row.category_id: row for row in diagnosis.breakdown}
    calibration = {row.category_id: row for row in diagnosis.calibration.classes} if diagnosis.calibration else {}
    return [
        Line(row, errors[row.category_id], breakdown[row.category_id], calibration.get(row.category_id))
        for row in classes
    ]


def _sheets(result: Evaluation, diagnosis: Diagnosis, labels: Sequence[int], maker: Sheets) -> list[Sheet]:
    """Of the weakest classes that have an error to show."""
    of = {result.dataset.categories[label].id: label for label in labels}
    rows = weakest_first(result.table.classes)[:MOST_SHEETS]
    worst = worst_pictures(
        result.dataset, result.found, labels, diagnosis.confusion.thresholds, [of[row.category_id] for row in rows],
        PICTURES_OF_A_SHEET * (2 if len(rows) <= FEW_SHEETS else 1),
    )  # fmt: skip
    return [
        Sheet(row, pictures, sheet_in_words(pictures), maker.worst(pictures))
        for row in rows
        if (pictures := worst[of[row.category_id]])
    ]


def _pictured(suspects: Sequence[Suspect], maker: Sheets) -> list[tuple[Suspect, Thumbnail | None]]:
    return [
        (suspect, maker.suspect(suspect) if number < SUSPECT_PICTURES else None)
        for number, suspect in enumerate(suspects)
    ]


def _without_objects(diagnosis: Diagnosis) -> list[tuple[str, int]]:
    """The classes without objects that have detections, those with the most first."""
    rows = [(row.name, sum(row.counts.values())) for row in diagnosis.errors.classes if not row.n_val]
    return sorted((pair for pair in rows if pair[1]), key=lambda pair: -pair[1])
