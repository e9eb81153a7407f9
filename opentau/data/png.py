"""Frames of one camera as PNG bytes and back, without loss."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, UnidentifiedImageError

from opentau.errors import DataError

PNG_LEVEL = 2
"""Rendered frames of 64 pixels take less than half of zlib's usual time at it and are as small."""

# Shapes: T frames, Y and X image rows and columns.


def encode_frames(frames: np.ndarray) -> list[bytes]:
    """Return one PNG per frame of uint8 [T, Y, X, 3]."""
    blocks = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, format="PNG", compress_level=PNG_LEVEL)
        blocks.append(file.getvalue())
    return blocks


def decode_frames(blocks: Sequence[bytes], out: np.ndarray, *, where: str) -> None:
    """Decode into uint8 [T, Y, X, 3]; an image that is damaged or of another size raises `DataError` naming its frame."""
    for tick, block in enumerate(blocks):
        try:
            with Image.open(io.BytesIO(block), formats=("PNG", "JPEG")) as image:
                pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        except (OSError, SyntaxError, TypeError, UnidentifiedImageError) as error:
            raise DataError(
                f"{where}, frame {tick}: the image cannot be decoded ({error}). Record or fetch the episode again."
            ) from error
        if pixels.shape != out.shape[1:]:
            raise DataError(
                f"{where}, frame {tick}: the image is {pixels.shape}, the dataset's features say {out.shape[1:]}. "
                "Correct meta/info.json or record the episode again."
            )
        out[tick] = pixels
