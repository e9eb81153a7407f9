"""Batches of different robots in the shapes of one policy: what a sample lacks is zero and masked, never seen as content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from opentau.data.batches import Batch
from opentau.data.images import ImageFit
from opentau.errors import DataError

# Shapes: B samples, H actions of a chunk, A and S the policy's action and state dimensions, a and s a source's, N pixels.


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySizes:
    """What every batch of a policy is brought to."""

    cameras: tuple[str, ...]
    image_size: int
    """N, rows and columns."""
    state_dim: int
    action_dim: int
    action_horizon: int
    image_fit: ImageFit = ImageFit.CENTRED
    """How images of other sizes are brought to N."""


def fitted(batch: Batch, sizes: PolicySizes, *, part: int) -> Batch:
    """Return the batch with all of the policy's cameras and dimensions; more than the policy has raises `DataError`."""
    num_samples = len(batch)
    unknown = sorted(set(batch.images) - set(sizes.cameras))
    state_dim, action_dim = batch.state.shape[-1], batch.action.shape[-1]
    if unknown or state_dim > sizes.state_dim or action_dim > sizes.action_dim:
        raise DataError(
            f"a part of the mixture has the cameras {sorted(batch.images)}, {state_dim} state and {action_dim} action "
            f"dimensions; the policy has {list(sizes.cameras)}, {sizes.state_dim} and {sizes.action_dim}: name the part's "
            "cameras after the policy's"
        )
    shape = (num_samples, sizes.image_size, sizes.image_size, 3)
    images = {camera: batch.images.get(camera, np.zeros(shape, np.uint8)) for camera in sizes.cameras}
    for camera, pixels in images.items():
        if pixels.shape != shape:
            raise DataError(f"images of {camera} have the shape {pixels.shape}, the policy needs {shape}; set image_size")
    has_camera = {
        camera: batch.has_camera.get(camera, np.full(num_samples, camera in batch.images)) for camera in sizes.cameras
    }
    return replace(
        batch,
        images=images,
        has_camera=has_camera,
        state=padded(batch.state, sizes.state_dim),
        action=padded(batch.action, sizes.action_dim),
        state_dim=np.full(num_samples, state_dim, np.int16),
        has_action_dim=np.tile(np.arange(sizes.action_dim) < action_dim, (num_samples, 1)),
        answer=batch.answer or ("",) * num_samples,
        part=np.full(num_samples, part, np.int16),
    )


def joined(batches: Sequence[Batch]) -> Batch:
    """Return batches of one shape one after another."""
    first = batches[0]
    if len(batches) == 1:
        return first

    def stacked(name: str) -> np.ndarray:
        return np.concatenate([getattr(batch, name) for batch in batches])

    return replace(
        first,
        images={camera: np.concatenate([batch.images[camera] for batch in batches]) for camera in first.images},
        has_camera={camera: np.concatenate([batch.has_camera[camera] for batch in batches]) for camera in first.images},
        prompt=[prompt for batch in batches for prompt in batch.prompt],
        answer=tuple(answer for batch in batches for answer in batch.answer),
        **{
            name: stacked(name)
            for name in (
                "state", "state_dim", "action", "action_is_pad", "has_action_dim", "indicator", "weight", "frame", "task",
                "part",
            )
        },
    )  # fmt: skip


def padded(rows: np.ndarray, dim: int) -> np.ndarray:
    """Return [..., dim] of [..., a], zeros behind what a robot has; as they are where nothing is missing."""
    missing = dim - rows.shape[-1]
    return np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, missing)]) if missing else rows
