"""A run directory: its lock, its options, its events, and stages that are complete or absent."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from opentau import events
from opentau.checkpoint import building, is_complete, partial_path, read_manifest, storage_errors, write_json
from opentau.errors import OpenTauError, RunError
from opentau.events import EventLog
from opentau.loop.crew import Crew
from opentau.loop.steering import STAGES_FOLDER, Steering
from opentau.runsnapshot import keep_folded
from opentau.types import content_hash

CONFIG_FILE = "config.yaml"
STATE_FILE = "state.json"
LOCK_FILE = "lock"
WORK_FOLDER = "work"
RANKS_FOLDER = "ranks"
"""Holds the logs of processes that only help."""


class RunStopped(OpenTauError):
    """The run was asked to stop, by a person or by the command that wants one stage only; it resumes with the same command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What a stage made: later stages take its path and id."""

    stage: str
    """Name with iteration, for example 'collect-1'."""
    path: Path
    """The complete directory."""
    id: str
    """Content id: equal ids mean equal bytes."""
    summary: Mapping[str, Any]
    """Numbers and words for the screen and the report."""


@dataclass(slots=True)
class StageWork:
    """What a stage's work is given: where to write, and where to keep state that an interrupted attempt left."""

    output: Path
    """The partial directory; it becomes the product."""
    scratch: Path
    """Kept between attempts, deleted with the stage's end."""
    summary: dict[str, Any]
    """To be filled; part of the manifest and of the stage's content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What people decided about an iteration before it began."""

    options: Mapping[str, Any]
    """Options that they changed, and to what."""
    after_gates: Sequence[Sequence[Any]]
    """Gates of earlier iterations that they decided since: (promote, whose candidate), oldest first."""


class Run:
    """One run directory, held by one process at a time; the others of its crew follow it from stage to stage."""

    def __init__(self, directory: Path, *, log: EventLog, crew: Crew, last_stage: str | None = None) -> None:
        """`last_stage` ends the run after that stage."""
        self.directory = directory
        self.crew = crew
        self.events = log
        self._last_stage = last_stage
        self.products: dict[str, Product] = {}
        self.steering = Steering(directory, log)
        """Of the leader: what people ask, and what they decided."""

    @property
    def run_id(self) -> str:
        return self.directory.name

    def stage(
        self,
        name: str,
        *,
        iteration: int,
        inputs: Mapping[str, Any],
        work: Callable[[StageWork], None],
        verify: bool = False,
        is_joint: bool = False,
    ) -> Product:
        """Return the product of a stage: the one that is there for the same inputs, else the one that `work` makes.

        The directory's name holds the hash of name and inputs, so that a changed option re-runs only what depends on it.
        The work of a joint stage is done by all processes of the crew together, any other by the leader alone.
        """
        key = f"{name}-{content_hash({'stage': name, 'inputs': inputs})[:10]}"
        directory = self.directory / STAGES_FOLDER / key
        if not self.crew.leads:
            return self._follow(name, directory, work=work if is_joint else None)
        self.obey_commands()
        if self.steering.is_stopping:
            text = f"stopped before {name}, as asked. The same command resumes run {self.run_id}."
            self.crew.tell({"stopped": text})
            raise RunStopped(text)
        is_reused = is_complete(directory)
        self.crew.tell({"stage": key, "is_reused": is_reused})
        self.events.emit(events.STAGE_STARTED, stage=name, iteration=iteration)
        self.steering.stage_directories[name] = key
        if not is_reused:
            self.steering.come_back()
            self._work(name, directory, inputs=inputs, work=work)
        manifest = read_manifest(directory, verify=verify)
        self.crew.tell({"made": key})
        product = self._product(name, directory, manifest)
        self.events.emit(
            events.STAGE_FINISHED,
            stage=name,
            iteration=iteration,
            seconds=manifest["seconds"],
            cpu_seconds=manifest["cpu_seconds"],
            is_reused=is_reused,
            summary=dict(product.summary),
        )
        self._write_state()
        keep_folded(self.directory)
        return self._returned(product)

    def _follow(self, name: str, directory: Path, *, work: Callable[[StageWork], None] | None) -> Product:
        """Return the product of a stage that the leader makes or finds, and help where there is work for all."""
        begun = self.crew.hear()
        if "stopped" in begun:
            raise RunStopped(begun["stopped"])
        if begun["stage"] != directory.name:
            raise RunError(
                f"process {self.crew.rank} would do stage {directory.name}, the first one does {begun['stage']}; "
                "start all with the same options, data and code"
            )
        if work is not None and not begun["is_reused"]:
            scratch = self.directory / WORK_FOLDER / directory.name
            work(StageWork(output=partial_path(directory), scratch=scratch, summary={}))
        self.crew.hear()  # that it is made
        return self._returned(self._product(name, directory, read_manifest(directory)))

    def _product(self, name: str, directory: Path, manifest: Mapping[str, Any]) -> Product:
        product = Product(stage=name, path=directory, id=manifest["id"], summary=manifest["content"]["summary"])
        self.products[name] = product
        return product

    def _returned(self, product: Product) -> Product:
        if product.stage == self._last_stage:
            raise RunStopped(f"{product.stage} is done: {product.path}")
        return product

    def _work(self, name: str, directory: Path, *, inputs: Mapping[str, Any], work: Callable[[StageWork], None]) -> None:
        scratch = self.directory / WORK_FOLDER / directory.name
        scratch.mkdir(parents=True, exist_ok=True)
        started, cpu_started, summary = time.monotonic(), cpu_seconds(), dict[str, Any]()
        info: dict[str, Any] = {"content": {"stage": name, "inputs": inputs, "summary": summary}}
        with building(directory, info, fresh=False) as output:
            work(StageWork(output=output, scratch=scratch, summary=summary))
            info.update(seconds=time.monotonic() - started, cpu_seconds=cpu_seconds() - cpu_started)
        shutil.rmtree(scratch, ignore_errors=True)

    def obey_commands(self) -> None:
        """Carry out what people asked for; a pause holds here until resume or stop. Called wherever nothing is half done.

        Only the leader of a crew takes commands; the others wait for it in the next thing that they do together.
        """
        if self.crew.leads:
            self.steering.obey()

    def begin_iteration(self, iteration: int) -> Course:
        """Begin an iteration, or after the last one the final scores; return what people decided that holds from here on."""
        if not self.crew.leads:
            return Course(**self.crew.hear())
        decisions = self.steering.decisions
        self.steering.has_judged = True
        if iteration > self.steering.last_iteration:  # all gates are over: the last moment for what waited
            self.steering.come_back()
        self.steering.begin(iteration)
        course = Course(options=decisions.options(iteration), after_gates=decisions.after_gates(iteration))
        self.crew.tell(asdict(course))
        return course

    def begin_learning(self, iteration: int) -> dict[str, dict[str, str]]:
        """Fix what an iteration learns from; return what people said of episodes (`Decisions.outcomes`)."""
        if not self.crew.leads:
            return dict(self.crew.hear())
        self.steering.has_collected = True
        outcomes = self.steering.decisions.outcomes(iteration)
        self.crew.tell(outcomes)
        return outcomes

    def gate_override(self, iteration: int) -> bool | None:
        """Return a person's decision on the gate of an iteration, None where nobody spoke."""
        if not self.crew.leads:
            return self.crew.hear()
        override = self.steering.decisions.of_gate(iteration)
        self.crew.tell(override)
        return override

    def _write_state(self) -> None:
        stages = {name: {"id": product.id, "directory": product.path.name} for name, product in self.products.items()}
        write_json(self.directory / STATE_FILE, {"stages": stages})


