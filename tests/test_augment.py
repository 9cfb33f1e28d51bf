"""Windows, colours and samplers do what the recipe says, follow from the seed alone, and are off by default."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_data import SIZE, dataset_of
from torchvision.transforms.v2 import functional

from focalcli.anchors import AnchorSpec
from focalcli.recommend.per_class import repeat_factors
from focalcli.training.augment import Augment, Draw, draw, flipped, inside, recoloured
from focalcli.training.data import Collate, Pictures, canvas_of, pad, target_wh
from focalcli.training.sampling import BatchKeys, ClassAware, Key, Repeat

BOTH = np.array([0, 1])
PLAIN = Augment(flip=0.0, scale=(1.0, 1.0))


# -------------------------------------------------------------------------------------------------------------- colours


@pytest.mark.parametrize("factor", [0.6, 0.9, 1.3])
@pytest.mark.parametrize("which", ["brightness", "contrast", "saturation"])
def test_colours_change_as_in_torchvision(which, factor):
    """torchvision.transforms.v2.functional.adjust_*, to within the rounding of a grey level or two."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    names = ("brightness", "contrast", "saturation")
    ours = recoloured(pixels, tuple(factor if name == which else 1.0 for name in names))
    peer = getattr(functional, f"adjust_{which}")(torch.from_numpy(pixels).permute(2, 0, 1), factor)
    np.testing.assert_allclose(ours.astype(int), peer.permute(1, 2, 0).numpy().astype(int), atol=2)


def test_factors_are_drawn_around_1_and_off_by_default():
    """1 - value to 1 + value, even; 0 is exactly 1 and leaves the picture alone, as the measured recipes need it."""
    jitter = Augment(brightness=0.4, contrast=0.2)
    colours = np.array([draw(jitter, seed, (64, 64), np.zeros((0, 4))).colours for seed in range(400)])
    assert (abs(colours - 1).max(axis=0) <= [0.4, 0.2, 0]).all() and (colours[:, 2] == 1).all()
    assert abs(colours - 1).max(axis=0) == pytest.approx([0.4, 0.2, 0], abs=0.02)
    assert colours.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.05)
    assert draw(PLAIN, 7, (64, 64), np.zeros((0, 4))) == Draw()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**62))
def test_flips_are_those_of_the_seed_whatever_else_is_drawn(seed):
    """Colours and windows come after the flips, so that turning them on moves no flip of a run with the same seed."""
    full = Augment(flip=0.5, vertical_flip=0.5, brightness=0.5, crop=1.0)
    one, two = (draw(each, seed, (90, 70), np.zeros((0, 4))) for each in (Augment(vertical_flip=0.5), full))
    assert (one.across, one.down) == (two.across, two.down)
    across, down = np.random.default_rng(seed).random(2) < 0.5
    assert (one.across, one.down) == (across, down)


# -------------------------------------------------------------------------------------------------------------- windows


@st.composite
def pictures_with_boxes(draw_):
    wh = draw_(st.tuples(st.integers(8, 300), st.integers(8, 300)))
    share = st.floats(0, 0.9)
    corners = draw_(st.lists(st.tuples(share, share, st.floats(0.05, 1), st.floats(0.05, 1)), max_size=5))
    boxes = [[x * wh[0], y * wh[1], min(1, x + w) * wh[0], min(1, y + h) * wh[1]] for x, y, w, h in corners]
    return wh, np.array(boxes).reshape(-1, 4)


@settings(max_examples=200, deadline=None)
@given(case=pictures_with_boxes(), seed=st.integers(0, 2**62))
def test_a_window_lies_in_its_picture_and_holds_the_centre_of_an_object(case, seed):
    """Half to all of each side, of the picture's own shape to within a pixel; boxes are cut at it."""
    wh, boxes = case
    window = np.array(draw(Augment(crop=1.0), seed, wh, boxes).window)
    assert (window[:2] >= 0).all() and (window[2:] <= wh).all()
    sides = window[2:] - window[:2]
    assert (sides >= np.array(wh) / 2 - 0.5).all() and (sides <= wh).all()
    assert abs(sides[0] / wh[0] - sides[1] / wh[1]) <= 0.5 / wh[0] + 0.5 / wh[1] + 1e-9
    cut, held = inside(boxes, tuple(window.tolist()))
    assert (cut >= 0).all() and (cut <= np.tile(sides, 2)).all()
    if len(boxes):  # rounding the corner can move the window off a centre on its very edge, by half a pixel
        grown = (window[0] - 1, window[1] - 1, window[2] + 1, window[3] + 1)
        assert held.any() or inside(boxes, grown)[1].any()


