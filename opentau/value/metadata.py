"""Episode metadata: how an episode went, in words, instead of what a value function says of its frames (improve=metadata)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from opentau.data.telling import NOT_SAID, Telling, ToldPart, told_text
from opentau.errors import OptionError
from opentau.types import Indicator
from opentau.value.table import ValueTable

# Shapes: F frames, E episodes.

QUALITY, SPEED = "quality", "speed"
QUALITIES = LOW, HIGH = ("low", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataOptions:
    """Conditioning on an episode's quality and speed (π0.7, arXiv:2604.15483): what RECAP learns without a critic.

    What succeeded is of high quality, what failed or ended in a takeover of low. The speed is the episode's among the
    successful ones of its task, in equally large parts; nothing is said of a failure's.
    """

    speeds: tuple[str, ...] = ("slow", "medium", "fast")
    """Words for the parts, the slowest first."""
    dropout: float = 0.15
    """Share of the samples that are told neither."""
    part_dropout: float = 0.05
    """Share of the others that are not told the quality, and of those that are not told the speed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "speeds", tuple(self.speeds))
        if not self.speeds or len(set(self.speeds)) != len(self.speeds) or not all(self.speeds):
            raise OptionError(f"improve.args.speeds are {list(self.speeds)}; name at least one word, each once, slowest first")
        for name in ("dropout", "part_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"improve.args.{name} is {getattr(self, name)}; it must lie in [0, 1)")

    @property
    def asked(self) -> str:
        """What the policy is asked for: high quality, and the fastest speed."""
        return told_text({QUALITY: HIGH, SPEED: self.speeds[-1]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """How the episodes of a table went."""

    quality: np.ndarray
    """Position in `QUALITIES`, int8 [F]."""
    speed: np.ndarray
    """Position in the speeds' words, `NOT_SAID` where the quality is low or the episode failed, int8 [F]."""
    limits: dict[str, list[float]] = field(default_factory=dict)
    """Task to the control steps that part its speeds, the fastest first; an episode as long as a limit is the faster."""

    @property
    def drawn_as(self) -> np.ndarray:
        """Return frames of high quality as positive, the others as negative, for batches with a share of each; int8 [F]."""
        return np.where(self.quality == QUALITIES.index(HIGH), Indicator.POSITIVE, Indicator.NEGATIVE).astype(np.int8)

    def telling(self, options: MetadataOptions) -> Telling:
        """Return what a policy is told of every frame."""
        parts = (
            ToldPart(name=QUALITY, words=QUALITIES, word=self.quality),
            ToldPart(name=SPEED, words=options.speeds, word=self.speed),
        )
        return Telling(parts=parts, dropout=options.dropout, part_dropout=options.part_dropout)


def metadata_of(frames: ValueTable, options: MetadataOptions) -> Metadata:
    """Return the metadata of all frames; tasks are measured each by itself."""
    is_good = ~frames.is_autonomous | frames.led_to_success()
    count, lengths, tasks = len(options.speeds), frames.table.length, frames.tasks
    speed = np.full(len(lengths), NOT_SAID, np.int8)
    limits = {}
    for task in frames.table.task_ids:
        members = (tasks == task) & frames.is_success
        if not members.any():
            continue
        parting = np.quantile(lengths[members], np.arange(1, count) / count) if count > 1 else np.zeros(0)
        speed[members] = count - 1 - np.searchsorted(parting, lengths[members], side="left")
        limits[task] = [round(float(limit), 3) for limit in parting]
    is_said = is_good & frames.is_success[frames.table.episode]
    quality = np.where(is_good, QUALITIES.index(HIGH), QUALITIES.index(LOW)).astype(np.int8)
    return Metadata(
        quality=quality, speed=np.where(is_said, speed[frames.table.episode], NOT_SAID).astype(np.int8), limits=limits
    )
