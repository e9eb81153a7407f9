"""Draws the cameras of any MuJoCo model into RGB arrays, without a system package."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Collection, Mapping
from types import TracebackType

import mujoco
import numpy as np

from envs.opengl import BackendDescription, Context, describe_backend, open_context

__all__ = ["BackendDescription", "Renderer", "describe_backend"]


class Renderer:
    """Draws fixed cameras of one model; keep one per model and `close` it.

    Shadows and anti-aliasing are set on the model's visual options (`model.vis.quality`), which do not touch physics.
    Several renderers may live in one process; each is used by one thread at a time.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        *,
        cameras: Mapping[str, str],
        height: int,
        width: int,
        shadow_size: int = 1024,
        num_samples: int = 0,
        has_reflections: bool = False,
        hidden_geom_groups: Collection[int] = (),
        shows_sites: bool = False,
    ) -> None:
        """Open a context for cameras given as {public name: name in the model}, all of height × width pixels.

        `shadow_size` is the side of the shadow map, 0 for no shadows; `num_samples` is for anti-aliasing. Raises ValueError
        for a camera that the model does not have and RuntimeError when no OpenGL works.
        """
        self._model, self._height, self._width = model, height, width
        self._cameras = {name: _camera(model, in_model) for name, in_model in cameras.items()}
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self._option = mujoco.MjvOption()
        for group in hidden_geom_groups:
            self._option.geomgroup[group] = 0
        if not shows_sites:
            self._option.sitegroup[:] = 0
        self._geoms_only = copy.deepcopy(self._option)
        self._geoms_only.sitegroup[:] = 0
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + model.nsite + 64)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadow_size > 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = has_reflections
        model.vis.quality.shadowsize, model.vis.quality.offsamples = shadow_size, num_samples
        model.vis.global_.offheight, model.vis.global_.offwidth = height, width
        self._context = open_context()
        self._context.make_current()
        self._drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawing)
        self._release = weakref.finalize(self, _release, self._context, self._drawing)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Public camera names in drawing order."""
        return tuple(self._cameras)

    def render(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        """Return {camera: uint8 [Y, X, 3]}, upright RGB in fresh arrays, of the poses that `data` holds now."""
        self._make_current()
        return {name: self._draw(data, camera, self._option) for name, camera in self._cameras.items()}

    def segment(self, data: mujoco.MjData) -> dict[str, np.ndarray]:
        """Return {camera: int32 [Y, X]}, the geom seen in every pixel of `render` (sites are looked through), -1 for none."""
        self._make_current()
        flags = (mujoco.mjtRndFlag.mjRND_SEGMENT, mujoco.mjtRndFlag.mjRND_IDCOLOR)
        for flag in flags:
            self._scene.flags[flag] = 1
        try:
            return {name: self._geoms_in(self._draw(data, camera, self._geoms_only)) for name, camera in self._cameras.items()}
        finally:
            for flag in flags:
                self._scene.flags[flag] = 0

    def _make_current(self) -> None:
        if not self._release.alive:
            raise RuntimeError("this renderer was closed; make a new one")
        self._context.make_current()

    def _draw(self, data: mujoco.MjData, camera: mujoco.MjvCamera, option: mujoco.MjvOption) -> np.ndarray:
        """Draw one camera, uint8 [Y, X, 3], upright."""
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, option, None, camera, everything, self._scene)
        mujoco.mjr_render(self._rectangle, self._scene, self._drawing)
        bottom_up = np.empty((self._height, self._width, 3), np.uint8)
        mujoco.mjr_readPixels(bottom_up, None, self._rectangle, self._drawing)
        return np.ascontiguousarray(bottom_up[::-1])

    def _geoms_in(self, colours: np.ndarray) -> np.ndarray:
        """Return the geom behind every colour of the scene drawn last, int32 [Y, X]; MuJoCo draws number n in colour n + 1."""
        drawn = [geom for geom in self._scene.geoms[: self._scene.ngeom] if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM]
        geom_of_number = np.full(self._scene.ngeom + 1, -1, np.int32)
        for geom in drawn:
            geom_of_number[geom.segid + 1] = geom.objid
        red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
        return geom_of_number[red + (green << 8) + (blue << 16)]

    def close(self) -> None:
        """Give the context back; a second call does nothing."""
        self._release()

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _camera(model: mujoco.MjModel, name: str) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
    camera.fixedcamid = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    if camera.fixedcamid < 0:
        known = ", ".join(model.camera(index).name for index in range(model.ncam))
        raise ValueError(f"the model has no camera {name!r}; use one of: {known}")
    return camera


def _release(context: Context, drawing: mujoco.MjrContext) -> None:
    """Free MuJoCo's buffers inside their own context; freed in another one, they would take that one's buffers along."""
    context.make_current()
    drawing.free()
    context.close()
