"""The model is torchvision's RetinaNet, tensor by tensor, and weights go into it by name or are refused by name."""

from __future__ import annotations

import json
import os
import pickle
import socket
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from conftest import SHARED_DATA, coco_file
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.models import get_model, mobilenet_v2, resnet18
from torchvision.models.detection import retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2

from focalcli import anchors, coco
from focalcli.anchors import AnchorSpec
from focalcli.errors import FocalError
from focalcli.training import checkpoint
from focalcli.training import model as ours
from focalcli.training.data import InputSize
from focalcli.training.model import BACKBONES, IMAGE_MEAN, IMAGE_STD, build_model, fill, freeze, load_weights
from focalcli.training.predict import Thresholds, predict

MOBILENET = SHARED_DATA / "weights" / "mobilenet_v2_features_torchvision.pth"
HUB = "https://download.pytorch.org/models"
K = 5
HEADS = {"cls_logits": "classification_head", "bbox_reg": "regression_head"}


def small(backbone: str = "resnet18", **changes):
    """A detector of narrow heads: what is tested here does not depend on their width."""
    given = {"backbone": backbone, "num_classes": 3, "anchors_per_cell": 9, "width": 16, "head_depth": 1}
    return build_model(**{**given, **changes})


def pictures(height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=torch.manual_seed(0))


# -------------------------------------------------------------------------------------------- the same as torchvision's


def build_pair(head_norm: str):
    """Our ResNet-50 and torchvision's RetinaNet of the same kind, with weights of their own.

    Without pretrained weights torchvision thaws its batch norms, which adds their counters to the state dict.
    """
    peer = {"none": retinanet_resnet50_fpn, "group": retinanet_resnet50_fpn_v2}[head_norm]
    model = build_model(backbone="resnet50", num_classes=K, anchors_per_cell=9, head_norm=head_norm)
    return model, peer(weights=None, weights_backbone=None, num_classes=K)


@pytest.fixture(scope="module", params=["none", "group"])
def pair(request):
    return request.param, *build_pair(request.param)


def test_names_and_shapes_are_torchvisions(pair):
    """torchvision.models.detection.retinanet_resnet50_fpn and _v2, state_dict()."""
    _, model, peer = pair
    assert [(n, t.shape) for n, t in model.state_dict().items()] == [(n, t.shape) for n, t in peer.state_dict().items()]


