"""Stations placed by Ray, on a cluster that is there or on one of this machine's own."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from opentau.errors import OptionError, StationError
from opentau.rollout.fleet import SINGLE_THREAD
from robot_bridge.config import StationConfig
from robot_bridge.interpreters import environment_of, module_command

# Only text goes through Ray (a station's yaml there, its log back): episodes travel over the bridge, as everywhere. Ray itself
# pickles, runs whatever its members send it, and listens on all addresses, guarded by a token (Ray 2.60): a cluster has to be
# trusted as a whole.

MEGABYTE = 1 << 20
LOOPBACK = "127.0.0.2" if sys.platform.startswith("linux") else None
"""Where a cluster that is started here talks; Ray takes 127.0.0.1 for the machine's address in the network."""
OBJECT_STORE_BYTES = 80 * MEGABYTE
"""Of a cluster that is started here; Ray's least."""
MAX_LOG_BYTES = MEGABYTE


class StationHost:
    """Ray's worker around one station; the station dies with it (Linux)."""

    def start(self, config_yaml: str) -> int:
        """Start the station and return its process id."""
        self._folder = tempfile.TemporaryDirectory(prefix="opentau-station-")
        config_path, self._log_path = Path(self._folder.name, "station.yaml"), Path(self._folder.name, "station.log")
        config = dataclasses.replace(StationConfig.from_yaml(config_yaml), parent_pid=os.getpid())
        config.save(config_path)
        with open(self._log_path, "wb") as log:
            command = module_command(config.interpreter, "robot_bridge.station", [str(config_path)])
            environment = environment_of(config.interpreter) | SINGLE_THREAD
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        return self._process.pid

    def finish(self) -> tuple[int, str]:
        """Wait for the station's end; return its exit code and the end of what it said."""
        code = self._process.wait()
        log = self._log_path.read_bytes()[-MAX_LOG_BYTES:].decode(errors="replace")
        self._folder.cleanup()
        return code, log


class RayProcess:
    """A station in Ray's keeping."""

    def __init__(self, ray: Any, host: Any, *, pid: int, log_path: Path) -> None:
        self.pid = pid
        self._ray = ray
        self._host = host
        self._log_path = log_path
        self._end = host.finish.remote()
        self._exit_code: int | None = None

    def poll(self) -> int | None:
        if self._exit_code is None:
            self.wait(0.0)
        return self._exit_code

    def wait(self, timeout_s: float) -> None:
        if self._exit_code is not None:
            return
        ended, _ = self._ray.wait([self._end], timeout=timeout_s)
        if not ended:
            return
        try:
            self._exit_code, log = self._ray.get(self._end)
        except self._ray.exceptions.RayError as error:  # the worker was killed, or its machine is gone
            self._exit_code, log = -signal.SIGKILL, f"Ray lost the station's worker: {type(error).__name__}"
        self._log_path.write_text(log)

    def kill(self) -> None:
        """End the worker and with it the station."""
        self._ray.kill(self._host)
        while self.poll() is None:
            self.wait(1.0)


class RayPlace:
    """A Ray cluster. Stations on other machines dial back, so that the server must listen where they reach it."""

    def __init__(self, *, address: str | None = None, cpus_per_station: float = 1.0, start_timeout_s: float = 120.0) -> None:
        """`address`: of a running cluster ('auto' finds this machine's), None starts one for this process.

        `cpus_per_station`: what Ray sets aside. Raises `OptionError` without Ray and `StationError` where no cluster answers.
        """
        if cpus_per_station < 0.0 or start_timeout_s <= 0.0:
            raise OptionError(
                f"cpus_per_station is {cpus_per_station} and start_timeout_s {start_timeout_s}; give 0 or more, and above 0"
            )
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        try:
            import ray  # the extra `cluster`
        except ImportError as error:
            raise OptionError("fleet=ray needs Ray, which is not installed; install the extra `cluster`") from error
        self._ray: Any = ray
        self._cpus = cpus_per_station
        self._timeout_s = start_timeout_s
        if not ray.is_initialized():
            _join_cluster(ray, address)

    def launch(self, config: StationConfig, *, log_path: Path) -> RayProcess:
        """Raises `StationError` where Ray has no room for another station in time."""
        host = self._ray.remote(num_cpus=self._cpus, max_restarts=0)(StationHost).remote()
        try:
            pid = self._ray.get(host.start.remote(config.to_yaml()), timeout=self._timeout_s)
        except self._ray.exceptions.GetTimeoutError as error:
            self._ray.kill(host)
            raise StationError(
                f"Ray has not placed station {config.station_id} within {self._timeout_s:g} s. Each takes {self._cpus:g} CPUs, "
                f"{self._ray.available_resources().get('CPU', 0.0):g} are free: lower rollout.num_stations or "
                "fleet.args.cpus_per_station"
            ) from error
        except self._ray.exceptions.RayError as error:
            raise StationError(f"Ray could not start station {config.station_id}: {error}") from error
        return RayProcess(self._ray, host, pid=pid, log_path=log_path)

    def close(self) -> None:
        """Stay in the cluster: the next session of this process needs it, and Ray leaves when the process ends."""


def _join_cluster(ray: Any, address: str | None) -> None:
    quiet = {"log_to_driver": False, "configure_logging": False}
    try:
        if address is None:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address=LOOPBACK,
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise StationError(f"no Ray cluster at {address!r}: {error}. Start one, or leave fleet.args.address=null") from error
