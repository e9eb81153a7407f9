"""What a mixture would give, before anything is trained: shares, maskings, statistics, and one batch as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from opentau.data.batches import Batch
from opentau.data.fitting import PolicySizes
from opentau.data.frames import FrameTable
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.hub import find_dataset
from opentau.data.mixture import Mixture, Part, scaled_weights
from opentau.data.options import MAIN
from opentau.data.tools.drawing import FAINT, frame_strip, stack, text_picture
from opentau.errors import DataError
from opentau.loop.mixing import mixture_data
from opentau.loop.options import LoopOptions
from opentau.loop.starting import policy_start
from opentau.policies.config import PolicyConfig
from opentau.policies.embodiment import Embodiment
from opentau.policies.pretrained import start_config
from opentau.training.mixing import (
    SUBTASKS,
    MixtureData,
    RobotPart,
    fitted_embodiments,
    other_embodiments,
    policy_sizes,
    question_part,
    robot_part,
)
from opentau.types import Interface, derive_seed

PICTURE_WIDTH, ROW_HEIGHT = 900, 128
MAX_PICTURED = 12
LATER = "recorded later"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartView:
    """One part of a mixture as a row of a table."""

    name: str
    kind: str
    """'own episodes', 'robot' or 'questions'."""
    size: int
    """Frames or questions; 0 where they are recorded later."""
    first_share: float
    last_share: float
    """Of a batch, at the beginning and at the end of the training."""
    embodiment: str = ""
    state: str = "masked"
    action: str = "masked"
    """Dimensions that the part has, of those that the policy has."""
    rate: str = ""
    cameras: str = "as each question has"
    missing_cameras: str = ""
    """The policy's cameras that are masked out."""
    statistics_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixPreview:
    """A mixture, and one batch of what there is of it."""

    rows: tuple[PartView, ...]
    batch: Batch
    names: tuple[str, ...]
    """Of the parts that the batch's `part` counts."""

    def picture(self) -> Image.Image:
        """Return samples of the batch one below the other: every camera, what is asked and said, what is masked."""
        batch = self.batch
        assert batch.part is not None
        pictures: list[Image.Image] = []
        for row in np.unique(np.linspace(0, len(batch) - 1, MAX_PICTURED).round().astype(int)):
            pictures.append(text_picture(f"{self.names[batch.part[row]]}: {batch.prompt[row]}", width=PICTURE_WIDTH))
            pictures.append(text_picture(_says(batch, row), width=PICTURE_WIDTH, colour=FAINT))
            frames = [pixels[row] for pixels in batch.images.values()]
            labels = [camera if batch.has_camera[camera][row] else f"{camera}: masked" for camera in batch.images]
            pictures.append(frame_strip(frames, labels, width=PICTURE_WIDTH, max_height=ROW_HEIGHT))
        return stack(pictures, margin=16, gap=6)


def preview(options: LoopOptions, main: Interface) -> MixPreview:
    """Read the parts and draw a batch; the environment's own episodes are in it where datasets of them are given.

    Raises `DataError` for a mixture without parts, or without anything to draw from yet.
    """
    config = start_config(policy_start(options, main=main))
    data = mixture_data(options.mixture, main=main, image_size=config.vision.image_size, image_fit=config.image_fit)
    if data is None:
        raise DataError("the mixture has no parts; name some, for example mixture.parts=[{name: arm, dataset: owner/name}]")
    own = _own_table(options, config)
    share = options.batch.held_out_share
    if own is None:
        embodiments = other_embodiments(data, held_out_share=share, codec=config.codec)
    else:
        embodiments = fitted_embodiments(own, main, data, held_out_share=share, codec=config.codec)
    known = {each.name: each for each in embodiments}
    sizes = policy_sizes(config)
    parts = _parts(options, data, main=main, own=own, embodiments=known, sizes=sizes)
    drawable = [part for part in parts if part.size]
    if not drawable:
        raise DataError("nothing can be drawn from yet; give data.datasets, questions, or a part of another embodiment")
    drawn = Mixture(
        drawable,
        sizes=sizes,
        batch_size=options.sft.batch_size,
        num_updates=options.sft.num_updates,
        seed=options.seed,
        size_exponent=options.mixture.size_exponent,
    )
    return MixPreview(
        rows=tuple(_views(options, parts, data, main=main, embodiments=known, sizes=sizes)),
        batch=drawn(0),
        names=tuple(part.name for part in drawable),
    )


