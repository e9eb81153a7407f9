"""Snapshots of a training between two updates: a folder of tensors and numbers, written atomically, the newest kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from opentau.checkpoint import building, is_complete, read_manifest, write_json
from opentau.errors import TrainingError

TENSORS_FILE = "tensors.safetensors"
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
    """Weights, buffers, averages and the optimiser's moments by name."""
    window: Mapping[str, list[float]]
    """Metrics of the updates since the last report."""
    metrics: Mapping[str, float]
    """The last reported value of every metric."""


def write_snapshot(work_dir: Path, snapshot: Snapshot) -> None:
    """Write a snapshot into `work_dir` and remove older ones once it is complete."""
    directory = work_dir / f"update-{snapshot.update:08d}"
    numbers = {name: getattr(snapshot, name) for name in ("update", "identity", "window", "metrics")}
    with building(directory, {"content": {"update": snapshot.update}}) as partial:
        # Written by Python, so that a full disk is an OSError, which `building` explains.
        (partial / TENSORS_FILE).write_bytes(save({name: tensor.contiguous() for name, tensor in snapshot.tensors.items()}))
        write_json(partial / NUMBERS_FILE, numbers)
    for older in _complete_folders(work_dir):
        if older != directory:
            shutil.rmtree(older)


def newest_snapshot(work_dir: Path, *, identity: Mapping[str, Any], device: str) -> Snapshot | None:
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
    return Snapshot(tensors=load_file(folders[-1] / TENSORS_FILE, device=device), **numbers)


def _complete_folders(work_dir: Path) -> list[Path]:
    return [path for path in sorted(work_dir.glob(FOLDER_PATTERN)) if is_complete(path)]


def _difference(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    wanted, found = {**wanted, **wanted["options"]}, {**found, **found.get("options", {})}
    names = [name for name in wanted if name != "options" and wanted[name] != found.get(name)]
    return ", ".join(f"{name} is {wanted[name]}, there it was {found.get(name)}" for name in names)
