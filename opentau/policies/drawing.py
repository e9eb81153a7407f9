"""How chunks are drawn by the flow: noise, guidance, and actions that are committed already."""

# Shapes: B requests, H actions of a chunk, A action dimensions; the time axis X is 1 (shared by the chunk) or H.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from opentau.data.fitting import padded
from opentau.errors import OptionError
from opentau.models.continuing import Velocity, continuation_weights, continued
from opentau.models.expert import ExpertContext
from opentau.models.flow import integrate
from opentau.models.recording import Recorder
from opentau.policies.choosing import ChunkScorer, agreement, best
from opentau.policies.config import PolicyConfig
from opentau.policies.noise import moved, seeded_noise
from opentau.policies.options import GUIDED, InferenceOptions
from opentau.policies.prefix import Prefix
from opentau.policies.processor import Processor
from opentau.policies.vla import VLA
from opentau.types import Interface, PolicyRequest


def num_noisy(config: PolicyConfig, interface: Interface) -> int:
    """Return the number of action dimensions that are noisy in training, the robot's first."""
    return config.action_dim if config.has_padding_noise else interface.action_dim


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowDrawing:
    """Draws chunks under a prefix; nothing in its loop waits for the device."""

    model: VLA
    processor: Processor
    options: InferenceOptions
    score: ChunkScorer = agreement
    recorder: Recorder | None = None
    """Replays the steps instead of launching them one by one; None launches them."""

    def __call__(
        self, requests: Sequence[PolicyRequest], *, prefix: Prefix, unguided: Prefix | None, mean_BA: Tensor | None = None
    ) -> Tensor:
        """Return encoded chunks [B, H, A].

        `unguided` is the prefix that guidance pushes away from, None where nothing is guided; `mean_BA` what the noise of each
        chunk is in the mean, None where it is as it was drawn.
        """
        count = self.options.num_candidates
        if count == 1:
            return self._drawn(requests, prefix=prefix, unguided=unguided, mean_BA=mean_BA)
        repeated = [request for request in requests for _ in range(count)]
        candidates_BHA = self._drawn(
            repeated,
            prefix=prefix.repeated(count),
            unguided=unguided and unguided.repeated(count),
            mean_BA=None if mean_BA is None else mean_BA.repeat_interleave(count, dim=0),
        )
        candidates_BNHA = candidates_BHA.unflatten(0, (-1, count))
        own_BNHA = candidates_BNHA[..., : self.processor.interface.action_dim]
        return best(candidates_BNHA, self.score(requests, prefix, own_BNHA))

    def _drawn(
        self, requests: Sequence[PolicyRequest], *, prefix: Prefix, unguided: Prefix | None, mean_BA: Tensor | None
    ) -> Tensor:
        """Return a chunk for each row of a prefix; rows of one request side by side differ in their noise."""
        contexts = tuple(self.model.expert_context(each) for each in (prefix, unguided) if each is not None)
        count = self.options.num_candidates
        noise = [self._noise(request, candidate=row % count) for row, request in enumerate(requests)]
        noise_BHA = torch.from_numpy(np.stack(noise)).to(prefix.state_BS.device)
        noise_BHA = noise_BHA if mean_BA is None else moved(noise_BHA, mean_BA)
        committed = self._committed(requests)
        committed_BHA, weight_BH = (None, None) if committed is None else (each.to(noise_BHA.device) for each in committed)
        if committed_BHA is not None and weight_BH is not None and self.options.committed == GUIDED:
            # Not recorded: each of its steps goes back through the model.
            return continued(
                self._guided(contexts),
                noise_BHA=noise_BHA,
                num_steps=self.options.num_flow_steps,
                wanted_BHA=committed_BHA,
                weight_BH=weight_BH,
                is_committed_BH=weight_BH == 1,
                limit=self.options.committed_limit,
            )
        is_committed_BH = None if weight_BH is None else weight_BH == 1
        if self.recorder is None:
            return self._integrated(contexts, noise_BHA, committed_BHA, is_committed_BH)
        kind = (len(contexts), committed_BHA is None)
        return self.recorder(self._integrated, contexts, noise_BHA, committed_BHA, is_committed_BH, key=kind)

    def _integrated(
        self,
        contexts: tuple[ExpertContext, ...],
        noise_BHA: Tensor,
        committed_BHA: Tensor | None,
        is_committed_BH: Tensor | None,
    ) -> Tensor:
        """Return the chunks that the flow leads to, [B, H, A], a function of these numbers alone."""
        return integrate(
            self._guided(contexts),
            noise_BHA=noise_BHA,
            num_steps=self.options.num_flow_steps,
            committed_BHA=committed_BHA,
            is_committed_BH=is_committed_BH,
        )

    def _guided(self, contexts: tuple[ExpertContext, ...]) -> Velocity:
        """Return the velocity v_u + β (v_c - v_u), or v_c alone for β = 1 (π*0.6, arXiv:2511.14759, appendix E).

        The contexts are that under the indicator and, where chunks are guided, that of `options.guided_from`.
        """
        conditional = self._field(contexts[0])
        if len(contexts) == 1:
            return conditional
        unconditional = self._field(contexts[1])

        def guided(x_BHA: Tensor, time_BX: Tensor) -> Tensor:
            return torch.lerp(unconditional(x_BHA, time_BX), conditional(x_BHA, time_BX), self.options.guidance)

        return guided

    def _field(self, context: ExpertContext) -> Velocity:
        """Return the velocity in a context; actions that have no noise in training stay where they are."""
        num_own = self._num_noisy

        def velocity(x_BHA: Tensor, time_BX: Tensor) -> Tensor:
            velocity_BHA = self.model.velocity(context, noisy_BHA=x_BHA, time_BX=time_BX)
            if num_own == velocity_BHA.shape[-1]:
                return velocity_BHA
            return F.pad(velocity_BHA[..., :num_own], (0, velocity_BHA.shape[-1] - num_own))

        return velocity

    def _noise(self, request: PolicyRequest, *, candidate: int) -> np.ndarray:
        """Return a candidate's noise, float32 [H, A], a function of episode seed and tick; zero where training has none.

        The first candidate has the noise of a policy that draws one.
        """
        config = self.model.config
        shape = (config.action_horizon, self._num_noisy)
        noise = seeded_noise(shape, episode_seed=request.episode_seed, tick=request.tick, candidate=candidate)
        return padded(noise, config.action_dim)

    @property
    def _num_noisy(self) -> int:
        return num_noisy(self.model.config, self.processor.interface)

    @property
    def max_committed(self) -> int:
        """Most committed actions that a request may bring: as many as were trained, or all but the last when guided."""
        config = self.model.config
        return config.action_horizon - 1 if self.options.committed == GUIDED else config.max_committed

    def _committed(self, requests: Sequence[PolicyRequest]) -> tuple[Tensor, Tensor] | None:
        """Return encoded committed actions [B, H, A] and their weights [B, H], 1 where committed.

        None where there are none to continue, and the policy does not read how many there are.
        """
        config, is_guided = self.model.config, self.options.committed == GUIDED
        horizon, largest = config.action_horizon, self.max_committed
        counts = [0 if request.prefix is None else len(request.prefix) for request in requests]
        if max(counts) > largest:
            limit = f"the policy was trained with at most {largest}; train with a larger policy.max_committed, "
            limit += "set inference.committed=guided, or ask without delay"
            if is_guided:
                limit = f"a chunk has {horizon}; ask with a smaller delay"
            raise OptionError(f"a request commits {max(counts)} actions, {limit}")
        if not any(counts) and (is_guided or not largest):
            return None
        committed_BHA = np.zeros((len(requests), horizon, config.action_dim), np.float32)
        for row, request in enumerate(requests):
            if request.prefix is not None:
                committed_BHA[row, : counts[row]] = self.processor.encode_action(request.prefix)
        # A request tells no more of the last chunk than what is committed of it, so that all the rest is fresh.
        weight_BH = np.stack([continuation_weights(count, horizon=horizon, num_fresh=horizon - count) for count in counts])
        return torch.from_numpy(committed_BHA), torch.from_numpy(weight_BH)
