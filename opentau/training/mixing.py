"""What a policy is trained on beside its own environment's frames: other robots' datasets, and questions about images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from opentau.data.augmentation import Augmentation
from opentau.data.batches import Batch, BatchSource
from opentau.data.codec import Codec, CodecKind
from opentau.data.fitting import PolicySizes
from opentau.data.frames import FrameTable, episodes_held_out
from opentau.data.mixture import Mixture, Part, Schedule
from opentau.data.options import MAIN
from opentau.data.statistics import DimStatistics
from opentau.data.vlm.next_subtask import SubtaskSource
from opentau.data.vlm.samples import QuestionSet, QuestionSource, VisualSample
from opentau.data.window import BY_TASK, Window
from opentau.errors import DataError, OptionError, near_matches
from opentau.policies.config import PolicyConfig
from opentau.policies.embodiment import Embodiment, prompted
from opentau.policies.processor import Processor
from opentau.types import Indicator, Interface, Source, derive_seed

# Shapes: F frames.

SUBTASKS = "subtasks"
"""Name of the part that asks which subtask comes next."""
SUBTASK_SHARE = 0.9
"""Of the acting samples whose subtask is known, those that have it in their prompt; the others act on the task alone."""
MAX_ASKED = 128
"""Held-out questions of a part that are answered at every measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotPart:
    """Recorded episodes of a robot or simulator; its cameras are named after the policy's."""

    name: str
    table: FrameTable
    weight: Schedule
    interface: Interface
    """As recorded."""
    cameras: dict[str, str]
    """The policy's camera to the interface's."""
    embodiment: str
    """Parts of one embodiment share their statistics; 'main' is the loop's own environment."""
    hint: str = ""
    """Words added to its prompts."""
    balance: str = BY_TASK
    """What is drawn alike; see `opentau.data.window`."""
    window_episodes: int | None = None
    """Episodes at hand at a time, for frames in a cache; None for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionPart:
    """Questions about images."""

    name: str
    questions: QuestionSet
    weight: Schedule
    is_balanced: bool = True
    """Whether every kind of question is drawn alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureData:
    """The other parts, and how much of a batch is left to the policy's own environment."""

    parts: tuple[RobotPart | QuestionPart, ...] = ()
    main_weight: Schedule = field(default_factory=lambda: Schedule.of(1.0))
    size_exponent: float = 0.0
    subtask_weight: Schedule | None = None
    """Of the question which subtask comes next, about the environment's own frames; None asks nothing of the kind."""

    @property
    def robots(self) -> tuple[RobotPart, ...]:
        return tuple(part for part in self.parts if isinstance(part, RobotPart))

    @property
    def questions(self) -> tuple[QuestionPart, ...]:
        return tuple(part for part in self.parts if isinstance(part, QuestionPart))


def fitted_embodiments(
    table: FrameTable, interface: Interface, mixture: MixtureData, *, held_out_share: float, codec: str
) -> list[Embodiment]:
    """Return the embodiments of a new policy, the main one first; `codec` says how they scale.

    Each has the statistics of all its parts' frames that are trained on; of the environment's own, those of all its frames.
    """
    own = [_states_and_actions(table, np.ones(len(table), bool))]
    own += [_trained(part, held_out_share) for part in mixture.robots if part.embodiment == MAIN]
    others = other_embodiments(mixture, held_out_share=held_out_share, codec=codec)
    return [Embodiment.sole(interface, _codec(own, kind=codec)), *others]


def other_embodiments(mixture: MixtureData, *, held_out_share: float, codec: str) -> list[Embodiment]:
    """Return the embodiments of all parts that are not of the environment's; parts of one that differ raise `OptionError`."""
    others: dict[str, list[RobotPart]] = {}
    for part in mixture.robots:
        if part.embodiment != MAIN:
            others.setdefault(part.embodiment, []).append(part)
    made = []
    for name, members in others.items():
        for part in members[1:]:
            _require_same_robot(members[0], part)
        scaling = _codec([_trained(part, held_out_share) for part in members], kind=codec)
        first = members[0]
        made.append(Embodiment(name=name, interface=first.interface, codec=scaling, cameras=first.cameras, hint=first.hint))
    return made


