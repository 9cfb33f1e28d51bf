"""Runs, checkpoints, folders of `focal eval`, metrics.json or detections -> how each differs from the first, per class.

With the detections of both at hand a difference gets an interval and a verdict; with the figures alone it is only a
difference. Detections are read one file after the other, and dropped once measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from focalcli import evaluation
from focalcli.coco import Dataset
from focalcli.detections import load_detections
from focalcli.errors import FocalError
from focalcli.evaluation import ClassDifference, Comparison, Comparisons, Difference, Measured, Saved, Versus
from focalcli.splits import load_split, split_file
from focalcli.work import scoring

PREDICTIONS = "predictions.coco.json"
_SOURCES = "expected runs, checkpoints, folders or metrics.json that `focal eval` wrote, or detections"


@dataclass(frozen=True)
class Contender:
    """One detector: what is known of it before its detections are read.

    Attributes:
        path: as the user named it. saved: the figures of an earlier evaluation. detections: their file. A contender
            without either is a checkpoint, whose detector has to run.
    """

    path: Path
    saved: Saved | None
    detections: Path | None

    @property
    def must_run(self) -> bool:
        return self.saved is None and self.detections is None


# (checkpoint, dataset or None for its own) -> its evaluation
RunDetector = Callable[[Path, Path | None], evaluation.Evaluation]


def compare(
    sources: Sequence[Path],
    dataset: Path | None,
    split: str | None,
    images: Path | None,
    *,
    rounds: int,
    run_detector: RunDetector,
) -> tuple[Comparisons, list[str]]:
    """Compare each source with the first, and say what the user should know beside the figures.

    Args:
        dataset: what detections belong to; without it, what the saved evaluations name.
        rounds: of the bootstrap.

    Raises:
        FocalError: nothing to compare there, or the sources are of different datasets.
    """
    if len(sources) < 2:
        raise FocalError(f"{sources[0]}: one detector; {_SOURCES}", "name two or more: `focal compare A B`")
    contenders = [find(path) for path in sources]
    notes = [note for one in contenders for note in _stale(one)]
    _refuse_other_datasets([one for one in contenders if one.saved is not None])
    ran = {one.path: run_detector(one.path, dataset) for one in contenders if one.must_run}
    data, reason = _dataset(contenders, ran, dataset, split, images)
    if data is None:
        notes.append(f"only the figures are compared, without intervals and verdicts: {reason}")
        versus = [Versus(contenders[0].path, one.path, _of_figures(contenders[0], one)) for one in contenders[1:]]
        name = next((one.saved.dataset for one in contenders if one.saved), None)
        return Comparisons(tuple(versus), name, _n_train(contenders, ran)), notes
    labels = _labels(contenders, ran, data, notes)
    measured: list[Measured | None] = []
    for one in contenders:
        if one.detections is None and not one.must_run:
            measured.append(None)
            missing = f"{one.path} has no {PREDICTIONS} beside its figures"
            notes.append(f"only the figures are compared, without intervals and verdicts: {missing}")
            continue
        found = ran[one.path].found if one.must_run else load_detections(one.detections, data)
        if not one.must_run:
            evaluation.refuse_misread(data, found, str(one.detections))
        measured.append(evaluation.measure(data, found, labels=labels, rounds=rounds))
    versus = []
    for one, after in zip(contenders[1:], measured[1:], strict=True):
        if measured[0] is None or after is None:
            pair = _of_figures(contenders[0], one)
        else:
            pair = evaluation.compare(measured[0], after)
        versus.append(Versus(contenders[0].path, one.path, pair))
    return Comparisons(tuple(versus), str(data.path), _n_train(contenders, ran)), notes


def find(path: Path) -> Contender:
    """What a path means.

    Raises:
        FocalError: nothing there, or a metrics.json that is none.
    """
    if path.is_dir():
        places = [place for place in (path, path / "eval") if (place / "metrics.json").is_file()]
        if places:
            return _with_predictions(path, places[0] / "metrics.json")
        if (path / PREDICTIONS).is_file():
            return Contender(path, None, path / PREDICTIONS)
        if any(path.glob("checkpoints/*.safetensors")) or any(path.glob("*.safetensors")):
            return Contender(path, None, None)
        raise FocalError(
            f"{path}: no evaluation and no checkpoint in this folder; {_SOURCES}", "`focal eval` makes one"
        )
    if not path.is_file():
        raise FocalError(f"{path}: no such file; {_SOURCES}", "`focal eval RUN --out DIR` writes an evaluation")
    if path.suffix == ".safetensors":
        return Contender(path, None, None)
    if path.name.endswith(".gz") or _first_sign(path) == b"[":
        return Contender(path, None, path)
    return _with_predictions(path, path)


def _with_predictions(path: Path, metrics: Path) -> Contender:
    """The figures of a metrics.json, with the detections beside it or those that it was computed from."""
    saved = evaluation.load_saved(metrics)
    beside = metrics.with_name(PREDICTIONS)
    if beside.is_file():
        return Contender(path, saved, beside)
    source = Path(saved.source) if saved.source else None
    usable = source is not None and scoring.is_detections(source) and source.is_file()
    return Contender(path, saved, source if usable else None)


def _first_sign(path: Path) -> bytes:
    with open(path, "rb") as file:
        while sign := file.read(1):
            if not sign.isspace():
                return sign
    return b""


def _stale(one: Contender) -> list[str]:
    """A warning where a saved evaluation is older than the checkpoint that it is of."""
    checkpoint = Path(one.saved.source) if one.saved and one.saved.source else None
    if checkpoint is None or checkpoint.suffix != ".safetensors" or not checkpoint.is_file():
        return []
    if checkpoint.stat().st_mtime <= one.saved.path.stat().st_mtime:
        return []
    return [f"warning: {checkpoint} is newer than {one.saved.path}; `focal eval {one.path}` scores it again"]


def _refuse_other_datasets(contenders: Sequence[Contender]) -> None:
    """Raise FocalError where two evaluations are of different objects: their figures cannot be compared."""
    known = [one.saved for one in contenders if one.saved.dataset_sha256 is not None]
    for other in known[1:]:
        if other.dataset_sha256 != known[0].dataset_sha256:
            raise FocalError(
                f"{other.path} is of {other.dataset}, {known[0].path} of {known[0].dataset}, and the two differ; "
                "expected evaluations on one dataset",
                "score both on the same file: `focal eval RUN DATASET --out DIR`",
            )
    for other in contenders[1:]:
        first = contenders[0].saved
        for name in first.classes.keys() & other.saved.classes.keys():
            if first.n_val[name] != other.saved.n_val[name]:
                raise FocalError(
                    f"{other.saved.path}: {other.saved.n_val[name]} objects of {name!r}, {first.path} has "
                    f"{first.n_val[name]}; expected evaluations on one dataset",
                    "score both on the same file: `focal eval RUN DATASET --out DIR`",
                )


def _dataset(
    contenders: Sequence[Contender],
    ran: Mapping[Path, evaluation.Evaluation],
    dataset: Path | None,
    split: str | None,
    images: Path | None,
) -> tuple[Dataset | None, str]:
    """What the detections belong to, or None and why it cannot be had.

    Raises:
        FocalError: the dataset is not the one that a source was scored on.
    """
    saved = [one.saved for one in contenders if one.saved is not None]
    if dataset is not None:
        data = load_split(split_file(dataset, split), images)
    elif ran:
        data = next(iter(ran.values())).dataset
    else:
        if not saved:
            raise FocalError(f"{contenders[0].path}: of what dataset?", "name it with --dataset")
        named = next((one for one in saved if one.dataset is not None), None)
        if named is None:
            return None, f"{saved[0].path} does not say what dataset it is of (--dataset names it)"
        if not Path(named.dataset).is_file():
            return None, f"the dataset {named.dataset} is not there (--dataset names another place)"
        data = load_split(Path(named.dataset), images)
        if data.sha256 != named.dataset_sha256:
            return None, f"{data.path} has changed since {named.path} was written"
    for path, sha256 in [(one.path, one.dataset_sha256) for one in saved] + [
        (path, result.dataset.sha256) for path, result in ran.items()
    ]:
        if sha256 is not None and sha256 != data.sha256:
            raise FocalError(
                f"{path} is not of {data.path}; expected evaluations on one dataset",
                "score all on the same file: `focal eval RUN DATASET --out DIR`",
            )
    return data, ""


def _labels(
    contenders: Sequence[Contender], ran: Mapping[Path, evaluation.Evaluation], data: Dataset, notes: list[str]
) -> list[int]:
    """Indices of the classes that all of the detectors were scored on."""
    scored = [set(one.saved.classes) for one in contenders if one.saved is not None]
    scored += [{entry.name for entry in result.table.classes} for result in ran.values()]
    common = set(data.class_names).intersection(*scored)
    if not common:
        raise FocalError(f"{contenders[-1].path}: no class in common with the others", "compare detectors of one task")
    if only := sorted(set().union(*scored) - common):
        words = ", ".join(map(repr, only[:6])) + (f" and {len(only) - 6:,} more" if len(only) > 6 else "")
        notes.append(f"warning: not compared, because not all detectors know them: {words}")
    return [label for label, name in enumerate(data.class_names) if name in common]


def _of_figures(before: Contender, after: Contender) -> Comparison:
    """What two metrics.json say of the classes that both have.

    Raises:
        FocalError: one has detections only, whose figures are not known without their dataset.
    """
    for one in (before, after):
        if one.saved is None:
            raise FocalError(f"{one.path}: no figures without the dataset", "name it with --dataset")
    a, b = before.saved, after.saved
    classes = []
    for name in a.classes:
        if name in b.classes:
            both = {metric: _change(a.classes[name][metric], b.classes[name][metric]) for metric in evaluation.METRICS}
            classes.append(ClassDifference(name, None, a.n_val[name] or 0, **both))
    means = {metric: _change(a.means[metric], b.means[metric]) for metric in evaluation.METRICS}
    mean = ClassDifference("all", None, sum(entry.n_val for entry in classes), **means)
    return Comparison(tuple(classes), mean, 0)


def _change(before: float | None, after: float | None) -> Difference:
    return Difference(before, after, None if before is None or after is None else after - before)


def _n_train(contenders: Sequence[Contender], ran: Mapping[Path, evaluation.Evaluation]) -> dict[str, int | None]:
    counts: dict[str, int | None] = {}
    for one in contenders:
        if one.saved is not None:
            counts |= one.saved.n_train
        elif one.must_run:
            counts |= {entry.name: entry.n_train for entry in ran[one.path].table.classes}
    return counts