def test_frozen_batch_norms_have_torchvisions_names_without_counters(pair):
    """torchvision.ops.FrozenBatchNorm2d: the state of BatchNorm2d, num_batches_tracked left out."""
    norm, _, peer = pair
    model = build_model(backbone="resnet50", num_classes=K, anchors_per_cell=9, head_norm=norm, frozen_batch_norm=True)
    expected = {n: t for n, t in peer.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert {n: t.shape for n, t in model.state_dict().items()} == {n: t.shape for n, t in expected.items()}
    assert fill(model, peer.state_dict(), "torchvision") == ours.Loaded("torchvision", tuple(expected), (), ())


def test_weights_load_both_ways_and_give_the_same_outputs(pair):
    """torchvision's own backbone and head, on the same picture, normalised with ImageNet's mean and deviation."""
    _, model, peer = pair
    images = pictures()
    peer.load_state_dict(model.state_dict())
    model.load_state_dict(peer.state_dict())
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
    assert (tuple(peer.transform.image_mean), tuple(peer.transform.image_std)) == (IMAGE_MEAN, IMAGE_STD)
    with torch.inference_mode():
        logits, deltas = model.eval()(images)
        peer.eval()
        expected = peer.head(list(peer.backbone((images / 255 - mean) / std).values()))
    for found, wanted in ((logits, expected["cls_logits"]), (deltas, expected["bbox_regression"])):
        assert found.shape == wanted.shape
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("frozen", [True, False])
def test_a_checkpoint_in_plain_torchvision_detects_the_same(tmp_path, pair, frozen):
    """The file of a run, read with safetensors into retinanet_resnet50_fpn or _v2, strictly; from the picture to the
    boxes by torchvision's transform, anchors and post-processing there, and by ours here."""
    head_norm, _, peer = pair
    torch.manual_seed(1)
    changes = {"head_norm": head_norm, "frozen_batch_norm": frozen, "prior": 0.02}
    model = build_model(backbone="resnet50", num_classes=K, anchors_per_cell=9, **changes)
    for output, std in (("cls_logits", 0.05), ("bbox_reg", 0.02)):  # else all anchors say nearly the same
        torch.nn.init.normal_(model.head.get_submodule(HEADS[output]).get_submodule(output).weight, std=std)
    checkpoint.save(tmp_path / "best.safetensors", model, {})
    peer.load_state_dict(load_file(tmp_path / "best.safetensors"))

    picture = pictures(128, 160)[0]
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / "1.png")
    image = {"id": 1, "file_name": "1.png", "width": 160, "height": 128}
    (tmp_path / "val.json").write_text(json.dumps(coco_file([], [image])))
    dataset, size, thresholds = coco.load(tmp_path / "val.json"), InputSize(128, 160), Thresholds(0.2, 0.5, 5000)
    cpu = torch.device("cpu")
    detected = predict(model, dataset, np.arange(K), AnchorSpec(), size, thresholds, device=cpu, workers=0)
    xyxy = np.concatenate([detected.boxes[:, :2], detected.boxes[:, :2] + detected.boxes[:, 2:]], axis=1)
    found = np.column_stack([100 * detected.scores, xyxy, 1000 * detected.label])

    peer.transform.min_size, peer.transform.max_size = (128,), 160
    peer.score_thresh, peer.nms_thresh, peer.detections_per_img = 0.2, 0.5, 5000
    with torch.inference_mode():
        (theirs,) = peer.eval()([picture / 255])
    wanted = torch.column_stack([100 * theirs["scores"], theirs["boxes"], 1000 * theirs["labels"]]).numpy()
    x0, y0, x1, y1 = theirs["boxes"].T.numpy()
    wanted = wanted[(x1 > x0) & (y1 > y0)]  # torchvision keeps boxes that lie outside the picture as empty ones
    assert len(found) == len(wanted) > 50
    difference = np.abs(found[:, None] - wanted).max(axis=2)
    assert max(difference.min(axis=0).max(), difference.min(axis=1).max()) < 0.02


def test_the_names_of_torchvisions_first_coco_weights_are_understood():
    """torchvision renames the tensors of its 2020 file as it loads them (_v1_to_v2_weights, and FeaturePyramidNetwork):
    conv.0, conv.2, .. of the heads and inner_blocks.0 of the FPN. Left out, FPN and heads would start from nothing."""
    model, peer = build_pair("none")
    old = {}
    for name, tensor in peer.state_dict().items():
        parts = name.split(".")
        if ".fpn.inner_blocks." in name or ".fpn.layer_blocks." in name:
            parts.pop(4)
        elif ".conv." in name and name.startswith("head."):
            parts = [*parts[:3], str(2 * int(parts[3])), parts[5]]
        old[".".join(parts)] = tensor + 1
    peer.load_state_dict(dict(old))  # torchvision takes these names too
    loaded = fill(model, old, "coco")
    assert (loaded.left_out, loaded.new) == ((), ())
    for name, tensor in peer.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


# -------------------------------------------------------------------------------------------------- levels and freezing


@pytest.fixture(scope="module", params=BACKBONES)
def any_backbone(request):
    return request.param, small(request.param).eval()


