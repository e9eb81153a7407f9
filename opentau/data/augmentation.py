"""Random changes to a training batch that leave its actions true: shifted images, noisy states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Shapes: B samples, Y and X image rows and columns, S state dimensions.


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Random-shift images (replicated borders, arXiv:2004.13649) and noise on encoded states; both off at zero."""

    shift_share: float = 4 / 64
    """Largest shift as a share of the image's width, each direction; the shift differs per sample and camera."""
    state_noise: float = 0.0
    """Standard deviation of the noise, in encoded units."""

    def __post_init__(self) -> None:
        if not 0 <= self.shift_share < 1 or self.state_noise < 0:
            raise ValueError(f"shift_share is {self.shift_share} (0 to 1), state_noise {self.state_noise} (at least 0)")

    def shift(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return images uint8 [B, Y, X, 3] shifted by whole pixels."""
        num_samples, num_rows, num_columns = images.shape[:3]
        limit = round(self.shift_share * num_columns)
        if not limit:
            return images
        shifts = rng.integers(-limit, limit + 1, size=(2, num_samples, 1))
        y = np.clip(np.arange(num_rows) + shifts[0], 0, num_rows - 1)
        x = np.clip(np.arange(num_columns) + shifts[1], 0, num_columns - 1)
        # One gather of whole pixels: three bytes travel as one item.
        pixels = images.reshape(-1, 3).view("V3").reshape(-1)
        index = ((np.arange(num_samples)[:, None] * num_rows + y) * num_columns)[:, :, None] + x[:, None, :]
        return pixels.take(index)[..., None].view(np.uint8)

    def add_state_noise(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return encoded states float32 [B, S] with noise."""
        if not self.state_noise:
            return state
        return state + rng.normal(scale=self.state_noise, size=state.shape).astype(np.float32)
