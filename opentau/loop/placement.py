"""Which devices serve and which train, and that one GPU can do both, one after the other."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass

import torch

from opentau.errors import OptionError

AUTO, CPU, CUDA = "auto", "cpu", "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementOptions:
    """Devices by name: 'cpu', 'cuda', 'cuda:1'."""

    serve: str = AUTO
    """Where policies answer and features are computed; 'auto': a GPU where there is one, under torchrun the process's own."""
    train: tuple[str, ...] = ()
    """Where the processes of a machine train, in the order of their local ranks; none named: a GPU each, else the processor."""

    def __post_init__(self) -> None:
        for name, device in (("serve", self.serve), *(("train", device) for device in self.train)):
            kind, _, number = device.partition(":")
            is_known = device in (AUTO, CPU, CUDA) or (kind == CUDA and number.isdigit())
            if not is_known or (name == "train" and device == AUTO):
                raise OptionError(f"placement.{name} names {device!r}; use cpu, cuda or cuda:N")


def serving_device(options: PlacementOptions) -> str:
    """Return the device that serves in this process; one that is not there raises `OptionError`."""
    num_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if options.serve == AUTO:
        return f"{CUDA}:{min(int(os.environ.get('LOCAL_RANK', '0')), num_devices - 1)}" if num_devices else CPU
    number = int(options.serve.partition(":")[2] or 0)
    if options.serve != CPU and number >= num_devices:
        raise OptionError(
            f"placement.serve is {options.serve!r}, this machine has {num_devices} GPUs that torch can use; "
            "name one of them, or cpu"
        )
    return options.serve


def free_device_memory() -> None:
    """Give back what nothing refers to any more, so that what comes next has the whole GPU."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
