"""Snapshots of a training between two updates: a folder of tensors and numbers, written atomically, the newest kept.

Sharded tensors are written by every process for itself, without pickle: a safetensors file of its rows each. In the order of
the files the rows are the tensor's, so that any number of processes can read what another number wrote.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor

from opentau.checkpoint import building, is_complete, partial_path, read_manifest, write_json
from opentau.errors import TrainingError
from opentau.policies.weights import save_weights
from opentau.training.distribution import ALONE, World, own_rows

TENSORS_FILE = "tensors.safetensors"
SHARD_FILE = "tensors-{rank:05d}-of-{size:05d}.safetensors"
TENSORS_PATTERN = "tensors*.safetensors"
NUMBERS_FILE = "numbers.json"
FOLDER_PATTERN = "update-*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that the updates to come depend on."""

    update: int
    """Updates done."""
    identity: Mapping[str, Any]
    """Options and seed: a snapshot of other ones must not be continued."""
    tensors: Mapping[str, Tensor]
    """Weights, buffers, averages and the optimiser's moments by name; `StoredTensors` of one that was read."""
    window: Mapping[str, list[float]]
    """Metrics of the updates since the last report."""
    metrics: Mapping[str, float]
    """The last reported value of every metric."""


def write_snapshot(work_dir: Path, snapshot: Snapshot, *, world: World = ALONE) -> None:
    """Write a snapshot into `work_dir` and remove older ones once it is complete; every process of `world` must call it."""
    directory = work_dir / f"update-{snapshot.update:08d}"
    if not world.is_first:
        world.wait()
        _write_tensors(partial_path(directory), snapshot.tensors, world=world)
        world.wait()
        return
    numbers = {name: getattr(snapshot, name) for name in ("update", "identity", "window", "metrics")}
    with building(directory, {"content": {"update": snapshot.update}}) as partial:
        world.wait()  # until here the folder may not exist
        _write_tensors(partial, snapshot.tensors, world=world)
        world.wait()  # and until here not all of it may be written
        write_json(partial / NUMBERS_FILE, numbers)
    for older in _complete_folders(work_dir):
        if older != directory:
            shutil.rmtree(older)


def _write_tensors(folder: Path, tensors: Mapping[str, Tensor], *, world: World) -> None:
    """Write this process's rows of sharded tensors; the first one's file has the others too, and is alone without shards."""
    own = {name: own_rows(tensor)[0] for name, tensor in tensors.items() if isinstance(tensor, DTensor) or world.is_first}
    if not own:
        return
    is_sharded = any(isinstance(tensor, DTensor) for tensor in tensors.values())
    name = SHARD_FILE.format(rank=world.rank, size=world.size) if is_sharded else TENSORS_FILE
    save_weights(folder / name, own)


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of a snapshot by name, read from its files as they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._files = [safe_open(path, framework="pt") for path in sorted(folder.glob(TENSORS_PATTERN))]
        self._holders: dict[str, list[Any]] = {}
        for file in self._files:
            for name in file.keys():  # noqa: SIM118  (a file, not a dict)
                self._holders.setdefault(name, []).append(file)

    def __getitem__(self, name: str) -> Tensor:
        parts = [file.get_tensor(name) for file in self._holders[name]]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._holders)

    def __len__(self) -> int:
        return len(self._holders)


@torch.no_grad()
def restore(tensors: Mapping[str, Tensor], *, stored: Mapping[str, Tensor]) -> None:
    """Write what a snapshot holds into tensors; each process takes its rows of sharded ones."""
    for name, tensor in tensors.items():
        own, rows = own_rows(tensor)
        own.copy_(stored[name][rows])


def newest_snapshot(work_dir: Path, *, identity: Mapping[str, Any]) -> Snapshot | None:
    """Return the newest complete snapshot, None without any.

    A damaged one raises `CheckpointError`, one of other options or another seed `TrainingError`.
    """
    folders = _complete_folders(work_dir)
    if not folders:
        return None
    read_manifest(folders[-1], verify=True)
    numbers = json.loads((folders[-1] / NUMBERS_FILE).read_text())
    wanted = json.loads(json.dumps(identity))
    if numbers["identity"] != wanted:
        raise TrainingError(
            f"{work_dir} holds a training with other settings: {_difference(wanted, numbers['identity'])}. "
            "Use the same settings to resume it, or delete the folder to start again."
        )
    return Snapshot(tensors=StoredTensors(folders[-1]), **numbers)


def _complete_folders(work_dir: Path) -> list[Path]:
    return [path for path in sorted(work_dir.glob(FOLDER_PATTERN)) if is_complete(path)]


def _difference(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    wanted, found = {**wanted, **wanted["options"]}, {**found, **found.get("options", {})}
    names = [name for name in wanted if name != "options" and wanted[name] != found.get(name)]
    return ", ".join(f"{name} is {wanted[name]}, there it was {found.get(name)}" for name in names)
