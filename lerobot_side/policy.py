"""A policy of LeRobot's as OpenTau asks policies: one observation in, one chunk in the robot's own units out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType
from lerobot.policies.factory import get_policy_class, make_pre_post_processors

from opentau.errors import CheckpointError, PolicyError
from opentau.types import ActionChunk, Interface, Observation, PolicyRequest, derive_seed

# Shapes: H actions of a chunk, A action dimensions, S state dimensions, Y, X pixels.

STATE = "observation.state"
PROCESSOR_FILES = ("policy_preprocessor.json", "policy_postprocessor.json")


class LeRobotPolicy:
    """Answers with `predict_action_chunk` between LeRobot's own processors (protocol `Policy`).

    Cameras of the interface are named by LeRobot's keys. Requests are answered one by one, and each from a fresh start, so
    that an answer depends on nothing but its request: what a policy samples comes from the episode's seed and the tick.
    """

    def __init__(self, folder: Path, *, interface: Interface, policy_version: str, device: str) -> None:
        """Load config.json, weights and processors of a folder; raises `CheckpointError` where one is missing or unfit.

        The chunk for an observation of zeros shows what the policy answers with; `PolicyError` where that does not fit.
        """
        missing = [name for name in PROCESSOR_FILES if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(f"{folder} has no {missing[0]}; convert it to LeRobot 0.6 with LeRobot's own script")
        config = PreTrainedConfig.from_pretrained(folder)
        config.device = device
        if hasattr(config, "pretrained_backbone_weights"):
            config.pretrained_backbone_weights = None  # the folder holds all weights; nothing is to be fetched
        if config.observation_delta_indices not in (None, [0]):
            raise CheckpointError(
                f"{folder} reads the observations of steps {list(config.observation_delta_indices)}, a request brings one; "
                "train it with n_obs_steps=1"
            )
        try:
            self._policy = get_policy_class(config.type).from_pretrained(folder, config=config, strict=True)
        except (RuntimeError, OSError) as error:
            raise CheckpointError(f"{folder} does not hold the weights of its config.json: {error}") from error
        on_device = {"device_processor": {"device": device}}
        self._preprocess, self._postprocess = make_pre_post_processors(
            config, pretrained_path=str(folder), preprocessor_overrides=on_device, postprocessor_overrides=on_device
        )
        # Kinds that may read several steps are trained on frames with a dimension for them, and want it even for one.
        self._leading = (1,) if config.observation_delta_indices is None else (1, 1)
        self._has_state = any(feature.type is FeatureType.STATE for feature in config.input_features.values())
        self.interface = interface
        self.policy_version = policy_version
        self.action_horizon = self._measured_horizon()

    def infer(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
        """Return one chunk per request."""
        return [self._chunk(request) for request in requests]

    @torch.no_grad()
    def _chunk(self, request: PolicyRequest) -> ActionChunk:
        if request.prefix is not None and len(request.prefix):
            raise PolicyError(
                f"a request commits {len(request.prefix)} actions, which LeRobot's policies are not asked to continue; "
                "set rollout.delay_ticks=0"
            )
        torch.manual_seed(derive_seed(request.episode_seed, "noise", request.tick))
        self._policy.reset()
        batch = self._preprocess(self._frame(request.observation))
        actions_1HA = self._policy.predict_action_chunk(batch)
        # LeRobot's postprocessors take one action of each row.
        actions_HA = torch.cat([self._postprocess(actions_1HA[:, tick]) for tick in range(actions_1HA.shape[1])])
        return ActionChunk(actions=actions_HA.float().cpu().numpy(), policy_version=self.policy_version)

    def _frame(self, observation: Observation) -> dict[str, Any]:
        """Return an observation as a batch of LeRobot's datasets: images float32 [1, 3, Y, X] or [1, 1, 3, Y, X] in 0 to 1."""
        arrays = {key: pixels.transpose(2, 0, 1).astype(np.float32) / 255 for key, pixels in observation.images.items()}
        if self._has_state:
            arrays[STATE] = observation.state.astype(np.float32)
        frame = {key: torch.from_numpy(array).reshape(*self._leading, *array.shape) for key, array in arrays.items()}
        return {**frame, "task": observation.prompt, "robot_type": ""}

    def _measured_horizon(self) -> int:
        images = {key: np.zeros(shape, np.uint8) for key, shape in self.interface.cameras.items()}
        state = np.zeros(self.interface.state_dim, np.float32)
        seen = Observation(images=images, state=state, prompt="", time_s=0.0)
        actions_HA = self._chunk(PolicyRequest(observation=seen, episode_seed=0, tick=0)).actions
        if actions_HA.ndim != 2 or actions_HA.shape[1] != self.interface.action_dim:
            raise PolicyError(
                f"the policy answers with actions of shape {list(actions_HA.shape)}, the robot takes "
                f"{self.interface.action_dim} numbers; use a checkpoint that was trained for it"
            )
        return len(actions_HA)