class _Later:
    """Stands for episodes that the run records before it trains."""

    def draw(self, num_samples: int, *, rng: np.random.Generator, num_before: int) -> Batch:
        raise DataError("the environment's own episodes are recorded by the run; give data.datasets to see some")


def _own_table(options: LoopOptions, config: PolicyConfig) -> FrameTable | None:
    if not options.data.datasets:
        return None
    datasets = [Dataset(find_dataset(reference)) for reference in options.data.datasets]
    return FrameTable.from_datasets(datasets, image_size=config.vision.image_size, image_fit=config.image_fit)


def _parts(
    options: LoopOptions,
    data: MixtureData,
    *,
    main: Interface,
    own: FrameTable | None,
    embodiments: Mapping[str, Embodiment],
    sizes: PolicySizes,
) -> list[Part]:
    """Return all parts without augmentation; the environment's own have size 0 where they are recorded later."""
    parts = [Part(name=MAIN, source=_Later(), weight=data.main_weight, size=0)]
    if own is not None:
        described = RobotPart(name=MAIN, table=own, weight=data.main_weight, interface=main, cameras={}, embodiment=MAIN)
        parts = [_drawn(options, described, embodiments, sizes)]
    for robot in data.robots:
        has_statistics = robot.embodiment in embodiments
        drawn = _drawn(options, robot, embodiments, sizes) if has_statistics else None
        parts.append(drawn or Part(name=robot.name, source=_Later(), weight=robot.weight, size=0))
    if data.subtask_weight is not None:
        parts.append(Part(name=SUBTASKS, source=_Later(), weight=data.subtask_weight, size=0))
    return parts + [question_part(asked, sizes=sizes, augmentation=None) for asked in data.questions]


def _drawn(options: LoopOptions, robot: RobotPart, embodiments: Mapping[str, Embodiment], sizes: PolicySizes) -> Part:
    return robot_part(
        robot,
        embodiments[robot.embodiment],
        eligible=np.ones(len(robot.table), bool),
        augmentation=None,
        action_limit=options.batch.action_limit,
        sizes=sizes,
        seed=derive_seed(options.seed, robot.name),
    )


def _views(
    options: LoopOptions,
    parts: list[Part],
    data: MixtureData,
    *,
    main: Interface,
    embodiments: Mapping[str, Embodiment],
    sizes: PolicySizes,
) -> list[PartView]:
    """Return the rows; the shares of episodes that are recorded later are those of their weight alone."""
    # Without a size there is no telling by size: as if such a part were as large as the others are on average.
    known = [part.size for part in parts if part.size]
    sized = [part if part.size else replace(part, size=int(np.mean(known))) for part in parts]
    weights_2P = scaled_weights(sized, np.array([0.0, 1.0]), size_exponent=options.mixture.size_exponent)
    first_P, last_P = weights_2P / weights_2P.sum(axis=1, keepdims=True)
    robots = {part.name: part for part in data.robots}
    views = []
    for part, first, last in zip(parts, first_P, last_P, strict=True):
        kind = "own episodes" if part.name == MAIN else "robot" if part.name in robots else "questions"
        view = PartView(name=part.name, kind=kind, size=part.size, first_share=float(first), last_share=float(last))
        if kind != "questions":
            robot = robots.get(part.name)
            interface = robot.interface if robot else main
            cameras = set(robot.cameras if robot else main.cameras)
            name = robot.embodiment if robot else MAIN
            view = replace(
                view,
                embodiment=name,
                state=f"{interface.state_dim} of {sizes.state_dim}",
                action=f"{interface.action_dim} of {sizes.action_dim}",
                rate=f"{interface.control_hz:g} Hz",
                cameras=", ".join(sorted(cameras)),
                missing_cameras=", ".join(sorted(set(sizes.cameras) - cameras)),
                statistics_id=embodiments[name].statistics_id[:12] if name in embodiments else LATER,
            )
        views.append(view)
    return views


def _says(batch: Batch, row: int) -> str:
    if batch.is_question[row]:
        return f"answer: {batch.answer[row]} (no action)"
    assert batch.has_action_dim is not None
    num_steps = int((~batch.action_is_pad[row]).sum())
    first = ", ".join(f"{number:.2f}" for number in batch.action[row, 0, batch.has_action_dim[row]])
    has = int(batch.has_action_dim[row].sum())
    return f"{num_steps} of {batch.action.shape[1]} actions count, {has} dimensions; the first, encoded: {first}"
