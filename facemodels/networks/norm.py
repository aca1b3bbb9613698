"""Batch norm over the batches of all processes, and batch norm whose running averages stand still.

Over all processes, values, gradients and running statistics are those that one process would compute on the whole
batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def frozen_bn_stats(network: nn.Module) -> Iterator[None]:
    """Within the context, batch norms below the network use their batch's statistics and keep the running averages."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 0.0
    try:
        yield
    finally:
        for m, momentum in zip(norms, momenta):
            m.momentum = momentum


def share_batch_norms(module: nn.Module, device: torch.device) -> None:
    """Replace every batch norm below the module by one over the batches of all processes.

    Parameters and buffers stay the same, under the same names. On CUDA torch has such a layer, `nn.SyncBatchNorm`; on
    other devices it is `SharedBatchNorm`.
    """
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and type(child) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
                kind = nn.SyncBatchNorm if device.type == "cuda" else SharedBatchNorm
                shared = kind(
                    child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
                ).train(child.training)
                shared._parameters, shared._buffers = child._parameters, child._buffers
                setattr(parent, name, shared)


class SharedBatchNorm(_BatchNorm):
    """Batch norm of [N,C] or [N,C,...] to which every process of torch.distributed contributes a share of the batch.

    The shares may differ in size but must not be empty. In training all processes must call it, equally often and in
    the same order, forward and backward; each waits for the others. In evaluation it is ordinary batch norm and
    communicates with none.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() < 2:
            raise ValueError(f"expected [N,C] or [N,C,...], got {list(x.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x."""
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        self._check_input_dim(x)
        y, mean, variance, count = _Normalised.apply(x, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean), share)
                # Running variances are unbiased estimates, as torch's are.
                self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var), share)
        return y


class _Normalised(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias with mean and variance over all processes.

    Returns the mean, the variance and the number of values too. Each process's loss is that of its own share, and
    gradients of parameters are averaged over processes afterwards; so the gradient to x includes the losses of all
    processes, and those to weight and bias are of the own share.
    """

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalize x [N,C,...]; returns it with mean [C], variance [C] and the number of values."""
        dims = [0, *range(2, x.dim())]
        variance, mean = torch.var_mean(_wide(x), dims, correction=0)
        mine = torch.cat([mean, variance, mean.new_tensor([x.numel() // x.shape[1]])]).double()
        gathered = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, mine)
        means, variances, counts = torch.stack(gathered).split([len(mean), len(mean), 1], 1)
        count = counts.sum()
        if count < 2:
            raise ValueError("batch norm needs more than one value per channel in training")
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / count
        y = torch.batch_norm(x, weight, bias, mean.to(_wide(x)), variance.to(_wide(x)), False, 0.0, eps, False)
        return y, mean, variance, count

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        """Keep what the backward pass needs."""
        x, weight, _, eps = inputs
        _, mean, variance, count = output
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), count)
        ctx.mark_non_differentiable(mean, variance, count)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """Return the gradients to x, weight and bias."""
        x, weight, mean, inverse, count = ctx.saved_tensors
        dims, wide = [0, *range(2, x.dim())], _wide(grad)

        def along(v: Tensor) -> Tensor:
            """Per-channel values [C], to be multiplied with [N,C,...]."""
            return v.to(wide).view(-1, *[1] * (x.dim() - 2))

        normal = (_wide(x) - along(mean)) * along(inverse)
        to_bias, to_weight = wide.sum(dims), (wide * normal).sum(dims)
        to_x = None
        if ctx.needs_input_grad[0]:
            sums = torch.cat([to_bias, to_weight]).double()
            dist.all_reduce(sums)
            from_mean, from_variance = (sums / count).chunk(2)
            scale = inverse if weight is None else inverse * weight
            to_x = ((wide - along(from_mean) - normal * along(from_variance)) * along(scale)).to(x.dtype)
        return (
            to_x,
            None if weight is None else to_weight.to(weight.dtype),
            None if weight is None else to_bias.to(weight.dtype),
            None,
        )


def _wide(x: Tensor) -> Tensor:
    """Return x in float32 at least: half precision is too coarse for statistics."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
