"""The cache gives the pixels that decoding gives, whatever happens to it, and never ends a run."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import focal
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_data import SIZE, dataset_of
from tiny_training import CPU, SETUP, assert_same_weights, at_step, draw, stop, train

from focalcli import coco
from focalcli.errors import ExitCode, FocalError
from focalcli.training import cache, loop, metrics, trial
from focalcli.training.augment import Augment
from focalcli.training.cache import PictureCache
from focalcli.training.data import Pictures
from focalcli.training.pixels import pixels_of, read_image
from focalcli.training.sampling import Key

BOTH = np.array([0, 1])
STEADY = Augment(flip=0.5, scale=(1.0, 1.0), brightness=0.3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return coco.load(draw(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Pictures of several kinds: JPEG, grey, transparent, 16 bit, turned by EXIF, of unknown size."""
    folder, rng = tmp_path_factory.mktemp("mixed"), np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (70, 90, 3)).astype(np.uint8))
    turned = Image.Exif()
    turned[274] = 6
    noise.save(folder / "a.jpg")
    noise.convert("L").save(folder / "b.png")
    noise.convert("RGBA").save(folder / "c.png")
    Image.fromarray(rng.integers(0, 65536, (70, 90)).astype(np.uint16)).save(folder / "d.png")
    noise.save(folder / "e.jpg", exif=turned)
    noise.save(folder / "f.png")
    sizes = [(90, 70)] * 4 + [(70, 90), (0, 0)]
    boxes = [{"image_id": n, "bbox": [10, 12, 30, 20]} for n in range(1, 7)]
    return dataset_of(
        folder, dict(zip(["a.jpg", "b.png", "c.png", "d.png", "e.jpg", "f.png"], sizes, strict=True)), boxes
    )


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def refuse_to_decode(*_):
    raise AssertionError("decoded once more")


# ----------------------------------------------------------------------------------------------------- the same pixels


@settings(max_examples=40, deadline=None)
@given(
    index=st.integers(0, 5), seed=st.none() | st.integers(0, 2**62), factor=st.floats(0.8, 1.25), steady=st.booleans()
)
def test_a_sample_from_the_cache_is_the_sample(mixed, tmp_path_factory, index, seed, factor, steady):
    """Flips, colours, windows and sizes come after it: in full, or at network size where no size varies."""
    folder = tmp_path_factory.getbasetemp() / "samples"
    augment = STEADY if steady else Augment(flip=0.5, crop=0.5, saturation=0.4)
    key = Key(index, seed, 1.0 if steady else factor)
    plain = Pictures(mixed, BOTH, SIZE, augment)[key]
    for _ in range(2):  # what was just stored, and what is read back
        found = Pictures(mixed, BOTH, SIZE, augment, PictureCache(folder, mixed, SIZE if steady else None))[key]
        for name, value in vars(plain).items():
            assert np.array_equal(value, getattr(found, name)), name


@pytest.mark.parametrize("size", [SIZE, None])
def test_nothing_is_decoded_twice(mixed, tmp_path, monkeypatch, size):
    """Not by another process either: the files alone are needed, and none is left half-written."""
    first = [PictureCache(tmp_path, mixed, size).read(index) for index in range(6)]
    assert len(kept(tmp_path)) == 6 and not any(path.name.startswith(".") for path in kept(tmp_path))
    monkeypatch.setattr(cache, "read_image", refuse_to_decode)
    for index, (pixels, wh) in enumerate(first):
        again, same_wh = PictureCache(tmp_path, mixed, size).read(index)
        assert torch.equal(again, pixels) and same_wh == wh


def test_a_changed_picture_is_read_anew(tmp_path):
    """Of the same name, size in px and size in bytes: the time says that it is another."""
    file, folder = tmp_path / "a.bmp", tmp_path / "cache"
    for second, colour in enumerate(((255, 0, 0), (0, 255, 0))):
        Image.new("RGB", (64, 64), colour).save(file)
        os.utime(file, (second, second))
        pixels, _ = PictureCache(folder, dataset_of(tmp_path, {"a.bmp": (64, 64)}), SIZE).read(0)
        assert pixels[:, 0, 0].tolist() == list(colour)


