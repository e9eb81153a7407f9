"""One training over several processes: who takes part, which samples are whose, and how weights and gradients are shared."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import EllipsisType

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from opentau.errors import OptionError, TrainingError
from opentau.training.options import FSDP, DistributionOptions

TIMEOUT = timedelta(days=7)
"""Of waiting for other processes: a paused run waits that long. A dead process shows in its closed connections, not in this."""
POLL_S = 0.05
CONNECTION_WORDS = ("gloo", "nccl", "connection")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One of several contiguous pieces of an update's samples."""

    index: int = 0
    count: int = 1

    def rows(self, num_samples: int) -> slice:
        """Return which of so many samples are in it; the pieces differ by one sample at most."""
        return slice(self.index * num_samples // self.count, (self.index + 1) * num_samples // self.count)


WHOLE = Piece()

Loss = Callable[[int, Piece], tuple[Tensor, Mapping[str, Tensor]]]
"""From the update's number and a piece of its samples to what the piece adds to the scalar loss, and to parts to report.

The sums over all pieces are loss and parts of the whole, whatever their number; each piece names the same parts. Randomness
is drawn for the whole from torch's global generator. A part's name with a '/' is a whole metric name, another one gets the
report's prefix.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The processes that train together, seen from one of them; a world of one communicates nothing."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this process reports and writes for all."""
        return self.rank == 0

    def wait(self) -> None:
        """Return once every process has come here."""
        if self.size > 1:
            dist.barrier()

    def summed(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the sums over all processes; all must give the same names."""
        if self.size == 1:
            return dict(values)
        total = torch.tensor([values[name] for name in values], dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return dict(zip(values, total.tolist(), strict=True))

    def spread(self, tensors: Iterable[Tensor], *, source: int) -> None:
        """Overwrite tensors everywhere with what one process has in them, bit for bit; all must give the same shapes."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=source)

    def owner(self, number: int) -> int:
        """Return the rank that gets the thing of this number, of several that are dealt out one by one."""
        return number % self.size

    def require_same(self, value: int, *, what: str) -> None:
        """Raise `TrainingError` unless all processes have the same number."""
        if self.size == 1:
            return
        found = [torch.zeros((), dtype=torch.int64, device=self.device) for _ in range(self.size)]
        dist.all_gather(found, torch.tensor(value, device=self.device))
        numbers = [int(number) for number in found]
        if len(set(numbers)) > 1:
            raise TrainingError(
                f"the {self.size} processes of this training differ in {what}: {numbers}. They must see the same files; "
                "put the run's folder (OPENTAU_RUNS) on a file system that all machines share."
            )


ALONE = World()


@contextmanager
def joined(name: str, *, devices: Sequence[str] = ()) -> Iterator[World]:
    """Yield the world that torchrun started, or that of one process; `name` tells several trainings of a process apart.

    `devices` are those of a machine's processes, by local rank; without, each takes a GPU where there are some. The loss of
    another process raises `TrainingError`.
    """
    is_launched = dist.is_torchelastic_launched()
    device = training_device(devices, local_rank=int(os.environ["LOCAL_RANK"]) if is_launched else 0)
    if device != "cpu":
        torch.cuda.set_device(device)
    if not is_launched:
        yield World(device=device)
        return
    store, rank, size = meet(name)
    dist.init_process_group(
        "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl",
        store=store,
        rank=rank,
        world_size=size,
        timeout=TIMEOUT,
    )
    try:
        yield World(rank=rank, size=size, device=device)
    except RuntimeError as error:
        if not any(word in str(error).lower() for word in CONNECTION_WORDS):
            raise
        raise TrainingError(
            f"process {rank} of {size} lost another one that it trains with; that one's own message says why. "
            f"Start the same command again: it resumes from the last snapshot. ({str(error).splitlines()[0]})"
        ) from error
    finally:
        dist.destroy_process_group()


def training_device(devices: Sequence[str], *, local_rank: int) -> str:
    """Return the device of a process of this machine; raises `OptionError` where there is none for it."""
    num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not devices and not num_devices:
        return "cpu"
    known = devices or [f"cuda:{number}" for number in range(num_devices)]
    if local_rank >= len(known):
        listed = f"placement.train names {len(known)} devices" if devices else f"the machine has {num_devices} GPUs"
        raise OptionError(
            f"torchrun started more than {len(known)} processes on a machine, and {listed}; "
            f"give it --nproc-per-node {len(known)}"
        )
    device = known[local_rank]
    number = int(device.partition(":")[2] or 0)
    if device != "cpu" and number >= num_devices:
        raise OptionError(
            f"placement.train names {device!r}, this machine has {num_devices} GPUs that torch can use; "
            "name one of them, or cpu"
        )
    return device if device == "cpu" else f"cuda:{number}"


def meet(name: str) -> tuple[dist.Store, int, int]:
    """Return a store that the processes of this launch share under a name, this one's rank, and how many they are.

    torchrun keeps one store over restarts, with what dead processes have written. So each process says hello with a word of its
    own, the first answers these words with a fresh prefix, and waits until all have used it.
    """
    common, rank, size = next(dist.rendezvous("env://"))
    store, word = dist.PrefixStore(name, common), secrets.token_hex(8)
    if rank:
        store.set(f"hello/{rank}", word)
        while not store.check([f"answer/{word}"]):
            time.sleep(POLL_S)
        prefix = store.get(f"answer/{word}").decode()
        store.set(f"{prefix}/here/{rank}", "")
        return dist.PrefixStore(prefix, store), rank, size
    missing = set(range(1, size))
    while missing:
        missing = {other for other in missing if not store.check([f"{word}/here/{other}"])}
        for other in missing:
            if store.check([f"hello/{other}"]):
                store.set(f"answer/{store.get(f'hello/{other}').decode()}", word)
        time.sleep(POLL_S)
    return dist.PrefixStore(word, store), rank, size


class Share:
    """One process's share of a training: its pieces of every batch and, under FSDP, its rows of every weight."""

    def __init__(
        self, model: nn.Module, loss: Loss, *, world: World, options: DistributionOptions, num_samples: int | None = None
    ) -> None:
        """Take the share; under FSDP the parameters of `model` become DTensors. `num_samples` is that of an update."""
        count = world.size * options.accumulation
        if num_samples is not None and num_samples < count:
            raise OptionError(
                f"batch_size is {num_samples}, fewer than the {count} pieces of {world.size} processes with "
                f"accumulation={options.accumulation}; use a larger batch_size or fewer pieces"
            )
        first = world.rank * options.accumulation
        self.pieces = [Piece(index=first + number, count=count) for number in range(options.accumulation)]
        self._world = world
        self._pass = _Pass(model, loss, world=world)
        self._replicated: DistributedDataParallel | None = None
        self._sharded: FSDPModule | None = None
        if world.size > 1 and options.strategy == FSDP:
            self._sharded = fully_shard(self._pass, mesh=init_device_mesh(torch.device(world.device).type, (world.size,)))
        elif world.size > 1:
            self._replicated = DistributedDataParallel(self._pass, find_unused_parameters=True, gradient_as_bucket_view=True)

    def backward(self, update: int) -> dict[str, float]:
        """Add an update's gradients to the parameters' and return its loss and parts: sums over all pieces everywhere."""
        totals: dict[str, float] = {}
        for piece in self.pieces:
            with self._accumulating(is_last=piece is self.pieces[-1]):
                loss, parts = (self._replicated or self._pass)(update, piece)
                # DDP and FSDP average over processes, a batch's gradient is the sum over its pieces.
                (loss * self._world.size if self._world.size > 1 else loss).backward()
            for name, value in {"loss": loss, **parts}.items():
                totals[name] = totals.get(name, 0.0) + value.item()
        return self._world.summed(totals)

    @contextmanager
    def _accumulating(self, *, is_last: bool) -> Iterator[None]:
        """Let DDP exchange gradients once an update; under FSDP every piece's are exchanged, so that none is held whole."""
        if self._replicated is None or is_last:
            yield
            return
        with self._replicated.no_sync():
            yield

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Hold whole weights in the model meanwhile, for passes other than the loss."""
        if self._sharded is None:
            yield
            return
        self._sharded.unshard()
        try:
            yield
        finally:
            self._sharded.reshard()

    def release(self, model: nn.Module) -> None:
        """Leave whole ordinary weights in the model."""
        if self._sharded is None:
            return
        for name, parameter in list(model.named_parameters()):
            owner, _, attribute = name.rpartition(".")
            whole = nn.Parameter(full(parameter.detach()), requires_grad=parameter.requires_grad)
            setattr(model.get_submodule(owner), attribute, whole)


class _Pass(nn.Module):
    """The loss as a module, which is what DDP and FSDP wrap: a policy is read through several methods, never as a whole."""

    def __init__(self, model: nn.Module, loss: Loss, *, world: World) -> None:
        super().__init__()
        self.model = model
        self._loss = loss
        self._world = world

    def forward(self, update: int, piece: Piece) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss, parts = self._loss(update, piece)
        return (self._evened(loss) if self._world.size > 1 else loss), parts

    def _evened(self, loss: Tensor) -> Tensor:
        """Return the loss with zero times what only other processes use: all must exchange gradients of the same parameters.

        A piece without questions, for example, does not reach what answers alone train. What nobody uses keeps no gradient.
        """
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        reached = _reached(loss)
        is_own = torch.tensor([id(parameter) in reached for parameter in parameters], device=self._world.device)
        is_used = is_own.to(torch.uint8)
        dist.all_reduce(is_used, op=dist.ReduceOp.MAX)
        for index in (is_used.bool() & ~is_own).nonzero().flatten().tolist():
            loss = loss + 0.0 * parameters[index].sum()
        return loss


def clip_gradients(parameters: Mapping[str, nn.Parameter], *, max_norm: float) -> float:
    """Scale the gradients down to a norm over all of them, on whatever process they are, and return what it was."""
    return full(nn.utils.clip_grad_norm_(parameters.values(), max_norm)).item()


def full(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor that may be sharded; then every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: Tensor) -> tuple[Tensor, EllipsisType | slice]:
    """Return what this process holds of a tensor, sharing its memory, and which rows these are; all if it is not sharded."""
    if not isinstance(tensor, DTensor):
        return tensor, ...
    # FSDP2 deals rows as torch.chunk does: equal counts, fewer or none for the last processes.
    own = tensor.to_local()
    start = tensor.device_mesh.get_local_rank() * -(-len(tensor) // tensor.device_mesh.size())
    return own, slice(start, start + len(own))


def _reached(loss: Tensor) -> set[int]:
    """Return the ids of the parameters that a backward pass from the loss would reach."""
    found: set[int] = set()
    seen, waiting = set(), [loss.grad_fn] if loss.grad_fn is not None else []
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            found.add(id(variable))
        waiting.extend(following for following, _ in node.next_functions if following is not None)
    return found
