"""Pictures arrive as they look, boxes move with their pixels, and every step's batch is a function of seed and step."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import coco_file
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_anchors import OCTAVES, torchvision_anchors, torchvision_matches
from torch import nn

from focalcli import coco
from focalcli.anchors import AnchorSpec
from focalcli.errors import FocalError
from focalcli.recommend.per_class import repeat_factors
from focalcli.training.augment import Augment
from focalcli.training.data import Collate, InputSize, Pictures, Sample, batches, pad, read_image, train_loader
from focalcli.training.sampling import BatchKeys, Repeat
from focalcli.training.step import Objective, losses

SIZE = InputSize(64, 128)
RED = (255, 0, 0)


def dataset_of(folder: Path, pictures: dict[str, tuple[int, int]], boxes=()) -> coco.Dataset:
    """A dataset of pictures that stand in `folder`: file name -> width and height that the json says."""
    images = [
        {"id": n, "file_name": name, "width": wh[0], "height": wh[1]}
        for n, (name, wh) in enumerate(pictures.items(), 1)
    ]
    file = folder / "train.json"
    file.write_text(json.dumps(coco_file(list(boxes), images)))
    return coco.load(file, folder)


def picture(folder: Path, image: Image.Image, name: str = "a.png", wh: tuple[int, int] | None = None, **options):
    """A dataset of this one picture."""
    image.save(folder / name, **options)
    return dataset_of(folder, {name: wh or image.size}, [])


def pixel(image: Image.Image, x: int = 0, y: int = 0) -> tuple[int, ...]:
    return image.getpixel((x, y))


# ----------------------------------------------------------------------------------------------------- boxes and pixels


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@settings(max_examples=60, deadline=None)
@given(
    wh=st.tuples(st.integers(40, 200), st.integers(40, 200)),
    corner=st.tuples(st.floats(0, 0.6), st.floats(0, 0.6)),
    seed=st.none() | st.integers(0, 2**62),
    factor=st.floats(0.8, 1.25),
)
def test_boxes_move_as_their_pixels_move(scratch, wh, corner, seed, factor):
    """A red rectangle on blue, drawn by Pillow: after resize and flips the red pixels fill the box, to within 1 px."""
    x, y = (int(c * side) for c, side in zip(corner, wh, strict=True))
    w, h = max(8, wh[0] // 4), max(8, wh[1] // 3)
    image = Image.new("RGB", wh, (0, 0, 255))
    image.paste(RED, (x, y, x + w, y + h))
    image.save(scratch / "box.png")
    dataset = dataset_of(scratch, {"box.png": wh}, [{"bbox": [x, y, w, h]}])
    pictures = Pictures(dataset, np.array([0, 1]), SIZE, Augment(flip=0.5, vertical_flip=0.5))
    sample = pictures[0, seed, factor]
    red = sample.image[:, :, 0] > 127
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(sample.boxes, [seen], atol=1.0)
    assert sample.labels.tolist() == [0]


def test_flips_come_as_often_as_they_are_asked_for(tmp_path):
    """Chances 0 and 1 are certain, 0.5 is a coin: of 200, 100 +- 5 standard deviations of 7.1."""
    image = Image.new("RGB", (64, 64))
    image.putpixel((0, 0), RED)
    dataset = picture(tmp_path, image)

    def corners(flip, vertical):
        pictures = Pictures(dataset, np.array([0, 1]), SIZE, Augment(flip, vertical))
        found = (np.argwhere(pictures[0, seed, 1.0].image[:, :, 0] == 255)[0] for seed in range(200))
        return Counter((int(row > 0), int(column > 0)) for row, column in found)

    assert corners(0, 0) == {(0, 0): 200}
    assert corners(1, 0) == {(0, 1): 200}
    assert corners(0, 1) == {(1, 0): 200}
    assert 65 < corners(0.5, 0)[0, 1] < 135


def test_boxes_are_clipped_also_where_the_json_has_no_size(tmp_path):
    """TRAPS 10: a box that leaves its picture; without width and height only the picture itself says where it ends."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    dataset = dataset_of(tmp_path, {"a.png": (0, 0)}, [{"bbox": [50, 40, 100, 10]}, {"bbox": [70, 0, 10, 10]}])
    sample = Pictures(dataset, np.array([0, 1]), SIZE, Augment())[0, None, 1.0]
    assert sample.boxes.tolist() == [[50, 40, 64, 50]]


