"""Our reading of JPEG and PNG headers, held against Pillow's; and what only it says, by the formats' own rules."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from focalcli.audit.checks import headers
from focalcli.audit.checks.headers import UNREADABLE, Header, read_header

MODES = {"JPEG": ("L", "RGB", "CMYK"), "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")}


def answers(header: Header) -> tuple:
    return header.size, header.mode, header.orientation, header.deep, header.see_through, header.animated


def by_pillow(path: Path) -> tuple:
    return answers(headers._by_pillow(str(path), 0, b""))


def saved(path: Path, kind: str, mode: str, orientation: int | None = None, **options: object) -> bytes:
    picture = Image.new("I;16", (40, 30), 700) if mode == "I;16" else Image.new("RGB", (40, 30), "red").convert(mode)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    picture.save(path, kind, exif=exif, **options)
    return path.read_bytes()


@pytest.mark.parametrize("orientation", [None, 1, 6])
@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind in MODES for mode in MODES[kind]])
def test_header_is_what_pillow_says(tmp_path, monkeypatch, kind, mode, orientation):
    """Every mode that both formats have, without, with a plain and with a turning EXIF orientation."""
    path = tmp_path / "a"
    saved(path, kind, mode, orientation)
    expected = by_pillow(path)
    monkeypatch.setattr(headers, "_by_pillow", lambda *_: pytest.fail("was left to Pillow"))
    found = read_header(str(path))
    assert answers(found) == expected and found.whole
    assert found.orientation == orientation and found.n_bytes == path.stat().st_size


@pytest.mark.parametrize("folder", ["bccd", "face_mask", "deeppcb_600"])
def test_headers_of_real_pictures_are_what_pillow_says(shared, monkeypatch, folder):
    """1,812 JPEGs, 18 of them with EXIF; none of them needs Pillow."""
    paths = sorted((shared / folder / "images").rglob("*.jpg"))
    expected = [by_pillow(path) for path in paths]
    monkeypatch.setattr(headers, "_by_pillow", lambda *_: pytest.fail("was left to Pillow"))
    found = [read_header(str(path)) for path in paths]
    assert [answers(header) for header in found] == expected and all(header.whole for header in found)


@pytest.mark.parametrize("size", [3_000, 60_000, 200_000])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_long_profiles_before_the_pixels_are_read_past(tmp_path, kind, size):
    """An ICC profile of more than the first look at the file, in a JPEG in several segments."""
    path = tmp_path / "a"
    saved(path, kind, "RGB", 8, icc_profile=np.random.default_rng(0).bytes(size))
    assert answers(read_header(str(path))) == by_pillow(path) and read_header(str(path)).orientation == 8


def test_orientation_in_text_and_xmp_is_seen(tmp_path):
    """ImageMagick writes EXIF of a PNG as text, Adobe's tools write XMP; Pillow's exif_transpose obeys both."""
    path = tmp_path / "a"
    exif = Image.Exif()
    exif[0x0112] = 6
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(exif.tobytes()):8}\n{exif.tobytes().hex()}\n", zip=True)
    Image.new("RGB", (40, 30)).save(path, "PNG", pnginfo=info)
    assert read_header(str(path)).orientation == 6
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    Image.new("RGB", (40, 30)).save(path, "JPEG", xmp=xmp)
    assert read_header(str(path)).orientation == 8


@pytest.mark.parametrize(("frames", "animated"), [(1, False), (3, True)])
@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF"])
def test_more_than_one_frame_is_animated(tmp_path, kind, frames, animated):
    """APNG, GIF, WebP and TIFF."""
    pictures = [Image.new("RGB", (40, 30), (90 * n, 0, 0)) for n in range(frames)]
    pictures[0].save(tmp_path / "a", kind, save_all=True, append_images=pictures[1:])
    assert read_header(str(tmp_path / "a")).animated is animated


def test_transparent_colour_of_a_palette_is_transparency(tmp_path):
    """The tRNS chunk of PNG, 11.3.1.1."""
    saved(tmp_path / "a", "PNG", "P", transparency=0)
    saved(tmp_path / "b", "PNG", "P")
    assert read_header(str(tmp_path / "a")).see_through and not read_header(str(tmp_path / "b")).see_through


@pytest.mark.parametrize("mode", ["I", "F"])
def test_tiff_of_more_than_8_bits_is_deep(tmp_path, mode):
    """Pillow's modes of 32 bits."""
    Image.new(mode, (40, 30)).save(tmp_path / "a", "TIFF")
    assert read_header(str(tmp_path / "a")).deep


def test_16_bits_of_colour_are_deep(tmp_path):
    """Pillow itself reads such a PNG as 8 bits and says nothing; the header has the 16 (PNG, 11.2.1)."""
    data = saved(tmp_path / "a", "PNG", "RGB")
    ihdr = struct.pack(">LLBBBBB", 40, 30, 16, 2, 0, 0, 0)
    checked = b"IHDR" + ihdr + struct.pack(">L", zlib.crc32(b"IHDR" + ihdr))
    (tmp_path / "a").write_bytes(data[:12] + checked + data[33:])
    found = read_header(str(tmp_path / "a"))
    assert found.deep and found.mode == Image.open(tmp_path / "a").mode == "RGB"


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_end_is_seen_wherever_it_is_and_missed_when_it_is_cut(tmp_path, kind):
    """Bytes behind the end, as cameras write them, are harmless; every cut before it leaves the picture unwhole."""
    path = tmp_path / "a"
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, kind)
    data = path.read_bytes()
    for trailer in (b"", b"\0", b"SEFT" * 40_000):
        path.write_bytes(data + trailer)
        assert read_header(str(path)).whole
    for cut in (1, 2, 5, 30, 500, len(data) // 2):
        path.write_bytes(data[:-cut])
        assert not read_header(str(path)).whole


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(buffer, kind, exif=exif)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, on corrupt EXIF
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"]),
    edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    length=st.integers(0, 3000),
)
def test_damaged_headers_are_refused_or_read_as_pillow_reads_them(tmp_path, kind, edits, length):
    """Whatever the bytes: no other exception, and no other size, mode or orientation than Pillow's."""
    data = bytearray(encoded(kind)[:length])
    for at, value in edits:
        if at < len(data):
            data[at] = value
    path = tmp_path / "a"
    path.write_bytes(data)
    try:
        found = answers(read_header(str(path)))
    except UNREADABLE:
        return
    try:
        expected = by_pillow(path)
    except UNREADABLE:
        return  # Pillow looks at tables that no size depends on
    assert found[:3] == expected[:3]


def test_many_files_are_read_in_threads_with_the_same_answers(tmp_path, monkeypatch):
    """In order, damaged ones included, and from the first file to the last."""
    from focalcli.audit.checks import picture_files

    paths = [tmp_path / str(number) for number in range(30)]
    for number, path in enumerate(paths):
        Image.new("RGB", (10 + number, 5)).save(path, "JPEG" if number % 2 else "GIF")
    paths[7].write_bytes(b"no picture")
    alone = picture_files._read_all([str(path) for path in paths])
    monkeypatch.setattr(picture_files, "MANY", 1)
    monkeypatch.setattr(picture_files, "PART", 4)
    assert picture_files._read_all([str(path) for path in paths]) == alone and isinstance(alone[7], str)
    assert [header.size[0] - 10 for header in alone if isinstance(header, Header)] == [*range(7), *range(8, 30)]
