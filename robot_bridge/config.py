"""The one yaml that a station reads: where it dials, what it plays on (a simulator or a robot), and who acts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from opentau.config import later, options_from, plain_from
from opentau.errors import OptionError
from robot_bridge.playing.chunking import ChunkingOptions
from robot_bridge.security.keys import ClientCredentials, keys_dir, load_pair, require_key
from robot_bridge.wire.images import DEFAULT_QUALITY, Encoding, require_quality
from robot_bridge.workcell.clock import CLOCKS
from robot_bridge.workcell.takeover import TakeoverOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class StationConfig:
    """Everything that one station program needs; plug-ins are specs {"target": "pkg.mod:Name", "args": {…}}."""

    session: str
    """The server's session; both sides refuse messages of another. '*' plays for whichever session is served there."""
    station_id: str
    """Unique among the stations of a session and over restarts."""
    control_endpoint: str
    inference_endpoint: str
    env: Mapping[str, Any] = field(default_factory=dict)
    """Spec of the environment; empty for a robot."""
    interpreter: str = later("")
    """The Python that runs the station, for whoever starts it: one that has the environment's packages; '' is the starter's."""
    tasks: Mapping[str, Mapping[str, Any]]
    """Task id to the arguments that are added to the environment's for this task; on a robot its prompt and max_steps."""
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
    image_encoding: str = str(Encoding.RAW)
    """How images of observations travel: 'raw', or 'jpeg', a tenth of the bytes for links that are not loopback."""
    jpeg_quality: int = DEFAULT_QUALITY
    """1 to 100."""
    answer_within_ms: float | None = None
    """How old a request may be when the server begins to answer it; None: any age (virtual time waits)."""
    clock_interval_s: float | None = None
    """Time between two questions for the server's clock; None asks none. Simulators need none."""
    telemetry_endpoint: str | None = None
    """Where state and previews go for viewers; None sends none."""
    spool: str | None = None
    """Folder that keeps finished episodes until the server has them on its disk; None keeps none (simulators play again)."""
    spool_bytes: int | None = None
    """Most that the spool may hold; None: as much as the disk has room for."""
    reconnect_s: float = 0.0
    """How long a station with a spool tries to reach a server that went away before it ends."""
    statistics_id: str = ""
    """Only policies that encode with these statistics are played: after a robot was calibrated anew; '' plays any."""
    secret_file: str = later("")
    """This station's secret key; a name alone lies in the folder of keys (`OPENTAU_KEYS`). Empty on a link without keys.

    The key's name must be the start of `station_id`.
    """
    server_public_key: str = later("")
    """The server's public key in Z85; needed with `secret_file`, and refused without."""
    parent_pid: int | None = None
    """Process whose end ends the station; None for a station that was started by hand."""
    chunking: ChunkingOptions | None = later(None)
    """How chunks follow each other; None has a policy continue what is committed, and reports nothing about seams."""
    robot: Mapping[str, Any] | None = later(None)
    """Spec of the robot, in place of an environment."""
    operator: Mapping[str, Any] | None = later(None)
    """Spec of who sets the robot's scene up and says what came of an episode; None for nobody."""
    teleop: Mapping[str, Any] | None = later(None)
    """Spec of the device with which a human takes the robot over."""
    limits: str = later("")
    """The yaml of the robot's limits, from the folder of this file; a robot does not move without."""
    clock: str = later("")
    """'virtual' or 'real'; '' is virtual for simulators and real for robots."""
    takeover: TakeoverOptions | None = later(None)
    """How a human takes the robot over; None for the defaults."""

    def __post_init__(self) -> None:
        if bool(self.secret_file) != bool(self.server_public_key):
            raise OptionError("station.secret_file and station.server_public_key go together; set both or neither")
        if self.image_encoding not in set(Encoding):
            known = " or ".join(repr(str(encoding)) for encoding in Encoding)
            raise OptionError(f"image_encoding is {self.image_encoding!r}; images travel as {known}")
        require_quality(self.jpeg_quality)
        if bool(self.env) == (self.robot is not None):
            raise OptionError("a station plays on an environment or on a robot; set `env` or `robot`, one of them")
        if self.robot is not None and not self.limits:
            raise OptionError("a robot does not move without limits; set `limits` to their yaml")
        if self.clock not in ("", *CLOCKS):
            raise OptionError(f"clock is {self.clock!r}; use 'virtual' or 'real'")
        if self.robot is None:
            for name in ("operator", "teleop", "limits", "takeover"):
                if getattr(self, name):
                    raise OptionError(f"`{name}` is of a robot; set `robot`, or leave it out")
            if self.clock == "real":
                raise OptionError("clock=real is for robots: a simulator waits for its chunks; leave it out")

    @classmethod
    def load(cls, path: Path) -> StationConfig:
        """Read the file; raises `OptionError` where there is none, it is no yaml, or says what does not belong there."""
        try:
            return cls.from_yaml(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise OptionError(f"{path} cannot be read as a station's yaml: {error}") from error

    @classmethod
    def from_yaml(cls, text: str) -> StationConfig:
        return options_from(cls, yaml.safe_load(text), where="station")

    def to_yaml(self) -> str:
        return yaml.safe_dump(plain_from(self), sort_keys=False)

    def credentials(self) -> ClientCredentials | None:
        """Read the key; None on a link without keys, `KeyFileError` where it cannot be used."""
        if not self.secret_file:
            return None
        require_key(self.server_public_key, where="station.server_public_key")
        path = keys_dir() / Path(self.secret_file).expanduser()
        return ClientCredentials(pair=load_pair(path), server_public=self.server_public_key)

    def save(self, path: Path) -> None:
        path.write_text(self.to_yaml())
