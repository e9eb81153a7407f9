"""Meta-World in a Python of its own: other pins than ours, its scripted policies, an iteration of the loop.

They run where that environment is (`make metaworld-env`).
"""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opentau.cli.compose import compose_config
from opentau.errors import OptionError
from opentau.events import EPISODE_FINISHED, EventReader
from opentau.loop.options import LoopOptions
from opentau.loop.setting import describe_tasks
from opentau.rollout.options import RolloutOptions
from opentau.rollout.session import RolloutSession
from opentau.types import Actor, Episode, EpisodePlan
from robot_bridge.interpreters import environment_of, find
from tests.loop.driving import finish

PYTHON = ".venv-metaworld/bin/python"

try:
    find(PYTHON)
except OptionError as error:
    pytestmark = [pytest.mark.metaworld, pytest.mark.skip(reason=f"{error}; make it with `make metaworld-env`")]
else:
    pytestmark = [pytest.mark.metaworld, pytest.mark.timeout(1800)]


def options(*overrides: str) -> LoopOptions:
    return LoopOptions.from_config(compose_config("loop", ["env=metaworld", "env.args.image_size=32", *overrides]))


def demonstrated(chosen: LoopOptions, *, num_episodes: int) -> list[Episode | None]:
    """Return demonstrations of all chosen tasks in turn, recorded, None where one failed to arrive."""
    tasks = {f"metaworld/{number}": {"task_id": number} for number in chosen.task_id}
    rollout = RolloutOptions(
        env=chosen.env.spec, interpreter=chosen.env.interpreter, tasks=tasks, expert=chosen.env.expert,
        perturbation=chosen.env.perturbation, num_stations=1, max_episode_errors=0,
    )  # fmt: skip
    plans = [
        EpisodePlan(index=index, episode_id=f"e/{index}", task_id=[*tasks][index % len(tasks)], seed=index, actor=Actor.EXPERT)
        for index in range(num_episodes)
    ]
    episodes: dict[int, Episode | None] = {}
    with RolloutSession(rollout, policies={}) as session:
        session.run(plans, on_episode=lambda result, episode: episodes.update({result.plan.index: episode}))
    return [episodes[index] for index in range(num_episodes)]


def test_its_pins_are_not_ours():
    program = (
        "import importlib.metadata, json; found = importlib.metadata.distributions(); "
        "print(json.dumps({one.metadata['Name'].lower(): one.version for one in found}))"
    )
    done = subprocess.run(
        [str(find(PYTHON)), "-c", program], env=environment_of(PYTHON), capture_output=True, text=True, check=True
    )
    theirs: dict[str, Any] = json.loads(done.stdout)
    for package in ("numpy", "mujoco", "gymnasium"):
        assert theirs[package] != version(package)
    assert "torch" not in theirs


def test_all_ten_tasks_have_one_interface_and_an_identity_each():
    described = describe_tasks(options("task_id=[0,1,2,3,4,5,6,7,8,9]"), on_line=lambda line: None)
    assert len({json.dumps(task.interface) for task in described}) == 1
    assert len({task.env_id for task in described}) == 10
    assert described[0].interface["state_names"] == ["x", "y", "z", "gripper"]


def test_scripted_policies_demonstrate_and_their_pictures_show_it():
    episodes = demonstrated(options("task_id=[0,5,6]"), num_episodes=6)
    assert [episode is not None and episode.outcome.value for episode in episodes] == ["success"] * 6
    for episode in episodes:
        assert episode is not None
        for pixels in episode.images.values():
            assert np.ptp(pixels[0]) > 100
            assert (np.ptp(pixels, axis=0).max(axis=-1) > 8).mean() > 0.02


def test_equal_seeds_give_equal_episodes_in_every_process():
    chosen = options("task_id=[1]")
    first, second = (demonstrated(chosen, num_episodes=2) for _ in range(2))
    digests = [[episode.digest() for episode in episodes if episode is not None] for episodes in (first, second)]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 2


def test_an_iteration_of_the_loop_runs_on_it(tmp_path: Path):
    arguments = ["experiment=tiny", "run_id=run", "iterations=1", "env=metaworld", "env.args.max_steps=100", "task_id=5"]
    few = [
        "data.demonstrations=4",
        "collect.episodes=4",
        "evaluation.episodes=2",
        "evaluation.final_states=2",
        "gate.looks=[2]",
    ]
    finish(tmp_path, [*arguments, *few, "gate.levels=[0.05]"])
    finished = [event for event in EventReader(tmp_path / "run").read_new() if event["kind"] == EPISODE_FINISHED]
    assert {"demonstrations-0", "evaluate-0", "collect-1", "gate-1", "final-0"} <= {event["stage"] for event in finished}
    assert {event["task_id"] for event in finished} == {"metaworld/5"}
    assert not [event for event in finished if event["outcome"] == "error"]
