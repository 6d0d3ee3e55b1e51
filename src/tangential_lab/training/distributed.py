"""Trains one trial on several processes, with the same result as on one process."""

import warnings
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """The sum over all processes; backward sums the gradients, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous().clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _Sum.forward(ctx, *grads)


class GlobalBatchNorm(_BatchNorm):
    """BatchNorm over the batches of all processes, on any device (torch's needs GPUs)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalise as one process with the whole batch would."""
        if not self.training:
            return super().forward(input)
        wide = input.to(torch.promote_types(input.dtype, torch.float32))  # for accurate sums
        over = [d for d in range(wide.dim()) if d != 1]
        shape = [1, -1] + [1] * (wide.dim() - 2)
        count = _Sum.apply(wide.new_tensor(wide.numel() / wide.shape[1]))
        mean = _Sum.apply(wide.sum(over)) / count
        centred = wide - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(over)) / count
        self._update_running(mean.detach(), variance.detach(), count)
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        result = centred * scale.view(shape)
        return (result if self.bias is None else result + self.bias.view(shape)).to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        if input.dim() < 2:
            raise ValueError(f"input must have 2 or more dimensions, got {input.dim()}")

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / (count - 1), share)


def with_global_batch_norm(model: nn.Module) -> nn.Module:
    """The model with BatchNorms over all processes; weights and buffers are not copied."""
    if torch.cuda.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if type(model) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        replacement = GlobalBatchNorm(0)
        replacement.__dict__.update(model.__dict__)
        return replacement
    for name, child in model.named_children():
        setattr(model, name, with_global_batch_norm(child))
    return model


def this_process() -> PartialState:
    """This process in the group that torchrun or `accelerate launch` started."""
    return PartialState(cpu=not torch.accelerator.is_available())


def make_accelerator(precision: str) -> Accelerator:
    """An Accelerator with this precision, for the available devices and processes."""
    this_process()
    # BatchNorm's buffers are equal on all processes; those of a memory bank must differ
    options = DistributedDataParallelKwargs(broadcast_buffers=False)
    return Accelerator(mixed_precision=precision, kwargs_handlers=[options])


def distribute(accelerator: Accelerator, model: nn.Module, *, sharded: bool) -> nn.Module:
    """The model for joint training: copies on all processes (DDP), or shards of it (FSDP2)."""
    if accelerator.num_processes == 1:
        return accelerator.prepare(model)
    model = with_global_batch_norm(model)
    if not sharded:
        assert accelerator.ddp_handler is not None
        # searching for parameters without a gradient takes time
        accelerator.ddp_handler.find_unused_parameters = getattr(model, "holds_weights", False)
        with warnings.catch_warnings():  # Accelerate uses only the deprecated name
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return accelerator.prepare(model)
    model.to(accelerator.device)
    model.to(memory_format=torch.contiguous_format)  # FSDP2 cannot shard channels_last
    for child in model.children():
        if any(p.requires_grad for p in child.parameters()):
            fully_shard(child)
    fully_shard(model)
    return model


def leave_process_group() -> None:
    """Wait for the other processes, then leave their group: if one leaves early, others fail."""
    this_process().wait_for_everyone()
    this_process().destroy_process_group()


def values_of_all_processes(value: Any) -> list[Any]:
    """All-gather: returns the values of all processes, in order of rank."""
    return gather_object([value])


def value_of_first_process(value: Any) -> Any:
    """Broadcast: returns the value of the first process."""
    return broadcast_object_list([value])[0]