def test_boxes_are_cut_and_kept_by_their_centres():
    """By hand, in a window from (10, 10) to (50, 50): inside, cut with its centre in, cut with it out, outside."""
    boxes = np.array([[20, 20, 30, 30], [0, 20, 30, 40], [0, 20, 16, 40], [60, 60, 70, 70]], dtype=float)
    cut, held = inside(boxes, (10, 10, 50, 50))
    assert held.tolist() == [True, True, False, False]
    assert cut[:3].tolist() == [[10, 10, 20, 20], [0, 10, 20, 30], [0, 10, 6, 30]]
    assert (cut[3, 2:] == cut[3, :2]).all()  # nothing of it is left


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**62), factor=st.sampled_from([0.8, 1.0, 1.25]))
def test_an_object_stays_under_its_box_through_window_and_flips(tmp_path_factory, seed, factor):
    """A red rectangle on blue, drawn by Pillow: what is left of it fills its box, to within 1.5 px."""
    folder = tmp_path_factory.getbasetemp() / "window"
    folder.mkdir(exist_ok=True)
    image = Image.new("RGB", (120, 90), (0, 0, 255))
    image.paste((255, 0, 0), (40, 30, 80, 60))
    image.save(folder / "a.png")
    dataset = dataset_of(folder, {"a.png": (120, 90)}, [{"bbox": [40, 30, 40, 30]}])
    augment = Augment(flip=0.5, vertical_flip=0.5, crop=1.0)
    sample = Pictures(dataset, BOTH, SIZE, augment)[Key(0, seed, factor)]
    assert sample.image.shape[1::-1] == target_wh((120, 90), SIZE, factor)  # as without a window
    red = sample.image[:, :, 0] > 127
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    np.testing.assert_allclose(sample.boxes, [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], atol=1.5)


def test_what_a_window_leaves_of_an_object_is_neither_object_nor_background(tmp_path):
    """A bumper is no car, but to learn it as background would be as wrong: it is ignored, as a crowd is."""
    Image.new("RGB", (128, 128)).save(tmp_path / "a.png")
    boxes = [{"bbox": [8, 8, 40, 40]}, {"bbox": [88, 88, 40, 40], "category_id": 2}]
    dataset = dataset_of(tmp_path, {"a.png": (128, 128)}, boxes)
    pictures = Pictures(dataset, BOTH, SIZE, Augment(flip=0.0, crop=1.0))
    seen = Counter()
    for seed in range(60):
        sample = pictures[Key(0, seed)]
        seen[len(sample.boxes), len(sample.crowds)] += 1
        assert len(sample.boxes) >= 1
    assert seen[2, 0] and seen[1, 1] and seen[1, 0] and sum(seen.values()) == 60


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(20, 200), st.integers(20, 200)), min_size=2, max_size=4), data=st.data())
def test_parts_of_a_step_are_padded_as_the_whole(sizes, data):
    """The canvas of a step is what its pictures would be padded to together, whatever window is drawn."""
    factor = data.draw(st.sampled_from([0.8, 1.0, 1.25]))
    wh = np.array(sizes)
    canvas = canvas_of(wh, SIZE, factor)
    targets = np.array([target_wh(tuple(each), SIZE, factor) for each in sizes])
    assert tuple(canvas) == tuple(targets.max(axis=0))


def test_pictures_of_unknown_size_do_not_count_for_the_canvas():
    """0 x 0 in the json: the batch still grows to what it holds."""
    assert canvas_of(np.array([[0, 0]]), SIZE, 1.0) == (0, 0)
    assert canvas_of(np.array([[0, 0], [64, 64]]), SIZE, 1.0) == (64, 64)


def test_a_batch_is_as_large_as_its_canvas(tmp_path):
    """Padding right and below; anchors of the larger grid."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    dataset = dataset_of(tmp_path, {"a.png": (64, 64)}, [{"bbox": [8, 8, 30, 30]}])
    pictures = Pictures(dataset, BOTH, SIZE, PLAIN)
    batch = Collate(AnchorSpec())([pictures[Key(0, 1, 1.0, (100, 64))]])
    assert batch.images.shape == (1, 3, 64, 128)


def test_a_window_is_cut_and_then_resized_as_in_torchvision(tmp_path):
    """torchvision.transforms.v2.functional.resized_crop of the decoded picture; nothing outside the window shows."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    dataset = dataset_of(tmp_path, {"a.png": (120, 90)})
    augment = Augment(flip=0.0, crop=1.0)
    pictures, whole = Pictures(dataset, BOTH, SIZE, augment), torch.from_numpy(noise).permute(2, 0, 1)
    for seed in range(10):
        x, y, right, bottom = draw(augment, seed, (120, 90), np.zeros((0, 4))).window
        seen = pictures[Key(0, seed)].image
        peer = functional.resized_crop(whole, y, x, bottom - y, right - x, list(seen.shape[:2]))
        assert np.array_equal(seen, peer.permute(1, 2, 0).numpy())


