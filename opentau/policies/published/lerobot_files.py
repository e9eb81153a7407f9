"""The files beside the weights of a LeRobot 0.6.1 checkpoint of π0 or π0.5, as a policy of ours would be described."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from opentau.data.codec import affine
from opentau.policies.config import StateInput
from opentau.policies.processor import Processor
from opentau.policies.published.normalisation import ACTION, LEROBOT_EPS, NORMALIZER, PREPROCESSOR, STATE
from opentau.policies.published.reading import IMAGES
from opentau.policies.published.taking_in import TOKENIZER_REPOSITORY

POSTPROCESSOR = "policy_postprocessor.json"
UNNORMALIZER = "unnormalizer_processor"
PI05, PI0 = "pi05", "pi0"
MAX_STATE_DIM = 32
"""LeRobot's default; π0.5 has no weight of this size."""


def lerobot_config(processor: Processor) -> dict[str, Any]:
    """Return LeRobot's config.json; what it does not name has LeRobot's defaults."""
    config, interface = processor.config, processor.interface
    is_pi05 = config.state_input is StateInput.TEXT
    size = config.vision.image_size
    shapes = {
        camera: interface.cameras.get(processor.embodiment.cameras.get(camera, ""), (size, size, 3))
        for camera in config.cameras
    }
    mode = _mode(processor)
    return {
        "type": PI05 if is_pi05 else PI0,
        "input_features": {
            **{
                f"{IMAGES}{camera}": {"type": "VISUAL", "shape": [3, rows, columns]}
                for camera, (rows, columns, _) in shapes.items()
            },
            STATE: {"type": "STATE", "shape": [interface.state_dim]},
        },
        "output_features": {ACTION: {"type": "ACTION", "shape": [interface.action_dim]}},
        "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m",
        "dtype": "float32",
        "chunk_size": config.action_horizon,
        "n_action_steps": config.action_horizon,
        "max_state_dim": MAX_STATE_DIM if is_pi05 else config.state_dim,
        "max_action_dim": config.action_dim,
        "image_resolution": [size, size],
        "tokenizer_max_length": config.max_prompt_tokens,
        "normalization_mapping": {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode},
    }


def lerobot_processors(processor: Processor) -> dict[str, dict[str, Any]]:
    """Return LeRobot's descriptions of what happens before and behind the model."""
    config = processor.config
    is_pi05 = config.state_input is StateInput.TEXT
    features = lerobot_config(processor)
    mapping = features["normalization_mapping"]
    tokenize = {
        "registry_name": "tokenizer_processor",
        "config": {
            "max_length": config.max_prompt_tokens,
            "task_key": "task",
            "padding_side": "right",
            "padding": "max_length",
            "truncation": True,
            "tokenizer_name": TOKENIZER_REPOSITORY,
        },
    }
    device = {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}}
    normalize = {
        "registry_name": NORMALIZER,
        "config": {
            "eps": LEROBOT_EPS,
            "features": {**features["input_features"], **features["output_features"]},
            "norm_map": mapping,
        },
    }
    relative = {
        "registry_name": "relative_actions_processor",
        "config": {"enabled": False, "exclude_joints": ["gripper"], "action_names": None},
    }
    before = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "to_batch_processor", "config": {}},
    ]
    if is_pi05:
        before += [relative, normalize, {"registry_name": "pi05_prepare_state_tokenizer_processor_step", "config": {}}]
        before += [tokenize, device]
    else:
        before += [{"registry_name": "pi0_new_line_processor", "config": {}}, tokenize, device, relative, normalize]
    unnormalize = {
        "registry_name": UNNORMALIZER,
        "config": {"eps": LEROBOT_EPS, "features": features["output_features"], "norm_map": mapping},
    }
    behind = [unnormalize, {"registry_name": "absolute_actions_processor", "config": {"enabled": False}}, device]
    described = {}
    for file, steps in ((PREPROCESSOR, before), (POSTPROCESSOR, behind)):
        for number, step in enumerate(steps):
            if step["registry_name"] in (NORMALIZER, UNNORMALIZER):
                step["state_file"] = _state_file(file, number, step["registry_name"])
        described[file] = {"name": file.removesuffix(".json"), "steps": steps}
    return described


def _state_file(file: str, number: int, step: str) -> str:
    return f"{file.removesuffix('.json')}_step_{number}_{step}.safetensors"


def _mode(processor: Processor) -> str:
    """Return how LeRobot scales: π0.5 between two quantiles, π0 by mean and deviation."""
    return "QUANTILES" if processor.config.state_input is StateInput.TEXT else "MEAN_STD"


def lerobot_statistics(processor: Processor) -> dict[str, Tensor]:
    """Return the statistics that make LeRobot scale as our codec does, whatever that one is made of."""
    codec = processor.codec
    stored: dict[str, Tensor] = {}
    for name, numbers in ((STATE, codec.state), (ACTION, codec.action)):
        offset, scale = affine(numbers, kind=codec.kind)
        pair = {"q01": offset - scale, "q99": offset + scale}
        if _mode(processor) == "MEAN_STD":
            pair = {"mean": offset, "std": scale - LEROBOT_EPS}
        stored |= {f"{name}.{key}": torch.from_numpy(value.astype(np.float32)) for key, value in pair.items()}
    return stored
