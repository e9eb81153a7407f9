"""Launches of a function that are recorded once and replayed: on a GPU the small steps of an expert wait for the host else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
NUM_WARM_UPS = 2
"""Before a recording, so that libraries have chosen their kernels and have their workspaces."""
MAX_RECORDINGS = 8
"""Different shapes that are kept; the oldest goes first."""


class Recorder:
    """Calls a function of tensors by replaying its launches (CUDA graphs), one recording for each set of shapes.

    The function must be one of its arguments' numbers alone: no random numbers, nothing read back, nothing kept. Where there is
    no GPU it is called on the same fixed tensors that a replay would read, so that what goes wrong with them does so anywhere.
    """

    def __init__(self) -> None:
        self._recordings: dict[Any, _Recording] = {}

    def __call__(self, function: Callable[..., Tensor], *arguments: Any, key: Any = None) -> Tensor:
        """Return what the function returns; arguments are tensors, None, or tuples and dataclasses of them.

        `key` tells functions apart that are called with the same shapes.
        """
        tensors = list(tensors_of(arguments))
        name = (key, tuple((tuple(tensor.shape), tensor.dtype, tensor.device) for tensor in tensors))
        recording = self._recordings.get(name)
        if recording is None:
            while len(self._recordings) >= MAX_RECORDINGS:
                self._recordings.pop(next(iter(self._recordings)))
            recording = self._recordings[name] = _Recording(function, arguments)
        return recording(tensors)


class _Recording:
    """One function at one set of shapes, with the tensors that it reads."""

    def __init__(self, function: Callable[..., Tensor], arguments: tuple[Any, ...]) -> None:
        self._function = function
        self._fixed = [tensor.clone() for tensor in tensors_of(arguments)]
        self._arguments = with_tensors(arguments, iter(self._fixed))
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Tensor | None = None
        if any(tensor.is_cuda for tensor in self._fixed):
            self._record()

    def __call__(self, tensors: list[Tensor]) -> Tensor:
        for fixed, tensor in zip(self._fixed, tensors, strict=True):
            fixed.copy_(tensor)
        if self._graph is None or self._result is None:
            return self._function(*self._arguments)
        self._graph.replay()
        return self._result.clone()

    def _record(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(NUM_WARM_UPS):
                self._function(*self._arguments)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # Policies answer in a thread of their own; what other threads do meanwhile is no part of it.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._result = self._function(*self._arguments)


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested tuples and dataclasses in their order; anything but these and None is no argument."""
    if isinstance(value, Tensor):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from tensors_of(getattr(value, field.name))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors_of(each)
    elif value is not None:
        raise TypeError(f"a {type(value).__name__} cannot be an argument of what is recorded; pass tensors")


def with_tensors(value: T, tensors: Iterator[Tensor]) -> T:
    """Return the same nest with other tensors, in the order of `tensors_of`."""
    made: Any = value
    if isinstance(value, Tensor):
        made = next(tensors)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        made = dataclasses.replace(value, **{name: with_tensors(getattr(value, name), tensors) for name in names})
    elif isinstance(value, tuple | list):
        each = [with_tensors(part, tensors) for part in value]
        made = type(value)(*each) if hasattr(value, "_fields") else type(value)(each)
    return made
