"""What a training needs of memory, counted before anything is loaded: its passes run once on tensors that have none."""

# Shapes: B samples of a piece, C cameras, Y and X image rows and columns, P prompt tokens, S state dimensions, I tokens of the
# indicator's text, F tokens that are said, N chunks, H actions of a chunk, A action dimensions.

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from opentau.models.recomputing import recompute_layers
from opentau.policies.config import PolicyConfig
from opentau.policies.inputs import PrefixInputs
from opentau.policies.vla import VLA
from opentau.training.optimizer import build_optimizer
from opentau.training.options import BFLOAT16, FSDP, DistributionOptions, ObjectiveOptions, TrainOptions, TuningOptions
from opentau.training.precision import resolve_precision
from opentau.training.tuning import tune

NUM_INDICATOR_TOKENS = 4
BYTES_OF_A_WEIGHT = 24
"""With gradient, average, two moments and a copy in bfloat16, rounded up."""
ROUGH_BYTES = 400
"""Of a token, for each number of its stream and layer: four times what `nano` and π0.5 need."""
SAID_SHARE = 0.5
"""Of the tokens that a chunk or an answer may have, how many they usually have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """Bytes of one process of a training where it needs most."""

    trained: int
    """Weights that are trained, adapters among them."""
    frozen: int
    """Weights that stay."""
    optimizer: int
    averages: int
    passes: int
    """Gradients and activations where they are most together; the one grow while the other go."""
    loading: int
    """All weights in float32, as they are before and after."""

    @property
    def total(self) -> int:
        return max(self.trained + self.frozen + self.optimizer + self.averages + self.passes, self.loading)


def memory_need(
    config: PolicyConfig,
    *,
    options: TrainOptions,
    objective: ObjectiveOptions,
    tuning: TuningOptions,
    distribution: DistributionOptions,
    num_processes: int = 1,
    says_text: bool = False,
) -> MemoryNeed:
    """Return what a training of a policy needs; `says_text` where answers or subtasks are trained.

    Counted with a processor's operations, in the precision that the options give on this machine.
    """
    with torch.device("meta"):
        model = VLA(config)
    whole = _num_bytes({name: tensor.float() for name, tensor in model.state_dict().items()})
    tune(model, tuning, seed=0)
    if distribution.checkpoint_activations:
        recompute_layers(model)
    num_samples = -(-options.batch_size // (num_processes * distribution.accumulation))
    precision = resolve_precision(options.precision, device_type="cuda" if torch.cuda.is_available() else "cpu")
    without_memory = model.state_dict()
    with FakeTensorMode():
        weights = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in without_memory.items()}
        model.load_state_dict(weights, assign=True)
        model.train()
        # Of the model itself only: it would ask which cameras are there, and tensors without memory cannot tell.
        model.training = False
        parameters = dict(model.named_parameters())
        trained = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
        state = build_optimizer(parameters, TrainOptions(), bits=tuning.optimizer_bits).state
        optimizer = sum(_num_bytes(moments) for moments in state.values())
        with LiveBytes() as counter:
            # With several pieces, and under DDP, gradients are there before the last pass begins.
            for _ in range(1 if distribution.accumulation == num_processes == 1 else 2):
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == BFLOAT16):
                    loss = _loss(model, objective=objective, num_samples=num_samples, says_text=says_text)
                loss.backward()
    shards = num_processes if distribution.strategy == FSDP else 1
    gathered = whole if shards > 1 else 0
    return MemoryNeed(
        trained=_num_bytes(trained) // shards,
        frozen=(_num_bytes(parameters) - _num_bytes(trained)) // shards,
        optimizer=optimizer // shards,
        averages=_num_bytes(trained) // shards if options.ema_decay else 0,
        passes=counter.most + gathered,
        loading=whole,
    )


def at_most(config: PolicyConfig, *, options: TrainOptions, objective: ObjectiveOptions) -> int:
    """Return bytes that a training never needs, in a moment: a small policy's need not be counted."""
    with torch.device("meta"):
        num_weights = sum(parameter.numel() for parameter in VLA(config).parameters())
    tokens = len(config.cameras) * config.vision.num_tokens + config.max_prompt_tokens + NUM_INDICATOR_TOKENS
    tokens += config.max_fast_tokens if objective.fast_weight else 0
    tokens += config.max_answer_tokens + (config.action_horizon + 1) * objective.num_noise_draws
    of_sample = tokens * ROUGH_BYTES * (config.backbone.width * config.backbone.depth + config.vocab_size)
    return BYTES_OF_A_WEIGHT * num_weights + options.batch_size * of_sample


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that operations make, from when they are made to when nothing refers to them."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._now = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        results = operation(*args, **(kwargs or {}))
        for result in results if isinstance(results, tuple | list) else (results,):
            if isinstance(result, Tensor):
                self._add(result.untyped_storage())
        return results

    def _add(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        self._now += storage.nbytes()
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._remove, storage.nbytes())

    def _remove(self, num_bytes: int) -> None:
        self._now -= num_bytes


def _loss(model: VLA, *, objective: ObjectiveOptions, num_samples: int, says_text: bool) -> Tensor:
    """Return a loss that keeps what `PolicyObjective`'s does, of a piece of a batch."""
    config, num_chunks = model.config, num_samples * objective.num_noise_draws
    prefix = model.prefix(_inputs(config, num_samples))
    loss = torch.zeros(())
    spoken = {"text": config.max_answer_tokens if says_text and objective.text_weight else 0}
    spoken["fast"] = config.max_fast_tokens if objective.fast_weight else 0
    for length in filter(None, spoken.values()):
        tokens_BF = torch.zeros((num_samples, 1 + int(SAID_SHARE * length)), dtype=torch.int64)
        logits_NV = model.logits(model.continuation(prefix, tokens_BF).flatten(0, 1))
        loss = loss + F.cross_entropy(logits_NV.float(), tokens_BF.flatten())
    if objective.flow_weight:
        seen = prefix.detached() if objective.is_insulated else prefix
        velocity_NHA = model.velocity(
            model.expert_context(seen.repeated(objective.num_noise_draws)),
            noisy_BHA=torch.zeros(num_chunks, config.action_horizon, config.action_dim),
            time_BX=torch.zeros(num_chunks, config.action_horizon if config.max_committed else 1),
        )
        loss = loss + velocity_NHA.float().square().mean()
    return loss


def _inputs(config: PolicyConfig, num_samples: int) -> PrefixInputs:
    cameras, size, prompt = len(config.cameras), config.vision.image_size, config.max_prompt_tokens
    indicator_tokens = NUM_INDICATOR_TOKENS if config.has_indicator_text else 0
    return PrefixInputs(
        images_BCYX3=torch.zeros((num_samples, cameras, size, size, 3), dtype=torch.uint8),
        has_camera_BC=torch.ones((num_samples, cameras), dtype=torch.bool),
        prompt_BP=torch.zeros((num_samples, prompt), dtype=torch.int64),
        has_prompt_BP=torch.ones((num_samples, prompt), dtype=torch.bool),
        worded_BVP=torch.zeros((num_samples, 0, prompt), dtype=torch.int64),
        has_worded_BVP=torch.zeros((num_samples, 0, prompt), dtype=torch.bool),
        state_BS=torch.zeros(num_samples, config.state_dim),
        has_state_B=torch.ones(num_samples, dtype=torch.bool),
        indicator_B=torch.zeros(num_samples, dtype=torch.int64),
        indicator_BI=torch.zeros((num_samples, indicator_tokens), dtype=torch.int64),
    )


def _num_bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
