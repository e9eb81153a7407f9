"""The policy that answers requests: a model, its processor, and how its actions are drawn."""

# Shapes: B requests of one forward pass, H actions of a chunk, A action dimensions, d committed actions, D features.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from opentau.checkpoint import read_manifest
from opentau.data.telling import with_told
from opentau.errors import OptionError, PolicyError
from opentau.models.recording import Recorder
from opentau.models.storing import store_matrices_as
from opentau.policies.answering import answer, spoken_chunks
from opentau.policies.choosing import ChunkScorer, agreement, unchosen
from opentau.policies.config import IndicatorPlace
from opentau.policies.drawing import FlowDrawing
from opentau.policies.holding import LastChunks
from opentau.policies.inputs import PrefixInputs
from opentau.policies.noise import NoiseActor, seeded_draw
from opentau.policies.options import BFLOAT16, FAST, INDICATORS, VALUE, InferenceOptions
from opentau.policies.prefix import Prefix
from opentau.policies.processor import Processor
from opentau.policies.vla import VLA
from opentau.policies.weights import load_model
from opentau.subtasks import QUESTION, with_subtask
from opentau.types import ActionChunk, Fallback, Indicator, PolicyRequest


class VLAPolicy:
    """Answers observations with action chunks (protocol `Policy`).

    Requests pass through the model in groups of exactly `batch_size` rows, the last one filled up, and all shapes are fixed, so
    that an answer depends neither on the row nor on the company. With `batch_size` 1 there is no company.

    A policy that says its chunks in action tokens sometimes says none. It then holds the last chunk of the same episode, and
    draws one by the flow where there is none to hold; the answer tells (`ActionChunk.fallback`).
    """

    def __init__(
        self,
        model: VLA,
        *,
        processor: Processor,
        policy_version: str,
        options: InferenceOptions | None = None,
        batch_size: int = 1,
        actor: NoiseActor | None = None,
    ) -> None:
        """`actor` steers the policy by its noise."""
        options = options or InferenceOptions()
        if batch_size < 1:
            raise OptionError(f"batch_size is {batch_size}; it must be at least 1")
        indicator = processor.served_indicator if options.indicator is None else INDICATORS[options.indicator]
        if options.guidance != 1.0 and indicator in (Indicator.ABSENT, INDICATORS[options.guided_from]):
            raise OptionError(
                f"guidance is {options.guidance} from {options.guided_from!r}, but the policy is asked with "
                f"{indicator.name.lower()!r}: there is nothing to guide by; set guidance=1 or indicator=positive"
            )
        if options.action_source == FAST and processor.fast_tokenizer is None:
            raise OptionError(
                "inference.action_source is 'fast', but the policy has no action tokenizer; train it with "
                "objective.fast_weight, or set action_source=flow"
            )
        self.model = model.eval()
        if options.precision == BFLOAT16:
            store_matrices_as(self.model, torch.bfloat16)
        self.processor = processor
        self.interface = processor.interface
        self.action_horizon = model.config.action_horizon
        self.policy_version = policy_version
        self.batch_size = batch_size
        self._indicator = indicator
        self._told = processor.served_text if options.told is None else options.told
        self._options = options
        recorder = Recorder() if options.is_recorded else None
        score = unchosen if options.chosen_by == VALUE else agreement
        self._draw = FlowDrawing(model=model, processor=processor, options=options, score=score, recorder=recorder)
        self._last = LastChunks()
        self._actor = actor

    def choose_by(self, score: ChunkScorer) -> None:
        """Choose among `options.num_candidates` chunks by this score instead of by agreement."""
        self._draw = replace(self._draw, score=score)

    @property
    def statistics_id(self) -> str:
        """Identity of the numbers that encode states and actions of the served embodiment."""
        return self.processor.embodiment.statistics_id

    @property
    def max_committed(self) -> int:
        """Most committed actions that a request may bring; action tokens continue none."""
        return 0 if self._options.action_source == FAST else self._draw.max_committed

    @classmethod
    def load(
        cls,
        checkpoint: Path,
        *,
        options: InferenceOptions | None = None,
        batch_size: int = 1,
        device: str = "cpu",
        embodiment: str | None = None,
    ) -> VLAPolicy:
        """Load a sealed checkpoint directory, checking every file's hash; raises `CheckpointError`.

        Without `options.indicator` the policy is asked with the one that its checkpoint names, without `embodiment` it serves
        the one that its checkpoint names; an unknown one raises `OptionError`.
        """
        manifest = read_manifest(checkpoint, verify=True)
        model, processor = load_model(checkpoint)
        if embodiment is not None:
            processor = processor.serving(embodiment)
        return cls(
            model.to(device),
            processor=processor,
            policy_version=str(manifest["id"]),
            options=options,
            batch_size=batch_size,
            actor=None if (actor := NoiseActor.load(checkpoint)) is None else actor.to(device),
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

    @torch.no_grad()
    def _infer_group(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
        with self._autocast():
            return self._answered(requests)

    def _answered(self, requests: Sequence[PolicyRequest]) -> list[ActionChunk]:
        subtasks = self._subtasks(requests)
        said = zip(requests, subtasks, strict=True)
        prompts = [self._prompt(request.observation.prompt, subtask) for request, subtask in said]
        inputs = self.processor.request_inputs(requests, indicator=self._indicator, prompts=prompts).to(self.device)
        if self._options.action_source == FAST:
            answers = self._spoken(requests, inputs)
        else:
            answers = [(actions_HA, None) for actions_HA in self._drawn(requests, inputs, self.model.prefix(inputs))]
        return [
            self._chunk(request, actions_HA, subtask=subtask, fallback=fallback)
            for request, (actions_HA, fallback), subtask in zip(requests, answers, subtasks, strict=True)
        ]

    def _prompt(self, prompt: str, subtask: str) -> str:
        """Return what the policy reads of a task: its subtask, and what it is told behind it."""
        return with_told(with_subtask(prompt, subtask), self._told)

    @property
    def reads_plain_task(self) -> bool:
        """Whether it acts on the very prefix that its features are made of."""
        is_plain = self.model.config.indicator_place is IndicatorPlace.BLOCK and not self.processor.predicts_subtask
        return is_plain and not self._told

    def _drawn(self, requests: Sequence[PolicyRequest], inputs: PrefixInputs, prefix: Prefix) -> np.ndarray:
        """Return chunks by the flow in the interface's units, float32 [B, H, a]."""
        unguided = None if self._options.guidance == 1.0 else self._unguided(inputs, prefix)
        actions_BHA = self._draw(
            requests, prefix=prefix, unguided=unguided, mean_BA=self._steered(requests, inputs, prefix=prefix)
        )
        return self.processor.decode_action(actions_BHA.float().cpu().numpy())

    def _steered(self, requests: Sequence[PolicyRequest], inputs: PrefixInputs, *, prefix: Prefix) -> Tensor | None:
        """Return what the actor has the noise of each chunk be in the mean, [B, A]; None without an actor."""
        if self._actor is None:
            return None
        if self.model.config.indicator_place is not IndicatorPlace.BLOCK:  # the actor reads features that know no indicator
            absent_B = torch.full_like(inputs.indicator_B, Indicator.ABSENT)
            prefix = self.model.prefix(self.processor.with_indicator(inputs, absent_B))
        draws = [
            seeded_draw(self.interface.action_dim, episode_seed=request.episode_seed, tick=request.tick) for request in requests
        ]
        read_BR = self._actor.read(self.model.features(prefix).float(), inputs.state_BS[:, : self.interface.state_dim].float())
        return self._actor(read_BR, torch.from_numpy(np.stack(draws)).to(self.device))

    def _unguided(self, inputs: PrefixInputs, prefix: Prefix) -> Prefix:
        """Return the prefix that guidance pushes away from; all but a block that is left out take a pass of their own."""
        indicator = INDICATORS[self._options.guided_from]
        if indicator is Indicator.ABSENT and self.model.config.indicator_place is IndicatorPlace.BLOCK:
            return prefix.without_indicator()
        indicator_B = torch.full_like(inputs.indicator_B, indicator)
        return self.model.prefix(self.processor.with_indicator(inputs, indicator_B))

    def _spoken(self, requests: Sequence[PolicyRequest], inputs: PrefixInputs) -> list[tuple[np.ndarray, Fallback | None]]:
        """Return chunks by action tokens, [H, a] each, and what stands in for those that spell none."""
        for request in requests:
            if request.prefix is not None and len(request.prefix):
                raise OptionError(
                    f"a request commits {len(request.prefix)} actions, which action tokens cannot continue; "
                    "set rollout.delay_ticks=0, or inference.action_source=flow"
                )
        prefix = self.model.prefix(inputs)
        drawn_BHA: np.ndarray | None = None
        answers: list[tuple[np.ndarray, Fallback | None]] = []
        for row, chunk_HA in enumerate(spoken_chunks(self.model, prefix, processor=self.processor)):
            if chunk_HA is None and (held_HA := self._last.rest(requests[row])) is not None:
                answers.append((held_HA, Fallback.HELD))
                continue
            if chunk_HA is None:
                drawn_BHA = self._drawn(requests, inputs, prefix) if drawn_BHA is None else drawn_BHA
                answers.append((drawn_BHA[row], Fallback.DRAWN))
            else:
                answers.append((self.processor.decode_action(chunk_HA), None))
            self._last.keep(requests[row], answers[-1][0])
        return answers

    def _subtasks(self, requests: Sequence[PolicyRequest]) -> list[str]:
        """Return what the policy says comes next, '' for one that says nothing or too much to be read again."""
        prompts = [request.observation.prompt for request in requests]
        if not self.processor.predicts_subtask:
            return [""] * len(prompts)
        questions = [QUESTION.format(prompt) for prompt in prompts]
        inputs = self.processor.request_inputs(requests, indicator=Indicator.ABSENT, prompts=questions, is_question=True)
        said = answer(self.model, processor=self.processor, inputs=inputs.to(self.device))
        prompted = self.processor.embodiment.prompted
        # A policy that rambles acts on the task alone; its words are no reason to stop an episode.
        fits = [self.processor.fits(prompted(self._prompt(prompt, s))) for prompt, s in zip(prompts, said, strict=True)]
        return [subtask if fit else "" for subtask, fit in zip(said, fits, strict=True)]

    def _chunk(self, request: PolicyRequest, actions_HA: np.ndarray, *, subtask: str, fallback: Fallback | None) -> ActionChunk:
        if request.prefix is not None:
            actions_HA[: len(request.prefix)] = request.prefix
        if not np.isfinite(actions_HA).all():
            raise PolicyError(
                f"policy {self.policy_version} proposes actions that are not finite at tick {request.tick} of the episode with "
                f"seed {request.episode_seed}; its weights or the observation hold NaN: use another checkpoint"
            )
        return ActionChunk(actions=actions_HA, policy_version=self.policy_version, subtask=subtask, fallback=fallback)

    @torch.inference_mode()
    def _pooled(self, inputs: PrefixInputs) -> np.ndarray:
        with self._autocast():
            return self.model.features(self.model.prefix(inputs.to(self.device))).float().cpu().numpy()

    def _autocast(self) -> torch.autocast:
        # Without its cache: what a recording reads must not be a copy that is gone when the next chunk is drawn.
        is_half = self._options.precision == BFLOAT16
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=is_half, cache_enabled=False)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device
