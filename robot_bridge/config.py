"""The one yaml that a station reads: where it dials, what it plays on, and who acts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from opentau.config import options_from
from opentau.errors import OptionError
from robot_bridge.keys import ClientCredentials, load_pair, require_key


@dataclass(frozen=True, slots=True, kw_only=True)
class StationConfig:
    """Everything that one station program needs; plug-ins are specs {"target": "pkg.mod:Name", "args": {…}}."""

    session: str
    """The server's session; both sides refuse messages of another."""
    station_id: str
    """Unique among the stations of a session and over restarts."""
    control_endpoint: str
    inference_endpoint: str
    env: Mapping[str, Any]
    """Spec of the environment."""
    tasks: Mapping[str, Mapping[str, Any]]
    """Task id to the arguments that are added to the environment's for this task."""
    expert: Mapping[str, Any] | None = None
    """Spec of the expert, built with the unwrapped environment."""
    supervisor: Mapping[str, Any] | None = None
    """Spec of the supervisor, built with `max_steps`."""
    perturbation: Mapping[str, Any] | None = None
    """Spec of what disturbs demonstrations."""
    execute_horizon: int = 8
    """Control steps played before the next chunk."""
    delay_ticks: int = 0
    """Control steps between an observation and the first step that its chunk may decide."""
    max_open_envs: int = 4
    """Environments kept open; with more tasks the one used longest ago is closed."""
    heartbeat_s: float = 1.0
    """Time between two signs of life."""
    answer_timeout_s: float = 120.0
    """How long to wait for a chunk, a welcome or an acknowledgement."""
    server_silence_s: float = 60.0
    """Silence after which the server is given up."""
    secret_file: str = ""
    """This station's secret key file; empty on a link without keys. Its name must be the start of `station_id`."""
    server_public_key: str = ""
    """The server's public key in Z85; needed with `secret_file`, and refused without."""
    parent_pid: int | None = None
    """Process whose end ends the station; None for a station that was started by hand."""

    def __post_init__(self) -> None:
        if bool(self.secret_file) != bool(self.server_public_key):
            raise OptionError("station.secret_file and station.server_public_key go together; set both or neither")

    @classmethod
    def load(cls, path: Path) -> StationConfig:
        """Read the yaml; raises `OptionError` for what does not belong there."""
        return options_from(cls, yaml.safe_load(path.read_text()), where="station")

    def credentials(self) -> ClientCredentials | None:
        """Read the key; None on a link without keys, `KeyFileError` where it cannot be used."""
        if not self.secret_file:
            return None
        require_key(self.server_public_key, where="station.server_public_key")
        return ClientCredentials(pair=load_pair(Path(self.secret_file)), server_public=self.server_public_key)

    def save(self, path: Path) -> None:
        path.write_text(yaml.safe_dump(dataclasses.asdict(self), sort_keys=False))
