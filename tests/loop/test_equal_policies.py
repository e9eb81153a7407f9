"""Twenty gates between a policy and itself under other noise, with the plans, the player and the rules of every gate."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.tabletop.environment import TabletopEnv
from opentau.cli.compose import compose_config
from opentau.cli.main import main
from opentau.loop import judging, setting
from opentau.loop.options import LoopOptions
from opentau.loop.run import Product, open_run
from opentau.policies.policy import VLAPolicy
from opentau.types import EpisodePlan, EpisodeResult, PolicyRequest, derive_seed
from robot_bridge.playing.playback import PlaybackOptions
from robot_bridge.playing.player import EpisodePlayer
from robot_bridge.wire.payloads import ChunkReply

pytestmark = pytest.mark.cycles

NUM_GATES, MOST_PROMOTIONS = 20, 3
"""Of twenty gates that each promote one equal policy in twenty, more than three do once in sixty times."""
HORIZON = 16
OPTIONS = (
    "experiment=tiny", "run_id=run", "data.demonstrations=16", "sft.num_updates=350", "sft.batch_size=32",
    "sft.learning_rate=1e-3", "policy.args.width=32", "policy.args.depth=2", f"policy.args.action_horizon={HORIZON}",
    f"rollout.execute_horizon={HORIZON}", "rollout.batch_size=1", "inference.num_flow_steps=2",
    "iterations=0", "evaluation.episodes=0",
    "env.args.max_steps=50", "env.args.placement_range=0.0", "env.perturbation=null", "+env.expert.args.pace=[0.9,1.0]",
    "+env.expert.args.pause_probability=0.0", "+env.expert.args.sloppy_grasp_probability=0.0",
    "gate.looks=[20,40,60,80,100]", "gate.levels=[0.006,0.012,0.017,0.021,0.024]",
)  # fmt: skip


class OwnNoise:
    """A link to a policy in this process (`PolicyLink`), whose flow noise comes from a stream of whom the plan asks for.

    Two policies of the same weights that differ in nothing else are as good as each other.
    """

    def __init__(self, policy: VLAPolicy) -> None:
        self._policy = policy
        self._num_asked = 0
        self._replies: list[ChunkReply] = []

    def next_seq(self) -> int:
        self._num_asked += 1
        return self._num_asked

    def ask(self, plan: EpisodePlan, request: PolicyRequest, *, seq: int) -> None:
        own = replace(request, episode_seed=derive_seed(request.episode_seed, plan.policy_id))
        (chunk,) = self._policy.infer([own])
        self._replies.append(ChunkReply(seq=seq, episode_id=plan.episode_id, chunk=chunk))

    def next_reply(self) -> ChunkReply:
        return self._replies.pop(0)

    def arrived_reply(self) -> ChunkReply | None:
        return None


class LocalSession:
    """Plays plans one after another in this process, as a station would."""

    def __init__(self, player: EpisodePlayer) -> None:
        self._player = player

    def run(self, plans: Sequence[EpisodePlan], *, on_episode: Callable[[EpisodeResult, object], None]) -> None:
        for plan in plans:
            on_episode(self._player.play(plan).result, None)


@pytest.mark.timeout(1500)
def test_twenty_gates_between_equal_policies_promote_at_most_three(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OPENTAU_RUNS", str(tmp_path))
    assert main(["sft", *OPTIONS]) == 0
    config = compose_config("loop", [*OPTIONS, f"iterations={NUM_GATES}"])
    options = LoopOptions.from_config(config)
    policy = VLAPolicy.load(next((tmp_path / "run" / "stages").glob("sft-0-*")), options=options.inference)
    player = EpisodePlayer(
        TabletopEnv(**options.env.args),
        link=OwnNoise(policy),
        options=PlaybackOptions(execute_horizon=HORIZON, delay_ticks=0, control_hz=policy.interface.control_hz),
        on_tick=lambda: None,
    )

    @contextmanager
    def session(*_: object, policies: Mapping[str, Path], **__: Any) -> Iterator[LocalSession]:
        assert set(policies) == {"incumbent", "candidate"}
        yield LocalSession(player)

    monkeypatch.setattr(setting.Setting, "session", session)
    equal = [Product(stage=name, path=tmp_path / name, id=name, summary={}) for name in ("one", "other")]
    verdicts = []
    with open_run(tmp_path / "gates", config=config, command="gates", expected_s={}) as run:
        opened = setting.open_setting(run, options)
        for gate in range(1, NUM_GATES + 1):
            is_promoted = judging.face(opened, gate, incumbent=equal[0], candidate=equal[1])
            verdicts.append(json.loads((run.products[f"gate-{gate}"].path / judging.VERDICT_FILE).read_text()))
            assert is_promoted == (verdicts[-1]["p_value"] <= verdicts[-1]["level"])
    if report := os.environ.get("OPENTAU_GATES"):
        Path(report).write_text(json.dumps(verdicts, indent=1))
    promoted = [verdict["text"] for verdict in verdicts if verdict["p_value"] <= verdict["level"]]
    num_pairs = sum(verdict["pairs"] for verdict in verdicts)
    num_apart = sum(verdict["wins"] + verdict["losses"] for verdict in verdicts)
    assert num_apart > 0.15 * num_pairs, "equal policies must differ by their noise, else there is nothing to decide"
    assert len(promoted) <= MOST_PROMOTIONS, promoted
