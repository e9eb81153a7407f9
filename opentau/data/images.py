"""Images of any size at the size that a policy sees; one implementation for training and serving."""

from __future__ import annotations

import enum

import numpy as np
from PIL import Image

# Shapes: T frames, Y and X image rows and columns, K rows or columns of a scaled image, N pixels of the wanted square.


class ImageFit(enum.StrEnum):
    """How an image is brought into the square that a policy sees; what is left of the square is black."""

    CENTRED = "centred"
    """Averaged over all pixels that shrink into one, sides rounded, in the middle."""
    OPENPI = "openpi"
    """The same with sides cut to whole pixels, as openpi's clients and data do."""
    LEROBOT = "lerobot"
    """Between the nearest two pixels, however far the image shrinks; sides cut to whole pixels; in the middle."""
    TENSORAUTO = "tensorauto"
    """As LeRobot's, but in the lower right corner: black is left and above alone."""

    @property
    def is_averaged(self) -> bool:
        """Whether every pixel of the image counts, so that thin things do not vanish."""
        return self in (ImageFit.CENTRED, ImageFit.OPENPI)


def resize_with_pad(frames: np.ndarray, *, size: int, fit: ImageFit = ImageFit.CENTRED) -> np.ndarray:
    """Return uint8 [T, N, N, 3] of uint8 [T, Y, X, 3]: scaled to fit the square, black around it.

    Frames that have the size already come back as they are. Values are rounded to whole levels, which LeRobot and TensorAuto
    OpenTau do not do.
    """
    num_rows, num_columns = frames.shape[1:3]
    if (num_rows, num_columns) == (size, size):
        return frames
    height, width = scaled_sides(num_rows, num_columns, size=size, fit=fit)
    top, left = size - height, size - width
    if fit is not ImageFit.TENSORAUTO:
        top, left = top // 2, left // 2
    out = np.zeros((len(frames), size, size, 3), np.uint8)
    for frame, target in zip(frames, out, strict=True):
        scaled = _averaged(frame, height, width) if fit.is_averaged else _interpolated(frame, height, width)
        target[top : top + height, left : left + width] = scaled
    return out


def scaled_sides(num_rows: int, num_columns: int, *, size: int, fit: ImageFit) -> tuple[int, int]:
    """Return rows and columns of an image once its longer side has `size` pixels."""
    longer = max(num_rows, num_columns)
    if fit is ImageFit.CENTRED:
        scale = size / longer
        return max(1, round(num_rows * scale)), max(1, round(num_columns * scale))
    # Divided, not multiplied: where the quotient is a whole number, the others' rounding decides what is cut off.
    ratio = longer / size
    return max(1, int(num_rows / ratio)), max(1, int(num_columns / ratio))


def _averaged(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))


def _interpolated(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return uint8 [height, width, 3], each pixel between the two of each axis whose centres are nearest to its own."""
    below_K, above_K, share_K11 = _neighbours(frame.shape[0], height)
    rows = frame[below_K] * (1 - share_K11) + frame[above_K] * share_K11
    below_K, above_K, share_K11 = _neighbours(frame.shape[1], width)
    share_K1 = share_K11[:, 0]
    scaled = rows[:, below_K] * (1 - share_K1) + rows[:, above_K] * share_K1
    return np.rint(scaled).astype(np.uint8)


def _neighbours(num_pixels: int, num_wanted: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pixels before and after every wanted one's centre, int64 [K], and the second's share, float32 [K, 1, 1]."""
    place_K = np.maximum((np.arange(num_wanted) + 0.5) * (num_pixels / num_wanted) - 0.5, 0.0)
    below_K = np.minimum(place_K.astype(np.int64), num_pixels - 1)
    share_K = (place_K - below_K).astype(np.float32)
    return below_K, np.minimum(below_K + 1, num_pixels - 1), share_K[:, None, None]
