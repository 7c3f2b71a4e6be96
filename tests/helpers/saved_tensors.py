"""How many bytes does a forward pass keep for the backward pass? Counted by hooks, each storage
once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def saved_bytes(module: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps beside the parameters and buffers; on the device "meta", nothing is
    computed.
    """
    own = {t.untyped_storage()._cdata for t in [*module.parameters(), *module.buffers()]}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = (
                tensor  # held, so that no other storage takes its place
            )
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = forward()
    assert y.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
