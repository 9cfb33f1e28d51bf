"""Files, folders and patterns -> the pictures that they mean, each once, sorted by path.

Nothing is opened that the user did not name: a link inside a folder is not followed. A link that is named itself is.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from focalcli.errors import FocalError

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm", ".pbm",
    ".pnm", ".avif", ".jp2",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """Pictures that somebody named.

    Attributes:
        paths: as the user would write them. folders: those that were named and searched.
        root: the folder that all of them are below; names: the paths from there, with `/`.
        links: those in the folders that lead out of them.
    """

    paths: tuple[str, ...]
    folders: tuple[str, ...]
    root: str
    names: tuple[str, ...]
    links: tuple[str, ...]


def find(arguments: Sequence[str]) -> Found:
    """The pictures of files, folders (searched to the bottom, hidden files left out) and patterns such as `a/**/*.jpg`.

    A file that is named is taken whatever its suffix; in folders and patterns only those in SUFFIXES are pictures.

    Raises:
        FocalError: an argument is not there, or means no picture at all.
    """
    search = _Search()
    for argument in arguments:
        before = search.met
        search.add(argument)
        if search.met == before:
            reason = "no pictures in this folder" if os.path.isdir(argument) else "no picture matches this pattern"
            count = len(search.links)
            led_out = f"; {count} link{'s' * (count > 1)} out of it not followed" if count else ""
            raise FocalError(
                f"{argument}: {reason}{led_out}; expected files such as .jpg, .png, .tif or .webp",
                "give a folder that holds pictures, or the files themselves",
            )
    paths = sorted(search.paths.values(), key=os.path.abspath)
    places = [os.path.abspath(path) for path in paths]
    try:
        root = os.path.commonpath(search.roots)
    except ValueError:  # Windows
        raise FocalError("the pictures are on several drives", "give those of one drive at a time") from None
    names = [os.path.relpath(place, root).replace(os.sep, "/") for place in places]
    return Found(tuple(paths), tuple(search.folders), root, tuple(names), tuple(search.links))


class _Search:
    def __init__(self) -> None:
        self.paths: dict[str, str] = {}  # real path -> as first met
        self.met = 0
        self.roots: list[str] = []
        self.folders: list[str] = []
        self.links: list[str] = []

    def add(self, argument: str) -> None:
        if os.path.isdir(argument):
            self._add_folder(argument)
        elif os.path.isfile(argument):
            self._add_file(argument)
        elif os.path.exists(argument):
            raise FocalError(f"{argument}: is not a file but a pipe or a device", "save the picture in a file")
        elif glob.has_magic(argument):
            for path in sorted(glob.glob(argument, recursive=True)):
                if os.path.isdir(path):
                    self._add_folder(path)
                elif is_picture(path) and (os.path.isfile(path) or not os.path.exists(path)):  # a broken link is named
                    self._add_file(path)
        else:
            raise FocalError(f"{argument}: no such file or folder", "give pictures, folders or patterns in quotes")

    def _add_file(self, path: str) -> None:
        self.roots.append(os.path.dirname(os.path.abspath(path)))
        self._take(os.path.realpath(path), path)

    def _add_folder(self, folder: str) -> None:
        self.roots.append(os.path.abspath(folder))
        self.folders.append(folder)
        for real, path in self._walk(os.path.realpath(folder), folder, os.path.realpath(folder)):
            self._take(real, path)

    def _take(self, real: str, path: str) -> None:
        self.met += 1
        self.paths.setdefault(real, path)

    def _walk(self, real: str, shown: str, top: str) -> Iterator[tuple[str, str]]:
        """(real path, as the user would write it) of the pictures below a folder without links in its path."""
        try:
            entries = list(os.scandir(real))
        except OSError as error:
            raise FocalError(
                f"{shown}: cannot be listed ({error.strerror})", "check the permissions, or name other folders"
            ) from None
        for entry in entries:
            path = os.path.join(shown, entry.name)
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                if _leads_out(entry, top):
                    self.links.append(path)
            elif entry.is_dir():
                yield from self._walk(entry.path, path, top)
            elif is_picture(entry.name) and entry.is_file():
                yield entry.path, path


def _leads_out(link: os.DirEntry[str], top: str) -> bool:
    """True for a link to a picture or folder outside; what is inside is met without it."""
    target = os.path.realpath(link.path)
    inside = target == top or target.startswith(top.rstrip(os.sep) + os.sep)
    return not inside and (os.path.isdir(target) or is_picture(link.name))


def is_picture(name: str) -> bool:
    """By the name alone."""
    return os.path.splitext(name)[1].lower() in SUFFIXES
