"""One picture's header: its size, frame and colours, and whether its end is there. No pixel is decoded.

JPEG and PNG, which nearly all datasets are, are read here in 20 us; whatever is another format, or anything but plain,
goes to Pillow, whose answers tests/test_headers.py holds these against.
Sources: JPEG, ITU-T T.81, annex B; PNG, W3C PNG third edition, sec. 5 and 11; orientation, EXIF 2.32, tag 0x0112.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

HEAD, MOST_HEAD, TAIL = 4096, 1 << 18, 64  # bytes: of the first look, of the second, and of the end
UNREADABLE = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, AttributeError, MemoryError,
    struct.error, zlib.error,
)  # fmt: skip
EXIF_ORIENTATION = 0x0112
DEEP_MODES = ("I", "F")  # how the names of Pillow's modes with more than 8 bits start
SEE_THROUGH_MODES = ("RGBA", "LA", "PA", "RGBa", "La")

_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}  # by channels
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn
_SOS, _APP1 = 0xDA, 0xE1
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"
_PNG_MODES = {  # (bits, colour type) -> Pillow's mode
    **{(bits, 0): "L" for bits in (2, 4, 8)}, (1, 0): "1", (16, 0): "I;16", (8, 2): "RGB", (16, 2): "RGB",
    **{(bits, 3): "P" for bits in (1, 2, 4, 8)}, (8, 4): "LA", (16, 4): "RGBA", (8, 6): "RGBA", (16, 6): "RGBA",
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What a file says of its picture.

    Attributes:
        size: stored width and height in px. orientation: of EXIF, 1 to 8, None without one.
        mode: Pillow's name of the colours. deep: more than 8 bits a channel. see_through: it has transparency.
        animated: more than one frame. whole: False when a JPEG or PNG lacks its end marker.
        n_bytes, tail: of the file, and its last bytes; two files that differ there are not the same.
    """

    size: tuple[int, int]
    mode: str
    orientation: int | None = None
    deep: bool = False
    see_through: bool = False
    animated: bool = False
    whole: bool = True
    n_bytes: int = 0
    tail: bytes = b""


def read_header(path: str) -> Header:
    """The header of one file.

    Raises:
        any of UNREADABLE: no picture, or damaged before its pixels begin.
    """
    with open(path, "rb", buffering=0) as file:
        data = file.read(HEAD)
        n_bytes = os.fstat(file.fileno()).st_size
        if n_bytes > HEAD:
            file.seek(-TAIL, os.SEEK_END)
            tail = file.read(TAIL)
        else:
            tail = data[-TAIL:]
        read = _jpeg if data.startswith(b"\xff\xd8") else _png if data.startswith(_PNG) else None
        header = read and read(file, data, n_bytes, tail)
        if read and not header and n_bytes > HEAD:  # EXIF thumbnails and colour profiles take more room
            file.seek(0)
            header = read(file, file.read(MOST_HEAD), n_bytes, tail)
    return header or _by_pillow(path, n_bytes, tail)


def _jpeg(file: BinaryIO, data: bytes, n_bytes: int, tail: bytes) -> Header | None:
    """None where the head is too short, or not as plain as nearly all are."""
    at, size, mode, orientation = 2, None, None, None
    try:
        while True:
            fill, marker, length = struct.unpack_from(">BBH", data, at)
            if fill != 0xFF or marker < 0xC0 or 0xD0 <= marker < _SOS or marker == 0xFF:
                return None
            if marker in _JPEG_SIZES:
                bits, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
                if bits != 8 or size or not (width and height):
                    return None
                size, mode = (width, height), _JPEG_MODES[channels]
            elif marker == _APP1:
                content = data[at + 4 : at + 2 + length]
                if content.startswith(b"Exif\0\0") and orientation is None and len(content) == length - 2:
                    orientation = _orientation(content[6:])
                elif not content.startswith(b"http://ns.adobe.com/xap/1.0/") or b"Orientation" in content:
                    return None
            elif marker == _SOS:
                break
            at += 2 + length
    except (struct.error, LookupError, ValueError):
        return None
    if size is None or mode is None or at + 2 + length > len(data):
        return None
    whole = tail.endswith(b"\xff\xd9") or _jpeg_ends(file, at, tail)
    return Header(size, mode, orientation or None, whole=whole, n_bytes=n_bytes, tail=tail)