def test_a_picture_that_is_gone_is_missed_although_it_is_kept(mixed, tmp_path):
    """As without the cache: a dataset with holes is another dataset."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    dataset = dataset_of(tmp_path, {"a.png": (64, 64)})
    PictureCache(tmp_path / "cache", dataset, SIZE).read(0)
    (tmp_path / "a.png").unlink()
    with pytest.raises(FocalError, match=r"a\.png: no such picture"):
        PictureCache(tmp_path / "cache", dataset, SIZE).read(0)


# --------------------------------------------------------------------------------------------------------------- damage


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 0.999), zeros=st.booleans())
def test_a_damaged_file_is_replaced(mixed, tmp_path_factory, share, zeros):
    """Cut short, or with its beginning lost to a power cut."""
    folder = tmp_path_factory.mktemp("damaged")
    right, _ = PictureCache(folder, mixed, SIZE).read(0)
    (file,) = kept(folder)
    content = file.read_bytes()
    file.write_bytes(bytes(len(content)) if zeros else content[: int(share * len(content))])
    found, wh = PictureCache(folder, mixed, SIZE).read(0)
    assert torch.equal(found, right) and wh == (90, 70)
    assert file.read_bytes() == content


def test_a_process_killed_at_any_moment_leaves_whole_files_only(mixed, tmp_path):
    """kill -9 while it writes; what is there afterwards is what decoding gives."""
    right = [pixels_of(read_image(mixed, index)) for index in range(6)]
    for attempt in range(8):
        child = os.fork()
        if child == 0:
            while True:
                for index in range(6):
                    PictureCache(tmp_path / str(attempt), mixed, None).read(index)
                shutil.rmtree(tmp_path / str(attempt))
        time.sleep(random.uniform(0.005, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for index, pixels in enumerate(right):
            assert torch.equal(PictureCache(tmp_path / str(attempt), mixed, None).read(index)[0], pixels)


def test_what_killed_processes_left_is_swept_away_after_an_hour(mixed, tmp_path):
    """A younger one may belong to a run that is still writing it."""
    for name, age in ((".old", 2 * 3600), (".young", 60)):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    PictureCache(tmp_path, mixed, SIZE).prepare()
    assert [path.name for path in kept(tmp_path)] == [".young"]


def test_a_disk_that_fills_up_does_not_end_the_training(mixed, tmp_path, monkeypatch):
    """Said once, and decoded from then on; nothing half-written stays."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache.os, "fsync", full)
    pictures = PictureCache(tmp_path, mixed, SIZE)
    with pytest.warns(UserWarning, match="No space left on device") as told:
        found = [pictures.read(index)[0] for index in (0, 1)]
    assert len(told) == 1 and not kept(tmp_path)
    monkeypatch.undo()
    assert torch.equal(found[1], PictureCache(tmp_path, mixed, SIZE).read(1)[0])


# ----------------------------------------------------------------------------------------------- before a run begins


def test_a_cache_says_how_large_it_will_be(mixed, tmp_path):
    """By hand, at 64 x 128 px at most: five of 82 x 64 or 64 x 82 px, and the unknown one guessed as large as these."""
    pictures = PictureCache(tmp_path / "new", mixed, SIZE)
    expected = 6 * (24 + 3 * 82 * 64)
    assert f"6 pictures at network size, {expected / 1e6:.1f} MB; 0 of them are there" in pictures.prepare()
    for index in range(6):
        pictures.read(index)
    assert sum(path.stat().st_size for path in kept(tmp_path)) == expected
    assert "6 of them are there" in pictures.prepare()
    in_full = PictureCache(tmp_path, mixed, None).prepare()
    assert "6 pictures in full" in in_full and "data.scale_jitter" in in_full


def test_a_cache_that_does_not_fit_is_refused(mixed, tmp_path, monkeypatch):
    """Before the first step, with what is needed and what is free."""
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 50_000))
    with pytest.raises(FocalError, match=r"needs 0\.1 MB more for 6 pictures, and 0\.1 MB are free") as caught:
        PictureCache(tmp_path, mixed, None).prepare()
    assert "data.scale_jitter=[1, 1]" in caught.value.hint
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 200_000))
    PictureCache(tmp_path, mixed, None).prepare()


def test_a_folder_that_cannot_be_is_a_mistake_of_the_user(own_world):
    """Exit 2, and no run is left behind."""
    taken = own_world / "r.yaml"
    words = ("train", own_world / "r.yaml", "name=c", f"data.cache={taken}", "--runs", own_world / "runs")
    result = focal(*words, "--device", "cpu", exit_code=ExitCode.BAD_INPUT)
    assert f"data.cache: {taken}: cannot be written to" in result.stderr and "data.cache=null" in result.stderr
    assert not (own_world / "runs/c").exists()


# ---------------------------------------------------------------------------------------------------------- whole runs


SHORT = replace(SETUP, schedule=replace(SETUP.schedule, epochs=2))


def test_weights_are_those_of_a_run_without_a_cache(data, tmp_path):
    """Bit for bit, from a cache that is empty and from a full one, in this process and in another."""
    setup = replace(SHORT, augment=STEADY)
    cached = replace(setup, cache=str(tmp_path / "cache"))
    train(tmp_path / "plain", data, setup)
    assert "0 of them are there" in " ".join(train(tmp_path / "empty", data, cached).notes)
    assert "8 of them are there" in " ".join(train(tmp_path / "full", data, replace(cached, workers=1)).notes)
    assert_same_weights(tmp_path / "plain", tmp_path / "empty")
    assert_same_weights(tmp_path / "plain", tmp_path / "full")


def test_a_run_may_be_resumed_with_a_cache(data, tmp_path, monkeypatch):
    """It decides nothing: the weights are those of the run that never had one, bit for bit."""
    monkeypatch.setattr(metrics, "LOG_EVERY_SECONDS", 0)
    setup = replace(SHORT, augment=Augment(crop=0.3))
    train(tmp_path / "plain", data, setup)
    with pytest.raises(loop.Interrupted):
        train(tmp_path / "stopped", data, setup, at=at_step(1, stop()))
    train(tmp_path / "stopped", data, replace(setup, cache=str(tmp_path / "cache")), resume=True)
    assert_same_weights(tmp_path / "plain", tmp_path / "stopped")


def test_a_dry_run_leaves_no_cache(data, tmp_path):
    """`--dry-run` writes nothing."""
    trial.dry_run(replace(SETUP, cache=str(tmp_path / "cache")), data, data, CPU)
    assert not (tmp_path / "cache").exists()
