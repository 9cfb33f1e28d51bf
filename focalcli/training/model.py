"""RetinaNet: torchvision's backbones and FPN, P3 to P7, heads of any width and depth, and loading weights from files.

State dicts have torchvision's names: with width 256 and depth 4, `head_norm: none` is `retinanet_resnet50_fpn` and
`head_norm: group` is `retinanet_resnet50_fpn_v2` (GroupNorm heads, P6 from C5), tensor by tensor.
Source: Lin et al. 2017, arXiv:1708.02002, sec. 4.1.
Shapes: N pictures, A anchors a picture, K classes.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from focalcli.errors import FocalError
from focalcli.training import winograd
from focalcli.training.head import Head
from focalcli.training.norms import FrozenBatchNorm2d, fold

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, RGB in 0..1

_BODY = "backbone.body."

DOWNLOAD_TIMEOUT_SECONDS = 20  # without an answer; torch.hub itself would wait for ever

# name -> modules of each of the five stages (strides 2 to 32), and channels of C3, C4, C5
_RESNET_STAGES = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
_STAGES = {
    "resnet18": (_RESNET_STAGES, (128, 256, 512)),
    "resnet34": (_RESNET_STAGES, (128, 256, 512)),
    "resnet50": (_RESNET_STAGES, (512, 1024, 2048)),
    "resnet101": (_RESNET_STAGES, (512, 1024, 2048)),
    "mobilenet_v2": (
        [tuple(map(str, range(a, b))) for a, b in ((0, 2), (2, 4), (4, 7), (7, 14), (14, 19))],
        (32, 96, 1280),
    ),
    "mobilenet_v3_large": (
        [tuple(map(str, range(a, b))) for a, b in ((0, 2), (2, 4), (4, 7), (7, 13), (13, 17))],
        (40, 112, 960),
    ),
}
BACKBONES = tuple(_STAGES)


class Detector(nn.Module):
    """RetinaNet without its pre- and post-processing: normalised pictures in, logits and box deltas out."""

    def __init__(self, backbone: nn.Module, classification: Head, regression: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.ModuleDict({"classification_head": classification, "regression_head": regression})
        # where the pictures are, or every batch would wait for their copy; not part of the state, as in torchvision
        self.register_buffer("mean", torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(IMAGE_STD).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor, anchors: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) uint8 or float in 0..255 -> (N, A, K) logits and (N, A, 4) deltas.

        With `anchors`, (P,) indices picture * A + anchor: (P, 4) deltas, of these alone.
        """
        levels = self.features(images)
        return self.logits(levels), self.deltas(levels, anchors)

    def features(self, images: Tensor) -> list[Tensor]:
        """P3 to P7, each (N, width, h, w), of (N, 3, H, W) uint8 or float in 0..255."""
        x = ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return list(self.backbone(x).values())

    def logits(self, levels: Sequence[Tensor]) -> Tensor:
        """(N, A, K)."""
        return self.head["classification_head"](levels)

    def deltas(self, levels: Sequence[Tensor], anchors: Tensor | None = None) -> Tensor:
        """(N, A, 4), or (P, 4) of these anchors."""
        return self.head["regression_head"](levels, anchors)


