"""A policy's processor and samples of its shapes, made of random numbers; shared by the benchmarks of training."""

from __future__ import annotations

import numpy as np

from opentau.data.batches import Batch
from opentau.data.codec import Codec
from opentau.data.statistics import DimStatistics
from opentau.policies.config import PolicyConfig
from opentau.policies.embodiment import Embodiment
from opentau.policies.processor import Processor
from opentau.policies.text_tokenizer import TextTokenizer
from opentau.types import Indicator, Interface

CAMERAS = ("agentview", "wrist")
STATE_DIM, ACTION_DIM = 8, 7
"""Of LIBERO's robot."""


def policy_processor(config: PolicyConfig) -> Processor:
    """Return the processor of a policy on an environment of such an arm, with the policy's cameras."""
    size = config.vision.image_size
    interface = Interface(
        cameras=dict.fromkeys(config.cameras, (size, size, 3)),
        state_names=tuple(f"s{number}" for number in range(STATE_DIM)),
        state_units=("1",) * STATE_DIM,
        action_names=tuple(f"a{number}" for number in range(ACTION_DIM)),
        action_units=("1",) * ACTION_DIM,
        action_space="delta_ee",
        control_hz=20.0,
    )
    rng = np.random.default_rng(0)
    dims = [DimStatistics.of(rng.uniform(-1, 1, (500, dim)).astype(np.float32)) for dim in (STATE_DIM, ACTION_DIM)]
    codec = Codec(kind="quantile", state=dims[0], action=dims[1])
    return Processor(
        config, embodiments=[Embodiment.sole(interface, codec)], text_tokenizer=TextTokenizer.shipped(), fast_tokenizer=None
    )


def random_batch(
    config: PolicyConfig, *, batch_size: int, prompt: str = "pick up the alphabet soup and place it in the basket"
) -> Batch:
    """Return samples of the policy's shapes; where it has more dimensions than the robot, all have noise, as in π0.5."""
    rng, size, horizon = np.random.default_rng(0), config.vision.image_size, config.action_horizon
    return Batch(
        images={camera: rng.integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8) for camera in config.cameras},
        state=rng.uniform(-1, 1, (batch_size, config.state_dim)).astype(np.float32),
        action=rng.uniform(-1, 1, (batch_size, horizon, config.action_dim)).astype(np.float32),
        action_is_pad=np.zeros((batch_size, horizon), bool),
        prompt=[prompt] * batch_size,
        indicator=np.full(batch_size, Indicator.POSITIVE, np.int8),
        weight=np.ones(batch_size, np.float32),
        frame=np.arange(batch_size),
        task=np.zeros(batch_size, np.int32),
    )
