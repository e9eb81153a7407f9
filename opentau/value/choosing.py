"""Choosing among chunks by a critic that sees them: what comes of an observation and the actions that would be played."""

# Shapes: B observations, N candidates, M = B N, H actions of a candidate, K those that the critic reads, A action dimensions,
# P features.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opentau.errors import CheckpointError, OptionError
from opentau.policies.policy import VLAPolicy
from opentau.policies.prefix import Prefix
from opentau.types import PolicyRequest
from opentau.value.critic import Critic


class ChoiceByValue:
    """Scores candidates by the return that a critic of observation and chunk expects of them (a `ChunkScorer`)."""

    def __init__(self, critic: Critic, *, eyes: VLAPolicy, served: VLAPolicy) -> None:
        """`eyes` is the policy whose frozen features the critic reads; it may be the served one.

        Raises `CheckpointError` for eyes or actions other than the critic's, and `OptionError` for chunks that are too short.
        """
        config, interface = critic.config, served.processor.interface
        if eyes.policy_version != config.policy_version:
            raise CheckpointError(
                f"the critic reads the features of policy {config.policy_version[:12]}, it was given policy "
                f"{eyes.policy_version[:12]}; load the policy that it was fitted with"
            )
        if (eyes.statistics_id, config.sizes.action_dim) != (served.statistics_id, interface.action_dim):
            raise CheckpointError(
                "the critic knows actions in the scales of another policy than the served one; choose by value among chunks of "
                "a policy of the critic's own run, or by inference.chosen_by=agreement"
            )
        if served.action_horizon < config.sizes.num_actions:
            raise OptionError(
                f"the critic reads {config.sizes.num_actions} actions, the policy's chunks have {served.action_horizon}; fit "
                "it with a smaller rollout.execute_horizon"
            )
        self._critic = critic
        self._eyes = eyes
        # The served policy's own pass is the critic's wherever it reads the plain task.
        self._shares_prefix = served.reads_plain_task and eyes.policy_version == served.policy_version

    def __call__(self, requests: Sequence[PolicyRequest], prefix: Prefix, candidates_BNHA: Tensor) -> Tensor:
        """Return expected returns, float32 [B, N], in [-1, 0]."""
        config, count = self._critic.config, candidates_BNHA.shape[1]
        device = candidates_BNHA.device
        if self._shares_prefix:
            features_BP = self._eyes.model.features(prefix)
        else:
            features_BP = torch.from_numpy(self._eyes.features(requests)).to(device)
        prompts = config.prompt_index([request.observation.prompt for request in requests])
        seen = {
            "prefix": features_BP,
            "state": prefix.state_BS[:, : config.sizes.state_dim],
            "prompt": torch.from_numpy(prompts).to(device),
        }
        inputs = {name: tensor.repeat_interleave(count, dim=0) for name, tensor in seen.items()}
        inputs["chunk"] = candidates_BNHA[:, :, : config.sizes.num_actions].flatten(0, 1)
        with torch.autocast(device.type, enabled=False):
            value_M = self._critic.value({name: _whole(tensor) for name, tensor in inputs.items()})
        return value_M.unflatten(0, (-1, count))


def _whole(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
