"""The exponential moving average of a model's weights: often a better detector than the weights of any one step.

Source: Polyak & Juditsky 1992; the decay that starts low is TensorFlow's ExponentialMovingAverage (num_updates).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Averages of every weight and every running statistic; counters are copied.

    Attributes:
        tensors: the averages, by the names of the model's state dict.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """decay: share of the old average that an update keeps, in (0, 1)."""
        self.model, self.decay = model, decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over averages of the same names and shapes."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the model's weights after step `step`, counted from 0: at first fast, then by 1 - decay."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        own = self.model.state_dict()
        floats = [name for name, tensor in self.tensors.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.tensors[name] for name in floats], [own[name] for name in floats], weight)
        for name in self.tensors.keys() - set(floats):
            self.tensors[name].copy_(own[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model holds the averages inside, and its own weights again afterwards."""
        own = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            self.model.load_state_dict(own)
