"""Which pictures are alike: the search against every pair, and what a person would and would not call the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from focalcli.audit.checks.decode import SIDE, decode
from focalcli.audit.checks.likeness import find_alike


def scenes(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, SIDE, SIDE) grey levels: groups of noisy copies of a few scenes."""
    cells = rng.integers(0, 256, (max(1, n // 4), 6, 6), dtype=np.uint8)
    base = np.array([np.asarray(Image.fromarray(c).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for c in cells])
    chosen = base[rng.integers(0, len(base), n)].astype(float)
    return np.clip(chosen + rng.normal(0, rng.uniform(0, 40, (n, 1, 1)), chosen.shape), 0, 255).astype(np.uint8)


def cosine_bits(grey: np.ndarray) -> np.ndarray:
    """63 bits by the definition of the DCT-II, one frequency at a time."""
    x = np.arange(SIDE) + 0.5
    waves = [np.cos(np.pi * k * x / SIDE) for k in range(8)]
    levels = [float(waves[u] @ grey @ waves[v]) for u in range(8) for v in range(8)][1:]
    return np.array(levels) > np.median(levels)


@given(seed=st.integers(0, 2**32), n=st.integers(0, 40), queries=st.integers(0, 20))
def test_search_by_bands_misses_no_pair(seed, n, queries):
    """Hashes that differ in 4 of 63 bits agree in 3 of 7 bands of 9; held against every pair, computed one by one."""
    grey = scenes(np.random.default_rng(seed), n).astype(float)
    bits = [cosine_bits(one) for one in grey]

    def alike(a: int, b: int) -> bool:
        return (bits[a] != bits[b]).sum() <= 4 and np.corrcoef(grey[a].ravel(), grey[b].ravel())[0, 1] >= 0.95

    known = n - queries if 0 < queries < n else None
    twins = find_alike([one.astype(np.uint8).tobytes() for one in grey], known)
    for index, twin in enumerate(twins.tolist()):
        others = range(index) if known is None else range(known) if index >= known else ()
        partners = [other for other in others if alike(index, other)]
        assert twin in partners if partners else twin == -1


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    cells = np.random.default_rng(7).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((640, 480), Image.Resampling.BICUBIC)


def are_alike(one: Image.Image, two: Image.Image, tmp_path) -> bool:
    one.save(tmp_path / "1.png")
    two.save(tmp_path / "2.jpg", quality=60)
    likenesses = [decode(str(tmp_path / name)).likeness for name in ("1.png", "2.jpg")]
    return None not in likenesses and find_alike(likenesses).tolist() == [-1, 0]


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p,
        lambda p: p.resize((320, 240)),
        lambda p: p.convert("L"),
        lambda p: ImageEnhance.Brightness(p).enhance(0.8),
        lambda p: p.crop((4, 4, 640, 480)),
    ],
    ids=["recompressed", "scaled", "grey", "darker", "cropped by 4 px"],
)
def test_copies_are_alike(photo, tmp_path, change):
    """All of them show the same scene."""
    assert are_alike(photo, change(photo), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        lambda p: p.rotate(180),
        lambda p: p.crop((160, 120, 640, 480)),
        lambda p: Image.new("RGB", p.size, "white"),
    ],
    ids=["mirrored", "turned", "another part", "blank"],
)
def test_other_pictures_are_not_alike(photo, tmp_path, change):
    """A blank one is like nothing: it has no likeness."""
    assert not are_alike(photo, change(photo), tmp_path)


def test_two_blank_pictures_are_not_called_the_same(tmp_path):
    """Nothing in them says so; where their bytes are equal F309 does."""
    blank = Image.new("RGB", (64, 48), (200, 210, 220))
    assert not are_alike(blank, blank, tmp_path)


def test_16_bit_pictures_are_compared_over_their_whole_range(tmp_path):
    """Read as 8 bits, both would be white all over."""
    values = np.random.default_rng(0).integers(1_000, 60_000, (8, 8)).repeat(20, axis=0).repeat(20, axis=1)
    for name in ("1.png", "2.png"):
        Image.fromarray(values.astype(np.uint16)).save(tmp_path / name)
        values = values + 300
    likenesses = [decode(str(tmp_path / name)).likeness for name in ("1.png", "2.png")]
    assert find_alike(likenesses).tolist() == [-1, 0]