@contextmanager
def open_run(
    directory: Path,
    *,
    config: Mapping[str, Any],
    command: str,
    expected_s: Mapping[str, float],
    last_stage: str | None = None,
    crew: Crew | None = None,
) -> Iterator[Run]:
    """Lock a run directory, note its options, and report how it ends; everything else resumes from what lies there.

    `expected_s` names the planned stages in order, with their expected seconds.
    """
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory), EventLog(directory, "main") as log:
        is_resumed = (directory / STAGES_FOLDER).is_dir()
        with storage_errors(directory):
            (directory / CONFIG_FILE).write_text(yaml.safe_dump(dict(config), sort_keys=False))
        log.emit(
            events.RUN_STARTED,
            run_id=directory.name,
            command=command,
            plan=list(expected_s),
            expected_s=dict(expected_s),
            resumed=is_resumed,
        )
        started = time.monotonic()
        run = Run(directory, log=log, crew=crew or Crew(), last_stage=last_stage)
        try:
            yield run
        except (RunStopped, KeyboardInterrupt) as stop:
            log.emit(events.RUN_STOPPED, text=str(stop) or "interrupted", cpu_seconds=cpu_seconds())
            raise
        except BaseException as error:
            log.emit(events.RUN_FAILED, error=f"{type(error).__name__}: {error}", cpu_seconds=cpu_seconds())
            raise
        log.emit(events.RUN_FINISHED, seconds=time.monotonic() - started, cpu_seconds=cpu_seconds())
        keep_folded(directory)


def obey_at_rest(directory: Path) -> None:
    """Carry out what was asked of a run that no process holds, as far as that needs none."""
    with _locked(directory), EventLog(directory, "ctl") as log:
        Steering(directory, log).obey_at_rest()


@contextmanager
def join_run(directory: Path, *, crew: Crew, last_stage: str | None = None) -> Iterator[Run]:
    """Follow the leader of a crew through the run that it has open; events go to a log beside those of the run."""
    with EventLog(directory / RANKS_FOLDER / str(crew.rank), "follower") as log:
        try:
            yield Run(directory, log=log, crew=crew, last_stage=last_stage)
        except OpenTauError as error:
            log.emit(events.NOTE, level="info" if isinstance(error, RunStopped) else "error", text=str(error))
            raise


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with open(directory / LOCK_FILE, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise RunError(
                f"run {directory.name} is already being run by process {holder}. "
                f"Watch it with `opentau tui {directory.name}`, or choose another run_id=…"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_running(directory: Path) -> bool:
    """Return whether a process holds the run now."""
    path = directory / LOCK_FILE
    if not path.is_file():
        return False
    with open(path, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def cpu_seconds() -> float:
    """Return user and system seconds of this process and of all its finished children."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
