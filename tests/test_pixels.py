"""Resized pictures look as Pillow would resize them, and training and evaluation see the same ones."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_data import SIZE, dataset_of

from focalcli import coco
from focalcli.training.augment import Augment
from focalcli.training.data import InputSize, Pictures
from focalcli.training.pixels import pixels_of, read_image, resize, resized, target_wh
from focalcli.training.sampling import Key

SIDE = st.integers(1, 300)


@settings(max_examples=150, deadline=None)
@given(wh=st.tuples(SIDE, SIDE), target=st.tuples(SIDE, SIDE), seed=st.integers(0, 2**32 - 1), harsh=st.booleans())
def test_pixels_are_resized_as_by_pillow(wh, target, seed, harsh):
    """Image.resize(BILINEAR), which is antialiased: noise, also of black and white alone, to within 2 levels of 255."""
    noise = np.random.default_rng(seed).integers(0, 2 if harsh else 256, (wh[1], wh[0], 3))
    image = Image.fromarray((noise * (255 if harsh else 1)).astype(np.uint8))
    ours = resize(pixels_of(image), target).permute(1, 2, 0).numpy()
    peer = np.asarray(image.resize(target, Image.Resampling.BILINEAR))
    far = np.abs(ours.astype(int) - peer)
    assert far.max() <= 2
    assert far.mean() <= 0.5


def test_photos_are_resized_as_by_pillow(shared):
    """Ten of bccd at 200 to 320 px: one level in less than 1 % of the numbers, no more anywhere."""
    dataset = coco.load(shared / "bccd/annotations/train.json")
    different = []
    for index in range(10):
        image = read_image(dataset, index)
        target = target_wh(image.size, InputSize(200 + 12 * index, 1000))
        peer = np.asarray(image.resize(target, Image.Resampling.BILINEAR))
        far = np.abs(resize(pixels_of(image), target).permute(1, 2, 0).numpy().astype(int) - peer)
        assert far.max() <= 1
        different.append((far > 0).mean())
    assert np.mean(different) < 0.01


def test_pixels_that_have_their_size_stay_as_they_are():
    """Pillow copies them unchanged; here not even that, which is what makes a cache at network size quick."""
    pixels = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    assert resize(pixels, (30, 20)) is pixels


@settings(max_examples=30, deadline=None)
@given(wh=st.tuples(st.integers(20, 200), st.integers(20, 200)), seed=st.integers(0, 2**32 - 1))
def test_evaluation_sees_what_training_sees_without_augmentation(tmp_path_factory, wh, seed):
    """predict.py resizes with `resized`; Pictures have seed None or an Augment that varies nothing."""
    folder = tmp_path_factory.getbasetemp() / "alike"
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (wh[1], wh[0], 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "a.jpg")
    dataset = dataset_of(folder, {"a.jpg": wh})
    evaluated = resized(read_image(dataset, 0), SIZE)
    for key, augment in ((Key(0, None), Augment()), (Key(0, 5), Augment(flip=0.0))):
        assert np.array_equal(Pictures(dataset, np.array([0, 1]), SIZE, augment)[key].image, evaluated)
