"""Commands under torchrun: all stages once, trainings together, and on from the last snapshot when a process is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from opentau.events import RUN_STARTED, STAGE_FINISHED, TRAIN_METRICS, EventReader
from tests.distributed.launching import ROOT, TIMEOUT_S, agent, free_port, torchrun, two_ranks, wait
from tests.distributed.test_training import TOLERANCE, curve

pytestmark = pytest.mark.dist

OPTIONS = (
    *("experiment=tiny", "run_id=run", "data.demonstrations=4", "evaluation.episodes=0", "collect.episodes=2"),
    *("sft.num_updates=12", "+sft.log_interval=1", "+sft.evaluation_interval=6", "sft.snapshot_interval=4"),
    *("update.num_updates=6", "value.fit.num_updates=10"),
)
SHARDED = (*OPTIONS, "training.strategy=fsdp", "training.accumulation=2")


def program(command: str, options: tuple[str, ...]) -> list[str]:
    return ["-m", "opentau.cli.main", command, *options]


def finish(runs: Path, command: str, options: tuple[str, ...]) -> None:
    """Run a command in one process."""
    done = subprocess.run(
        [sys.executable, "-P", *program(command, options)],
        cwd=ROOT,
        env={**os.environ, "OPENTAU_RUNS": str(runs), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def training(run: Path, stage: str = "sft-0") -> dict[tuple[int, str], float]:
    return {key: value for key, value in curve(run, stage=stage).items() if not key[1].startswith("time/")}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose first policy was trained by one process."""
    runs = tmp_path_factory.mktemp("alone")
    finish(runs, "sft", OPTIONS)
    return runs / "run"


def test_two_agents_do_an_iteration_up_to_its_update(alone: Path, tmp_path: Path) -> None:
    port = free_port()
    agents = [
        torchrun(agent(port=port, program=program("update", SHARDED)), log=tmp_path / f"log-{node}.txt", runs=tmp_path)
        for node in range(2)
    ]
    assert wait(agents) == [0, 0], (tmp_path / "log-0.txt").read_text()[-3000:] + (tmp_path / "log-1.txt").read_text()[-3000:]
    run = tmp_path / "run"
    assert training(run) == pytest.approx(training(alone), rel=TOLERANCE)
    finished = [event for event in EventReader(run).read_new() if event["kind"] == STAGE_FINISHED]
    assert [event["stage"] for event in finished] == [
        *("demonstrations-0", "sft-0", "value-0"),
        *("collect-1", "value-1", "label-1", "update-1"),
    ]
    helped = EventReader(run / "ranks" / "1").read_new()
    assert {event["stage"] for event in helped if event["kind"] == TRAIN_METRICS} == {"value-1"}, "it fits critics of folds"
    processes = {event["stage"]: event["summary"].get("processes", 1) for event in finished}
    assert {stage for stage, number in processes.items() if number == 2} == {"sft-0", "update-1"}


@pytest.fixture(scope="module")
def collected(alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has collected episodes."""
    runs = tmp_path_factory.mktemp("collected")
    shutil.copytree(alone, runs / "run")
    finish(runs, "collect", OPTIONS)
    return runs


def test_two_ranks_fit_the_critics_of_one_process_to_the_bit(collected: Path, tmp_path: Path) -> None:
    for runs in ("one", "two"):
        shutil.copytree(collected, tmp_path / runs)
    for folder in ("features", "work"):
        shutil.rmtree(tmp_path / "two" / "run" / folder, ignore_errors=True)
    shutil.rmtree(next((tmp_path / "two" / "run" / "stages").glob("value-0-*")))
    finish(tmp_path / "one", "value", OPTIONS)
    log = tmp_path / "log.txt"
    two = torchrun(two_ranks(program("value", OPTIONS)), log=log, runs=tmp_path / "two")
    assert wait([two]) == [0], log.read_text()[-3000:]
    made = [json.loads((tmp_path / runs / "run" / "state.json").read_text())["stages"] for runs in ("one", "two")]
    assert {name: stage["id"] for name, stage in made[0].items()} == {name: stage["id"] for name, stage in made[1].items()}
    assert "value-1" in made[1]
    features = [sorted(path.read_bytes() for path in (tmp_path / n / "run" / "features").iterdir()) for n in ("one", "two")]
    assert features[0] == features[1]


def test_two_ranks_that_share_each_fit_have_the_values_of_one_process(collected: Path, tmp_path: Path) -> None:
    options, log = (*OPTIONS, "+value.critic.dropout=0.0"), tmp_path / "log.txt"
    for runs in ("one", "two"):
        shutil.copytree(collected, tmp_path / runs)
    finish(tmp_path / "one", "value", options)
    shared = (*options, "training.shares_critics=true", "training.strategy=fsdp", "training.accumulation=2")
    two = torchrun(two_ranks(program("value", shared)), log=log, runs=tmp_path / "two")
    assert wait([two], timeout_s=300.0) == [0], log.read_text()[-3000:]
    values = [np.load(next((tmp_path / runs / "run" / "stages").glob("value-1-*")) / "values.npy") for runs in ("one", "two")]
    assert values[0].std() > 0
    assert np.abs(values[1] - values[0]).max() < TOLERANCE * np.ptp(values[0])


def test_torchrun_restarts_a_command_of_which_it_lost_a_process_and_it_goes_on(alone: Path, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log.txt"
    process = torchrun(two_ranks(program("sft", SHARDED), max_restarts=1), log=log, runs=tmp_path)
    reader, updates = EventReader(run), [0]
    deadline = time.monotonic() + TIMEOUT_S
    while max(updates) < 5 and process.poll() is None and time.monotonic() < deadline:
        updates += [event["update"] for event in reader.read_new() if event["kind"] == TRAIN_METRICS]
        time.sleep(0.02)
    [helper] = (run / "ranks" / "1" / "events").glob("follower-*.jsonl")
    os.kill(int(helper.stem.split("-")[1]), signal.SIGKILL)
    assert wait([process]) == [0], log.read_text()[-3000:]
    assert "failed (exitcode: -9) local_rank: 1" in log.read_text()
    assert training(run) == pytest.approx(training(alone), rel=TOLERANCE)
    seen = [event for event in EventReader(run).read_new() if event["kind"] == TRAIN_METRICS]
    losses = [event["update"] for event in seen if "train/loss" in event["metrics"]]
    assert losses.count(1) == losses.count(4) == 1, "the second start goes on from a snapshot"
    started = [event["resumed"] for event in EventReader(run).read_new() if event["kind"] == RUN_STARTED]
    assert started == [False, True]
