"""Images as they travel: raw, or as JPEG whose size is compared with what was declared before anything is decoded."""

from __future__ import annotations

import enum
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, JpegImagePlugin

from opentau.errors import LinkError, OptionError

DEFAULT_QUALITY = 90
CHANNELS = 3


class Encoding(enum.StrEnum):
    """How the bytes of an array's frame spell it."""

    RAW = "raw"
    JPEG = "jpeg"


@dataclass(frozen=True, slots=True)
class CodedImage:
    """A JPEG that was not decoded yet, and what it must turn out to be."""

    data: bytes | memoryview
    shape: tuple[int, ...]
    """(Y, X, 3), uint8."""

    @classmethod
    def of(cls, pixels: np.ndarray, *, quality: int = DEFAULT_QUALITY) -> CodedImage:
        """Encode uint8 [Y, X, 3]; colours keep their full resolution, for small things are told apart by them."""
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != CHANNELS:
            raise LinkError(f"an array of {pixels.dtype} {pixels.shape} cannot be sent as JPEG; images are uint8 (Y, X, 3)")
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
        return cls(file.getvalue(), pixels.shape)

    def pixels(self) -> np.ndarray:
        """Decode to uint8 [Y, X, 3]; raises `LinkError` for what is no JPEG, is damaged, or has another size than declared."""
        try:
            image = JpegImagePlugin.JpegImageFile(io.BytesIO(self.data))
            size, mode = (image.size[1], image.size[0], CHANNELS), image.mode
            if size != tuple(self.shape) or mode != "RGB":
                raise LinkError(f"a JPEG of {size} {mode} was refused before it was decoded; {self.shape} RGB was declared")
            pixels = np.asarray(image)
        except LinkError:
            raise
        except Exception as error:  # the border to Pillow, which raises a dozen kinds for damaged files
            raise LinkError(f"a JPEG of {len(self.data)} bytes was refused: {type(error).__name__}: {error}") from error
        pixels.flags.writeable = False
        return pixels


def require_quality(quality: int) -> None:
    """Raise `OptionError` unless `quality` is one of JPEG's."""
    if not 1 <= quality <= 100:
        raise OptionError(f"jpeg_quality is {quality}; it lies between 1 and 100, and {DEFAULT_QUALITY} is hardly seen")
