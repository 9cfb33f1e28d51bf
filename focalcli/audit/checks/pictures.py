"""The pictures: where they are, what their headers say, and with --deep whether they can be decoded."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from focalcli.audit.checks.decode import Pixels, Progress, decode_all
from focalcli.audit.checks.finding import make
from focalcli.audit.checks.headers import Header
from focalcli.audit.checks.picture_files import Pictures, find_pictures
from focalcli.audit.checks.same_pictures import find_same, find_similar, of_repeats
from focalcli.audit.report import PLACES, Finding, Severity
from focalcli.coco import Dataset

QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations
BOMB_PX = 178_956_970  # twice Pillow's MAX_IMAGE_PIXELS: beyond it Image.open refuses
GREY_MODES, COLOUR_MODES = ("1", "L", "LA", "I;16", "I;16B", "I", "F"), ("RGB", "RGBA", "CMYK", "YCbCr", "LAB")


def of_pictures(
    splits: Mapping[str, Dataset], reference: str, *, deep: bool = False, progress: Progress | None = None
) -> Iterator[Finding]:
    """What the pictures of all splits show: their headers, and with `deep` their pixels.

    Args:
        reference: the split that the others must not share pictures with.
        progress: called with the pictures decoded and their number.
    """
    found = {name: find_pictures(dataset) for name, dataset in splits.items()}
    for name, dataset in splits.items():
        yield from _escaping(name, dataset, found[name])
        yield from _missing(name, dataset, found[name])
        yield from _headers(name, dataset, found[name])
    pixels = _decode(found, progress) if deep else {}
    for name, dataset in splits.items():
        yield from _damaged(name, dataset, found[name], pixels.get(name, {}))
        yield from _transparent(name, dataset, found[name], pixels.get(name, {}))
    same = find_same(found, reference)
    yield from of_repeats(splits, reference, same, find_similar(pixels, same, reference) if deep else None)


def _escaping(split: str, dataset: Dataset, pictures: Pictures) -> Iterator[Finding]:
    if pictures.escaping:
        message = f"{dataset.file_names[pictures.escaping[0]]!r} leads out of {dataset.image_root}"
        yield _about("F304", split, dataset, message, pictures.escaping)


def _missing(split: str, dataset: Dataset, pictures: Pictures) -> Iterator[Finding]:
    if not pictures.missing:
        return
    name = dataset.file_names[pictures.missing[0]]
    expected = len(pictures.missing) + len(pictures.paths)
    if len(pictures.missing) == expected:
        message = f"none of {expected:,} pictures is below {dataset.image_root} (the first: {name!r}); headers not read"
        hint = "`--images DIR` names the folder that file_name is relative to"
        yield make("F302", split, message, count=expected, severity="warning", hint=hint)
    else:
        yield _about("F302", split, dataset, f"{name!r} is not below {dataset.image_root}", pictures.missing)


def _headers(split: str, dataset: Dataset, pictures: Pictures) -> Iterator[Finding]:
    stated = dict(enumerate(map(tuple, dataset.image_wh.tolist()))) if pictures.headers else {}
    turned = {index: header for index, header in pictures.headers.items() if header.orientation in QUARTER_TURNS}
    yield from _other_size(split, dataset, pictures.headers, stated, turned)
    if turned:
        yield _about("F306", split, dataset, _frames(dataset, turned, stated), turned)
    if pictures.unreadable:
        index, problem = next(iter(pictures.unreadable.items()))
        yield _about("F307", split, dataset, f"{dataset.file_names[index]!r}: {problem}", pictures.unreadable)
    for code, indices, what in (
        ("F310", [i for i, header in pictures.headers.items() if header.deep], "has more than 8 bits a channel"),
        ("F311", [i for i, header in pictures.headers.items() if header.mode == "CMYK"], "is CMYK"),
        ("F314", [i for i, header in pictures.headers.items() if header.animated], "has more than one frame"),
        ("F317", [i for i, header in pictures.headers.items() if _is_bomb(header)], "has {} x {} px"),
    ):
        if indices:
            text = what.format(*pictures.headers[indices[0]].size)
            yield _about(code, split, dataset, f"{dataset.file_names[indices[0]]!r} {text}", indices)
    yield from _mixed_colours(split, dataset, pictures.headers)


def _is_bomb(header: Header) -> bool:
    return header.size[0] * header.size[1] > BOMB_PX


def _other_size(
    split: str,
    dataset: Dataset,
    headers: Mapping[int, Header],
    stated: Mapping[int, tuple[int, int]],
    turned: Collection[int],
) -> Iterator[Finding]:
    differs = [
        index
        for index, header in headers.items()
        if header.size != stated[index]
        and min(stated[index]) > 0
        and not (index in turned and stated[index] == header.size[::-1])
    ]
    if differs:
        first = differs[0]
        message = "{!r} is {} x {}, the file says {} x {}".format(
            dataset.file_names[first], *headers[first].size, *stated[first]
        )
        swapped = sum(stated[index] == headers[index].size[::-1] for index in differs)
        message += f"; width and height are swapped in {swapped:,} of {len(differs):,}" * bool(swapped)
        yield _about("F305", split, dataset, message, differs)


def _frames(dataset: Dataset, turned: Mapping[int, Header], stated: Mapping[int, tuple[int, int]]) -> str:
    """How many of the turned pictures the file gives in which frame."""
    stored = sum(stated[index] == header.size != header.size[::-1] for index, header in turned.items())
    shown = sum(stated[index] == header.size[::-1] != header.size for index, header in turned.items())
    index, header = next(iter(turned.items()))
    width, height = header.size
    return (
        f"{dataset.file_names[index]!r} is stored {width} x {height} and shown {height} x {width}; the file gives the "
        f"stored size for {stored} and the shown size for {shown} of {len(turned)}"
    )


def _mixed_colours(split: str, dataset: Dataset, headers: Mapping[int, Header]) -> Iterator[Finding]:
    grey = [index for index, header in headers.items() if header.mode in GREY_MODES]
    colour = [index for index, header in headers.items() if header.mode in COLOUR_MODES]
    if grey and colour:
        fewer = min(grey, colour, key=len)
        kind = "grayscale" if fewer is grey else "colour"
        message = f"{len(grey):,} pictures are grayscale and {len(colour):,} colour; {kind} is "
        yield _about("F313", split, dataset, f"{message}{dataset.file_names[fewer[0]]!r}", fewer)


def _decode(found: Mapping[str, Pictures], progress: Progress | None) -> dict[str, dict[int, Pixels]]:
    """What the pixels of every picture show that has a header, but for decompression bombs."""
    places = [
        (name, index)
        for name, pictures in found.items()
        for index, header in pictures.headers.items()
        if not _is_bomb(header)
    ]
    decoded = decode_all([found[name].paths[index] for name, index in places], progress)
    pixels: dict[str, dict[int, Pixels]] = {name: {} for name in found}
    for (name, index), shown in zip(places, decoded, strict=True):
        pixels[name][index] = shown
    return pixels


def _damaged(split: str, dataset: Dataset, pictures: Pictures, pixels: Mapping[int, Pixels]) -> Iterator[Finding]:
    cut = "its end is missing: the file was cut short"
    problems = {index: cut for index, header in pictures.headers.items() if not header.whole}
    problems |= {index: shown.problem for index, shown in pixels.items() if shown.problem and index not in problems}
    if problems:
        indices = sorted(problems)
        message = f"{dataset.file_names[indices[0]]!r}: {problems[indices[0]]}"
        yield _about("F315", split, dataset, message, indices)


def _transparent(split: str, dataset: Dataset, pictures: Pictures, pixels: Mapping[int, Pixels]) -> Iterator[Finding]:
    """Of pictures that were decoded, only those that hide something."""
    hiding = [index for index, shown in pixels.items() if shown.hides]
    perhaps = [index for index, header in pictures.headers.items() if header.see_through and index not in pixels]
    if hiding:
        message = f"{dataset.file_names[hiding[0]]!r} has pixels that are not opaque"
        yield _about("F312", split, dataset, message, hiding)
    elif perhaps:
        message = f"{dataset.file_names[perhaps[0]]!r} can have transparent pixels (--deep looks whether it has)"
        yield _about("F312", split, dataset, message, perhaps, severity="info")


def _about(
    code: str,
    split: str,
    dataset: Dataset,
    message: str,
    indices: Collection[int],
    severity: Severity | None = None,
) -> Finding:
    """A finding on these pictures, the first of which the message names."""
    first = [dataset.image_ids[index] for index in islice(indices, PLACES)]
    return make(code, split, message, count=len(indices), image_ids=first, severity=severity)
