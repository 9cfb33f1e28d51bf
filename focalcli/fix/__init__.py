"""A COCO JSON -> a repaired copy of it: findings of the chosen rules that have one safe answer go, all else is kept.

Inside: document (the file in memory, its layout), spots (which records the rules complain about), repairs (one function
each), report. Pictures are never touched; their headers are read where a repair depends on them.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from focalcli.anchors import AnchorSpec
from focalcli.audit import audit
from focalcli.audit.selection import wanted
from focalcli.coco import STDIN, Dataset, Id, find_image_root, load
from focalcli.coco.layouts import split_name
from focalcli.coco.source import CHUNK_BYTES, Source
from focalcli.errors import FocalError
from focalcli.files import write_whole
from focalcli.fix.document import Document, Kind
from focalcli.fix.repairs import REPAIRS, Left
from focalcli.fix.report import Change, Changes, FixReport, Remaining, grouped
from focalcli.fix.spots import survey
from focalcli.splits import load_split

__all__ = ["REPAIRS", "Change", "Changes", "FixReport", "Remaining", "fix"]

FAMILIES = ("F0", "F1", "F2", "F3")
MOST_ROUNDS = 12  # one repair can bring the next to light: a merged category has boxes twice
OPT_IN = "repaired only where it is named, `--select {code}`: {reason}"


def fix(
    source: Path,
    output: Path | None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    images: Path | None = None,
    force: bool = False,
) -> FixReport:
    """Repair what can be repaired and write the copy.

    Args:
        source: a COCO JSON, also compressed; "-" is stdin.
        output: the copy, compressed when its name ends in .gz; None writes nothing.
        select, ignore: rules, as audit.selection takes them. A repair with `opt_in` is made only of a rule that is
            selected by its whole code or name.
        images: the folder of the pictures, when not beside the JSON.
        force: replace an `output` that is there.

    Raises:
        FocalError: as coco.load; `output` is there, is the source itself, or cannot be written.
    """
    asked = wanted(select, ignore)
    named = wanted(select, (*ignore, *(code[:-1] for code in REPAIRS))) if select else lambda code: False
    if output is not None:
        _refuse_output(source, output, force)
    chosen = [code for code, repair in REPAIRS.items() if (named if repair.opt_in else asked)(code)]
    with tempfile.TemporaryDirectory(prefix="focal-fix-") as temporary:
        folder = Path(temporary)
        root, document = _read(source, images, folder)
        before = document.counts()
        changes, reasons = _repair(document, chosen, root, folder)
        if nulls := document.without_nan():
            # null is no number: a box that another defect had hidden from the rules may be malformed now
            more, reasons = _repair(document, chosen, root, folder)
            changes += more
        data = document.text()
        copy = folder / "copy.json"
        copy.write_bytes(data)
        remaining = tuple(_remaining(split_name(source), load(copy, root), asked, reasons))
    if output is not None:
        # without a time stamp: the same repairs give the same bytes
        write_whole(output, gzip.compress(data, mtime=0) if output.name.lower().endswith(".gz") else data)
    does = {code: repair.does for code, repair in REPAIRS.items()}
    return FixReport(
        source=source,
        output=output,
        image_root=root,
        before=before,
        after=document.counts(),
        changes=grouped(changes, does),
        remaining=remaining,
        nulls=nulls,
        joins=output is not None and _same_annotations_folder(source, output),
    )


def _refuse_output(source: Path, output: Path, force: bool) -> None:
    if output == STDIN:
        raise FocalError("-o -: the copy cannot go to stdout, where the report goes", "give -o a file name")
    if not output.exists():
        return
    if output.is_dir():
        raise FocalError(f"{output}: is a folder", "give -o a file name such as fixed.json")
    given = os.fstat(0) if source == STDIN else source.stat() if source.exists() else None
    if given is not None and os.path.samestat(given, output.stat()):
        raise FocalError(f"{output}: is the input itself, which fix never changes", "give another file with -o")
    if not force:
        raise FocalError(f"{output}: exists", "give another file with -o, or --force to replace it")


def _same_annotations_folder(source: Path, output: Path) -> bool:
    folder = output.resolve().parent
    return folder.name == "annotations" and source.is_file() and source.resolve().parent == folder


def _repair(
    document: Document, chosen: Sequence[str], images: Path, folder: Path
) -> tuple[list[Change], dict[str, str]]:
    """Change the document until nothing is left to do; the changes, and the first reason of each rule left."""
    changes: list[Change] = []
    for _ in range(MOST_ROUNDS):
        seen = survey(document, chosen, images, folder)
        done = len(changes)
        reasons: dict[str, str] = {}
        for code in chosen:
            for spot in seen.spots.get(code, ()):
                if {spot.row, spot.first} & document.dropped[spot.kind]:
                    continue  # what is left of a pair is looked at again in the next round
                entry = _described(document, code, spot.kind, spot.row)
                try:
                    text = REPAIRS[code].apply(document, seen, spot)
                except Left as left:
                    reasons.setdefault(code, str(left))
                    continue
                if text is not None:
                    changes.append(replace(entry, text=text))
        if len(changes) == done:
            break
        document.compact()
    return changes, reasons


def _described(document: Document, code: str, kind: Kind, row: int) -> Change:
    """A change that has yet to be made, with the ids that the record has now."""
    record = document.content[kind][row]
    ids = [record.get(key) if isinstance(record, dict) else None for key in ("id", "image_id")]
    own, image = (value if isinstance(value, Id) else None for value in ids)
    return Change(code, kind, own, image, "")


def _remaining(
    name: str, dataset: Dataset, asked: Callable[[str], bool], reasons: dict[str, str]
) -> Iterator[Remaining]:
    """What an audit of the copy still finds in the file and its pictures; anchors and splits are not fix's matter."""
    for finding in audit({name: dataset}, AnchorSpec(), min_size=800, max_size=1333).findings:
        if finding.code.startswith(FAMILIES) and asked(finding.code):
            repair = REPAIRS.get(finding.code)
            opt_in = OPT_IN.format(code=finding.code, reason=repair.opt_in) if repair and repair.opt_in else None
            yield Remaining(finding, reasons.get(finding.code, opt_in))


def _read(source: Path, images: Path | None, folder: Path) -> tuple[Path, Document]:
    """Where the pictures are, and the file; what can be read only once, a pipe, is kept in `folder`."""
    if source.is_file():
        root = load_split(source, images).image_root  # says what is wrong with a file that is no COCO JSON
        text = b"".join(Source(source, CHUNK_BYTES).chunks())
    else:
        pipe = Source(source, CHUNK_BYTES)
        text = b"".join(pipe.chunks())
        kept = folder / "piped.json"
        kept.write_bytes(text)
        try:
            root = images or find_image_root(source, load_split(kept, images).file_names)
        except FocalError as error:
            raise FocalError(error.message.replace(str(kept), pipe.name), error.hint) from None
    try:
        return root, Document.of(json.loads(text), text)
    except RecursionError:
        raise FocalError(f"{source}: JSON nested too deeply to be COCO", "expected a COCO JSON file") from None
    except ValueError:  # Python's own limit, under a key that the loader skips
        raise FocalError(
            f"{source}: not COCO (a number of more than 4,300 digits)", "expected a COCO JSON file"
        ) from None
