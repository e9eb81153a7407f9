"""From the options of a mixture to its data: datasets found, opened and described, questions read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from opentau.checkpoint import file_sha256
from opentau.config import cache_dir
from opentau.data.cache import FrameCache
from opentau.data.frames import FrameTable
from opentau.data.images import ImageFit
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.hub import find_dataset
from opentau.data.mixture import Schedule
from opentau.data.options import MAIN, MixtureOptions, PartOptions
from opentau.data.resampling import ACTION_SPACES, Resampling
from opentau.data.vlm.reading import READERS, read_questions
from opentau.data.window import BY_FRAME
from opentau.errors import OptionError, near_matches
from opentau.training.mixing import MixtureData, QuestionPart, RobotPart
from opentau.types import Interface, content_hash

GIGABYTE = 10**9
WINDOW_SHARE = 0.5
"""Of the frame cache that the episodes at hand take; the rest keeps what left the window last."""
FRAMES_FOLDER = "frames"
UNKNOWN = "unknown"
"""Action space of an interface that LeRobot recorded."""


def described_parts(options: MixtureOptions, *, main: Interface) -> dict[str, tuple[Interface, dict[str, str]]]:
    """Return interface and cameras of every robot's part, by name, from descriptions alone.

    Raises `OptionError` for cameras or action spaces that do not exist, and `DataError` for datasets that cannot be read.
    """
    described = {}
    for part in options.parts:
        if part.dataset:
            interface = _interface(part, _opened(part.dataset, part.episodes).interface, main=main)
            described[part.name] = (interface, _cameras(part, interface, main=main))
    return described


def joint_shape(options: MixtureOptions, *, main: Interface) -> tuple[tuple[str, ...], int, int]:
    """Return the cameras, sorted, and the state and action dimensions of a policy for the environment and all parts."""
    described = described_parts(options, main=main).values()
    interfaces = [main, *(interface for interface, _ in described)]
    cameras = set(main.cameras).union(*(cameras for _, cameras in described))
    state_dim = max(interface.state_dim for interface in interfaces)
    return tuple(sorted(cameras)), state_dim, max(interface.action_dim for interface in interfaces)


def mixture_data(
    options: MixtureOptions, *, main: Interface, image_size: int, image_fit: ImageFit = ImageFit.CENTRED
) -> MixtureData | None:
    """Return the data of the mixture, with images as the policy sees them, or None where the options name none."""
    if not options.is_used:
        return None
    described = described_parts(options, main=main)
    num_robots = len(described)
    parts: list[RobotPart | QuestionPart] = []
    for part in options.parts:
        weight = Schedule.of(part.weight)
        if part.questions:
            questions = read_questions(_questions_path(part.questions), validation_share=part.validation_share)
            is_balanced = part.balance != BY_FRAME
            parts.append(QuestionPart(name=part.name, questions=questions, weight=weight, is_balanced=is_balanced))
            continue
        interface, cameras = described[part.name]
        table = _robot_table(part, options, cameras, interface=interface, image_size=image_size, image_fit=image_fit)
        parts.append(_robot_part(part, options, interface, cameras, table=table, num_robots=num_robots))
    return MixtureData(
        parts=tuple(parts),
        main_weight=Schedule.of(options.main_weight),
        size_exponent=options.size_exponent,
        subtask_weight=Schedule.of(options.subtask_weight) if options.subtask_weight else None,
    )


def mixture_inputs(options: MixtureOptions) -> dict[str, Any]:
    """Return what a training depends on of its mixture; nothing where there is none."""
    if not options.is_used:
        return {}
    parts = []
    for part in options.parts:
        plain = {name: value for name, value in asdict(part).items() if name not in ("dataset", "questions")}
        content = (
            _opened(part.dataset, part.episodes).dataset_id if part.dataset else _questions_id(_questions_path(part.questions))
        )
        parts.append({**plain, "content": content})
    # The cache decides how many episodes are at hand at a time.
    names = ["main_weight", "size_exponent", "cache_gb", "subtask_weight"] + ["text_weight"] * options.has_questions
    return {"mixture": {"parts": parts, **{name: getattr(options, name) for name in names}}}


def frame_cache(options: MixtureOptions) -> FrameCache | None:
    """Return the cache that frames are decoded into, or None where all are in memory."""
    if options.cache_gb is None:
        return None
    return FrameCache(cache_dir() / FRAMES_FOLDER, budget_bytes=int(options.cache_gb * GIGABYTE))


def window_episodes(table: FrameTable, options: MixtureOptions, *, num_tables: int) -> int | None:
    """Return how many episodes of a table, one of several that share the cache, may be at hand; None for all."""
    if options.cache_gb is None:
        return None
    frame_bytes = sum(math.prod(column.shape[1:]) for column in table.images.values())
    episode_bytes = max(1, len(table) * frame_bytes // len(table.episodes))
    return int(WINDOW_SHARE * options.cache_gb * GIGABYTE / num_tables / episode_bytes)


def _robot_table(
    part: PartOptions,
    options: MixtureOptions,
    cameras: Mapping[str, str],
    *,
    interface: Interface,
    image_size: int,
    image_fit: ImageFit,
) -> FrameTable:
    return FrameTable.from_datasets(
        [_opened(part.dataset, part.episodes)],
        cameras=cameras,
        image_size=image_size,
        image_fit=image_fit,
        cache=frame_cache(options),
        resampling=Resampling.of(interface, to_hz=part.control_hz) if part.control_hz is not None else None,
    )


def _robot_part(
    part: PartOptions,
    options: MixtureOptions,
    interface: Interface,
    cameras: Mapping[str, str],
    *,
    table: FrameTable,
    num_robots: int,
) -> RobotPart:
    dataset = _opened(part.dataset, part.episodes)
    interface = replace(interface, control_hz=part.control_hz) if part.control_hz is not None else interface
    return RobotPart(
        name=part.name,
        table=table,
        weight=Schedule.of(part.weight),
        interface=interface,
        cameras=dict(cameras),
        embodiment=part.embodiment_name,
        hint=_hint(part, dataset, interface),
        balance=part.balance,
        window_episodes=window_episodes(table, options, num_tables=num_robots + 1),
    )


def _hint(part: PartOptions, dataset: Dataset, interface: Interface) -> str:
    """Return the words that tell robot and rate, unless the options give others."""
    if part.hint is not None:
        return part.hint
    if part.embodiment_name == MAIN:
        return ""
    return f"{dataset.catalog.info.get('robot_type') or part.embodiment_name}, {interface.control_hz:g} hz"


def _interface(part: PartOptions, interface: Interface, *, main: Interface) -> Interface:
    """Return what a dataset's robot offers, with what LeRobot does not record filled in."""
    if part.embodiment_name == MAIN:
        return _as_main(part, interface, main)
    if not part.action_space:
        return interface
    if part.action_space not in ACTION_SPACES:
        raise OptionError(
            f"action_space of part {part.name!r} is {part.action_space!r}.{near_matches(part.action_space, ACTION_SPACES)}"
        )
    return replace(interface, action_space=part.action_space)