def test_five_levels_halve_the_picture_rounding_up(any_backbone):
    """Lin et al. 2017, sec. 4: P3 to P7 have strides 8, 16, 32, 64, 128; here on a side that 32 does not divide."""
    _, model = any_backbone
    images = pictures(104, 150)
    with torch.inference_mode():
        levels = list(model.backbone(images.float()).values())
        logits, deltas = model(images)
    strides = (8, 16, 32, 64, 128)
    assert [tuple(level.shape[2:]) for level in levels] == [(-(-104 // s), -(-150 // s)) for s in strides]
    count = anchors.anchors_per_image(AnchorSpec(), anchors.grids(np.array([[150, 104]])))[0]
    assert logits.shape == (2, count, 3)
    assert deltas.shape == (2, count, 4)


def test_freezing_follows_the_strides(any_backbone):
    """`trainable_layers` counts from the top, as torchvision's: 5 trains all, 3 freezes strides 2 and 4, 0 the body."""
    name, model = any_backbone
    sides = {}
    handles = [
        child.register_forward_hook(lambda _m, _i, out, child=child: sides.update({child: out.shape[-1]}))
        for child in model.backbone.body.children()
    ]
    with torch.inference_mode():
        model(pictures(64, 64))
    for handle in handles:
        handle.remove()
    for layers in range(6):
        model.requires_grad_(True)
        freeze(model, name, layers)
        for child, side in sides.items():
            stage = int(np.log2(64 / side)) - 1  # stride 2 is stage 0
            if child is getattr(model.backbone.body, "maxpool", None):
                continue
            for parameter in child.parameters():
                assert parameter.requires_grad == (stage >= 5 - layers), (layers, child)
        outside = [*model.backbone.fpn.parameters(), *model.head.parameters()]
        assert all(parameter.requires_grad for parameter in outside)
    model.requires_grad_(True)


@pytest.mark.parametrize("head_norm", ["none", "group"])
@pytest.mark.parametrize("prior", [0.01, 0.2, [0.003, 0.05, 0.4]], ids=str)
def test_a_new_model_says_the_prior_everywhere(prior, head_norm):
    """Lin et al. 2017, sec. 4.1: the bias -log((1 - pi) / pi) makes every anchor start at a score of about pi."""
    torch.manual_seed(0)
    model = small(prior=prior, head_norm=head_norm, width=64, head_depth=2).eval()
    with torch.inference_mode():
        scores = model(pictures())[0].sigmoid()
    expected = torch.tensor(prior).expand(3)
    torch.testing.assert_close(scores.median(dim=1).values, expected.expand(2, 3), rtol=0.25, atol=0)


# -------------------------------------------------------------------------------------------------------------- weights


@pytest.mark.skipif(not MOBILENET.is_file(), reason=f"no weights at {MOBILENET}")
@pytest.mark.parametrize("frozen", [True, False])
def test_pretrained_mobilenet_fills_the_whole_body(frozen):
    """torchvision's mobilenet_v2().features takes the same file strictly, and then holds the same tensors."""
    model = small("mobilenet_v2", frozen_batch_norm=frozen)
    loaded = load_weights(model, str(MOBILENET), "mobilenet_v2", "none")
    assert (loaded.left_out, loaded.new) == ((), ())
    peer = mobilenet_v2().features
    peer.load_state_dict(torch.load(MOBILENET, weights_only=True))
    body = model.backbone.body.state_dict()
    assert set(body) - set(peer.state_dict()) == set()
    for name, tensor in peer.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(body[name], tensor), name


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
def test_classifiers_and_wrapped_state_dicts_load(tmp_path, nested, prefix):
    """torch.save of a torchvision classifier, of DistributedDataParallel (`module.`), of a training script's dict."""
    peer = resnet18()
    state = {prefix + name: tensor for name, tensor in peer.state_dict().items()}
    torch.save({nested: state, "epoch": 3} if nested else state, tmp_path / "w.pth")
    model = small()
    loaded = load_weights(model, str(tmp_path / "w.pth"), "resnet18", "none")
    assert (loaded.left_out, loaded.new) == ((), ())
    assert torch.equal(model.backbone.body.layer4[1].conv2.weight, peer.layer4[1].conv2.weight)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_whole_detector_loads_also_from_data_parallel(tmp_path, prefix):
    """DistributedDataParallel writes `module.` before every name."""
    other, model = small(), small()
    save_file({prefix + name: tensor for name, tensor in other.state_dict().items()}, tmp_path / "d.safetensors")
    loaded = load_weights(model, str(tmp_path / "d.safetensors"), "resnet18", "none")
    assert (loaded.left_out, loaded.new) == ((), ())
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), model.state_dict().values(), strict=True))