# ---------------------------------------------------------------------------------------------------- kinds of pictures


@pytest.mark.parametrize(
    ("orientation", "where"),
    # EXIF 2.32, tag 274: where row 0 and column 0 of the file are seen; so where its first pixel goes
    [(1, "top left"), (2, "top right"), (3, "bottom right"), (4, "bottom left"),
     (5, "top left"), (6, "top right"), (7, "bottom right"), (8, "bottom left")],
)  # fmt: skip
def test_a_picture_is_turned_into_the_frame_of_the_json(tmp_path, orientation, where):
    """TRAPS 31: raw (100, 40) against transposed (40, 100); the json's width and height say which frame is meant."""
    image = Image.new("RGB", (100, 40))
    image.paste(RED, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[274] = orientation
    seen = (100, 40) if orientation <= 4 else (40, 100)
    rgb = read_image(picture(tmp_path, image, wh=seen, exif=exif), 0)
    assert rgb.size == seen
    y = {"top": 2, "bottom": seen[1] - 3}[where.split()[0]]
    x = {"left": 2, "right": seen[0] - 3}[where.split()[1]]
    assert pixel(rgb, x, y) == RED
    if orientation > 4:  # boxes drawn on the raw picture
        raw = read_image(picture(tmp_path, image, wh=(100, 40), exif=exif), 0)
        assert (raw.size, pixel(raw)) == ((100, 40), RED)


def test_a_16_bit_picture_keeps_its_range(tmp_path):
    """TRAPS 32 [M]: a plain conversion saturates 99.6 % of the pixels. 65,535 / 257 = 255: one grey in 257 values."""
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    rgb = np.asarray(read_image(picture(tmp_path, Image.fromarray(values)), 0))
    assert rgb.shape == (256, 256, 3)
    np.testing.assert_allclose(rgb[:, :, 0], values / 257, atol=1)
    assert (rgb[:, :, 0] == rgb[:, :, 2]).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "RGBA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    """TRAPS 32: a white and a black half stay white and black, whatever the file's colour model."""
    name = "a.jpg" if mode in ("CMYK", "YCbCr") else "a.png"
    image = Image.new("RGB", (64, 32))
    image.paste((255, 255, 255), (0, 0, 32, 32))
    rgb = read_image(picture(tmp_path, image.convert(mode), name), 0)
    assert rgb.mode == "RGB"
    assert min(pixel(rgb, 8, 8)) >= 250
    assert max(pixel(rgb, 56, 8)) <= 5


def test_a_transparent_pixel_does_not_show_the_colour_under_it(tmp_path):
    """TRAPS 32: RGBA to RGB reveals what was erased. Opaque pixels stay, half-transparent ones are mixed."""
    image = Image.new("RGBA", (30, 10), (255, 0, 0, 0))
    image.paste((255, 0, 0, 255), (10, 0, 20, 10))
    image.paste((255, 0, 0, 128), (20, 0, 30, 10))
    rgb = read_image(picture(tmp_path, image), 0)
    assert pixel(rgb, 5, 5) == (128, 128, 128)
    assert pixel(rgb, 15, 5) == RED
    assert pixel(rgb, 25, 5) == pytest.approx((192, 64, 64), abs=1)


def test_a_transparent_palette_colour_does_not_show(tmp_path):
    """TRAPS 32: a GIF-like PNG whose palette entry 0 is transparent."""
    image = Image.new("P", (8, 8), 0)
    image.putpalette([*RED, 0, 255, 0])
    rgb = read_image(picture(tmp_path, image, transparency=0), 0)
    assert pixel(rgb) == (128, 128, 128)


# ------------------------------------------------------------------------------------------------------ broken pictures


def test_a_missing_picture_is_named(tmp_path):
    """STYLE: the place, what was found, the next step."""
    with pytest.raises(FocalError, match=r"nope\.png: no such picture \(image 1 of .*train\.json\)") as caught:
        read_image(dataset_of(tmp_path, {"nope.png": (8, 8)}), 0)
    assert "data.train_images" in caught.value.hint


def test_a_picture_of_another_size_is_named_with_both(tmp_path):
    """TRAPS 31: its boxes would be in the wrong place."""
    with pytest.raises(FocalError, match=r"a\.png: is 64 x 32 px, .*train\.json says 64 x 48") as caught:
        read_image(picture(tmp_path, Image.new("RGB", (64, 32)), wh=(64, 48)), 0)
    assert "correct width and height" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"], ids=["empty", "text", "signature"])
def test_what_is_no_picture_is_named(tmp_path, content):
    """A Git LFS pointer or a page of HTML under the name of a picture."""
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(FocalError, match=r"a\.png: not a readable picture") as caught:
        read_image(dataset_of(tmp_path, {"a.png": (8, 8)}), 0)
    assert "focal audit" in caught.value.hint


def test_a_name_that_leads_out_of_the_folder_is_not_opened(tmp_path):
    """TRAPS 12."""
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    (tmp_path / "data").mkdir()
    with pytest.raises(FocalError, match="leads out of"):
        read_image(dataset_of(tmp_path / "data", {"../secret.png": (8, 8)}), 0)


@pytest.mark.filterwarnings("ignore")  # Pillow's own, of corrupt EXIF
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.gif", "a.avif", "a.jp2"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_picture_is_a_picture_or_a_focal_error(scratch, name, data):
    """TRAPS 32: cut short, or with bytes changed; decoders raise OSError, SyntaxError, RuntimeError, struct.error .."""
    whole = scratch / f"whole_{name}"
    if not whole.exists():
        noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype(np.uint8)
        exif = Image.Exif()
        exif[274], exif[270] = 6, "a description"
        try:
            Image.fromarray(noise).save(whole, exif=exif)
        except (KeyError, OSError, ValueError):
            pytest.skip(f"this Pillow does not write {name}")
    content = bytearray(whole.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        for place in data.draw(st.lists(st.integers(0, min(400, len(content)) - 1), min_size=1, max_size=4)):
            content[place] = data.draw(st.integers(0, 255))
    (scratch / name).write_bytes(content)
    try:
        assert read_image(dataset_of(scratch, {name: (40, 24)}), 0).mode == "RGB"
    except FocalError as error:
        assert name in error.message


def test_the_loader_keeps_the_hint_of_an_error(tmp_path):
    """An exception that leaves a worker loses its attributes; the message and hint must arrive."""
    dataset = dataset_of(tmp_path, {"nope.png": (8, 8)}, [{}])
    keys = BatchKeys(Repeat(np.ones(1)), 1, 0, 1)
    pictures = Pictures(dataset, np.array([0, 1]), SIZE, Augment())
    for workers in (0, 1):
        with pytest.raises(FocalError, match="no such picture") as caught:
            list(batches(train_loader(pictures, keys, OCTAVES, workers, pin=False)))
        assert "data.train_images" in caught.value.hint


def test_the_loader_can_be_sent_to_a_fresh_process(tmp_path):
    """macOS and Windows spawn their workers, and so does Linux from Python 3.14: everything they get is pickled."""
    dataset = picture(tmp_path, Image.new("RGB", (64, 64)))
    loader = train_loader(
        Pictures(dataset, np.array([0, 1]), SIZE, Augment()),
        BatchKeys(Repeat(np.ones(1)), 1, 0, 1),
        OCTAVES,
        0,
        False,
    )
    pictures, collate = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
    assert collate([pictures[0, 1, 1.0]]).images.shape == (1, 3, 64, 64)
    pickle.dumps(loader.worker_init_fn)


# -------------------------------------------------------------------------------------------------------------- targets


def blank(boxes, wh=(96, 64), labels=None, crowds=(), index=0) -> Sample:
    """A black picture at network size with these xyxy boxes."""
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    given = np.zeros(len(boxes), dtype=np.int64) if labels is None else np.array(labels, dtype=np.int64)
    crowds = np.array(crowds, dtype=np.float32).reshape(-1, 4)
    return Sample(np.zeros((wh[1], wh[0], 3), dtype=np.uint8), boxes, given, crowds, index)


def dense(batch) -> np.ndarray:
    """(N, A) class of each anchor, -1 background, -2 ignored."""
    labels = np.full(len(batch.images) * batch.anchors_per_image, -1)
    labels[batch.ignored] = -2
    labels[batch.positive] = batch.positive_label
    return labels.reshape(len(batch.images), -1)


@st.composite
def sample_of_boxes(draw):
    wh = draw(st.sampled_from([(96, 64), (64, 96), (100, 70), (33, 65)]))
    corner, side = st.floats(0, 0.7), st.floats(0.1, 1)
    raw = draw(st.lists(st.tuples(corner, corner, side, side), max_size=5))
    boxes = [(x * wh[0], y * wh[1], min(x + w, 1) * wh[0], min(y + h, 1) * wh[1]) for x, y, w, h in raw]
    return blank(boxes, wh, labels=range(len(boxes)))


@settings(max_examples=60, deadline=None)
@given(st.lists(sample_of_boxes(), min_size=1, max_size=3), st.sampled_from([OCTAVES, AnchorSpec()]))
def test_targets_are_those_of_torchvision_on_the_padded_batch(samples, spec):
    """AnchorGenerator, box_iou and Matcher(0.5, 0.4, allow_low_quality_matches=True), picture by picture."""
    batch = Collate(spec)(samples)
    height, width = (-(-max(s.image.shape[axis] for s in samples) // 32) * 32 for axis in (0, 1))
    assert batch.images.shape == (len(samples), 3, height, width)
    all_anchors = torchvision_anchors(spec, width, height)
    assert batch.anchors_per_image == len(all_anchors)
    found = dense(batch)
    for row, sample in zip(found, samples, strict=True):
        if len(sample.boxes):
            assert np.array_equal(row, torchvision_matches(sample.boxes, spec, width, height))
        else:
            assert (row == -1).all()  # TRAPS 11: a picture without boxes is a negative
    image, anchor = np.divmod(batch.positive.numpy(), batch.anchors_per_image)
    torch.testing.assert_close(batch.positive_anchor, all_anchors[anchor], rtol=0, atol=0)
    boxes = [samples[i].boxes[label] for i, label in zip(image, batch.positive_label, strict=True)]
    assert np.array_equal(batch.positive_box.numpy(), np.array(boxes, dtype=np.float32).reshape(-1, 4))


def test_anchors_on_a_crowd_are_ignored_and_those_of_objects_are_not():
    """TRAPS 8: neither object nor background. By hand: half or more of the anchor inside the region."""
    crowd, box = (0, 0, 64, 64), (8, 8, 40, 40)
    found = dense(Collate(OCTAVES)([blank([box], crowds=[crowd]), blank([box])]))
    anchors = torchvision_anchors(OCTAVES, 96, 64).numpy()
    area = (anchors[:, 2] - anchors[:, 0]) * (anchors[:, 3] - anchors[:, 1])
    inside = np.maximum(np.minimum(anchors[:, 2:], 64) - np.maximum(anchors[:, :2], 0), 0).prod(axis=1) / area
    assert ((found[0] == 0) == (found[1] == 0)).all()  # the crowd takes no object's anchor
    assert (found[0][(inside >= 0.5) & (found[1] == -1)] == -2).all()
    assert (found[0][(inside < 0.5)] == found[1][inside < 0.5]).all()
    assert (inside >= 0.5).sum() > 100


def test_a_crowd_annotation_is_no_object(tmp_path):
    """TRAPS 8, from the file on: iscrowd 1 becomes a region, not a box, and gives no gradient to any class."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    boxes = [{"bbox": [0, 0, 60, 60], "iscrowd": 1}, {"bbox": [10, 10, 20, 20], "category_id": 2}]
    dataset = dataset_of(tmp_path, {"a.png": (64, 64)}, boxes)
    sample = Pictures(dataset, np.array([0, 1]), SIZE, Augment())[0, None, 1.0]
    assert sample.boxes.tolist() == [[10, 10, 30, 30]]
    assert sample.labels.tolist() == [1]
    assert sample.crowds.tolist() == [[0, 0, 60, 60]]
    batch = Collate(OCTAVES)([sample])
    head = FixedHead(batch)
    sum(losses(head, batch, Objective(0.25, 2.0), None, len(batch.positive))).backward()
    silent = head.logits.grad.flatten(0, 1).abs().sum(dim=1) == 0
    assert silent.nonzero().flatten().tolist() == sorted(batch.ignored.tolist())


class FixedHead(nn.Module):
    """A detector that says 0 everywhere, to look at the gradients of its outputs."""

    def __init__(self, batch, classes: int = 2) -> None:
        super().__init__()
        shape = (len(batch.images), batch.anchors_per_image)
        self.logits = nn.Parameter(torch.zeros(*shape, classes))
        self.deltas = nn.Parameter(torch.zeros(*shape, 4))

    def forward(self, _images, positive):
        return self.logits, self.deltas.flatten(0, 1)[positive]


def test_a_picture_without_objects_weighs_no_more_than_another():
    """TRAPS 11: torchvision divides each picture by its own positives, an empty one by 1; here all by the batch's."""
    full, empty = blank([(8, 8, 40, 40)]), blank([])
    batch = Collate(OCTAVES)([full, empty])
    head = FixedHead(batch)
    cls, _ = losses(head, batch, Objective(0.25, 2.0), None, len(batch.positive))
    cls.backward()
    background = head.logits.grad[dense(batch) == -1]
    assert (background == background[0, 0]).all()
    # by hand: slope of 0.75 p^2 softplus(x) at 0 is 0.75 * 0.25 * (0.5 + 2 * 0.5 * ln 2), over the positives
    assert background[0, 0].item() == pytest.approx(0.75 * 0.25 * (0.5 + np.log(2)) / len(batch.positive), rel=1e-5)


def test_a_batch_without_any_object_is_trained_on():
    """TRAPS 19: zero positives divide by 1; both losses are finite, that of the boxes is 0."""
    batch = Collate(OCTAVES)([blank([]), blank([])])
    cls, box = losses(FixedHead(batch), batch, Objective(0.25, 2.0), None, 1)
    anchors = 2 * batch.anchors_per_image * 2
    assert cls.item() == pytest.approx(anchors * 0.75 * 0.25 * np.log(2), rel=1e-5)
    assert box.item() == 0


def test_padding_is_the_mean_colour_right_and_below():
    """255 * 0.485, 0.456, 0.406: torchvision pads with 0 after the normalisation; sides are multiples of 32."""
    images = pad([np.zeros((30, 40, 3), dtype=np.uint8), np.zeros((50, 20, 3), dtype=np.uint8)])
    assert images.shape == (2, 3, 64, 64)
    assert images[0, :, :30, :40].max() == 0
    for outside in (images[0, :, 30:], images[0, :, :, 40:], images[1, :, 50:], images[1, :, :, 20:]):
        assert (outside.flatten(1) == torch.tensor([[124], [116], [104]])).all()  # 255 * 0.485, 0.456, 0.406


# ---------------------------------------------------------------------------------------------- what is shown, and when


def test_repeat_factors_are_those_of_lvis(tmp_path):
    """Gupta et al. 2019, sec. 4.2, by hand: cat in 4 of 4 pictures, dog in 1 of 4; sqrt(0.81 / 0.25) = 1.8."""
    boxes = [{"image_id": n, "category_id": 1} for n in (1, 2, 3, 4)] + [{"image_id": 2, "category_id": 2}]
    dataset = dataset_of(tmp_path, {f"{n}.png": (640, 480) for n in range(4)}, boxes)
    assert repeat_factors(dataset, 0.81).tolist() == pytest.approx([1, 1.8, 1, 1])
    assert repeat_factors(dataset, 0.0).tolist() == [1, 1, 1, 1]
    assert repeat_factors(dataset, 0.2).tolist() == [1, 1, 1, 1]


def test_a_crowd_does_not_repeat_its_picture(tmp_path):
    """TRAPS 8: a crowd of a rare class is no object of it."""
    boxes = [{"image_id": 1}, {"image_id": 2, "category_id": 2}, {"image_id": 3, "category_id": 2, "iscrowd": 1}]
    dataset = dataset_of(tmp_path, {f"{n}.png": (640, 480) for n in range(4)}, boxes)
    assert repeat_factors(dataset, 1.0).tolist() == pytest.approx([2, 2, 1, 1])


def shown(keys: BatchKeys) -> list[list[int]]:
    """The pictures of each step."""
    return [[key.index for key in step] for step in keys]


@settings(max_examples=60, deadline=None)
@given(
    factors=st.lists(st.sampled_from([1.0, 1.0, 1.2, 1.5, 1.9, 2.0, 3.7]) | st.floats(1, 6), min_size=1, max_size=30),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_picture_is_shown_floor_or_ceil_of_its_factor(factors, seed):
    """LVIS, sec. 4.2 (detectron2 rounds at random, so does this); a factor of 1 is exactly once an epoch."""
    keys = BatchKeys(Repeat(np.array(factors)), 1, seed, 2)
    steps = [step[0] for step in shown(keys)]
    for epoch in (steps[: keys.steps_per_epoch], steps[keys.steps_per_epoch :]):
        times = Counter(epoch)
        assert len(epoch) == int(sum(factors)) or len(epoch) == len(factors)
        for index, factor in enumerate(factors):
            assert np.floor(factor) <= times[index] <= np.ceil(factor), (index, factor)


def test_fractions_even_out_over_the_epochs():
    """A factor of 1.5 is shown 150 times in 100 epochs, wherever the picture stands in the file."""
    keys = BatchKeys(Repeat(np.array([1.5, 1.0, 1.5, 1.5, 1.5])), 1, 0, 100)
    times = Counter(step[0] for step in shown(keys))
    assert times[1] == 100
    assert [times[index] for index in (0, 2, 3, 4)] == pytest.approx([150] * 4, abs=25)


def test_every_epoch_has_another_order():
    """TRAPS 28: one peer never reshuffles."""
    keys = BatchKeys(Repeat(np.ones(50)), 5, 0, 3)
    steps = shown(keys)
    orders = [np.concatenate(steps[epoch * 10 : epoch * 10 + 10]).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert shown(BatchKeys(Repeat(np.ones(50)), 5, 1, 3)) != steps


@settings(max_examples=60, deadline=None)
@given(
    pictures=st.integers(1, 20), batch=st.integers(1, 6), epochs=st.integers(1, 4), seed=st.integers(0, 99),
    repeats=st.booleans(), data=st.data(),
)  # fmt: skip
def test_a_resumed_sequence_is_the_tail_of_the_unbroken_one(pictures, batch, epochs, seed, repeats, data):
    """TRAPS 28: the same pictures, seeds of their augmentation and scale factors from any step on."""
    factors = np.linspace(1, 2.5, pictures) if repeats else np.ones(pictures)
    keys = BatchKeys(Repeat(factors), batch, seed, epochs)
    whole = list(keys)
    assert len(whole) == len(keys) == keys.steps_per_epoch * epochs
    keys.start = data.draw(st.integers(0, len(whole)))
    assert list(keys) == whole[keys.start :]
    assert len(keys) == len(whole) - keys.start


def test_scale_factors_stay_in_their_range():
    """One factor for the whole batch, so that its pictures need little padding; even in the logarithm."""
    keys = BatchKeys(Repeat(np.ones(400)), 2, 0, 1, scale=(0.5, 2.0))
    steps = list(keys)
    assert all(len({key.factor for key in step}) == 1 for step in steps)
    factors = np.array([step[0].factor for step in steps])
    assert factors.min() >= 0.5
    assert factors.max() <= 2
    assert np.log(factors).mean() == pytest.approx(0, abs=0.15)  # 200 draws of a deviation of 0.4: 5 x 0.028


def test_wide_and_tall_pictures_come_in_batches_of_their_own():
    """Counted by hand: 30 wide and 10 tall pictures in batches of 4: one batch an epoch mixes, and none is lost."""
    wide = np.arange(40) % 4 != 0
    keys = BatchKeys(Repeat(np.ones(40)), 4, 0, 5, wide=wide)
    steps = shown(keys)
    epochs = [steps[start : start + 10] for start in range(0, 50, 10)]
    for epoch in epochs:
        assert sorted(index for batch in epoch for index in batch) == list(range(40))
        assert sum(len({bool(wide[index]) for index in batch}) > 1 for batch in epoch) <= 1
    assert epochs[0] != epochs[1]


def test_a_dataset_smaller_than_the_batch_is_one_step():
    """3 pictures in batches of 8 are one step of 3."""
    keys = BatchKeys(Repeat(np.ones(3)), 8, 0, 2)
    assert [sorted(step) for step in shown(keys)] == [[0, 1, 2], [0, 1, 2]]
