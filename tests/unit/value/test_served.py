"""The critic beside a policy: its inputs from tables and requests, and its values in company."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from opentau.data.codec import Codec
from opentau.data.frames import FrameTable
from opentau.errors import CheckpointError, OptionError
from opentau.policies.config import nano
from opentau.policies.embodiment import Embodiment
from opentau.policies.policy import VLAPolicy
from opentau.policies.processor import Processor
from opentau.policies.text_tokenizer import TextTokenizer
from opentau.policies.vla import VLA
from opentau.types import Observation, PolicyRequest
from opentau.value.critic import CriticConfig, new_critic
from opentau.value.features import InputSizes
from opentau.value.options import CriticOptions
from opentau.value.served import ServedCritic, critic_inputs
from opentau.value.table import ValueTable
from tests.fakes import counting_interface

NUM_FRAMES = 9


class PixelFeatures(nn.Module):
    """A feature block that sees one camera: where a trained backbone would go."""

    inputs = ("images.agentview",)
    frames_at_once = 4

    def __init__(self, sizes: InputSizes) -> None:
        super().__init__()
        self.width = 8
        self.layer = nn.Linear(16 * 16 * 3, 8)

    def calibrate(self, inputs: dict[str, Tensor]) -> None: ...

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.layer(inputs["images.agentview"].flatten(1).float() / 255)


@pytest.fixture(scope="module")
def table(make_table, sketch) -> FrameTable:
    rng = np.random.default_rng(0)
    frames: ValueTable = make_table([sketch(length=5, is_success=True), sketch(length=4, is_success=False, task_id="box/1")])
    images = {camera: rng.integers(0, 256, (NUM_FRAMES, 16, 16, 3), dtype=np.uint8) for camera in ("agentview", "wrist")}
    return replace(frames.table, images=images, state=rng.normal(size=(NUM_FRAMES, 4)).astype(np.float32))


@pytest.fixture(scope="module")
def policy(table: FrameTable) -> VLAPolicy:
    config = nano(cameras=("agentview", "wrist"), state_dim=4, action_dim=2, image_size=16, width=32, depth=1)
    codec = Codec.from_statistics(table.statistics())
    processor = Processor(
        config,
        embodiments=[Embodiment.sole(counting_interface(16), codec)],
        text_tokenizer=TextTokenizer.shipped(),
        fast_tokenizer=None,
    )
    return VLAPolicy(VLA.create(config, seed=0), processor=processor, policy_version="policy-1", batch_size=2)


@pytest.fixture(scope="module")
def config(policy: VLAPolicy) -> CriticConfig:
    sizes = InputSizes(prefix_dim=policy.model.config.feature_dim, state_dim=4, num_prompts=1)
    return CriticConfig(options=CriticOptions(), sizes=sizes, prompts=("do box/0",), policy_version="policy-1")


def requests_of(table: FrameTable) -> list[PolicyRequest]:
    return [
        PolicyRequest(
            observation=Observation(
                images={camera: pixels[row] for camera, pixels in table.images.items()},
                state=table.state[row],
                prompt=table.episodes[table.episode[row]].prompt,
                time_s=0.0,
            ),
            episode_seed=0,
            tick=row,
        )
        for row in range(len(table))
    ]


def test_a_critic_says_the_same_of_a_recorded_frame_and_of_the_request_it_was(table, policy, config) -> None:
    critic = new_critic(config, seed=1)
    inputs = critic_inputs(table, policy=policy, config=config)
    critic.features.calibrate({name: torch.tensor(array) for name, array in inputs.items()})
    assert list(inputs["prompt"]) == [0] * 5 + [-1] * 4
    recorded = critic.values(inputs)
    served = ServedCritic(critic, policy=policy).values(requests_of(table))
    assert recorded.std() > 0
    assert served == pytest.approx(recorded, abs=1e-5)
    assert served.dtype == np.float32


def test_a_value_does_not_depend_on_company(table, policy, config) -> None:
    served = ServedCritic(new_critic(config, seed=1), policy=policy)
    requests = requests_of(table)
    together = served.values(requests)
    alone = np.concatenate([served.values([request]) for request in requests])
    assert np.array_equal(together, alone)
    assert served.values([]).shape == (0,)


def test_features_are_computed_once_and_read_back_equal(table, policy, config, tmp_path: Path, monkeypatch) -> None:
    first = critic_inputs(table, policy=policy, config=config, cache_dir=tmp_path / "features")
    assert len(list((tmp_path / "features").iterdir())) == 1

    def refuse(**_: object) -> np.ndarray:
        raise AssertionError("computed again")

    monkeypatch.setattr(policy, "batch_features", refuse)
    again = critic_inputs(table, policy=policy, config=config, cache_dir=tmp_path / "features")
    assert np.array_equal(first["prefix"], again["prefix"])


def test_a_critic_refuses_the_features_of_another_policy(policy, config) -> None:
    other = new_critic(replace(config, policy_version="policy-2"), seed=0)
    with pytest.raises(CheckpointError, match="features of policy policy-2"):
        ServedCritic(other, policy=policy)


def test_another_feature_block_is_a_matter_of_configuration(table, policy, config) -> None:
    options = CriticOptions(features={"target": f"{__name__}:PixelFeatures", "args": {}})
    seeing = new_critic(replace(config, options=options, policy_version=""), seed=0)
    inputs = critic_inputs(table, policy=policy, config=seeing.config)
    assert set(inputs) == {"images.agentview"}
    values = seeing.values(inputs)
    assert values.std() > 0
    assert ServedCritic(seeing, policy=policy).values(requests_of(table)) == pytest.approx(values, abs=1e-6)


def test_an_input_that_nothing_offers_is_refused(table, policy, config, monkeypatch) -> None:
    monkeypatch.setattr(PixelFeatures, "inputs", ("images.agentviw",))
    options = CriticOptions(features={"target": f"{__name__}:PixelFeatures", "args": {}})
    with pytest.raises(OptionError, match=r"images\.agentview"):
        critic_inputs(table, policy=policy, config=replace(config, options=options))
