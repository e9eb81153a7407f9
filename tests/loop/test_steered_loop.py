"""A frozen policy is steered by its noise: what it is learned from is what was played, and the policy stays as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from opentau.data.lerobot.dataset import Dataset
from opentau.loop.steered import played_means
from opentau.policies.noise import ACTOR_FILE, NoiseActor
from opentau.policies.policy import VLAPolicy
from opentau.types import Episode, Observation, PolicyRequest
from tests.loop.driving import finish, opentau

pytestmark = pytest.mark.loop

OPTIONS = (
    "experiment=tiny", "run_id=steered", "improve=dsrl", "improve.args.num_updates=40", "iterations=2", "gate.is_open=true",
    "collect.episodes=4", "collect.supervised_share=0", "data.demonstrations=4", "sft.num_updates=10", "evaluation.episodes=0",
    "evaluation.final_states=2", "rollout.batch_size=1",
)  # fmt: skip
HORIZON = 8


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    runs = tmp_path_factory.mktemp("runs")
    finish(runs, OPTIONS)
    return {path.name.rpartition("-")[0]: path for path in (runs / "steered" / "stages").iterdir()}


def asked(episode: Episode, tick: int) -> PolicyRequest:
    """Return what the policy was asked at a tick."""
    seen = Observation(
        images={camera: frames[tick] for camera, frames in episode.images.items()},
        state=episode.state[tick],
        prompt=episode.prompt,
        time_s=tick / 20,
    )
    return PolicyRequest(observation=seen, episode_seed=episode.seed, tick=tick)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("recorded", "player"), [("collect-1", "sft-0"), ("collect-2", "update-1")])
def test_the_noise_of_recorded_chunks_is_known(stages: dict[str, Path], recorded: str, player: str) -> None:
    policy, dataset = VLAPolicy.load(stages[player]), Dataset(stages[recorded])
    said: list[torch.Tensor] = []
    draw = policy._draw

    def listening(requests, *, prefix, unguided, mean_BA=None):
        noise_HA = torch.from_numpy(draw._noise(requests[0], candidate=0))
        said.append(noise_HA[:, : policy.interface.action_dim].mean(dim=0) if mean_BA is None else mean_BA[0])
        return draw(requests, prefix=prefix, unguided=unguided, mean_BA=mean_BA)

    policy._draw = listening  # type: ignore[assignment]  # it stands in for the drawing, and hears what it is told
    requests = []
    for position in range(len(dataset)):
        episode = dataset.load(position)
        for tick in range(0, len(episode), HORIZON):
            requests.append(asked(episode, tick))
            actions = policy.infer(requests[-1:])[0].actions
            assert np.allclose(actions[0], episode.policy_action[tick], atol=1e-5)
    means = played_means(
        policy,
        stages[player],
        features=policy.features(requests),
        state=policy.processor.encode_state(np.stack([request.observation.state for request in requests])),
        seeds=np.array([request.episode_seed for request in requests], dtype=object),
        ticks=np.array([request.tick for request in requests]),
    )
    assert np.allclose(means, torch.stack(said).numpy(), atol=1e-5)


def test_the_policy_stays_as_it_was_and_each_iteration_has_an_actor_of_its_own(stages: dict[str, Path]) -> None:
    for name in ("update-1", "update-2"):
        assert (stages[name] / "model.safetensors").read_bytes() == (stages["sft-0"] / "model.safetensors").read_bytes()
    first, second = (NoiseActor.load(stages[name]) for name in ("update-1", "update-2"))
    assert first is not None
    assert second is not None
    assert not torch.equal(first.mean.weight, second.mean.weight)
    assert not (stages["sft-0"] / ACTOR_FILE).exists()


def test_neither_values_nor_labels_are_made(stages: dict[str, Path]) -> None:
    assert not [name for name in stages if name.startswith(("value", "label"))]


def test_a_steered_policy_is_not_exported_without_its_actor(stages: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="export the policy that it was made from"):
        opentau(tmp_path, "checkpoint", "export", str(stages["update-2"]), "--out", str(tmp_path / "out"))
