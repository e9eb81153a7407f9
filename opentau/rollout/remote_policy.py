"""A policy that another project's server offers, named by a yaml file where a checkpoint's folder would stand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from opentau.config import options_from, plain_from
from opentau.errors import OptionError
from opentau.types import Interface, content_hash
from robot_bridge.gateways.openpi_client import OpenPiPolicy
from robot_bridge.gateways.openpi_wire import OpenPiNames

SUFFIX = ".yaml"
API_KEY = "OPENPI_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemotePolicy:
    """An openpi server and what it calls the robot's cameras and state."""

    openpi: str
    """Where it listens, for example 'ws://127.0.0.1:8000'."""
    action_horizon: int
    """Actions of its chunks."""
    cameras: Mapping[str, str]
    """Camera of the environment to openpi's key of its image."""
    state: str = "observation/state"
    prompt: str = "prompt"
    is_mirrored: bool = False
    """Whether it saw images mirrored left to right, as openpi's LIBERO policies do."""
    timeout_s: float = 60.0
    """How long it may take to answer."""
    version: str = ""
    """Anything that changes with its weights, so that scores of other weights are not taken for these."""

    @classmethod
    def read(cls, path: Path) -> RemotePolicy:
        """Read the yaml; raises `OptionError` for a missing file and for what does not belong there."""
        if not path.is_file():
            raise OptionError(f"there is no file {path} that names an openpi server; write one, see docs/gateways.md")
        plain = yaml.safe_load(path.read_text())
        if not isinstance(plain, dict):
            raise OptionError(f"{path} is no map of options; it names openpi, action_horizon and cameras")
        return options_from(cls, plain, where=str(path))

    @property
    def id(self) -> str:
        """The name of what answers: of the words here, not of weights, which openpi does not tell."""
        return content_hash(plain_from(self))

    def dial(self, interface: Interface) -> OpenPiPolicy:
        """Return the policy for this robot, to be entered; the server's key, if it wants one, comes from OPENPI_API_KEY."""
        names = OpenPiNames(cameras=self.cameras, state=self.state, prompt=self.prompt, is_mirrored=self.is_mirrored)
        return OpenPiPolicy(
            self.openpi,
            interface=interface,
            names=names,
            action_horizon=self.action_horizon,
            policy_version=self.id,
            api_key=os.environ.get(API_KEY),
            timeout_s=self.timeout_s,
        )


def is_remote_policy(path: Path) -> bool:
    """Return whether a checkpoint's path is the file of a remote policy."""
    return path.suffix == SUFFIX
