"""Environments that live in another Python: found, described and played there, and what is said where that cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from opentau.errors import OptionError, StationError
from opentau.loop.options import EnvOptions, options_id
from opentau.rollout.options import RolloutOptions
from opentau.rollout.session import RolloutSession
from opentau.types import Actor, EpisodePlan, Interface, Outcome
from robot_bridge.describe import DescriptionRequest, EnvDescription, describe
from robot_bridge.interpreters import environment_of, find, module_command, require_usable
from tests.other_python import ARGS, EXPERT, SPEC, bare_python, other_python

RENDERING = "envs.rendering:describe_backend"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENTAU_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(other_python(tmp_path_factory.mktemp("other")))


def asked(interpreter: str, **changes: object) -> EnvDescription:
    spec = {**SPEC, "args": {**ARGS, **changes}}
    request = DescriptionRequest(env=spec, tasks=[{"task_id": 0}], rendering=RENDERING, plugins=[(EXPERT, ("env",))])
    (description,) = describe(request, interpreter=interpreter, on_line=lambda line: None)
    return description


@pytest.fixture(scope="module")
def described(python: str) -> EnvDescription:
    return asked(python)


def test_the_other_python_sees_our_light_packages_and_nothing_else_that_is_ours(python):
    program = (
        "import importlib.util, json, sys; import robot_bridge.station; "
        "names = ['gliding', 'opentau', 'envs', 'tests', 'lerobot_side', 'tui']; "
        "print(json.dumps([sys.prefix, [n for n in names if importlib.util.find_spec(n)], 'torch' in sys.modules]))"
    )
    done = subprocess.run(
        [python, "-P", "-c", program], env=environment_of(python), cwd="/", capture_output=True, text=True, check=True
    )
    prefix, seen, has_torch = json.loads(done.stdout)
    assert prefix == str(Path(python).parents[1])
    assert prefix != sys.prefix
    assert seen == ["gliding", "opentau", "envs"]
    assert not has_torch


def test_an_environment_that_only_the_other_python_has_is_described_there(python):
    with pytest.raises(StationError, match="No module named 'gliding'"):
        asked("")
    description = asked(python)
    assert (description.task_id, description.max_steps, description.rendering) == (
        "gliding/0",
        40,
        "the environment's render()",
    )
    assert Interface.from_dict(description.interface).state_dim == 2


def test_the_versions_there_are_a_part_of_what_the_environment_is(python, described, tmp_path):
    newer = str(other_python(tmp_path, version="7.1"))
    assert described.env_id == asked(python).env_id
    assert described.env_id != asked(newer).env_id


def test_stations_play_there_the_same_episodes_every_time(python):
    rollout = RolloutOptions(
        env=SPEC, interpreter=python, tasks={"gliding/0": {"task_id": 0}}, expert=EXPERT, num_stations=1, max_episode_errors=0
    )
    plans = [
        EpisodePlan(index=index, episode_id=f"e/{index}", task_id="gliding/0", seed=index, actor=Actor.EXPERT)
        for index in range(3)
    ]
    played = []
    for _ in range(2):
        with RolloutSession(rollout, policies={}) as session:
            episodes = []
            results = session.run(plans, on_episode=lambda result, episode, kept=episodes: kept.append(episode))
            assert [result.outcome for result in results] == [Outcome.SUCCESS] * 3
            played.append([episode.digest() for episode in episodes if episode is not None])
    assert len(set(played[0])) == 3
    assert played[0] == played[1]


def test_an_interpreter_that_is_not_there_is_named_with_the_option_that_sets_it(tmp_path):
    with pytest.raises(OptionError, match=r"no_such_venv/bin/python is no program that runs.*env\.interpreter="):
        asked(str(tmp_path / "no_such_venv/bin/python"))


def test_what_a_station_lacks_there_is_named_with_the_command_that_installs_it(tmp_path):
    python = bare_python(tmp_path)
    with pytest.raises(OptionError, match=r"has no numpy, zmq, msgspec.*-m pip install numpy pyzmq msgspec pyyaml pillow"):
        require_usable(str(python))


@pytest.mark.parametrize(
    ("answer", "words"),
    [("echo '[[3, 9], []]'", r"is Python 3\.9; a station runs on 3\.11"), ("echo no", "does not answer as a Python")],
)
def test_a_program_that_is_no_python_of_ours_is_told_from_one(tmp_path, answer, words):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    with pytest.raises(OptionError, match=words):
        require_usable(str(program))


def test_options_that_do_not_fit_are_found_there_before_anything_plays(python):
    with pytest.raises(StationError, match=r"no option 'imagesize'.*image_size"):
        described = {**SPEC, "args": {**ARGS, "imagesize": 3}}
        request = DescriptionRequest(env=described, tasks=[], rendering=RENDERING, plugins=[(described, ("task_id",))])
        describe(request, interpreter=python, on_line=lambda line: None)
    with pytest.raises(StationError, match="state_names has 1 entries"):
        asked(python, state_names=["x"])


def test_a_relative_interpreter_is_found_from_where_we_are_and_never_resolved(python, tmp_path, monkeypatch):
    monkeypatch.chdir(Path(python).parents[1])
    assert find("bin/python") == Path(python)
    assert module_command("bin/python", "m", ["x"]) == [python, "-P", "-m", "m", "x"]
    assert module_command("", "m", []) == [sys.executable, "-P", "-m", "m"]


def test_commands_that_make_environments_themselves_refuse_one_of_another_python(python):
    env = EnvOptions(target=SPEC["target"], args=ARGS, num_tasks=1, interpreter=python)
    with pytest.raises(OptionError, match="gliding is played under"):
        _ = env.own_spec
    assert EnvOptions(target=SPEC["target"], args=ARGS, num_tasks=1).own_spec == SPEC


def test_where_the_interpreter_lies_is_no_part_of_a_run_s_identity():
    config = {"env": {"target": "a:B", "args": {}}, "inference": {}}
    moved = {**config, "env": {**config["env"], "interpreter": "/elsewhere/bin/python"}}
    assert options_id(config) == options_id(moved)
