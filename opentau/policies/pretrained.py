"""A policy that starts from the weights of a checkpoint, for a robot whose data it learns from anew."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentau.checkpoint import read_manifest
from opentau.data.images import ImageFit
from opentau.errors import CheckpointError, OptionError
from opentau.policies.bundled import checkpoint_path
from opentau.policies.config import IndicatorPlace, PolicyConfig, chosen

CONFIG_FILE = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """Where training starts: the checkpoint's weights and words, with cameras, embodiments and statistics of new data."""

    config: PolicyConfig
    checkpoint: Path
    checkpoint_id: str
    fresh: tuple[str, ...] = ()
    """Patterns of the weights that start at random, of a checkpoint that holds parts of a policy only."""

    def to_dict(self) -> dict[str, Any]:
        plain = {"checkpoint": self.checkpoint_id, "config": self.config.to_dict()}
        return plain | {"fresh": list(self.fresh)} if self.fresh else plain


def pretrained(
    checkpoint: str,
    *,
    cameras: tuple[str, ...],
    state_dim: int,
    action_dim: int,
    camera_order: tuple[str, ...] | None = None,
    max_prompt_tokens: int | None = None,
    action_horizon: int | None = None,
    dropout: float | None = None,
    max_committed: int | None = None,
    has_indicator_text: bool | None = None,
    has_indicator_embedding: bool | None = None,
    indicator_place: str | None = None,
    image_fit: str | None = None,
) -> Pretrained:
    """Return a start from a sealed checkpoint for data with these cameras and dimensions.

    The cameras take the places of the checkpoint's in `camera_order`, by default by their names; there may be fewer or more of
    them, as long as the policy does not know each by a vector of its own. Raises `OptionError` for data that does not fit.
    """
    path = checkpoint_path(checkpoint)
    checkpoint_id = str(read_manifest(path)["id"])
    own = _config_of(path)
    order = tuple(camera_order or sorted(cameras))
    if set(order) != set(cameras):
        raise OptionError(f"camera_order is {list(order)}, the data has the cameras {sorted(cameras)}; name each of them once")
    if own.has_camera_embedding and len(order) != len(own.cameras):
        raise OptionError(
            f"the checkpoint knows {len(own.cameras)} cameras ({', '.join(own.cameras)}) each by a vector, the data has "
            f"{len(order)}; use as many"
        )
    if action_dim > own.action_dim:
        raise OptionError(f"the data has {action_dim} action dimensions, the checkpoint's policy has room for {own.action_dim}")
    has_state_weights = own.state_input.has_weights
    if has_state_weights and state_dim > own.state_dim:
        raise OptionError(f"the data has {state_dim} state dimensions, the checkpoint's policy has room for {own.state_dim}")
    changes: dict[str, Any] = {
        "max_prompt_tokens": max_prompt_tokens,
        "action_horizon": action_horizon,
        "max_committed": max_committed,
        "has_indicator_text": has_indicator_text,
        "has_indicator_embedding": has_indicator_embedding,
        "indicator_place": indicator_place and chosen(IndicatorPlace, indicator_place, name="indicator_place"),
        "image_fit": image_fit and chosen(ImageFit, image_fit, name="image_fit"),
        "state_dim": None if has_state_weights else state_dim,
        "backbone": None if dropout is None else dataclasses.replace(own.backbone, dropout=dropout),
        "expert": None if dropout is None else dataclasses.replace(own.expert, dropout=dropout),
    }
    config = dataclasses.replace(own, cameras=order, **{name: value for name, value in changes.items() if value is not None})
    return Pretrained(config=config, checkpoint=path, checkpoint_id=checkpoint_id)


def start_config(start: PolicyConfig | Pretrained) -> PolicyConfig:
    """Return what a policy that starts so is made of."""
    return start.config if isinstance(start, Pretrained) else start


def _config_of(path: Path) -> PolicyConfig:
    try:
        return PolicyConfig.from_dict(json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))["policy"])
    except (OSError, ValueError, KeyError, OptionError) as error:
        raise CheckpointError(
            f"{path} is no policy checkpoint: {error}. Take a published one in with: opentau checkpoint import"
        ) from error
