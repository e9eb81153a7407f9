"""Images of any size at the size that a policy sees; one implementation for training and serving."""

from __future__ import annotations

import numpy as np
from PIL import Image

# Shapes: T frames, Y and X image rows and columns, N pixels of the wanted square.


def resize_with_pad(frames: np.ndarray, *, size: int) -> np.ndarray:
    """Return uint8 [T, N, N, 3] of uint8 [T, Y, X, 3]: scaled to fit the square, centred, black around it.

    Frames that have the size already come back as they are. Bilinear with support over all pixels that shrink into one, so
    that thin things do not vanish.
    """
    num_rows, num_columns = frames.shape[1:3]
    if (num_rows, num_columns) == (size, size):
        return frames
    scale = size / max(num_rows, num_columns)
    height, width = max(1, round(num_rows * scale)), max(1, round(num_columns * scale))
    top, left = (size - height) // 2, (size - width) // 2
    out = np.zeros((len(frames), size, size, 3), np.uint8)
    for frame, target in zip(frames, out, strict=True):
        resized = Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
        target[top : top + height, left : left + width] = np.asarray(resized)
    return out
