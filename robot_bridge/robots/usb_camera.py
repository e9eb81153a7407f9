"""USB cameras through PyAV, by a name that stays the same whatever port they are in, at a fixed size, rate and exposure.

Linux: a link of /dev/v4l/by-id (Video4Linux). macOS: the camera's name or number as AVFoundation lists it. Windows: its
DirectShow name. Exposure can be fixed on Linux only; elsewhere asking for it is refused.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from opentau.errors import RobotError
from robot_bridge.robots.serial_port import EXTRA

BY_ID = Path("/dev/v4l/by-id")
# Video4Linux: VIDIOC_S_CTRL = _IOWR('V', 28, struct v4l2_control {u32 id; s32 value}), and the two controls of exposure.
_SET_CONTROL = 0xC008561C
_EXPOSURE_MODE, _EXPOSURE_ABSOLUTE = 0x009A0901, 0x009A0902
_MANUAL_EXPOSURE = 1
_KERNEL_CLOCK_S = 5.0
"""A stamp of the driver that is this near to the monotonic clock is one of it."""


class UsbCamera:
    """One USB camera."""

    def __init__(
        self,
        *,
        device: str,
        width: int = 640,
        height: int = 480,
        rate_hz: float = 30.0,
        exposure_ms: float | None = None,
        rotate: int = 0,
        pixel_format: str = "",
        driver: str = "",
    ) -> None:
        """`rotate` turns the picture counter-clockwise by 0, 90, 180 or 270 degrees; `pixel_format` such as 'mjpeg'."""
        if rotate not in (0, 90, 180, 270):
            raise RobotError(f"camera {device}: rotate is {rotate}; it must be 0, 90, 180 or 270 degrees")
        if exposure_ms is not None and not sys.platform.startswith("linux"):
            raise RobotError(f"camera {device}: exposure_ms can be set on Linux only; leave it out, or set it in the camera")
        self.rate_hz = rate_hz
        self.shape = (height, width, 3) if rotate in (0, 180) else (width, height, 3)
        self._device = device
        self._driver = driver or {"darwin": "avfoundation", "win32": "dshow"}.get(sys.platform, "v4l2")
        self._captured = (width, height)
        self._exposure_ms = exposure_ms
        self._quarter_turns = rotate // 90
        self._pixel_format = pixel_format
        self._container: Any = None
        self._frames: Iterator[Any] = iter(())

    def open(self) -> None:
        """Open the device as asked; a camera that is missing, or that has no such size, raises `RobotError`."""
        av = _require_av()
        options = {"video_size": "{}x{}".format(*self._captured), "framerate": f"{self.rate_hz:g}"}
        if self._pixel_format:
            options["input_format" if self._driver == "v4l2" else "pixel_format"] = self._pixel_format
        if self._driver == "lavfi":  # FFmpeg's own test sources say their size in their name
            options = {}
        name = f"video={self._device}" if self._driver == "dshow" else self._device
        try:
            self._container = av.open(name, format=self._driver, options=options, timeout=(5.0, 1.0))
            self._frames = self._container.decode(video=0)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise RobotError(
                f"camera {self._device} cannot be opened at {options}: {error}; plug it in, close other programs that use "
                "it, and see `opentau robot find` for the cameras there are"
            ) from error
        if self._exposure_ms is not None:
            _fix_exposure(self._device, self._exposure_ms)

    def read(self) -> tuple[np.ndarray, float]:
        av = _require_av()
        try:
            frame = next(self._frames)
        except (av.FFmpegError, OSError, StopIteration) as error:
            raise RobotError(f"camera {self._device} is gone ({error or 'no more pictures'}); plug it in again") from error
        arrived = time.monotonic()
        picture = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), self._quarter_turns))
        if picture.shape != self.shape:
            given, asked = ("{1}x{0}".format(*shape) for shape in (picture.shape, self.shape))
            raise RobotError(f"camera {self._device} gives {given}, asked for {asked}; name a size that it has")
        stamped = frame.time
        is_stamped = stamped is not None and 0 <= arrived - stamped < _KERNEL_CLOCK_S
        return picture, float(stamped) if is_stamped and self._driver == "v4l2" else arrived

    def close(self) -> None:
        container, self._container, self._frames = self._container, None, iter(())
        if container is not None:
            container.close()


def list_cameras() -> list[str]:
    """Return the stable names of the cameras here; Linux only, elsewhere the system's own tools list them."""
    return sorted(str(link) for link in BY_ID.glob("*index0")) if BY_ID.is_dir() else []


def _fix_exposure(device: str, exposure_ms: float) -> None:
    import fcntl  # there on Linux, where alone this is called

    try:
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise RobotError(f"camera {device} is gone ({error.strerror}); plug it in again") from error
    try:
        # The unit of the exposure control is 100 µs.
        for control, value in ((_EXPOSURE_MODE, _MANUAL_EXPOSURE), (_EXPOSURE_ABSOLUTE, round(10 * exposure_ms))):
            fcntl.ioctl(handle, _SET_CONTROL, struct.pack("Ii", control, value))
    except OSError as error:
        raise RobotError(
            f"camera {device} does not let its exposure be set to {exposure_ms} ms ({error}); leave exposure_ms out"
        ) from error
    finally:
        os.close(handle)


def _require_av() -> Any:
    try:
        import av  # PyAV, of the extra 'robot'
    except ImportError as error:
        raise RobotError(f"PyAV is missing; {EXTRA}") from error
    return av
