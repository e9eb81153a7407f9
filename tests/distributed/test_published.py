"""A published π0.5 goes once around the loop in two processes: trainings and critics are theirs together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opentau.checkpoint import read_manifest
from opentau.events import TRAIN_METRICS, EventReader
from tests.distributed.launching import torchrun, two_ranks, wait
from tests.distributed.test_commands import program
from tests.loop.test_published_loop import OPTIONS, require_goes_back, take_in

pytestmark = pytest.mark.dist


@pytest.mark.timeout(900)
def test_two_ranks_take_lerobots_pi05_around_the_loop_and_back(tmp_path: Path) -> None:
    options, log = (*OPTIONS, take_in(tmp_path)), tmp_path / "log.txt"
    launched = torchrun(two_ranks(program("update", options)), log=log, runs=tmp_path)
    assert wait([launched], timeout_s=600.0) == [0], log.read_text()[-3000:]

    run = tmp_path / "pi05"
    stages = {
        name: run / "stages" / stage["directory"]
        for name, stage in json.loads((run / "state.json").read_text())["stages"].items()
    }
    processes = {name: read_manifest(path)["content"]["summary"].get("processes", 1) for name, path in stages.items()}
    assert {name for name, number in processes.items() if number == 2} == {"sft-0", "update-1"}
    helped = [event["stage"] for event in EventReader(run / "ranks" / "1").read_new() if event["kind"] == TRAIN_METRICS]
    assert "value-1" in helped
    require_goes_back(tmp_path, stages["update-1"])
