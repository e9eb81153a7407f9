"""Policies that come with OpenTau: complete, small, described, and found by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opentau.checkpoint import read_manifest
from opentau.cli.checkpoints import checkpoint_and_config
from opentau.cli.compose import groups
from opentau.errors import OptionError
from opentau.policies.bundled import CARD_FILE, Scored, bundled, checkpoint_path
from opentau.policies.policy import VLAPolicy
from opentau.types import Observation, PolicyRequest

MAX_BYTES = 15e6
NAMES = sorted(bundled())


def test_every_bundled_policy_is_a_member_of_the_policy_group_and_nothing_else_is() -> None:
    members = [member.removeprefix("bundled/") for member in groups()["policy"] if member.startswith("bundled/")]
    assert members == NAMES
    assert "nano-libero-object" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_policy_is_whole_and_small_and_has_a_card(name: str) -> None:
    folder = bundled()[name]
    policy_id = read_manifest(folder, verify=True)["id"]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MAX_BYTES
    assert policy_id in (folder / CARD_FILE).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_policy_is_asked_for_chunks_of_its_tasks(name: str) -> None:
    policy = VLAPolicy.load(bundled()[name])
    interface = policy.interface
    rng = np.random.default_rng(0)
    seen = Observation(
        images={camera: rng.integers(0, 256, shape, dtype=np.uint8) for camera, shape in interface.cameras.items()},
        state=np.zeros(interface.state_dim, dtype=np.float32),
        prompt="pick up the milk and place it in the basket",
        time_s=0.0,
    )
    chunk = policy.infer([PolicyRequest(observation=seen, episode_seed=0, tick=0)])[0].actions
    assert chunk.shape == (policy.action_horizon, interface.action_dim)
    assert np.isfinite(chunk).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_policy_brings_the_tasks_it_is_scored_on(name: str) -> None:
    scored = Scored.read(bundled()[name])
    assert scored is not None
    policy, config = checkpoint_and_config([f"policy=bundled/{name}"], command="eval")
    assert policy.path == bundled()[name]
    assert config["task_id"] == list(range(10))
    named, same = checkpoint_and_config([f"bundled:{name}", f"env={scored.options['env']}"], command="eval")
    assert (named, same["env"], same["task_id"]) == (policy, config["env"], config["task_id"])


def test_given_tasks_stand_and_another_environment_keeps_its_own() -> None:
    words = ["policy=bundled/nano-libero-object"]
    assert checkpoint_and_config([*words, "task_id=3"], command="eval")[1]["task_id"] == 3
    assert checkpoint_and_config([*words, "env=libero/goal"], command="eval")[1]["task_id"] == 0


def test_an_unknown_bundled_policy_is_answered_with_its_near_matches() -> None:
    with pytest.raises(OptionError, match="nano-libero-object"):
        checkpoint_path("bundled:nano-libero-objects")
    assert checkpoint_path("some/folder") == Path("some/folder")
