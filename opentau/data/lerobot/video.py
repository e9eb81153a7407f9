"""Frames of one episode out of a video file that may hold many, exact to the frame, and into one of its own.

PyAV brings its own FFmpeg.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from opentau.errors import DataError

# Shapes: T frames, Y and X image rows and columns.

PIXELS = "rgb24"
CODEC, ENCODER, STORED_PIXELS = "av1", "libsvtav1", "yuv420p"
GOP_FRAMES, CRF, PRESET = 2, 30, 12
"""LeRobot's choice: a key frame every second frame, so that any frame is decoded at once."""


def decode_span(path: Path, out: np.ndarray, *, times_s: np.ndarray, fps: float, where: str, fix: str) -> None:
    """Decode the frames shown at `times_s` [T], seconds inside the file and ascending, into uint8 [T, Y, X, 3].

    A frame belongs to a time when it is shown within half a frame of it, at `fps` of the dataset and of the video. A file that
    is missing, damaged, too short, of another size or without such a frame raises `DataError` naming the first one missing.
    """
    done = 0
    reformatter = VideoReformatter()
    try:
        for frame, shown_s, rate in _frames_from(path, max(0.0, times_s[0] - 0.5 / fps)):
            tolerance_s = 0.5 / max(fps, rate)
            if shown_s < times_s[done] - tolerance_s:
                continue
            if shown_s > times_s[done] + tolerance_s:
                raise DataError(
                    f"{where}, frame {done}: {path} shows no frame at {times_s[done]:.4f} s, the next one comes at "
                    f"{shown_s:.4f} s; its times contradict meta/. {fix}"
                )
            if (frame.height, frame.width) != out.shape[1:3]:
                raise DataError(
                    f"{where}, frame {done}: {path} is {(frame.height, frame.width, 3)}, the dataset's features say "
                    f"{out.shape[1:]}. Correct meta/info.json, or fetch the video again."
                )
            out[done] = reformatter.reformat(frame, format=PIXELS, threads=1).to_ndarray()
            done += 1
            if done == len(times_s):
                return
    except (av.FFmpegError, OSError, IndexError) as error:
        raise DataError(f"{where}, frame {done}: {path} is missing or damaged ({error}). {fix}") from error
    raise DataError(f"{where}, frame {done}: {path} ends before {times_s[done]:.4f} s; it is truncated. {fix}")


def _frames_from(path: Path, start_s: float) -> Iterator[tuple[av.VideoFrame, float, float]]:
    """Yield frames as shown with their times, seconds, and the video's rate, Hz, from a key frame before `start_s` on."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        # One thread: a loader runs beside a trainer, and frames this small decode slower on several.
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        assert stream.time_base is not None
        rate = float(stream.average_rate or 0)
        if start_s > 0:
            container.seek(int(start_s / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.pts is not None:
                yield frame, float(frame.pts * stream.time_base), rate


def encode(frames: np.ndarray, *, fps: int) -> bytes:
    """Return uint8 [T, Y, X, 3] as an MP4 of AV1 as LeRobot writes it; sizes that are not even raise `DataError`."""
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise DataError(f"frames of {height} x {width} pixels cannot be stored as video; choose an even height and width")
    file = io.BytesIO()
    # One thread: equal frames give equal bytes on any number of cores, and stations run beside.
    options = {"crf": str(CRF), "g": str(GOP_FRAMES), "preset": str(PRESET), "svtav1-params": "lp=1"}
    # The encoder greets on stderr with forty lines a file unless told to name errors alone.
    os.environ.setdefault("SVT_LOG", "1")
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream(ENCODER, rate=Fraction(fps), options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = height, width, STORED_PIXELS
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=PIXELS)))
        container.mux(stream.encode())
    return file.getvalue()


def video_info(shape: Sequence[int], *, fps: int) -> dict[str, Any]:
    """Return what info.json says of a video that `encode` wrote, under LeRobot's names; `shape` is (Y, X, 3)."""
    height, width, channels = shape
    return {
        "video.height": height,
        "video.width": width,
        "video.codec": CODEC,
        "video.pix_fmt": STORED_PIXELS,
        "video.fps": fps,
        "video.channels": channels,
        "has_audio": False,
        "video.g": GOP_FRAMES,
        "video.crf": CRF,
        "video.preset": PRESET,
        "video.fast_decode": 0,
        "video.video_backend": "pyav",
        "video.extra_options": {},
        "is_depth_map": False,
    }
