"""Other projects' conventions on LIBERO, so that their policies see what they were trained on and scores can be compared."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from envs.panda.environment import AGENTVIEW, WRIST

LIMITS = {"libero_spatial": 280, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}
"""LeRobot's and TensorAuto OpenTau's longest episodes, control steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How an evaluation shows a task to a policy and how long it lets it try.

    All of them start from the official states, give the state as position, axis-angle and two fingers, and take actions of
    seven numbers whose last opens the gripper at -1 and closes it at +1: LIBERO's own, and this environment's.
    """

    source: str
    """Where it is written down."""
    cameras: Mapping[str, str]
    """Name that the policy knows to the scene's camera."""
    render_size: int
    """Side of the rendered image, pixels."""
    image_size: int
    """Side of the image that the policy gets, pixels; smaller ones are resampled bilinearly from the rendered one."""
    is_mirrored: bool
    """Whether left and right are swapped, as they are in LIBERO's own images rotated by 180°."""
    max_steps: Mapping[str, int]
    """Suite to the longest episode, control steps."""
    settling_steps: int = 10
    """Control steps with the gripper opening before an episode begins."""

    def to_dict(self) -> dict[str, object]:
        return dataclasses.asdict(self)


PROTOCOLS: Mapping[str, Protocol] = {
    "openpi": Protocol(
        source="Physical-Intelligence/openpi, examples/libero/main.py",
        cameras={"image": AGENTVIEW, "wrist_image": WRIST},
        render_size=256,
        image_size=224,
        is_mirrored=True,
        max_steps=LIMITS | {"libero_spatial": 220},
    ),
    "lerobot": Protocol(
        source="huggingface/lerobot, src/lerobot/envs/libero.py and the dataset lerobot/libero",
        cameras={"image": AGENTVIEW, "image2": WRIST},
        render_size=256,
        image_size=256,
        is_mirrored=True,
        max_steps=LIMITS,
    ),
    "tensorauto": Protocol(
        source="TensorAuto/OpenTau, src/opentau/envs/libero.py",
        cameras={"camera0": AGENTVIEW, "camera1": WRIST},
        render_size=256,
        image_size=256,
        is_mirrored=True,
        max_steps=LIMITS,
    ),
}


def require_protocol(name: str) -> Protocol:
    """Return a protocol by its name; ValueError names those that exist."""
    if name not in PROTOCOLS:
        close = difflib.get_close_matches(name, PROTOCOLS, n=1, cutoff=0.5) or list(PROTOCOLS)
        raise ValueError(f"protocol is one of {', '.join(PROTOCOLS)} or null, not {name!r}; did you mean {' or '.join(close)}?")
    return PROTOCOLS[name]


def shown(image: np.ndarray, *, size: int, is_mirrored: bool) -> np.ndarray:
    """Return an upright image as a protocol shows it, a fresh uint8 [size, size, 3]."""
    if is_mirrored:
        image = image[:, ::-1]
    if image.shape[0] != size:
        return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)).copy()
    return np.ascontiguousarray(image)