def _require_same_robot(one: RobotPart, other: RobotPart) -> None:
    """Raise `OptionError` unless two parts of one embodiment have the same numbers, rate, cameras and words."""
    for name in ("state_names", "action_names", "action_space", "control_hz"):
        if getattr(one.interface, name) != getattr(other.interface, name):
            raise OptionError(
                f"parts {one.name!r} and {other.name!r} are of one embodiment, but their {name} are "
                f"{getattr(one.interface, name)} and {getattr(other.interface, name)}; give them embodiments of their own"
            )
    if one.hint != other.hint or one.cameras != other.cameras:
        raise OptionError(
            f"parts {one.name!r} and {other.name!r} are of one embodiment, but differ in hint ({one.hint!r}, {other.hint!r}) "
            f"or cameras ({one.cameras}, {other.cameras}); make them equal, or give them embodiments of their own"
        )


def mixed_batches(
    main: BatchSource,
    mixture: MixtureData,
    *,
    make_main: Callable[..., BatchSource],
    eligible: np.ndarray,
    processor: Processor,
    augmentation: Augmentation,
    action_limit: float,
    held_out_share: float,
    num_updates: int,
    seed: int,
) -> Mixture:
    """Return batches of everything; a checkpoint without the embodiment of a part raises `OptionError`.

    `make_main` builds further sources of the environment's own frames, of which bool [F] are `eligible`.
    """
    sizes = policy_sizes(processor.config)
    parts = [Part(name=MAIN, source=main, weight=mixture.main_weight, size=len(main.table))]
    for robot in mixture.robots:
        parts.append(
            robot_part(
                robot, embodiment_of(processor, robot), eligible=trained_rows(robot, held_out_share=held_out_share),
                augmentation=augmentation,
                action_limit=action_limit, sizes=sizes, seed=derive_seed(seed, robot.name),
            )
        )  # fmt: skip
    if mixture.subtask_weight is not None:
        asked = SubtaskSource(make_main, eligible=eligible, has_subtask=has_subtask(main.table))
        parts.append(Part(name=SUBTASKS, source=asked, weight=mixture.subtask_weight, size=len(asked)))
    parts += [question_part(asked, sizes=sizes, augmentation=augmentation) for asked in mixture.questions]
    return Mixture(
        parts,
        sizes=sizes,
        batch_size=main.batch_size,
        num_updates=num_updates,
        seed=derive_seed(seed, "mixture"),
        size_exponent=mixture.size_exponent,
    )


def held_out_robots(
    mixture: MixtureData, *, processor: Processor, action_limit: float, held_out_share: float, batch_size: int, seed: int
) -> dict[str, Callable[[int], Batch]]:
    """Return, by part, batches of the episodes that measure; parts without any are left out."""
    found: dict[str, Callable[[int], Batch]] = {}
    sizes, seed = policy_sizes(processor.config), derive_seed(seed, "measure")
    for robot in mixture.robots:
        is_held_out = episodes_held_out(robot.table, share=held_out_share) & _succeeded(robot.table)
        if is_held_out.any():
            part = robot_part(
                robot, embodiment_of(processor, robot), eligible=is_held_out, augmentation=None,
                action_limit=action_limit, sizes=sizes, seed=derive_seed(seed, robot.name),
            )  # fmt: skip
            found[robot.name] = Mixture([part], sizes=sizes, batch_size=batch_size, num_updates=1, seed=seed)
    return found


def held_out_questions(mixture: MixtureData, processor: Processor) -> dict[str, tuple[QuestionSource, Sequence[VisualSample]]]:
    """Return, by part, held-out questions and what draws them; at most `MAX_ASKED`, the same ones every time."""
    found: dict[str, tuple[QuestionSource, Sequence[VisualSample]]] = {}
    for part in mixture.questions:
        samples = sorted(part.questions.validation, key=lambda sample: derive_seed(0, "asked", sample.sample_id))[:MAX_ASKED]
        if samples:
            found[part.name] = (QuestionSource(samples, sizes=policy_sizes(processor.config)), samples)
    return found