def test_tensors_of_another_shape_are_named():
    """TRAPS 22: a loader that skips tensors of another shape hides errors (rf-detr#509)."""
    other, model = small(num_classes=7), small(num_classes=3)
    before = model.head["classification_head"].cls_logits.weight.clone()
    loaded = fill(model, other.state_dict(), "seven classes")
    head = tuple(f"head.classification_head.cls_logits.{kind}" for kind in ("weight", "bias"))
    assert loaded.left_out == head
    assert loaded.new == head
    assert torch.equal(model.head["classification_head"].cls_logits.weight, before)


def test_tensors_without_a_place_are_named():
    """TRAPS 22, the other direction: a name that the model does not have."""
    model = small()
    loaded = fill(model, {**small().state_dict(), "head.mask.weight": torch.zeros(3)}, "more")
    assert loaded.left_out == ("head.mask.weight",)


@pytest.mark.parametrize(
    ("of", "into"),
    [("resnet18", "mobilenet_v2"), ("resnet18", "resnet34"), ("resnet34", "resnet18"), ("resnet50", "resnet101")],
)
def test_weights_of_another_network_are_refused(of, into):
    """Nothing of a ResNet fits a MobileNet, and all of a ResNet-18 fits a ResNet-34, of which half then stays random:
    arXiv:1512.03385, table 1. Frozen at random, or cut short, is never what was meant."""
    with pytest.raises(FocalError) as caught:
        fill(small(into), get_model(of).state_dict(), f"{of}.pth")
    assert f"{of}.pth: not the weights of this model's backbone" in caught.value.message
    assert "model.backbone" in caught.value.hint


def test_a_file_of_weights_that_lacks_one_tensor_of_the_backbone_is_refused():
    """TRAPS 22: it would be random in the middle of a pretrained network."""
    state = get_model("mobilenet_v2").state_dict()
    del state["features.7.conv.1.0.weight"]
    with pytest.raises(FocalError, match=r"1 of its tensors .* such as 7\.conv\.1\.0\.weight"):
        fill(small("mobilenet_v2"), state, "w.pth")


def test_the_optimizer_of_a_checkpoint_is_not_counted_as_left_out():
    """checkpoints/last holds optimizer/...: model.weights may name that file, and loses nothing of the model."""
    model = small()
    assert fill(model, {**small().state_dict(), "optimizer/0.momentum_buffer": torch.zeros(3)}, "last").left_out == ()


def test_none_loads_nothing():
    """`weights: none` is a model from random numbers."""
    assert load_weights(small(), "none", "resnet18", "none") is None


