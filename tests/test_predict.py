"""From scores and deltas to boxes: torchvision's order of steps, and back into the pixels of the original pictures."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_data import SIZE, dataset_of
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import clip_boxes_to_image

from focalcli import anchors
from focalcli.anchors import AnchorSpec
from focalcli.errors import FocalError
from focalcli.training import predict
from focalcli.training.loss import decode_boxes
from focalcli.training.predict import Thresholds, _candidates, _select
from focalcli.training.ranks import Ranks

SPEC = AnchorSpec((16, 32, 64, 128, 256))
GRID = anchors.grids(np.array([[96, 64]]))[0]
ANCHORS = torch.from_numpy(anchors.anchors_of(SPEC, GRID))
COUNTS = (GRID[:, 0] * GRID[:, 1] * SPEC.per_cell).tolist()


def selected(logits, deltas, wh, thresholds: Thresholds):
    """What predict makes of all logits and deltas of a picture, of which it asks for those at the candidates."""
    candidates = _candidates(logits, COUNTS, thresholds)
    return _select(candidates, deltas[candidates.anchor], ANCHORS, wh, thresholds)


def torchvision_detections(logits, deltas, wh, thresholds: Thresholds):
    """RetinaNet.postprocess_detections, with candidates per level as in predict.py; empty boxes left out."""
    peer = SimpleNamespace(
        score_thresh=thresholds.score, nms_thresh=thresholds.nms_iou, detections_per_img=thresholds.max_detections,
        topk_candidates=predict.CANDIDATES_PER_LEVEL, box_coder=BoxCoder(weights=(1.0, 1.0, 1.0, 1.0)),
    )  # fmt: skip
    outputs = {"cls_logits": logits[None].split(COUNTS, 1), "bbox_regression": deltas[None].split(COUNTS, 1)}
    height_width = [(wh[1], wh[0])]
    return RetinaNet.postprocess_detections(peer, outputs, [ANCHORS.split(COUNTS)], height_width)[0]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    classes=st.integers(1, 4),
    spread=st.sampled_from([0.5, 2.0, 5.0]),
    score=st.sampled_from([0.05, 0.5, 0.9]),
    nms_iou=st.sampled_from([0.3, 0.5, 0.7]),
    most=st.sampled_from([1, 20, 100]),
    wh=st.sampled_from([(96, 64), (90, 61)]),
)
def test_detections_are_chosen_as_in_torchvision(seed, classes, spread, score, nms_iou, most, wh):
    """RetinaNet.postprocess_detections: the best of each level, clipped, NMS per class, the best of the picture."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(ANCHORS), classes, generator=generator) * spread - 2
    deltas = torch.randn(len(ANCHORS), 4, generator=generator) * 0.2
    visible = clip_boxes_to_image(decode_boxes(deltas, ANCHORS), (wh[1], wh[0]))
    empty = (visible[:, 2:] <= visible[:, :2]).any(dim=1)
    logits[empty] = -20  # it would take a place in torchvision's list; ours drops it
    thresholds = Thresholds(score, nms_iou, most)
    boxes, scores, labels = selected(logits, deltas, wh, thresholds)
    expected = torchvision_detections(logits, deltas, wh, thresholds)
    torch.testing.assert_close(scores, expected["scores"])
    assert torch.equal(labels, expected["labels"])
    torch.testing.assert_close(boxes, expected["boxes"], rtol=1e-5, atol=1e-3)


def test_at_most_a_thousand_candidates_of_a_level(monkeypatch):
    """Lin et al. 2017, sec. 4.1: at most 1k top-scoring predictions per level, before the levels are merged."""
    assert predict.CANDIDATES_PER_LEVEL == 1000
    monkeypatch.setattr(predict, "CANDIDATES_PER_LEVEL", 3)
    logits = torch.linspace(-1, 1, len(ANCHORS))[:, None]
    thresholds = Thresholds(score=0.05, nms_iou=1.0, max_detections=100)
    _, scores, _ = selected(logits, torch.zeros(len(ANCHORS), 4), (96, 64), thresholds)
    assert len(scores) <= 3 * 5
    best = torch.cat([level.topk(min(3, len(level))).values for level in logits[:, 0].split(COUNTS)]).sigmoid()
    assert set(scores.tolist()) <= set(best.tolist())


def test_outputs_that_are_not_finite_give_no_boxes():
    """TRAPS 35: NaN boxes give AP 1.0 in COCOeval; a model that diverged must find nothing."""
    sure, unsure = torch.full((len(ANCHORS), 2), 3.0), torch.full((len(ANCHORS), 2), torch.nan)
    for bad in (torch.nan, torch.inf, -torch.inf):
        deltas = torch.full((len(ANCHORS), 4), bad)
        boxes, scores, _ = selected(sure, deltas, (96, 64), Thresholds())
        assert torch.isfinite(boxes).all()
        assert torch.isfinite(scores).all()
    boxes, _, _ = selected(unsure, torch.zeros(len(ANCHORS), 4), (96, 64), Thresholds())
    assert len(boxes) == 0


