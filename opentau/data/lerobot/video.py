"""Frames of one episode out of a video file that may hold many, exact to the frame (PyAV, which brings its own FFmpeg)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from opentau.errors import DataError

# Shapes: T frames, Y and X image rows and columns.

PIXELS = "rgb24"


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
