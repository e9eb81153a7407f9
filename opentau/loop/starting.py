"""From the options of a policy to where its training starts, at the sizes of the data."""

from __future__ import annotations

import inspect
from typing import Any

from opentau.config import build, locate
from opentau.errors import OptionError
from opentau.loop.mixing import joint_shape
from opentau.loop.options import LoopOptions
from opentau.policies.config import PolicyConfig
from opentau.policies.lerobot.start import LeRobotStart
from opentau.policies.pretrained import Pretrained
from opentau.types import Interface

LONG_PROMPT_TOKENS = 64
"""Tokens of a prompt where it comes from others' data or is a question; an environment's own instructions are shorter."""


def policy_start(options: LoopOptions, *, main: Interface) -> PolicyConfig | Pretrained:
    """Return a configuration, or a checkpoint with one, for the environment's interface and all parts of the mixture.

    A policy is asked for image size, prompt length and locations only if it can be made with others. Raises `OptionError` for a
    policy of LeRobot's, of which only LeRobot knows what it is made of.
    """
    if options.is_lerobots:
        raise OptionError("policy=lerobot is made and trained by LeRobot; this works with OpenTau's own policies, such as nano")
    mixture = options.mixture
    cameras, state_dim, action_dim = joint_shape(mixture, main=main)
    asked: dict[str, Any] = {"image_size": options.env.image_size(main)}
    if mixture.has_questions:
        asked["num_locations"] = mixture.num_locations
    if mixture.is_used or options.data.datasets:
        asked["max_prompt_tokens"] = LONG_PROMPT_TOKENS
    taken = inspect.signature(locate(options.policy["target"])).parameters
    given = options.policy.get("args") or {}
    start: PolicyConfig | Pretrained = build(
        options.policy,
        cameras=cameras,
        state_dim=state_dim,
        action_dim=action_dim,
        **{name: value for name, value in asked.items() if name in taken and name not in given},
    )
    return start


def lerobot_start(options: LoopOptions, *, main: Interface) -> LeRobotStart:
    """Return where LeRobot's trainer starts."""
    cameras = tuple(sorted(main.cameras))
    start: LeRobotStart = build(options.policy, cameras=cameras, state_dim=main.state_dim, action_dim=main.action_dim)
    return start