def build_model(
    *,
    backbone: str,
    num_classes: int,
    anchors_per_cell: int,
    prior: float | Sequence[float] = 0.01,
    width: int = 256,
    head_depth: int = 4,
    head_norm: str = "none",
    frozen_batch_norm: bool = False,
    frozen_eps: float = 1e-5,
) -> Detector:
    """A RetinaNet with random weights.

    Args:
        backbone: one of BACKBONES. num_classes: K, no background class (TRAPS 1).
        prior: the score in (0, 1) that every anchor starts with, one for all classes or K (sec. 4.1, pi).
        width: channels of the FPN and the heads. head_depth: convolutions in each head before the output.
        head_norm: none or group (torchvision's v2: GroupNorm in the heads, P6 from C5).
        frozen_batch_norm: fixed statistics, for pretrained backbones and small batches.
        frozen_eps: their epsilon, which no state dict holds: see frozen_eps_of (pytorch/vision#6543).
    """
    stages, channels = _STAGES[backbone]
    norm: Any = partial(FrozenBatchNorm2d, eps=frozen_eps) if frozen_batch_norm else nn.BatchNorm2d
    if backbone == "mobilenet_v3_large":
        norm = partial(FrozenBatchNorm2d if frozen_batch_norm else nn.BatchNorm2d, eps=0.001)  # as it was pretrained
    network = torchvision.models.get_model(backbone, weights=None, norm_layer=norm)
    body = network if backbone.startswith("resnet") else network.features
    p6_channels = channels[-1] if head_norm == "group" else width
    trunk = BackboneWithFPN(
        body,
        return_layers={stages[i][-1]: str(i - 2) for i in (2, 3, 4)},
        in_channels_list=list(channels),
        out_channels=width,
        extra_blocks=LastLevelP6P7(p6_channels, width),
    )
    size = {"width": width, "depth": head_depth, "norm": head_norm}
    classification = Head("cls_logits", anchors_per_cell, per_anchor=num_classes, **size)
    regression = Head("bbox_reg", anchors_per_cell, per_anchor=4, **size)
    p = torch.as_tensor(prior, dtype=torch.float32).expand(num_classes)
    with torch.no_grad():
        classification.cls_logits.bias.copy_(torch.log(p / (1 - p)).repeat(anchors_per_cell))
    detector = Detector(trunk, classification, regression)
    winograd.adopt(detector)
    fold(detector)
    return detector


def place(model: Detector, device: torch.device) -> None:
    """Move the model, in the order of memory that convolutions are quickest in.

    Away from the CPU no convolution goes Winograd's way, and those that would can take over their fixed norms as well.
    """
    model.to(device, memory_format=torch.channels_last)
    if device.type != "cpu":
        fold(model, (nn.Conv2d, winograd.Conv3x3))


def freeze(model: Detector, backbone: str, trainable_layers: int) -> None:
    """Leave only the last `trainable_layers` of the backbone's five stages trainable."""
    stages, _ = _STAGES[backbone]
    for stage in stages[: 5 - trainable_layers]:
        for name in stage:
            for parameter in getattr(model.backbone.body, name).parameters():
                parameter.requires_grad_(False)


# --------------------------------------------------------------------------------------------------------- weights


@dataclass(frozen=True)
class Loaded:
    """What became of a file of weights, by tensor name."""

    source: str
    taken: tuple[str, ...]
    left_out: tuple[str, ...]  # in the file, without a place of that name and shape in the model
    new: tuple[str, ...]  # in the model's part that the file is for, but not in the file


def load_weights(model: Detector, weights: str, backbone: str, head_norm: str) -> Loaded | None:
    """Fill the model from `none`, `imagenet`, `coco` or a file.

    Only `imagenet` and `coco` use the network, once; files are read without executing anything in them.

    Raises:
        FocalError: no such file, not a file of tensors, no network, no such weights, or tensors that do not fit.
    """
    if weights == "none":
        return None
    if weights in ("imagenet", "coco"):
        return fill(model, _download(weights, backbone, head_norm), weights)
    return fill(model, read_tensors(Path(weights)), weights)


def frozen_eps_of(weights: str, head_norm: str) -> float:
    """Epsilon of the frozen batch norms that these weights come with: 0 for torchvision's first COCO RetinaNet."""
    first_coco = weights == "coco" and head_norm == "none"
    return 0.0 if first_coco or Path(weights).name.startswith("retinanet_resnet50_fpn_coco") else 1e-5


