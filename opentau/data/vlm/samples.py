"""Visual questions as training draws them: an image, a prompt, an answer; decoded when they are drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from opentau.data.augmentation import Augmentation
from opentau.data.batches import Batch
from opentau.data.fitting import PolicySizes
from opentau.data.images import resize_with_pad
from opentau.errors import DataError
from opentau.types import Indicator

# Shapes: B samples, Y and X image rows and columns.

ANY_CAMERA = ""
"""Name of an image that no camera is known of; it takes the place of the policy's first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualSample:
    """One question with its answer."""

    sample_id: str
    """Unique within its set, for errors and for the split."""
    group: str
    """What must not be split between training and validation: an episode, else the sample itself."""
    kind: str
    """Such as 'box' or 'caption'; '' where the data does not say."""
    prompt: str
    answer: str
    images: Mapping[str, Path | bytes]
    """Camera to an image file or its content; empty for questions about text alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionSet:
    """The questions of one folder, split once and for all."""

    root: Path
    train: tuple[VisualSample, ...]
    validation: tuple[VisualSample, ...]

    def __post_init__(self) -> None:
        if not self.train:
            raise DataError(f"the questions {self.root} have nothing to train on; add some, or lower their validation share")


class QuestionSource:
    """Draws questions as batches; all alike, or all kinds alike."""

    def __init__(
        self,
        samples: Sequence[VisualSample],
        *,
        sizes: PolicySizes,
        augmentation: Augmentation | None = None,
        is_balanced: bool = True,
    ) -> None:
        """`is_balanced` draws a kind first, so that rare kinds are as frequent as common ones."""
        self._samples = tuple(samples)
        self._sizes = sizes
        self._augmentation = augmentation or Augmentation(shift_share=0.0)
        kinds = sorted({sample.kind for sample in samples}) if is_balanced else [""]
        kind_of = [sample.kind if is_balanced else "" for sample in samples]
        self._members = [np.flatnonzero([of == kind for of in kind_of]) for kind in kinds]

    def __len__(self) -> int:
        return len(self._samples)

    def draw(self, num_samples: int, *, rng: np.random.Generator, num_before: int) -> Batch:
        """Return so many questions; an image that cannot be decoded raises `DataError` naming it."""
        del num_before  # every draw is from all of them
        kind = rng.integers(len(self._members), size=num_samples)
        uniform = rng.random(num_samples)
        members = [self._members[number] for number in kind]
        rows = [int(of_kind[int(share * len(of_kind))]) for of_kind, share in zip(members, uniform, strict=True)]
        return self.batch_of(np.array(rows, np.int64), rng)

    def batch_of(self, rows: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return chosen questions, positions int64 [B]; `rng` is used by the augmentation alone."""
        sizes, num_samples = self._sizes, len(rows)
        images = {camera: np.zeros((num_samples, sizes.image_size, sizes.image_size, 3), np.uint8) for camera in sizes.cameras}
        has_camera = {camera: np.zeros(num_samples, bool) for camera in sizes.cameras}
        chosen = [self._samples[row] for row in rows]
        for position, sample in enumerate(chosen):
            for name, stored in sample.images.items():
                camera = sizes.cameras[0] if name == ANY_CAMERA else name
                if camera not in images:
                    raise DataError(
                        f"question {sample.sample_id} shows the camera {name!r}, the policy has {', '.join(sizes.cameras)}; "
                        "leave that question out, or name the policy's cameras after it"
                    )
                pixels = read_image(stored, where=f"question {sample.sample_id}")
                images[camera][position] = resize_with_pad(pixels[None], size=sizes.image_size, fit=sizes.image_fit)[0]
                has_camera[camera][position] = True
        return Batch(
            images={camera: self._shifted(pixels, chosen, rng) for camera, pixels in images.items()},
            has_camera=has_camera,
            state=np.zeros((num_samples, sizes.state_dim), np.float32),
            action=np.zeros((num_samples, sizes.action_horizon, sizes.action_dim), np.float32),
            action_is_pad=np.ones((num_samples, sizes.action_horizon), bool),
            prompt=[sample.prompt for sample in chosen],
            answer=tuple(sample.answer for sample in chosen),
            indicator=np.full(num_samples, Indicator.ABSENT, np.int8),
            weight=np.ones(num_samples, np.float32),
            frame=rows,
            task=np.zeros(num_samples, np.int32),
        )

    def _shifted(self, pixels: np.ndarray, chosen: Sequence[VisualSample], rng: np.random.Generator) -> np.ndarray:
        """Return shifted images, but those whose answer is a place in the image as they are."""
        shifted = self._augmentation.shift(pixels, rng)
        is_placed = np.array(["<loc" in sample.answer for sample in chosen])
        return np.where(is_placed[:, None, None, None], pixels, shifted)


def read_image(stored: Path | bytes, *, where: str) -> np.ndarray:
    """Return uint8 [Y, X, 3] of an image file or its content; one that is missing or damaged raises `DataError`."""
    try:
        with Image.open(io.BytesIO(stored) if isinstance(stored, bytes) else stored, formats=("PNG", "JPEG", "WEBP")) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, UnidentifiedImageError, ValueError) as error:
        raise DataError(f"{where}: its image cannot be read ({error}). Fetch or make the questions again.") from error
