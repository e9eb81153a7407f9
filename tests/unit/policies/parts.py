"""Small policies of every member of the family, and data that fits them."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from opentau.data.batches import Batch
from opentau.data.codec import Codec
from opentau.data.statistics import DimStatistics
from opentau.models.config import ConvTowerConfig, TransformerConfig, ViTTowerConfig
from opentau.policies.config import PolicyConfig, StateInput, nano
from opentau.policies.embodiment import Embodiment
from opentau.policies.fast_tokenizer import FastTokenizer
from opentau.policies.processor import Processor
from opentau.policies.text_tokenizer import TextTokenizer
from opentau.policies.vla import VLA
from opentau.types import Indicator, Interface, Observation, PolicyRequest

CAMERAS = ("agentview", "wrist")
SIZE, STATE_DIM, ACTION_DIM, HORIZON = 32, 3, 2, 8
PROMPTS = ("pick up the milk and place it in the basket", "open the drawer")

BACKBONE = TransformerConfig(width=32, depth=2, num_heads=4, num_kv_heads=1, head_dim=8, mlp_dim=48)
VIT = ViTTowerConfig(image_size=SIZE, patch_size=16, width=24, depth=1, num_heads=3, mlp_dim=32)


def nano_like(**changes) -> PolicyConfig:
    config = nano(
        cameras=CAMERAS, image_size=SIZE, state_dim=STATE_DIM, action_dim=ACTION_DIM, action_horizon=HORIZON, width=64, depth=2
    )
    return dataclasses.replace(config, **changes)


def pi0_like() -> PolicyConfig:
    return nano_like(
        vision=VIT, backbone=BACKBONE, expert=dataclasses.replace(BACKBONE, width=16), state_input=StateInput.EXPERT
    )


def pi05_like() -> PolicyConfig:
    return nano_like(
        vision=VIT,
        backbone=BACKBONE,
        expert=dataclasses.replace(BACKBONE, width=16, is_adaptive=True),
        state_input=StateInput.TEXT,
        prompt_template="Task: {prompt}, State: {state};\nAction: ",
        max_prompt_tokens=40,
        has_camera_embedding=False,
    )


FAMILY = {"nano": nano_like, "pi0": pi0_like, "pi05": pi05_like}
SMALL_TOWER = ConvTowerConfig(image_size=SIZE, channels=(8, 16))


def interface() -> Interface:
    return Interface(
        cameras={camera: (SIZE, SIZE, 3) for camera in CAMERAS},
        state_names=("x", "y", "z"),
        state_units=("m", "m", "m"),
        action_names=("dx", "dy"),
        action_units=("m", "m"),
        action_space="delta_ee",
        control_hz=20.0,
    )


def chunks(count: int, *, seed: int = 0) -> np.ndarray:
    """Return smooth chunks, float32 [N, H, A], within [-1, 1]."""
    rng = np.random.default_rng(seed)
    phase, speed = rng.uniform(0, 6, (2, count, 1, ACTION_DIM))
    return np.sin(phase + speed * np.linspace(0, 1, HORIZON)[None, :, None]).astype(np.float32)


def codec() -> Codec:
    rng = np.random.default_rng(0)
    state = rng.uniform(-0.3, 0.5, (500, STATE_DIM)).astype(np.float32)
    action = rng.uniform(-1.0, 1.0, (500, ACTION_DIM)).astype(np.float32)
    return Codec(kind="quantile", state=DimStatistics.of(state), action=DimStatistics.of(action))


def processor(config: PolicyConfig) -> Processor:
    fast, _ = FastTokenizer.fit(chunks(200), vocab_size=256)
    return Processor(
        config, embodiments=[Embodiment.sole(interface(), codec())], text_tokenizer=TextTokenizer.shipped(), fast_tokenizer=fast
    )


def model(config: PolicyConfig, *, seed: int = 0) -> VLA:
    """Return a model without a zero anywhere, so that every path matters."""
    vla = VLA.create(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in vla.parameters():
        if not parameter.detach().any():
            parameter.data.normal_(std=0.1, generator=generator)
    return vla


def batch(count: int = 6, *, seed: int = 0, num_padded: int = 2) -> Batch:
    """Return a batch; the last `num_padded` samples have three actions that do not count."""
    rng = np.random.default_rng(seed)
    is_pad = np.zeros((count, HORIZON), bool)
    is_pad[count - num_padded :, -3:] = True
    return Batch(
        images={camera: rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8) for camera in CAMERAS},
        state=rng.uniform(-1, 1, (count, STATE_DIM)).astype(np.float32),
        action=chunks(count, seed=seed),
        action_is_pad=is_pad,
        prompt=[PROMPTS[index % 2] for index in range(count)],
        indicator=np.array([index % 2 for index in range(count)], np.int8),
        weight=np.ones(count, np.float32),
        frame=np.arange(count),
        task=np.zeros(count, np.int32),
    )


def request(*, seed: int, tick: int = 0, committed: np.ndarray | None = None, cameras=CAMERAS) -> PolicyRequest:
    rng = np.random.default_rng(seed)
    return PolicyRequest(
        observation=Observation(
            images={camera: rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for camera in cameras},
            state=rng.uniform(-0.3, 0.5, STATE_DIM).astype(np.float32),
            prompt=PROMPTS[seed % 2],
            time_s=tick / 20,
        ),
        episode_seed=seed,
        tick=tick,
        prefix=committed,
    )


def prefix_inputs(config: PolicyConfig, sample: Batch, *, indicator: Indicator | None = None):
    values = sample.indicator if indicator is None else np.full(len(sample.prompt), indicator)
    return processor(config).prefix_inputs(
        images=sample.images, prompts=sample.prompt, state_BS=sample.state, indicator_B=values
    )