def _cameras(part: PartOptions, interface: Interface, *, main: Interface) -> dict[str, str]:
    """Return the policy's camera to the dataset's; a part that shows the policy nothing raises `OptionError`."""
    offered = ", ".join(sorted(interface.cameras))
    if part.cameras is None:
        cameras = {camera: camera for camera in main.cameras if camera in interface.cameras}
        if not cameras and interface.cameras:
            wanted = ", ".join(sorted(main.cameras))
            raise OptionError(
                f"part {part.name!r} has the cameras {offered}, the policy {wanted}; say which is which: "
                f"cameras: {{{next(iter(main.cameras))}: {next(iter(interface.cameras))}}}"
            )
        return cameras
    unknown = [camera for camera in part.cameras.values() if camera not in interface.cameras]
    if unknown:
        raise OptionError(f"part {part.name!r} has no camera {unknown[0]!r}; it has {offered}")
    return dict(part.cameras)


def _as_main(part: PartOptions, interface: Interface, main: Interface) -> Interface:
    """Return the environment's own interface with the images of a part of it; another robot raises `OptionError`.

    What LeRobot does not record, units and action space, is taken to be the environment's.
    """
    rate = part.control_hz if part.control_hz is not None else interface.control_hz
    stated = part.action_space or interface.action_space
    pairs = {
        "state": (interface.state_names, main.state_names),
        "action": (interface.action_names, main.action_names),
        "control_hz": (rate, main.control_hz),
        "action_space": (main.action_space if stated == UNKNOWN else stated, main.action_space),
    }
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise OptionError(
                f"part {part.name!r} says it is of the environment's embodiment, but its {name} is {theirs}, the environment's "
                f"{ours}; give it an embodiment of its own"
                + (", or bring it to that rate with control_hz" if name == "control_hz" else "")
            )
    return replace(main, cameras=interface.cameras, control_hz=interface.control_hz)


@cache
def _opened(reference: str, episodes: Sequence[int] | None) -> Dataset:
    return Dataset(find_dataset(reference), episodes=episodes)


def _questions_path(reference: str) -> Path:
    path = Path(reference).expanduser()
    return path if path.exists() else find_dataset(reference)


def _questions_id(root: Path) -> str:
    """Return a content hash of the files of questions and of the pictures that they name, by their places in the folder."""
    folder = root if root.is_dir() else root.parent
    files = {path for path in root.rglob("*") if path.suffix in READERS} if root.is_dir() else {root}
    asked = read_questions(root)
    files |= {
        stored for sample in asked.train + asked.validation for stored in sample.images.values() if isinstance(stored, Path)
    }
    return content_hash({str(path.relative_to(folder)): file_sha256(path) for path in sorted(files)})