def fill(model: Detector, tensors: dict[str, Tensor], source: str) -> Loaded:
    """Copy the tensors of the same name and shape; name every one that did not fit (TRAPS 22).

    Raises:
        FocalError: the backbone is not filled to the last tensor. A stage left at random would then be frozen.
    """
    own = model.state_dict()
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}  # from DataParallel
    whole = any(name.startswith("backbone.") for name in tensors)
    renamed = {_own_name(name, whole): tensor for name, tensor in tensors.items()}
    scope = [n for n in own if (whole or n.startswith(_BODY)) and not n.endswith("num_batches_tracked")]
    fits = {n: t for n, t in renamed.items() if n in own and own[n].shape == t.shape}
    # not meant for a detector, or counters: a classifier's last layers, batch norm's, what resume needs
    ignorable = ("num_batches_tracked", f"{_BODY}fc.", f"{_BODY}classifier.", "optimizer/")
    left_out = tuple(n for n in renamed if n not in fits and not any(part in n for part in ignorable))
    new = tuple(n for n in scope if n not in fits)
    stages = {_stage(name) for name in scope if name.startswith(_BODY)}
    astray = [n for n in (*new, *left_out) if n.startswith(_BODY) and _stage(n) in stages]
    if astray:
        raise FocalError(
            f"{source}: not the weights of this model's backbone: {len(astray)} of its tensors are missing, left over "
            f"or of another shape, such as {astray[0].removeprefix(_BODY)}",
            "check `model.backbone`: the weights must be of the same network",
        )
    model.load_state_dict(fits, strict=False)
    return Loaded(source, tuple(fits), left_out, new)


def _stage(name: str) -> str:
    return name.removeprefix(_BODY).split(".")[0]


def _own_name(name: str, whole: bool) -> str:
    """The model's name of a file's tensor; torchvision's first COCO weights have names from before 2022."""
    if not whole:
        return _BODY + name.removeprefix("features.")
    name = re.sub(r"(\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2", name)
    # the old heads were conv, relu, conv, relu ..: every second index is a convolution
    old_head = r"(head\.\w+\.conv)\.(\d+)\.(weight|bias)$"
    return re.sub(old_head, lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}", name)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors or torch file, by name; nothing in the file is executed.

    Raises:
        FocalError: missing, cut short, or holding anything but tensors.
    """
    if not path.is_file():
        raise FocalError(f"{path}: no such file of weights", "model.weights is coco, imagenet, none or a file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file fails in many ways, and every one of them is the file's fault
        raise FocalError(
            f"{path}: not a readable file of weights ({first_line(error)})",
            "expected .safetensors, or a state dict saved by torch.save; pickled objects are never loaded",
        ) from None
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    entries = content.items() if isinstance(content, dict) else ()
    tensors = {name: t for name, t in entries if isinstance(name, str) and isinstance(t, Tensor)}
    if not tensors:
        raise FocalError(f"{path}: holds no named tensors", "expected a state dict: names and tensors")
    return tensors


def first_line(error: Exception) -> str:
    """What an error message can quote of a library's error."""
    return str(error).strip().split("\n")[0][:120] or type(error).__name__


def _download(weights: str, backbone: str, head_norm: str) -> dict[str, Tensor]:
    if weights == "coco" and backbone != "resnet50":
        raise FocalError(
            f"model.weights: there are no COCO weights for {backbone}",
            "use resnet50, or weights: imagenet, none or a file",
        )
    name = backbone
    if weights == "coco":
        name = "retinanet_resnet50_fpn_v2" if head_norm == "group" else "retinanet_resnet50_fpn"
    entry = torchvision.models.get_model_weights(name).DEFAULT
    if weights == "imagenet":
        entry = torchvision.models.get_model_weights(name).IMAGENET1K_V1  # the statistics FrozenBN was designed around
    patience, _ = socket.getdefaulttimeout(), socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_SECONDS)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch.hub announces its downloads on stdout
            return entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # networks, proxies, disks and torch.hub's cached files fail in many ways
        reason = getattr(error, "reason", None) or first_line(error)
        raise FocalError(
            f"model.weights: {weights} for {backbone} could not be downloaded from {entry.url}, "
            f"or the copy in {torch.hub.get_dir()} is broken ({reason})",
            "download that file elsewhere and set model.weights to its path, or train with model.weights=none",
        ) from None
    finally:
        socket.setdefaulttimeout(patience)
