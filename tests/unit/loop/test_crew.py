"""The processes of one command: the leader does every stage, the others follow it and join where all work together."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch.distributed as dist

from opentau import control
from opentau.control import Command, LocalRunClient
from opentau.errors import RunError
from opentau.events import EventReader
from opentau.loop.crew import Crew
from opentau.loop.run import Product, Run, RunStopped, StageWork, join_run, open_run


def crew_of_two() -> list[Crew]:
    """Two processes' views, here in one process with a store in memory."""
    store, crews = dist.HashStore(), [Crew(rank=rank, size=2) for rank in range(2)]
    for crew in crews:
        crew._store = store
    return crews


def go_through(run: Run, done: list[str], *, option: int = 0) -> list[Product]:
    """A run of one stage for the leader and one for all; `done` collects who worked."""

    def work(work: StageWork) -> None:
        done.append(f"{run.crew.rank} {work.output.name.split('-')[0]}")
        if run.crew.leads:
            (work.output / "file").write_text("made")
            work.summary.update(words=1)

    inputs = {"option": option}
    return [
        run.stage("collect-0", iteration=0, inputs=inputs, work=work),
        run.stage("sft-0", iteration=0, inputs=inputs, work=work, is_joint=True),
    ]


def lead(directory: Path, crew: Crew, done: list[str], **options) -> list[Product]:
    with open_run(directory, config={}, command="test", expected_s={"sft-0": 1.0}, crew=crew, **options) as run:
        return go_through(run, done)


def follow(directory: Path, crew: Crew, done: list[str], *, option: int = 0, last_stage: str | None = None) -> list[Product]:
    with join_run(directory, crew=crew, last_stage=last_stage) as run:
        return go_through(run, done, option=option)


def both(directory: Path, done: list[str], *, option: int = 0, last_stage: str | None = None) -> list[Future[list[Product]]]:
    """Lead and follow side by side; `option` is what the follower was started with."""
    leader, follower = crew_of_two()
    with ThreadPoolExecutor(2) as pool:
        return [
            pool.submit(lead, directory, leader, done, last_stage=last_stage),
            pool.submit(follow, directory, follower, done, option=option, last_stage=last_stage),
        ]


def test_the_leader_does_every_stage_and_the_follower_joins_what_is_joint(tmp_path: Path) -> None:
    done: list[str] = []
    led, followed = (future.result() for future in both(tmp_path, done))
    assert led == followed
    assert sorted(done) == ["0 collect", "0 sft", "1 sft"]


def test_what_is_complete_is_done_by_nobody(tmp_path: Path) -> None:
    first = [future.result() for future in both(tmp_path, [])]
    done: list[str] = []
    assert [future.result() for future in both(tmp_path, done)] == first
    assert done == []


def test_a_follower_tells_nothing_to_the_log_of_the_run(tmp_path: Path) -> None:
    for future in both(tmp_path, []):
        future.result()
    assert {event["process"] for event in EventReader(tmp_path).read_new()} == {"main"}
    assert list((tmp_path / "ranks" / "1" / "events").iterdir())


def test_both_end_after_the_last_stage(tmp_path: Path) -> None:
    for future in both(tmp_path, [], last_stage="collect-0"):
        with pytest.raises(RunStopped, match="collect-0 is done"):
            future.result()


def test_a_stop_ends_the_follower_too(tmp_path: Path) -> None:
    LocalRunClient(tmp_path).send(Command(verb=control.STOP))
    done: list[str] = []
    for future in both(tmp_path, done):
        with pytest.raises(RunStopped, match="stopped before collect-0"):
            future.result()
    assert done == []


def test_a_follower_with_other_options_says_so(tmp_path: Path) -> None:
    leader, follower = crew_of_two()
    leader.tell({"stage": "collect-0-0123456789", "is_reused": False})
    with pytest.raises(RunError, match=r"process 1 would do stage collect-0-.*start all with the same options"):
        follow(tmp_path, follower, [], option=1)


def test_a_command_without_torchrun_is_a_crew_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("RANK", "3")  # of something else: a cluster's own variables
    crew = Crew.of_environment()
    assert crew.leads
    crew.tell("nobody")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert not Crew.of_environment().leads
