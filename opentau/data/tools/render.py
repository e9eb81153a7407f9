"""A recorded dataset drawn anew from its simulator states: other sizes, other cameras, other looks; everything else stays."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opentau.checkpoint import partial_path, storage_errors
from opentau.config import build
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.writer import DatasetWriter
from opentau.data.tools.export import is_video
from opentau.data.tools.findings import Progress
from opentau.errors import DataError, OptionError
from opentau.types import Episode, Interface, derive_seed

LOOK = "envs.looks:Look"
STATE_TOLERANCE = 1e-5
"""How far the state that the simulator shows may be from the recorded one, in the state's units: rounding, no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderOptions:
    """What to draw."""

    env: Mapping[str, Any]
    """Target and arguments of the environment, without the task's number; size and cameras are its arguments."""
    looks: Collection[str] = ()
    """Kinds of looks (`envs.looks.LOOKS`) that are drawn for each episode; none shows the scene as it is."""
    seed: int = 0
    """Decides the looks, together with the episode's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """What was made."""

    path: str
    num_episodes: int
    num_frames: int
    cameras: Mapping[str, tuple[int, int, int]]
    video_cameras: tuple[str, ...]
    """Cameras stored as video; the others are exact."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def render(root: Path, out: Path, *, options: RenderOptions, on_episode: Progress) -> Rendered:
    """Write the dataset with new images; `out` exists when it is complete, and nothing of it is left when it fails.

    Raises `OptionError` for options that do not fit, `DataError` for episodes without simulator states or of another scene.
    """
    if out.exists():
        raise OptionError(f"{out} exists; choose another folder, or delete it")
    dataset = Dataset(root, with_images=False)
    with _Stage(options) as stage:
        first = stage.env(dataset.episodes[0].task_id)
        cameras = Interface.from_dict(first.metadata["interface"]).cameras
        videos = tuple(camera for camera, shape in cameras.items() if is_video(shape))
        partial = partial_path(out)
        shutil.rmtree(partial, ignore_errors=True)
        writer = DatasetWriter(
            partial,
            interface=dataclasses.replace(dataset.interface, cameras=cameras),
            fps=dataset.fps,
            robot_type=str(dataset.catalog.info.get("robot_type") or "unknown"),
            env_id=first.env_id,
            video_cameras=videos,
        )
        try:
            for position in range(len(dataset)):
                writer.add(position, stage.draw(dataset.load(position), where=dataset.where(position)))
                on_episode(position + 1, len(dataset))
            writer.finish()
            with storage_errors(out):
                os.replace(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return Rendered(
        path=str(out),
        num_episodes=len(dataset),
        num_frames=sum(info.length for info in dataset.episodes),
        cameras=cameras,
        video_cameras=videos,
    )


class _Stage:
    """The environment of the task at hand and its look; one at a time, because a scene is large."""

    def __init__(self, options: RenderOptions) -> None:
        self._options = options
        self._task_id = ""
        self._env: Any = None
        self._look: Any = None

    def __enter__(self) -> _Stage:
        return self

    def __exit__(self, *error: object) -> None:
        if self._env is not None:
            self._env.close()

    def env(self, task_id: str) -> Any:
        """Return the environment of a task, opened where the last one was another's."""
        if task_id == self._task_id:
            return self._env
        number = task_id.rpartition("/")[2]
        if not number.isdigit():
            raise DataError(f"the recorded task {task_id!r} is none of a simulator; only what they recorded can be drawn anew")
        if self._env is not None:
            self._env.close()
        self._env = build(self._options.env, task_id=int(number))
        if self._env.task_id != task_id:
            raise OptionError(
                f"the recording shows {task_id}, env= is {self._env.task_id}; give the environment it was made in"
            )
        self._look = self._new_look()
        self._task_id = task_id
        return self._env

    def _new_look(self) -> Any:
        if not self._options.looks:
            return None
        model = getattr(self._env, "model", None)
        if model is None:
            raise OptionError(f"{self._env.task_id} has no model whose look could be changed; leave --randomise out")
        names = [model.camera(index).name for index in range(model.ncam)]
        return build({"target": LOOK, "args": {"kinds": list(self._options.looks), "cameras": names}}, model)

    def draw(self, episode: Episode, *, where: str) -> Episode:
        """Return the episode with the images that its simulator states show."""
        if not episode.sim_state.shape[1]:
            raise DataError(f"{where}: no simulator states were recorded; only episodes of our simulators have them")
        env = self.env(episode.task_id)
        if self._look is not None:
            self._look.draw(np.random.default_rng(derive_seed(self._options.seed, "look", episode.episode_id)))
        frames: dict[str, list[np.ndarray]] = {}
        for tick, state in enumerate(episode.sim_state):
            for camera, image in self._seen(state, episode.state[tick], where=f"{where}, frame {tick}").items():
                frames.setdefault(camera, []).append(image)
        images = {camera: np.stack(each) for camera, each in frames.items()}
        return dataclasses.replace(episode, images=images, env_id=env.env_id)

    def _seen(self, sim_state: np.ndarray, state: np.ndarray, *, where: str) -> Mapping[str, np.ndarray]:
        try:
            self._env.set_state(sim_state)
        except (ValueError, TypeError) as error:
            raise DataError(f"{where}: the simulator state is of another scene ({error})") from error
        observation = self._env.observe()
        difference = float(np.abs(observation["state"] - state).max())
        if difference > STATE_TOLERANCE:
            raise DataError(
                f"{where}: the simulator shows a state that is {difference:.2g} off the recorded one (at most "
                f"{STATE_TOLERANCE:g}); give the environment and the versions that it was recorded with"
            )
        images: Mapping[str, np.ndarray] = observation["images"]
        return images if self._look is None else self._look.spoil(images, self._env.data)
