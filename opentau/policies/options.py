"""How a policy is asked: the options of inference, free of torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentau.errors import OptionError, near_matches
from opentau.types import Indicator

INDICATORS = {indicator.name.lower(): indicator for indicator in Indicator}
FLOW, FAST = "flow", "fast"
"""Where actions come from."""
TRAINED, GUIDED = "trained", "guided"
"""How a chunk continues committed actions."""
UNCONDITIONAL = ("absent", "negative")
"""What guidance pushes away from."""
FLOAT32, BFLOAT16 = "float32", "bfloat16"
AGREEMENT, VALUE = "agreement", "value"
"""How one of several chunks is chosen."""
NEWER = (
    "guided_from", "action_source", "committed", "committed_limit",
    "num_candidates", "chosen_by", "critic", "precision", "is_recorded", "told",
)  # fmt: skip
"""At their defaults these are no part of a run's identity, so that runs from before there were any keep theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceOptions:
    """How a policy is asked."""

    guidance: float = 1.0
    """Classifier-free guidance β; 1 samples with the positive indicator alone."""
    guided_from: str = "absent"
    """What guidance pushes away from: 'absent', the policy without an indicator, which training must have withheld at times
    (`objective.indicator_dropout`), or 'negative', which a policy knows whose training kept its negative frames."""
    num_flow_steps: int = 5
    """Euler steps of the flow."""
    indicator: str | None = None
    """'positive', 'absent' or 'negative'; null asks every policy with the one that its training names."""
    action_source: str = FLOW
    """'flow' draws chunks with the action expert, 'fast' has the policy say them in action tokens."""
    committed: str = TRAINED
    """How chunks continue actions that are committed: 'trained' for policies that were (`max_committed`), 'guided' for any."""
    committed_limit: float = 5.0
    """Largest strength of that guidance (β of real-time chunking, arXiv:2506.07339)."""
    num_candidates: int = 1
    """Chunks drawn for each observation, on one pass of the prefix."""
    chosen_by: str = AGREEMENT
    """Which is played: by 'agreement' the one nearest to all others, by 'value' the one that `critic` expects most of."""
    critic: str | None = None
    """Folder of a value stage that was made with `value.scores_chunks`."""
    precision: str = FLOAT32
    """Of a policy's passes: 'float32', or 'bfloat16' with matrices stored so."""
    told: str | None = None
    """What a policy of improve=metadata is told behind every prompt, 'quality: low' for example, '' for nothing; null: what its
    training names."""
    is_recorded: bool = False
    """Whether the steps of the flow are recorded once and replayed, as a CUDA graph; without a GPU there is nothing to gain."""

    def __post_init__(self) -> None:
        if self.num_flow_steps < 1:
            raise OptionError(f"inference.num_flow_steps is {self.num_flow_steps}; it must be at least 1")
        if self.indicator is not None:
            require_indicator(self.indicator, name="inference.indicator")
        _require_choice(self.guided_from, UNCONDITIONAL, name="inference.guided_from")
        _require_choice(self.action_source, (FLOW, FAST), name="inference.action_source")
        _require_choice(self.committed, (TRAINED, GUIDED), name="inference.committed")
        _require_choice(self.precision, (FLOAT32, BFLOAT16), name="inference.precision")
        if self.committed_limit <= 0:
            raise OptionError(f"inference.committed_limit is {self.committed_limit}; it must be positive")
        self._check_choice()
        if self.action_source == FAST and self.guidance != 1.0:
            raise OptionError(
                f"inference.guidance is {self.guidance} with inference.action_source {FAST!r}; guidance acts on the flow: "
                "set guidance=1 or action_source=flow"
            )

    def _check_choice(self) -> None:
        _require_choice(self.chosen_by, (AGREEMENT, VALUE), name="inference.chosen_by")
        is_by_value = self.chosen_by == VALUE
        if is_by_value and self.num_candidates == 1:
            raise OptionError("inference.chosen_by is 'value' of one chunk; set inference.num_candidates=4, or leave it out")
        if is_by_value != (self.critic is not None):
            raise OptionError(
                f"inference.chosen_by is {self.chosen_by!r} and inference.critic {self.critic!r}; a choice by value needs the "
                "folder of a value stage that was made with +value.scores_chunks=true, and no other choice reads one"
            )
        if self.num_candidates < 1 or (self.num_candidates == 2 and not is_by_value):
            raise OptionError(
                f"inference.num_candidates is {self.num_candidates}; use 1, or at least 3: "
                "of two, neither agrees more with the other"
            )
        if self.action_source == FAST and self.num_candidates != 1:
            raise OptionError(
                f"inference.num_candidates is {self.num_candidates} with inference.action_source {FAST!r}, which has one most "
                "likely chunk; set num_candidates=1 or action_source=flow"
            )


def identifying(inference: Mapping[str, Any]) -> dict[str, Any]:
    """Return what results depend on of the options as plain data: all but newer ones at their defaults."""
    default = dataclasses.asdict(InferenceOptions())
    return {name: value for name, value in inference.items() if name not in NEWER or value != default[name]}


def require_indicator(value: str, *, name: str) -> None:
    """Raise `OptionError` for anything but the name of an indicator."""
    if value not in INDICATORS:
        raise OptionError(f"{name} is {value!r}; use {', '.join(INDICATORS)}.{near_matches(value, INDICATORS)}")


def _require_choice(value: str, choices: tuple[str, ...], *, name: str) -> None:
    if value not in choices:
        raise OptionError(f"{name} is {value!r}; use {' or '.join(map(repr, choices))}.{near_matches(value, choices)}")
