"""LeRobot's own trainer in a process of its environment: what it is told, what it says, and what it leaves."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentau import events
from opentau.checkpoint import write_json
from opentau.errors import TrainingError
from opentau.events import EventLog
from opentau.policies.lerobot.start import LeRobotStart
from opentau.rollout.lerobot_environment import environment_variables, lerobot_python, module_command
from opentau.runstate import iteration_of

TRAINER = "lerobot_side.train"
POLL_S = 0.5
NUM_REPORTS = 20
NUM_LAST_LINES = 12
CONFIG_FILE = "config.json"
LEFT_OUT = ("train_config.json",)
"""Names the folders of this machine, so that equal trainings would have unequal checkpoints."""
PLACE = "pretrained_path"
"""The same within config.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeRobotTraining:
    """One call of LeRobot's trainer."""

    start: LeRobotStart
    dataset: Path
    output: Path
    """Must not exist."""
    num_updates: int
    batch_size: int
    seed: int
    packages: Path
    """Folder for links to our packages."""
    log_path: Path
    """Keeps what the trainer says."""

    @property
    def log_interval(self) -> int:
        return max(1, self.num_updates // NUM_REPORTS)

    def arguments(self) -> list[str]:
        """Return what `lerobot-train` is told."""
        start = self.start
        source = {"policy.type": start.type} if start.checkpoint is None else {"policy.path": str(start.checkpoint.resolve())}
        told: dict[str, Any] = {
            "dataset.repo_id": "local/kept",
            "dataset.root": str(self.dataset.resolve()),
            "output_dir": str(self.output.resolve()),
            "steps": self.num_updates,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "num_workers": 0,
            "save_freq": 0,
            "log_freq": self.log_interval,
            "env_eval_freq": 0,
            "wandb.enable": False,
            **source,
            "policy.push_to_hub": False,
            "policy.device": start.device,
            **{f"policy.{name}": value for name, value in start.options.items()},
        }
        return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in told.items()]

    def keep(self, folder: Path) -> None:
        """Copy the trained policy's files; raises `TrainingError` where there is none."""
        trained = sorted((self.output / "checkpoints").glob("[0-9]*/pretrained_model"))
        if not trained:
            raise TrainingError(f"LeRobot's trainer left no checkpoint in {self.output}; what it said is in {self.log_path}")
        for path in sorted(trained[-1].iterdir()):
            if path.name == CONFIG_FILE:
                config = json.loads(path.read_text(encoding="utf-8"))
                write_json(folder / path.name, config | {PLACE: None})
            elif path.name not in LEFT_OUT:
                shutil.copyfile(path, folder / path.name)


def train_with_lerobot(training: LeRobotTraining, *, stage: str, log: EventLog) -> float | None:
    """Run LeRobot's trainer to its end and return its last loss, None where it told none.

    Its losses become events. Raises `TrainingError` with its last words when it fails, and ends it whatever happens here.
    """
    python = lerobot_python(training.start.python)
    training.log_path.parent.mkdir(parents=True, exist_ok=True)
    with open(training.log_path, "wb") as said:
        process = subprocess.Popen(
            module_command(python, TRAINER, [str(os.getpid()), *training.arguments()]),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=environment_variables(training.packages),
        )
    report = _Report(training, stage=stage, log=log)
    try:
        while process.poll() is None:
            report.read()
            time.sleep(POLL_S)
        report.read()
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise TrainingError(
            f"LeRobot's trainer ended with {process.returncode}; all it said is in {training.log_path}, at last:\n"
            + report.last_lines()
        )
    return report.loss


class _Report:
    """Reads the trainer's log as it grows."""

    def __init__(self, training: LeRobotTraining, *, stage: str, log: EventLog) -> None:
        self._training = training
        self._stage = stage
        self._log = log
        self._position = 0
        self._num_reports = 0
        self.loss: float | None = None

    def read(self) -> None:
        """Make events of the losses that were written since the last call."""
        with open(self._training.log_path, "rb") as file:
            file.seek(self._position)
            block = file.read()
        complete, newline, _ = block.rpartition(b"\n")
        self._position += len(complete) + len(newline)
        for match in re.finditer(r"\bstep:\S+ .*?\bloss:(\S+)", complete.decode(errors="replace")):
            self._num_reports += 1
            self._tell(float(match.group(1)))

    def _tell(self, loss: float) -> None:
        training = self._training
        update = min(self._num_reports * training.log_interval, training.num_updates)
        if not math.isfinite(loss):
            raise TrainingError(
                f"LeRobot's loss is {loss} at update {update} of {self._stage}; lower its learning rate, for example "
                "policy.args.options={optimizer_lr: 1e-5}"
            )
        self.loss = loss
        self._log.emit(events.TRAIN_METRICS, stage=self._stage, update=update, metrics={"train/loss": loss})
        self._log.emit(
            events.STAGE_PROGRESS,
            stage=self._stage,
            iteration=iteration_of(self._stage),
            done=update,
            total=training.num_updates,
            unit="updates",
        )

    def last_lines(self) -> str:
        lines = self._training.log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-NUM_LAST_LINES:])
