"""Stations placed by a Ray cluster of this machine: the same episodes as from local processes, whatever is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import psutil
import pytest

from opentau.errors import StationError
from opentau.rollout.session import RolloutSession
from opentau.types import Episode, EpisodeResult
from tests.fakes import DistanceCritic, ScriptedPolicy
from tests.unit.rollout.sessions import contents, mixed_plans, options, play

pytestmark = [pytest.mark.dist, pytest.mark.timeout(240)]

RAY = {"target": "opentau.rollout.ray_place:RayPlace", "args": {"cpus_per_station": 0.5}}


@pytest.fixture(scope="module", autouse=True)
def cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(request.config.rootpath))
        yield
        import ray

        ray.shutdown()


@pytest.fixture(scope="module")
def local() -> list[tuple]:
    return contents(*play(mixed_plans(), options()))


def test_ray_gives_the_same_episodes_as_local_processes_hash_for_hash(local: Sequence[tuple], tmp_path) -> None:
    assert contents(*play(mixed_plans(), options(fleet=RAY), log_dir=tmp_path)) == local
    assert [path.name for path in tmp_path.glob("*.log")] != []


@pytest.mark.parametrize("victim", ["station", "worker"])
def test_whatever_is_killed_is_replaced_and_the_episodes_stay_the_same(local: Sequence[tuple], victim: str) -> None:
    arrived: dict[int, Episode | None] = {}
    killed: list[int] = []

    def on_episode(result: EpisodeResult, episode: Episode | None) -> None:
        arrived[result.plan.index] = episode
        if len(arrived) == 3:
            process = psutil.Process(next(iter(session.station_pids().values())))
            process = process if victim == "station" else process.parent()
            killed.append(process.pid)
            process.kill()

    slow = options(fleet=RAY, env={"step_s": 0.002})
    with RolloutSession(slow, policies={"p": ScriptedPolicy()}, critic=DistanceCritic()) as session:
        results = session.run(mixed_plans(), on_episode=on_episode)
        stations = [psutil.Process(pid) for pid in session.station_pids().values()]
    assert len(killed) == 1
    assert contents(results, arrived) == local
    deadline = time.monotonic() + 20.0
    while any(is_running(station) for station in stations):
        assert time.monotonic() < deadline, "a station outlives its session"
        time.sleep(0.05)


def is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_cluster_without_room_is_explained() -> None:
    crowded = options(fleet={**RAY, "args": {"cpus_per_station": 1000.0, "start_timeout_s": 2.0}})
    with pytest.raises(StationError, match=r"has not placed station .* Each takes 1000 CPUs, .* are free"):
        play(mixed_plans(2), crowded)
