"""Whether the trainings of a run fit into memory, told before they load anything, and what would make them fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from opentau.errors import TrainingError
from opentau.loop.options import LoopOptions
from opentau.loop.starting import policy_start
from opentau.policies.pretrained import start_config
from opentau.training.memory import MemoryNeed, at_most, memory_need
from opentau.training.options import TrainOptions
from opentau.types import Interface

GB = 1e9
TOLERANCE = 1.2
"""Predictions are good to a fifth: only what needs more than that is refused."""
SAMPLES_OF_A_PIECE = 8
"""Fewer at a time waste a GPU, and are tried after more."""
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of a container, by version of its control groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Options that make a training smaller, with what they make of it."""

    options: tuple[str, ...]
    need: MemoryNeed


def training_need(options: LoopOptions, main: Interface, *, stage: str = "sft", num_processes: int = 1) -> MemoryNeed:
    """Return what the trainings of a stage, 'sft' or 'update', need for an environment's interface."""
    return memory_need(
        start_config(policy_start(options, main=main)),
        options=_trained(options, stage),
        objective=options.objective,
        tuning=options.tuning,
        distribution=options.training,
        num_processes=num_processes,
        says_text=options.mixture.has_questions,
    )


def machine_bytes(*, only_free: bool = False) -> int:
    """Return the memory that trainings have here: the GPU's where there is one, else the machine's or its container's."""
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return free if only_free else total
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kilobytes = {name.rstrip(":"): int(value) for name, value, *_ in lines}
    found = 1024 * kilobytes["MemAvailable" if only_free else "MemTotal"]
    limits = [path.read_text().strip() for path in MEMORY_LIMITS if path.is_file()]
    return min([found, *(int(limit) for limit in limits if limit.isdigit())])


def require_memory(options: LoopOptions, main: Interface, *, stage: str, num_processes: int = 1) -> None:
    """Raise `TrainingError` if a stage's training clearly needs more memory than there is; `training.memory_gb` overrules."""
    asked = options.training.memory_gb
    available = machine_bytes(only_free=True) if asked is None else int(asked * GB)
    config = start_config(policy_start(options, main=main))
    if not available or at_most(config, options=_trained(options, stage), objective=options.objective) < available:
        return
    need = training_need(options, main, stage=stage, num_processes=num_processes)
    if need.total > TOLERANCE * available:
        raise TrainingError(
            f"the training of stage {stage} would need about {need.total / GB:.1f} GB, and {available / GB:.1f} GB are free. "
            "`opentau doctor --memory` with the same options says what makes it fit, such as "
            "training.checkpoint_activations=true, training.accumulation=8 or tuning=lora; training.memory_gb=N says how much "
            "there really is, 0 that it is not to be checked."
        )


def single_changes(options: LoopOptions, *, stage: str) -> list[str]:
    """Return options that make a training smaller, in the order in which they are tried.

    First those with equal results, then those with nearly equal ones, then those that train less.
    """
    train, distribution, tuning = _trained(options, stage), options.training, options.tuning
    changes = []
    if not distribution.checkpoint_activations:
        changes.append("training.checkpoint_activations=true")
    if (pieces := train.batch_size // SAMPLES_OF_A_PIECE) > distribution.accumulation:
        changes.append(f"training.accumulation={pieces}")
    if train.batch_size > distribution.accumulation:
        changes.append(f"training.accumulation={train.batch_size}")
    if tuning.optimizer_bits == 32:
        changes.append("tuning.optimizer_bits=8")
    if train.ema_decay:
        changes.append(f"++{stage}.ema_decay=0")
    if not tuning.freeze:
        changes.append("tuning.freeze=[vision.*]")
    if not tuning.adapt:
        changes.append("tuning=lora")
    return changes


def what_fits(
    changes: Sequence[str], *, limit: int, need_with: Callable[[Sequence[str]], MemoryNeed]
) -> tuple[list[Change], Change | None]:
    """Return what each change alone makes of a training, and changes that together fit, None if they do not."""
    singles = [Change(options=(change,), need=need_with([change])) for change in changes]
    if fitting := next((single for single in singles if single.need.total <= limit), None):
        return singles, fitting
    together: dict[str, str | None] = {}
    for change in changes:
        option, _, given = change.partition("=")
        together[option] = given  # in place of an earlier change of the same option
        if need_with(_written(together)).total <= limit:
            break
    else:
        return singles, None
    # What came before the last change may no longer be needed: leave out what costs most first.
    for name, value in reversed(list(together.items())):
        weaker = [change.partition("=")[2] for change in changes if change.startswith(f"{name}=")]
        for less in [None, *weaker[: weaker.index(str(value))]]:
            tried = {**together, name: less}
            if need_with(_written(tried)).total <= limit:
                together = {each: kept for each, kept in tried.items() if kept is not None}
                break
    options = _written(together)
    return singles, Change(options=options, need=need_with(options))


def _written(options: Mapping[str, str | None]) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in options.items() if value is not None)


def _trained(options: LoopOptions, stage: str) -> TrainOptions:
    return options.sft if stage.startswith("sft") else options.update