def test_a_flipped_picture_reaches_the_batch_flipped():
    """The picture and its mirror image, side by side in a batch: numpy's flip as the outside number."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    across, down = (flipped(pixels, np.zeros((0, 4)), Draw(*which))[0] for which in ((True, False), (False, True)))
    batch = pad([pixels, across, down]).permute(0, 2, 3, 1)[:, :30, :40].numpy()
    assert np.array_equal(batch, np.stack([pixels, pixels[:, ::-1], pixels[::-1]]))


def test_flipping_twice_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    boxes = np.array([[1.0, 2, 5, 7]])
    both = Draw(across=True, down=True)
    again = flipped(*flipped(pixels, boxes, both), both)
    assert np.array_equal(again[0], pixels) and np.array_equal(again[1], boxes)


# ------------------------------------------------------------------------------------------------------------- samplers


def long_tail(tmp_path, pictures: int = 40):
    """Cats on every picture, twice on the first; a dog on the last four."""
    boxes = [{"image_id": n, "category_id": 1} for n in [1, *range(1, pictures + 1)]]
    boxes += [{"image_id": n, "category_id": 2} for n in range(pictures - 3, pictures + 1)]
    return dataset_of(tmp_path, {f"{n}.png": (640, 480) for n in range(pictures)}, boxes)


def test_class_aware_sampling_shows_every_class_equally_often(tmp_path):
    """Shen et al. 2016, sec. 3.2, by hand: 20 turns of 40 for each class; a dog's picture every fifth turn of a dog."""
    dataset = long_tail(tmp_path)
    sampler = ClassAware(dataset, BOTH)
    assert sampler.times()[:36] == pytest.approx([0.5] * 36)  # 20 turns of a cat over 40 pictures
    assert sampler.times()[36:] == pytest.approx([0.5 + 5] * 4)
    epochs = [Counter(sampler.order(np.random.default_rng(seed)).tolist()) for seed in range(50)]
    assert all(sum(times.values()) == 40 and all(times[n] >= 5 for n in range(36, 40)) for times in epochs)
    shown = sum(epochs, Counter())
    assert [shown[n] / 50 for n in range(36, 40)] == pytest.approx([5.5] * 4, abs=0.4)


def test_class_aware_sampling_leaves_out_pictures_without_objects(tmp_path):
    """They belong to no class; and a class that is not trained gets no turn."""
    boxes = [{"image_id": 1}, {"image_id": 2, "category_id": 2}]
    dataset = dataset_of(tmp_path, {f"{n}.png": (640, 480) for n in range(4)}, boxes)
    assert set(ClassAware(dataset, BOTH).order(np.random.default_rng(0)).tolist()) == {0, 1}
    assert set(ClassAware(dataset, np.array([0, -1])).order(np.random.default_rng(0)).tolist()) == {0}


def test_repeats_follow_the_power(tmp_path):
    """By hand: dogs on 4 of 40 pictures, threshold 0.4: 4^0.5 = 2 times, 4^1 = 4 times, 4^0.25 = 1.41 times."""
    dataset = long_tail(tmp_path)
    for power, times in ((0.5, 2), (1.0, 4), (0.25, 2**0.5)):
        factors = repeat_factors(dataset, 0.4, power)
        assert factors[:36].tolist() == [1] * 36 and factors[36:].tolist() == pytest.approx([times] * 4)


def test_expected_objects_of_an_epoch_are_those_that_come(tmp_path):
    """Counted over 200 epochs, for a shuffle that drops the last pictures, repeats, and class-aware turns."""
    dataset = long_tail(tmp_path)
    objects = np.zeros((40, 2))
    np.add.at(objects, (dataset.box_image, dataset.box_label), 1)
    samplers = [Repeat(np.ones(40)), Repeat(repeat_factors(dataset, 0.4)), ClassAware(dataset, BOTH)]
    for sampler, by_hand in zip(samplers, ([41 * 36 / 40, 4 * 36 / 40], None, None), strict=True):
        keys = BatchKeys(sampler, 6, 0, 200)
        expected = keys.objects_per_epoch(dataset, BOTH)
        if by_hand:
            assert expected == pytest.approx(by_hand)
        counted = sum(objects[key.index] for batch in keys for key in batch) / 200
        assert counted.tolist() == pytest.approx(expected, rel=0.04)
