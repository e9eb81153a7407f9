"""Where the pictures of somebody else's environment come from: its observations, cameras of its MuJoCo model, or `render()`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

import gymnasium
import numpy as np
from PIL import Image

DEFAULT_CAMERA = "agentview"
"""What the picture of `render()` is called."""
SEPARATOR = "/"
"""Between the keys of nested observations."""


class Pictures(Protocol):
    """Draws what an environment shows now."""

    origin: str
    """What makes the pixels, in words that change where the pixels may."""

    def draw(self, observation: Any) -> dict[str, np.ndarray]:
        """Return {camera: uint8 [Y, X, 3]} in fresh arrays; `observation` is the environment's own last one."""
        ...

    def close(self) -> None: ...


def open_pictures(
    env: gymnasium.Env[Any, Any], *, cameras: Mapping[str, str], image_size: int | None, shows_sites: bool
) -> Pictures:
    """Return the source of the cameras asked for, {our name: its name}; none asked for take what `render()` gives.

    Its name is a key of the environment's observations ('pixels/top' where they are nested) or a camera of its MuJoCo model.
    Raises ValueError that names what there is.
    """
    if not cameras:
        return RenderedPictures(env, image_size=image_size)
    observed = observed_pictures(env.observation_space)
    if set(cameras.values()) <= set(observed):
        return ObservedPictures(cameras, image_size=image_size)
    if mujoco_of(env) is not None:
        return ModelPictures(env, cameras=cameras, image_size=image_size or 64, shows_sites=shows_sites)
    raise ValueError(
        f"cameras are {dict(cameras)}, and the environment has pictures {list(observed)} in its observations and no MuJoCo "
        "model; name those, or leave cameras empty for what render() gives"
    )


def mujoco_of(env: gymnasium.Env[Any, Any]) -> tuple[Any, Any] | None:
    """Return the model and data of an environment that shows them as gymnasium's MuJoCo environments do, else None."""
    inner = env.unwrapped
    model, data = getattr(inner, "model", None), getattr(inner, "data", None)
    return (model, data) if type(model).__name__ == "MjModel" and type(data).__name__ == "MjData" else None


def observed_pictures(space: gymnasium.Space[Any]) -> tuple[str, ...]:
    """Return the keys of everything in an observation space that is a colour picture."""
    if isinstance(space, gymnasium.spaces.Dict):
        return tuple(
            key if not inner else f"{key}{SEPARATOR}{inner}"
            for key, part in space.spaces.items()
            for inner in observed_pictures(part)
        )
    if not isinstance(space, gymnasium.spaces.Box) or space.dtype != np.uint8:
        return ()
    return ("",) if len(space.shape) == 3 and space.shape[-1] == 3 else ()


class ObservedPictures:
    """Pictures that come with the observations."""

    def __init__(self, cameras: Mapping[str, str], *, image_size: int | None) -> None:
        self.origin = "the environment's observations"
        self._cameras, self._image_size = dict(cameras), image_size

    def draw(self, observation: Any) -> dict[str, np.ndarray]:
        pictures = {}
        for camera, path in self._cameras.items():
            picture = observation
            for key in path.split(SEPARATOR) if path else ():
                picture = picture[key]
            pictures[camera] = scaled(picture, self._image_size)
        return pictures

    def close(self) -> None:
        pass


class RenderedPictures:
    """What `render()` gives, as the one camera 'agentview'."""

    def __init__(self, env: gymnasium.Env[Any, Any], *, image_size: int | None) -> None:
        if env.render_mode != "rgb_array":
            modes = list(env.metadata.get("render_modes") or ())
            raise ValueError(
                f"the environment was made with render_mode {env.render_mode!r} and can render as {modes}; pictures need "
                "'rgb_array': set render_mode among the arguments that make it, or name cameras"
            )
        self.origin = "the environment's render()"
        self._env, self._image_size = env, image_size

    def draw(self, observation: Any) -> dict[str, np.ndarray]:
        picture = np.asarray(self._env.render())
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
            raise ValueError(f"render() gave {picture.dtype} {picture.shape}; a picture is uint8 [rows, columns, 3]")
        return {DEFAULT_CAMERA: scaled(picture, self._image_size)}

    def close(self) -> None:
        pass


class ModelPictures:
    """Cameras of a MuJoCo model, drawn by our renderer, without shadows; needs no OpenGL package of the interpreter's."""

    def __init__(self, env: gymnasium.Env[Any, Any], *, cameras: Mapping[str, str], image_size: int, shows_sites: bool) -> None:
        rendering = importlib.import_module("envs.rendering")  # imports mujoco, which other environments need not have
        found = mujoco_of(env)
        assert found is not None, "the caller looked"
        model, self._data = found
        self._renderer = rendering.Renderer(
            model, cameras=cameras, height=image_size, width=image_size, shadow_size=0, shows_sites=shows_sites
        )
        self.origin = rendering.describe_backend().id

    def draw(self, observation: Any) -> dict[str, np.ndarray]:
        return self._renderer.render(self._data)

    def close(self) -> None:
        self._renderer.close()


def scaled(picture: np.ndarray, image_size: int | None) -> np.ndarray:
    """Return a picture at so many rows and columns (None: its own) in a fresh array; what is not square is pressed square."""
    if image_size is None or picture.shape[:2] == (image_size, image_size):
        return np.array(picture, np.uint8)
    return np.array(Image.fromarray(picture).resize((image_size, image_size), Image.Resampling.BOX))
