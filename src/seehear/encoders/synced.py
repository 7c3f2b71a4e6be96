"""Batch norm whose mean and variance are those of the clips of all ranks, on any device.

On CUDA it is `torch.nn.SyncBatchNorm`, which exists there alone; elsewhere it is computed here: each rank's mean and
sum of squares are combined in float64 by one all-reduce forward, and one backward (S. Ioffe, C. Szegedy, "Batch
Normalization", 2015, equations for the backward pass in section 3).

Shapes: (B, C, ...); B may differ between ranks, and be 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seehear import distributed

BatchNorm = nn.modules.batchnorm._BatchNorm


def synchronise_norms(module: nn.Module, device: str) -> None:
    """Replace every batch norm below `module` by one over all ranks; parameters and names stay.

    Args:
        device: where it will run.
    """
    for name, child in module.named_children():
        if not isinstance(child, BatchNorm):
            synchronise_norms(child, device)
        elif torch.device(device).type == "cuda":
            setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))  # type: ignore[no-untyped-call]
        else:
            setattr(module, name, SyncedBatchNorm.like(child))


def are_synchronised(module: nn.Module) -> bool:
    """Whether the batch norms below `module` wait for those of other ranks."""
    return any(isinstance(m, SyncedBatchNorm | nn.SyncBatchNorm) for m in module.modules())


class SyncedBatchNorm(BatchNorm):
    """A batch norm over all ranks, for devices other than CUDA. Made by `synchronise_norms`."""

    @classmethod
    def like(cls, norm: BatchNorm) -> SyncedBatchNorm:
        """With the parameters and statistics of another."""
        new = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        for name, parameter in norm._parameters.items():
            new._parameters[name] = parameter
        for name, buffer in norm._buffers.items():
            new._buffers[name] = buffer
        new.training = norm.training
        return new

    def _check_input_dim(self, input: Tensor) -> None:
        """Any shape will do."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or distributed.world_size() == 1:
            return super().forward(input)
        mean_C, variance_C, count = _moments(input.detach())
        weight_C = torch.ones_like(mean_C) if self.weight is None else self.weight
        bias_C = torch.zeros_like(mean_C) if self.bias is None else self.bias
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean_C, share)
            self.running_var.lerp_(variance_C * (count / max(count - 1, 1)), share)
        inverse_C = (variance_C + self.eps).rsqrt()
        out: Tensor = _Normalise.apply(input, weight_C, bias_C, mean_C, inverse_C, count)  # type: ignore[no-untyped-call]
        return out


class _Normalise(torch.autograd.Function):
    """(x - mean) / deviation * weight + bias, with the gradient through the mean and deviation over all ranks."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_C: Tensor, bias_C: Tensor, mean_C: Tensor, inverse_C: Tensor, count: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight_C, mean_C, inverse_C)
        ctx.count = count
        scale_C = weight_C * inverse_C
        return (x.float() * _along(scale_C, x) + _along(bias_C - mean_C * scale_C, x)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_C, mean_C, inverse_C = ctx.saved_tensors
        dy = gradients[0].float()
        normal = (x.float() - _along(mean_C, x)) * _along(inverse_C, x)
        others = [axis for axis in range(x.ndim) if axis != 1]
        bias_C, weight_gradient_C = dy.sum(others), (dy * normal).sum(others)
        totals = distributed.all_reduce(torch.cat([bias_C, weight_gradient_C]).double()) / max(ctx.count, 1)
        mean_dy_C, mean_dyx_C = totals.float().chunk(2)
        dx = (dy - _along(mean_dy_C, x) - normal * _along(mean_dyx_C, x)) * _along(weight_C * inverse_C, x)
        return dx.to(x.dtype), weight_gradient_C, bias_C, None, None, None


def _moments(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and variance (C,) over all ranks, and how many numbers a channel has."""
    others = [axis for axis in range(x.ndim) if axis != 1]
    count, channels = x.numel() // x.shape[1], x.shape[1]
    mean_C = x.float().sum(others) / max(count, 1)
    squares_C = (x.float() - _along(mean_C, x)).square().sum(others).double()
    own = mean_C.double() * count
    totals = torch.cat([own, squares_C + own * mean_C.double(), own.new_full((1,), count)])
    totals = distributed.all_reduce(totals)
    counted = max(float(totals[-1]), 1.0)
    mean = totals[:channels] / counted
    variance = (totals[channels:-1] / counted - mean.square()).clamp(min=0)
    return mean.float(), variance.float(), float(totals[-1])


def _along(values_C: Tensor, x: Tensor) -> Tensor:
    """One number a channel, shaped to go with (B, C, ...)."""
    return values_C.view(1, -1, *([1] * (x.ndim - 2)))