def robot_part(
    robot: RobotPart,
    embodiment: Embodiment,
    *,
    eligible: np.ndarray,
    augmentation: Augmentation | None,
    action_limit: float,
    sizes: PolicySizes,
    seed: int,
) -> Part:
    """Return a robot's episodes as a part of a mixture; they are demonstrations and positive."""
    source = BatchSource(
        robot.table,
        codec=embodiment.codec,
        horizon=sizes.action_horizon,
        seed=seed,
        shares=None,
        eligible=eligible,
        indicator=np.full(len(robot.table), Indicator.POSITIVE, np.int8),
        augmentation=augmentation,
        action_limit=action_limit,
        balance=robot.balance,
        window=Window(num_episodes=robot.window_episodes, seed=seed) if robot.window_episodes is not None else None,
    )

    def adapt(batch: Batch) -> Batch:
        return replace(batch, prompt=[prompted(prompt, robot.hint) for prompt in batch.prompt])

    return Part(name=robot.name, source=source, weight=robot.weight, size=len(robot.table), adapt=adapt)


def question_part(asked: QuestionPart, *, sizes: PolicySizes, augmentation: Augmentation | None) -> Part:
    """Return questions as a part of a mixture."""
    source = QuestionSource(asked.questions.train, sizes=sizes, augmentation=augmentation, is_balanced=asked.is_balanced)
    return Part(name=asked.name, source=source, weight=asked.weight, size=len(source))


def embodiment_of(processor: Processor, part: RobotPart) -> Embodiment:
    """Return the policy's embodiment of a part."""
    known = {each.name: each for each in processor.embodiments}
    if part.embodiment not in known:
        raise OptionError(
            f"the policy was not trained on embodiment {part.embodiment!r} of part {part.name!r}."
            f"{near_matches(part.embodiment, known)} Train it from the start with this part, or leave the part out"
        )
    return known[part.embodiment]


def policy_sizes(config: PolicyConfig) -> PolicySizes:
    return PolicySizes(
        cameras=config.cameras,
        image_size=config.vision.image_size,
        state_dim=config.state_dim,
        action_dim=config.action_dim,
        action_horizon=config.action_horizon,
        image_fit=config.image_fit,
    )


def has_subtask(table: FrameTable) -> np.ndarray:
    """Return the frames whose subtask is known from somebody else than the policy itself, bool [F]."""
    is_told = np.array([bool(subtask) for subtask in table.subtasks])[table.subtask]
    return is_told & (table.source != Source.AUTONOMOUS)


def _codec(columns: Sequence[tuple[np.ndarray, np.ndarray]], *, kind: str) -> Codec:
    """Return the codec of states [F, S] and actions [F, A] of several tables."""
    states, actions = zip(*columns, strict=True)
    state, action = DimStatistics.of(np.concatenate(states)), DimStatistics.of(np.concatenate(actions))
    return Codec(kind=cast(CodecKind, kind), state=state, action=action)


def _trained(part: RobotPart, held_out_share: float) -> tuple[np.ndarray, np.ndarray]:
    return _states_and_actions(part.table, trained_rows(part, held_out_share=held_out_share))


def _states_and_actions(table: FrameTable, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return table.state[rows], table.action[rows]


def trained_rows(part: RobotPart, *, held_out_share: float) -> np.ndarray:
    """Return the frames of a part that are learned from, bool [F]: of successes that are not held out.

    A part without any raises `DataError`.
    """
    rows = ~episodes_held_out(part.table, share=held_out_share) & _succeeded(part.table)
    if not rows.any():
        failed = sum(not record.is_success for record in part.table.episodes)
        raise DataError(
            f"part {part.name!r} has nothing to learn from: {failed} of its {len(part.table.episodes)} episodes failed; "
            "choose others with its option episodes, or leave it out"
        )
    return rows


def _succeeded(table: FrameTable) -> np.ndarray:
    """Return the frames of successful episodes, bool [F]."""
    return np.array([record.is_success for record in table.episodes])[table.episode]
