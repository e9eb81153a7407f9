"""Policies of LeRobot's in the loop: what is refused, which stages there are, what its trainer is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opentau.cli.compose import compose_config
from opentau.errors import OptionError, TrainingError
from opentau.events import STAGE_PROGRESS, TRAIN_METRICS, EventLog, EventReader
from opentau.loop.lerobot import kept_pieces
from opentau.loop.lerobot_options import require_improvable
from opentau.loop.lerobot_trainer import LeRobotTraining, train_with_lerobot
from opentau.loop.options import LoopOptions
from opentau.loop.plans import planned_stages
from opentau.policies.lerobot.start import lerobot
from opentau.rollout.lerobot_environment import lerobot_python
from tests.unit.data.recordings import columns_of, episode_of


def options(*overrides: str) -> LoopOptions:
    return LoopOptions.from_config(compose_config("loop", ["env=tabletop", "policy=lerobot", *overrides]))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("rollout.delay_ticks=2", "rollout.delay_ticks is 2"),
        ("inference.num_flow_steps=7", "asked as its config.json"),
        ("tuning.freeze=[vision.*]", "no options of tuning"),
        ("mixture.cache_gb=1", "no options of mixture"),
        ("training.accumulation=2", "no options of training"),
        ("evaluation.final_indicators=[absent]", "no options of evaluation.final_indicators"),
    ],
)
def test_what_lerobot_cannot_do_is_refused_before_anything_starts(override, words):
    with pytest.raises(OptionError, match=words):
        options(override)


def test_only_filtered_behaviour_cloning_improves_it():
    for improver in ("recap", "awr", "resft", "demos_only"):
        with pytest.raises(OptionError, match="Possible is improve=filtered_bc"):
            require_improvable(options(f"improve={improver}"))
    require_improvable(options("improve=filtered_bc"))


def test_there_is_no_critic_in_its_loop():
    stages = planned_stages(options("improve=filtered_bc", "iterations=1"))
    assert stages == ["demonstrations-0", "sft-0", "evaluate-0", "collect-1", "update-1", "gate-1", "final-0", "final-1"]


def test_every_stretch_that_is_kept_becomes_an_episode_of_its_own():
    whole = episode_of(0, columns_of(0, 6))
    is_kept = np.array([True, False, True, True, True, False])
    first, second = kept_pieces(whole, is_kept)
    assert [len(first), len(second)] == [1, 3]
    assert second.episode_id == f"{whole.episode_id}/000002"
    for name, column in second.columns().items():
        np.testing.assert_array_equal(column, whole.columns()[name][2:5])
    (same,) = kept_pieces(whole, np.ones(6, bool))
    assert same.digest() == whole.digest()
    assert list(kept_pieces(whole, np.zeros(6, bool))) == []


def training(tmp_path: Path, program: str) -> LeRobotTraining:
    """A trainer that is a shell script; what it is told follows the names of module and parent."""
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o755)
    start = lerobot(
        cameras=("agentview",), state_dim=4, action_dim=2, options={"chunk_size": 8, "dropout": None}, python=str(script)
    )
    return LeRobotTraining(
        start=start,
        dataset=tmp_path / "dataset",
        output=tmp_path / "out",
        num_updates=40,
        batch_size=8,
        seed=1,
        packages=tmp_path / "packages",
        log_path=tmp_path / "log" / "sft-0.log",
    )


def test_the_trainer_is_told_data_updates_and_lerobots_own_options(tmp_path):
    told = training(tmp_path, "true").arguments()
    assert {"--steps=40", "--batch_size=8", "--policy.type=act", "--policy.chunk_size=8", "--policy.dropout=null"} <= set(told)
    assert f"--dataset.root={tmp_path / 'dataset'}" in told


def test_its_losses_become_events(tmp_path):
    says = "echo 'INFO step:2 smpl:8 loss:3.5 grdn:1'; echo 'INFO step:4 smpl:16 loss:1.25 grdn:1'"
    with EventLog(tmp_path, "main") as log:
        assert train_with_lerobot(training(tmp_path, says), stage="sft-0", log=log) == 1.25
    seen = EventReader(tmp_path).read_new()
    losses = [(event["update"], event["metrics"]["train/loss"]) for event in seen if event["kind"] == TRAIN_METRICS]
    assert losses == [(2, 3.5), (4, 1.25)]
    assert [event["done"] for event in seen if event["kind"] == STAGE_PROGRESS] == [2, 4]


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("echo 'unknown option --policy.chunksize' >&2; exit 2", "ended with 2(.|\n)*--policy.chunksize"),
        ("echo 'step:2 smpl:8 loss:nan grdn:nan'; sleep 60", "loss is nan at update 2"),
    ],
)
def test_a_trainer_that_fails_is_ended_and_told(tmp_path, says, words):
    with EventLog(tmp_path, "main") as log, pytest.raises(TrainingError, match=words):
        train_with_lerobot(training(tmp_path, says), stage="sft-0", log=log)


def test_a_trainer_that_leaves_nothing_is_told(tmp_path):
    with pytest.raises(TrainingError, match="left no checkpoint"):
        training(tmp_path, "true").keep(tmp_path)


def test_an_environment_that_is_not_there_is_named_with_the_way_to_make_it(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENTAU_LEROBOT_PYTHON", str(tmp_path / "python"))
    with pytest.raises(OptionError, match=r"make lerobot-env.*OPENTAU_LEROBOT_PYTHON"):
        lerobot_python()
