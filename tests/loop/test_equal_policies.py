"""Twenty gates between a policy and itself under other noise, each with the real stations, plans and stopping rule."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opentau.cli.compose import compose_config
from opentau.cli.main import main
from opentau.loop import judging, setting
from opentau.loop.options import LoopOptions
from opentau.loop.run import Product, open_run
from opentau.policies.policy import VLAPolicy
from opentau.types import ActionChunk, PolicyRequest, derive_seed

pytestmark = pytest.mark.cycles

NUM_GATES, MOST_PROMOTIONS = 20, 3
"""Of twenty gates that each promote one equal policy in twenty, more than three do once in sixty times."""
OPTIONS = (
    "experiment=tiny", "run_id=run", "data.demonstrations=16", "sft.num_updates=350", "sft.batch_size=32",
    "sft.learning_rate=1e-3", "policy.args.width=32", "policy.args.depth=2", "policy.args.action_horizon=16",
    "rollout.execute_horizon=16", "rollout.batch_size=1", "iterations=0", "evaluation.episodes=0",
    "env.args.max_steps=50", "env.args.placement_range=0.0", "env.perturbation=null", "+env.expert.args.pace=[0.9,1.0]",
    "+env.expert.args.pause_probability=0.0", "+env.expert.args.sloppy_grasp_probability=0.0",
    "gate.looks=[20,40,60,80,100]", "gate.levels=[0.006,0.012,0.017,0.021,0.024]",
)  # fmt: skip


class OwnNoise:
    """A policy whose flow noise comes from a stream of its own (`Policy`): as good as another one of the same weights."""

    def __init__(self, policy: VLAPolicy, *, stream: str) -> None:
        self.interface, self.action_horizon, self.policy_version = policy.interface, policy.action_horizon, stream
        self._policy, self._stream = policy, stream

    def infer(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
        own = [replace(each, episode_seed=derive_seed(each.episode_seed, self._stream)) for each in requests]
        return [replace(chunk, policy_version=self.policy_version) for chunk in self._policy.infer(own)]


@pytest.mark.timeout(1500)
def test_twenty_gates_between_equal_policies_promote_at_most_three(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OPENTAU_RUNS", str(tmp_path))
    assert main(["sft", *OPTIONS]) == 0
    policy = VLAPolicy.load(next((tmp_path / "run" / "stages").glob("sft-0-*")))

    @contextmanager
    def served(checkpoint: Path, *_: Any, **__: Any) -> Iterator[OwnNoise]:
        yield OwnNoise(policy, stream=checkpoint.name)

    monkeypatch.setattr(setting, "served_policy", served)
    equal = [Product(stage=name, path=tmp_path / name, id=name, summary={}) for name in ("one", "other")]
    config = compose_config("loop", [*OPTIONS, f"iterations={NUM_GATES}"])
    verdicts = []
    with open_run(tmp_path / "gates", config=config, command="gates", expected_s={}) as run:
        opened = setting.open_setting(run, LoopOptions.from_config(config))
        for gate in range(1, NUM_GATES + 1):
            is_promoted = judging.face(opened, gate, incumbent=equal[0], candidate=equal[1])
            stage = run.products[f"gate-{gate}"].path
            verdicts.append(json.loads((stage / judging.VERDICT_FILE).read_text()))
            assert is_promoted == (verdicts[-1]["p_value"] <= verdicts[-1]["level"])
    promoted = [verdict["text"] for verdict in verdicts if verdict["p_value"] <= verdict["level"]]
    num_pairs = sum(verdict["pairs"] for verdict in verdicts)
    num_apart = sum(verdict["wins"] + verdict["losses"] for verdict in verdicts)
    if report := os.environ.get("OPENTAU_GATES"):
        Path(report).write_text(json.dumps(verdicts, indent=1))
    assert num_apart > 0.15 * num_pairs, "the policies must not be told apart by luck alone, but they must differ"
    assert len(promoted) <= MOST_PROMOTIONS, promoted