class OneAnchor(nn.Module):
    """A detector that is sure of one anchor of class 1, and of nothing else."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def features(self, images):
        return images

    def logits(self, images):
        grid = anchors.grids(np.array([[images.shape[3], images.shape[2]]]))
        logits = torch.full((len(images), int(anchors.anchors_per_image(SPEC, grid)[0]), 2), -20.0)
        logits[:, self.index, 1] = 2.0
        return logits

    def deltas(self, images, anchors):
        return torch.zeros(len(anchors), 4)


def detect(dataset, anchor: int = 0, workers: int = 0, **options):
    """Class 0 of the model is category 1 of the dataset, class 1 is category 0."""
    model, categories, cpu = OneAnchor(anchor), np.array([1, 0]), torch.device("cpu")
    return predict.predict(model, dataset, categories, SPEC, SIZE, Thresholds(), device=cpu, workers=workers, **options)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_boxes_come_back_in_pixels_of_the_original_picture(tmp_path, batch_size):
    """200 x 100 px enters at 128 x 64, so a box grows by 200 / 128; clipped to the picture, not to its padding."""
    sizes = {"wide.png": (200, 100), "flat.png": (128, 64), "tall.png": (60, 61), "thin.png": (200, 13)}
    for name, wh in sizes.items():
        Image.new("RGB", wh).save(tmp_path / name)
    dataset = dataset_of(tmp_path, sizes)
    index = 3 + SPEC.per_cell * 3  # P3, row 0, column 3: the square of 16 px around (24, 0)
    done = []
    found = detect(dataset, index, batch_size=batch_size, progress=lambda n, of: done.append((n, of)))
    anchor = np.array([24 - 8, 0, 24 + 8, 8])
    size = anchor[2:] - anchor[:2]
    by_image = {int(i): box for i, box in zip(found.image, found.boxes, strict=True)}
    for image, scale in ((0, (200 / 128, 100 / 64)), (1, (1, 1)), (2, (60 / 64, 61 / 65)), (3, (200 / 128, 13 / 8))):
        expected = [anchor[0] * scale[0], 0, size[0] * scale[0], size[1] * scale[1]]
        assert by_image[image] == pytest.approx(expected), image
    assert found.label.tolist() == [0] * 4
    assert found.scores == pytest.approx([1 / (1 + np.exp(-2))] * 4)
    assert done[-1] == (4, 4)


@pytest.mark.parametrize(("size", "count"), [(2, 5), (3, 5), (2, 1)])
def test_processes_share_the_pictures_without_duplicates_and_find_the_same(tmp_path, size, count):
    """TRAPS 29: DistributedSampler pads with pictures that come twice; here the shares together are the whole."""
    sizes = {f"{n}.png": (64 + 20 * n, 100) for n in range(count)}
    for name, wh in sizes.items():
        Image.new("RGB", wh).save(tmp_path / name)
    dataset = dataset_of(tmp_path, sizes)
    whole = detect(dataset, batch_size=2)
    together = predict.joined([detect(dataset, batch_size=2, ranks=Ranks(rank, size)) for rank in range(size)])
    assert sorted(together.image.tolist()) == sorted(whole.image.tolist()) == list(range(count))
    for field in ("label", "boxes", "scores"):
        one, other = (getattr(each, field)[np.argsort(each.image)] for each in (whole, together))
        assert np.array_equal(one, other)


def test_a_prediction_without_memory_says_what_to_lower(tmp_path, monkeypatch):
    """Evaluation can need more than a step, in larger pictures and larger batches."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")

    def starve(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(OneAnchor, "logits", starve)
    with pytest.raises(FocalError, match="out of memory with 1 picture of 64 x 64 px") as caught:
        detect(dataset_of(tmp_path, {"a.png": (64, 64)}))
    assert "--batch-size" in caught.value.hint


def test_a_picture_that_cannot_be_read_stops_a_prediction(tmp_path):
    """A missing picture scored as `nothing found` would lower AP without a word."""
    dataset = dataset_of(tmp_path, {"nope.png": (64, 64)})
    for workers in (0, 1):
        with pytest.raises(FocalError, match=r"nope\.png: no such picture"):
            detect(dataset, workers=workers)


def test_the_loader_can_be_sent_to_a_fresh_process(tmp_path, monkeypatch):
    """macOS and Windows spawn their workers, and so does Linux from Python 3.14: everything they get is pickled."""

    class Caught(Exception):
        pass

    def loader(dataset, **options):
        pickle.loads(pickle.dumps((dataset, options["collate_fn"], options["worker_init_fn"])))
        raise Caught

    monkeypatch.setattr(predict, "DataLoader", loader)
    dataset = dataset_of(tmp_path, {"a.png": (64, 64)})
    with pytest.raises(Caught):
        detect(dataset)
