"""The policy that answers requests: a model, its processor, and how its actions are drawn."""

# Shapes: B requests of one forward pass, H actions of a chunk, A action dimensions, d committed actions, D features.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from opentau.checkpoint import read_manifest
from opentau.data.fitting import padded
from opentau.errors import OptionError, PolicyError
from opentau.models.flow import integrate
from opentau.policies.answering import answer
from opentau.policies.inputs import PrefixInputs
from opentau.policies.processor import Processor
from opentau.policies.vla import VLA, Prefix
from opentau.policies.weights import load_model
from opentau.subtasks import QUESTION, with_subtask
from opentau.types import ActionChunk, Indicator, PolicyRequest, derive_seed


class VLAPolicy:
    """Answers observations with action chunks (protocol `Policy`).

    Requests pass through the model in groups of exactly `batch_size` rows, the last one filled up, and all shapes are fixed, so
    that an answer depends neither on the row nor on the company. With `batch_size` 1 there is no company.
    """

    def __init__(
        self,
        model: VLA,
        *,
        processor: Processor,
        policy_version: str,
        indicator: Indicator | None = None,
        guidance: float = 1.0,
        num_flow_steps: int = 5,
        batch_size: int = 1,
    ) -> None:
        if num_flow_steps < 1 or batch_size < 1:
            raise OptionError(f"num_flow_steps is {num_flow_steps} and batch_size {batch_size}; both must be at least 1")
        indicator = processor.served_indicator if indicator is None else indicator
        if guidance != 1.0 and indicator is Indicator.ABSENT:
            raise OptionError(f"guidance is {guidance} without an indicator to guide by; set guidance=1 or indicator=positive")
        self.model = model.eval()
        self.processor = processor
        self.interface = processor.interface
        self.action_horizon = model.config.action_horizon
        self.policy_version = policy_version
        self.batch_size = batch_size
        self._indicator = indicator
        self._guidance = guidance
        self._num_flow_steps = num_flow_steps

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        *,
        indicator: Indicator | None = None,
        guidance: float = 1.0,
        num_flow_steps: int = 5,
        batch_size: int = 1,
        device: str = "cpu",
        embodiment: str | None = None,
    ) -> VLAPolicy:
        """Load a sealed checkpoint directory, checking every file's hash; raises `CheckpointError`.

        Without `indicator` the policy is asked with the one that its checkpoint names, without `embodiment` it serves the one
        that its checkpoint names; an unknown one raises `OptionError`.
        """
        manifest = read_manifest(checkpoint, verify=True)
        model, processor = load_model(checkpoint)
        if embodiment is not None:
            processor = processor.serving(embodiment)
        return cls(
            model.to(device),
            processor=processor,
            policy_version=str(manifest["id"]),
            indicator=indicator,
            guidance=guidance,
            num_flow_steps=num_flow_steps,
            batch_size=batch_size,
        )

    def infer(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
        """Return one chunk per request, in the interface's units; committed actions come back unchanged.

        Raises `PolicyError` for actions that are not finite, `OptionError` for more committed actions than were trained.
        """
        chunks: list[ActionChunk] = []
        for group in self._groups(requests):
            chunks += self._infer_group(group)
        return chunks[: len(requests)]

    def features(self, requests: Sequence[PolicyRequest]) -> np.ndarray:
        """Return one vector per request for a value function, float32 [len(requests), D], whatever the indicator."""
        groups = [
            self._pooled(self.processor.request_inputs(group, indicator=Indicator.ABSENT)) for group in self._groups(requests)
        ]
        return np.concatenate(groups)[: len(requests)]

    def batch_features(self, *, images: Mapping[str, np.ndarray], prompts: Sequence[str], state: np.ndarray) -> np.ndarray:
        """Return the same for recorded frames in one pass, float32 [N, D].

        `images` maps cameras to uint8 [N, Y, X, 3]; `state` is float32 [N, S] in the interface's units.
        """
        inputs = self.processor.prefix_inputs(
            images=images,
            prompts=[self.processor.embodiment.prompted(prompt) for prompt in prompts],
            state_BS=self.processor.encode_state(state),
            indicator_B=np.full(len(prompts), Indicator.ABSENT),
        )
        return self._pooled(inputs)

    def _groups(self, requests: Sequence[PolicyRequest]) -> list[list[PolicyRequest]]:
        """Return groups of `batch_size` requests; the last is filled up with its first."""
        groups = [list(requests[start : start + self.batch_size]) for start in range(0, len(requests), self.batch_size)]
        return [group + group[:1] * (self.batch_size - len(group)) for group in groups]

    @torch.inference_mode()
    def _infer_group(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
        committed_BHA, is_committed_BH = self._committed(requests)
        subtasks = self._subtasks(requests)
        actions_BHA = integrate(
            self._velocity(requests, subtasks),
            noise_BHA=torch.from_numpy(np.stack([self._noise(request) for request in requests])).to(self._device),
            num_steps=self._num_flow_steps,
            committed_BHA=committed_BHA,
            is_committed_BH=is_committed_BH,
        )
        decoded_BHA = self.processor.decode_action(actions_BHA.float().cpu().numpy())
        return [
            self._chunk(request, actions_HA, subtask=subtask)
            for request, actions_HA, subtask in zip(requests, decoded_BHA, subtasks, strict=True)
        ]

    def _velocity(self, requests: Sequence[PolicyRequest], subtasks: Sequence[str]) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the velocity field of the requests: v_u + β (v_c - v_u), or v_c alone for β = 1 (π*0.6, appendix E)."""
        said = zip(requests, subtasks, strict=True)
        prompts = [with_subtask(request.observation.prompt, subtask) for request, subtask in said]
        inputs = self.processor.request_inputs(requests, indicator=self._indicator, prompts=prompts)
        prefix = self.model.prefix(inputs.to(self._device))
        conditional = self._field(prefix)
        if self._guidance == 1.0:
            return conditional
        unconditional = self._field(prefix.without_indicator())

        def guided(x_BHA: Tensor, time_BX: Tensor) -> Tensor:
            return torch.lerp(unconditional(x_BHA, time_BX), conditional(x_BHA, time_BX), self._guidance)

        return guided

    def _subtasks(self, requests: Sequence[PolicyRequest]) -> list[str]:
        """Return what the policy says comes next, '' for one that says nothing or too much to be read again."""
        prompts = [request.observation.prompt for request in requests]
        if not self.processor.predicts_subtask:
            return [""] * len(prompts)
        questions = [QUESTION.format(prompt) for prompt in prompts]
        inputs = self.processor.request_inputs(requests, indicator=Indicator.ABSENT, prompts=questions, is_question=True)
        said = answer(self.model, processor=self.processor, inputs=inputs.to(self._device))
        prompted = self.processor.embodiment.prompted
        # A policy that rambles acts on the task alone; its words are no reason to stop an episode.
        fits = [self.processor.fits(prompted(with_subtask(prompt, s))) for prompt, s in zip(prompts, said, strict=True)]
        return [subtask if fit else "" for subtask, fit in zip(said, fits, strict=True)]

    def _field(self, prefix: Prefix) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the velocity under a prefix; actions that have no noise in training stay where they are."""
        context, num_own = self.model.expert_context(prefix), self._num_noisy

        def velocity(x_BHA: Tensor, time_BX: Tensor) -> Tensor:
            velocity_BHA = self.model.velocity(context, noisy_BHA=x_BHA, time_BX=time_BX)
            if num_own == velocity_BHA.shape[-1]:
                return velocity_BHA
            return F.pad(velocity_BHA[..., :num_own], (0, velocity_BHA.shape[-1] - num_own))

        return velocity

    def _noise(self, request: PolicyRequest) -> np.ndarray:
        """Return the chunk's noise, float32 [H, A], a function of episode seed and tick; zero where training has none."""
        rng = np.random.default_rng(derive_seed(request.episode_seed, "noise", request.tick))
        noise = rng.standard_normal((self.action_horizon, self._num_noisy), dtype=np.float32)
        return padded(noise, self.model.config.action_dim)

    @property
    def _num_noisy(self) -> int:
        """Return the number of action dimensions that are noisy in training, the robot's first."""
        return self.model.config.action_dim if self.model.config.has_padding_noise else self.interface.action_dim

    def _committed(self, requests: Sequence[PolicyRequest]) -> tuple[Tensor | None, Tensor | None]:
        """Return encoded committed actions [B, H, A] and where they are [B, H]; None for a policy that knows none."""
        largest = self.model.config.max_committed
        committed_BHA = np.zeros((len(requests), self.action_horizon, self.model.config.action_dim), np.float32)
        is_committed_BH = np.zeros(committed_BHA.shape[:2], bool)
        for row, request in enumerate(requests):
            if request.prefix is None or not len(request.prefix):
                continue
            if len(request.prefix) > largest:
                raise OptionError(
                    f"a request commits {len(request.prefix)} actions, the policy was trained with at most {largest}; "
                    "train with a larger policy.max_committed, or ask without delay"
                )
            committed_BHA[row, : len(request.prefix)] = self.processor.encode_action(request.prefix)
            is_committed_BH[row, : len(request.prefix)] = True
        if not largest:
            return None, None
        return torch.from_numpy(committed_BHA).to(self._device), torch.from_numpy(is_committed_BH).to(self._device)

    def _chunk(self, request: PolicyRequest, actions_HA: np.ndarray, *, subtask: str) -> ActionChunk:
        if request.prefix is not None:
            actions_HA[: len(request.prefix)] = request.prefix
        if not np.isfinite(actions_HA).all():
            raise PolicyError(
                f"policy {self.policy_version} proposes actions that are not finite at tick {request.tick} of the episode with "
                f"seed {request.episode_seed}; its weights or the observation hold NaN: use another checkpoint"
            )
        return ActionChunk(actions=actions_HA, policy_version=self.policy_version, subtask=subtask)

    @torch.inference_mode()
    def _pooled(self, inputs: PrefixInputs) -> np.ndarray:
        return self.model.features(self.model.prefix(inputs.to(self._device))).cpu().numpy()

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device
