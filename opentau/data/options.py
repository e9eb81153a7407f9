"""What a policy is trained on beside its own environment, as plain options; checked before anything heavy loads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentau.errors import OptionError

MAIN = "main"
"""What the environment's own episodes and its embodiment are called."""


MAX_LOCATIONS = 1024
"""Bins that a coordinate of an answer is written in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOptions:
    """One part of the mixture: a robot's dataset, or questions about images."""

    name: str
    """Unique; in metrics and messages."""
    dataset: str = ""
    """A LeRobot dataset (v2.1 or v3.0): a folder, 'owner/name' or 'owner/name@revision'."""
    questions: str = ""
    """A folder or file (what `opentau data make-vqa` writes, JSON lines, conversations, parquet, arrow), or a hub name."""
    weight: Any = 1.0
    """A number, or a list of [progress from 0 to 1, weight]: linear between."""
    episodes: tuple[int, ...] | None = None
    """`episode_index` of the episodes to use; null for all."""
    cameras: Mapping[str, str] | None = None
    """The policy's camera to the dataset's; null takes cameras of equal names."""
    embodiment: str = ""
    """Parts of one embodiment share their statistics; '' is one of the part's own, 'main' that of the environment."""
    action_space: str = ""
    """What LeRobot does not record: delta_ee, absolute_ee, delta_joint or absolute_joint."""
    control_hz: float | None = None
    """Bring the episodes to this rate; null keeps theirs, which the prompt then tells."""
    hint: str | None = None
    """Words added to every prompt; null tells robot and rate, '' nothing."""
    balance: str = "task"
    """What is drawn alike: 'task' (and the episodes of each), 'episode' or 'frame'. Of questions kinds, unless 'frame'."""
    validation_share: float = 0.1
    """Of questions without a validation file."""

    def __post_init__(self) -> None:
        if bool(self.dataset) == bool(self.questions):
            raise OptionError(f"part {self.name!r} of the mixture needs either a dataset or questions, and not both")
        if self.balance not in ("task", "episode", "frame"):
            raise OptionError(f"balance of part {self.name!r} is {self.balance!r}; use 'task', 'episode' or 'frame'")
        _require_weight(self.weight, name=f"the weight of part {self.name!r}")
        if self.control_hz is not None and self.control_hz <= 0:
            raise OptionError(f"control_hz of part {self.name!r} is {self.control_hz}; it must be above 0, or null")
        if not 0 <= self.validation_share < 1:
            raise OptionError(f"validation_share of part {self.name!r} is {self.validation_share}; it must lie in 0 to 1")

    @property
    def embodiment_name(self) -> str:
        return self.embodiment or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureOptions:
    """All parts, and how they are weighed."""

    parts: tuple[PartOptions, ...] = ()
    main_weight: Any = 1.0
    """Weight of the environment's own episodes, a number or a list like a part's."""
    size_exponent: float = 0.0
    """Weights are multiplied by size to this power: 0 takes them as they are, 1 goes by size, between is a temperature."""
    cache_gb: float | None = None
    """Frames are decoded into a cache on disk of this size when they are needed; null keeps all in memory."""
    subtask_weight: float = 0.0
    """Weight of the question which subtask comes next, about frames of which that is known; above 0 the policy says the subtask
    first and then acts on it (π0.5)."""
    text_weight: float = 0.1
    """Weight of the cross-entropy of answers; the flow loss weighs 1, so that the default is the ratio of π0.5."""
    num_locations: int = 128
    """Bins of image coordinates in answers, for policies that are asked questions."""

    def __post_init__(self) -> None:
        names = [part.name for part in self.parts]
        if len(set(names)) != len(names) or MAIN in names:
            raise OptionError(f"the parts of the mixture are {names}; give each a name of its own, other than {MAIN!r}")
        if self.cache_gb is not None and self.cache_gb <= 0:
            raise OptionError(f"mixture.cache_gb is {self.cache_gb}; it must be above 0, or null")
        _require_weight(self.main_weight, name="mixture.main_weight")
        if not 0 <= self.size_exponent <= 1:
            raise OptionError(f"mixture.size_exponent is {self.size_exponent}; 0 takes weights as they are, 1 goes by size")
        for name in ("subtask_weight", "text_weight"):
            _require_weight(getattr(self, name), name=f"mixture.{name}")
        if not 1 <= self.num_locations <= MAX_LOCATIONS:
            raise OptionError(f"mixture.num_locations is {self.num_locations}; it must lie in 1 to {MAX_LOCATIONS}")
        weights = [self.main_weight, self.subtask_weight, *(part.weight for part in self.parts)]
        if not any(_largest(weight) > 0 for weight in weights):
            raise OptionError("all weights of the mixture are 0; give main_weight or a part one above 0")

    @property
    def is_used(self) -> bool:
        """Whether trainings differ from those on the environment's own episodes as they are, all in memory."""
        return bool(self.parts) or self.subtask_weight > 0 or self.cache_gb is not None

    @property
    def has_questions(self) -> bool:
        return self.subtask_weight > 0 or any(part.questions for part in self.parts)


def _require_weight(weight: Any, *, name: str) -> None:
    """Raise `OptionError` unless a weight is a number of at least 0, or a list of [progress, weight] in ascending progress."""
    points = weight if isinstance(weight, list | tuple) else [[0.0, weight]]
    is_listed = all(isinstance(point, list | tuple) and len(point) == 2 for point in points)
    numbers = [number for point in points for number in point] if is_listed else []
    is_numeric = bool(numbers) and all(
        isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers
    )
    progress = numbers[0::2]
    if not is_numeric or min(numbers) < 0 or max(progress) > 1 or progress != sorted(set(progress)):
        raise OptionError(
            f"{name} is {weight!r}; it must be a number of at least 0, or a list of [progress, weight] with progress ascending "
            "from 0 to 1"
        )


def _largest(weight: Any) -> float:
    return max(value for _, value in weight) if isinstance(weight, list | tuple) else float(weight)