def _jpeg_ends(file: BinaryIO, at: int, tail: bytes) -> bool:
    """True when the end marker is anywhere in the scans: some cameras and tools write more behind it.

    Among coded pixels a byte 0xFF is followed by 0 or by a marker of a scan, never by 0xD9 (T.81, B.1.1.5).
    """
    file.seek(at)
    last = b""
    while block := file.read(1 << 20):
        if b"\xff\xd9" in last + block:
            return True
        last = block[-1:]
    return False


def _orientation(tiff: bytes) -> int:
    """0 without one.

    Raises:
        ValueError, LookupError, struct.error: not as plain as nearly all are.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}[tiff[:4]]
    (at,) = struct.unpack_from(order + "L", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, n, value = struct.unpack_from(order + "HHLH", tiff, entry)
        if tag == EXIF_ORIENTATION:
            if kind != 3 or n != 1:
                raise ValueError
            return value
    return 0


def _png(file: BinaryIO, data: bytes, n_bytes: int, tail: bytes) -> Header | None:
    """None where the head is too short, or not as plain as nearly all are."""
    at, values, orientation, see_through, animated = 8, None, None, False, False
    try:
        while True:
            length, kind = struct.unpack_from(">L4s", data, at)
            if kind == b"IDAT":
                break
            content = data[at + 8 : at + 8 + length]
            (checksum,) = struct.unpack_from(">L", data, at + 8 + length)
            if zlib.crc32(content, zlib.crc32(kind)) != checksum or (kind == b"IHDR") != (at == 8):
                return None
            if kind == b"IHDR":
                values = struct.unpack(">LLBBBBB", content)
            elif kind == b"tRNS":
                see_through = True
            elif kind == b"acTL":
                animated = content[:4] != b"\0\0\0\1"
            elif kind == b"eXIf":
                orientation = _orientation(content)
            elif b"exif" in content[:40] or b"Orientation" in content:  # as text, which ImageMagick writes, or as XMP
                return None
            at += 12 + length
        width, height, bits, colours, *_ = values
        mode = _PNG_MODES[bits, colours]
    except (struct.error, LookupError, ValueError, TypeError):
        return None
    if not (width and height):
        return None
    return Header(
        (width, height), mode, orientation or None, deep=bits > 8, see_through=see_through or mode in SEE_THROUGH_MODES,
        animated=animated, whole=tail.endswith(_PNG_END) or _png_ends(file, at, n_bytes), n_bytes=n_bytes, tail=tail,
    )  # fmt: skip


def _png_ends(file: BinaryIO, at: int, n_bytes: int) -> bool:
    """True when the last chunk is in the file, with something behind it."""
    while at + 12 <= n_bytes:
        file.seek(at)
        length, kind = struct.unpack(">L4s", file.read(8))
        at += 12 + length
        if kind == b"IEND":
            return at <= n_bytes
    return False


def said(error: BaseException) -> str:
    """What went wrong, without the path, which the finding names already."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.split(" '/")[0] or type(error).__name__


def _by_pillow(path: str, n_bytes: int, tail: bytes) -> Header:
    from PIL import Image  # 40 ms that only these need

    try:
        picture = Image.open(path)
    except Image.DecompressionBombError:
        raise ValueError("more pixels than Pillow opens") from None
    with picture:
        # getexif() of a PNG without EXIF decodes the whole picture to look for it at the end
        has_exif = picture.format == "TIFF" or not {"exif", "Raw profile type exif"}.isdisjoint(picture.info)
        has_exif = has_exif or "Orientation" in str(picture.info.get("xmp"))
        return Header(
            picture.size,
            picture.mode,
            picture.getexif().get(EXIF_ORIENTATION) if has_exif else None,
            deep=picture.mode.startswith(DEEP_MODES),
            see_through=picture.mode in SEE_THROUGH_MODES or "transparency" in picture.info,
            animated=picture.format != "MPO" and getattr(picture, "is_animated", False),
            n_bytes=n_bytes,
            tail=tail,
        )