def test_a_missing_file_of_weights_is_named(tmp_path):
    """STYLE: the place, what was found, what was expected, the next step."""
    with pytest.raises(FocalError, match=r"nope\.pth: no such file of weights") as caught:
        load_weights(small(), str(tmp_path / "nope.pth"), "resnet18", "none")
    assert "coco, imagenet, none or a file" in caught.value.hint


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's, of the pickle that it then refuses
@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.bin", "w.safetensors"])
@pytest.mark.parametrize("writer", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_file_of_weights_is_refused_and_never_runs(tmp_path, writer, name):
    """DESIGN: files are read without unpickling code. The bomb goes off under a plain pickle.loads."""
    marker, path = tmp_path / "it_ran", tmp_path / name
    writer({"layer1.weight": torch.zeros(1), "x": Bomb(marker)}, path)
    with pytest.raises(FocalError, match="not a readable file of weights") as caught:
        load_weights(small(), str(path), "resnet18", "none")
    assert not marker.exists()
    assert "pickled objects are never loaded" in caught.value.hint


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_weights_cut_short_are_refused(tmp_path, name, share):
    """A download that ended early, at the start, within and near the end of the file."""
    path, state = tmp_path / name, {"conv1.weight": torch.zeros(64, 3, 7, 7)}
    torch.save(state, path) if name.endswith("pth") else save_file(state, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FocalError, match=f"{name}: not a readable file of weights"):
        load_weights(small(), str(path), "resnet18", "none")


@pytest.mark.parametrize(
    "content", [[torch.zeros(1)], {"epoch": 3}, {}, torch.zeros(3), {0: torch.zeros(3), 1: torch.zeros(3)}, 3], ids=repr
)
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    """Lists (mmcv, an optimizer's), bare tensors and numbers are no state dict."""
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(FocalError, match=r"w\.pth: holds no named tensors"):
        load_weights(small(), str(tmp_path / "w.pth"), "resnet18", "none")


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty cache, and a network on which no name resolves."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*_args, **_kwargs):
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr("torch.hub.urlopen", refuse)


@pytest.mark.parametrize(
    ("weights", "backbone", "head_norm", "url"),
    [
        ("imagenet", "resnet50", "none", f"{HUB}/resnet50-0676ba61.pth"),
        ("imagenet", "mobilenet_v2", "none", f"{HUB}/mobilenet_v2-b0353104.pth"),
        ("coco", "resnet50", "none", f"{HUB}/retinanet_resnet50_fpn_coco-eeacb38b.pth"),
        ("coco", "resnet50", "group", f"{HUB}/retinanet_resnet50_fpn_v2_coco-5905b1c5.pth"),
    ],
)
def test_without_a_network_the_address_and_the_way_out_are_named(no_network, capsys, weights, backbone, head_norm, url):
    """The addresses are those of torchvision's documentation of these weights."""
    with pytest.raises(FocalError) as caught:
        load_weights(small(), weights, backbone, head_norm)
    assert url in caught.value.message
    assert "Temporary failure in name resolution" in caught.value.message
    assert "set model.weights to its path" in caught.value.hint
    assert socket.getdefaulttimeout() is None
    assert capsys.readouterr().out == ""  # torch.hub announces its downloads there


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_has_imagenet_weights(no_network, backbone):
    """torchvision publishes IMAGENET1K_V1 for each; a missing entry would be an AttributeError, not this."""
    with pytest.raises(FocalError, match=r"could not be downloaded from https://download\.pytorch"):
        load_weights(small(), "imagenet", backbone, "none")


def test_a_cut_answer_of_the_network_is_no_traceback(monkeypatch, tmp_path):
    """http.client.IncompleteRead is no OSError; a proxy that closes early raises it."""
    from http.client import IncompleteRead

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*_args, **_kwargs):
        raise IncompleteRead(b"", 10)

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(FocalError, match="IncompleteRead"):
        load_weights(small(), "imagenet", "resnet18", "none")


def test_a_broken_file_in_the_cache_is_no_traceback(no_network, tmp_path):
    """torch.hub checks the hash of what it downloads, not of what lies in its cache already."""
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "resnet18-f37072fd.pth").write_bytes(b"cut short")
    with pytest.raises(FocalError, match=r"resnet18-f37072fd\.pth"):
        load_weights(small(), "imagenet", "resnet18", "none")


@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "resnet50"])
def test_coco_weights_exist_for_resnet50_only(no_network, backbone):
    """torchvision publishes RetinaNet with a ResNet-50 and no other backbone."""
    with pytest.raises(FocalError, match=f"no COCO weights for {backbone}") as caught:
        load_weights(small(), "coco", backbone, "none")
    assert "use resnet50" in caught.value.hint


def test_first_coco_weights_want_an_epsilon_of_0():
    """pytorch/vision#6543: torchvision sets the eps of COCO_V1's norms to 0.0 after loading; v2 keeps its own."""
    assert ours.frozen_eps_of("coco", "none") == 0.0
    assert ours.frozen_eps_of("/x/retinanet_resnet50_fpn_coco-eeacb38b.pth", "none") == 0.0
    assert ours.frozen_eps_of("coco", "group") == 1e-5
    assert ours.frozen_eps_of("imagenet", "none") == 1e-5
    frozen = small(frozen_batch_norm=True, frozen_eps=0.0)
    assert {m.eps for m in frozen.modules() if type(m).__name__ == "FrozenBatchNorm2d"} == {0.0}
