"""Start torchrun on loopback, and end nothing but what was started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 150.0


def torchrun(arguments: Sequence[str], *, log: Path, runs: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a torchrun agent; what it and its workers print goes to `log`."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
    }
    if runs is not None:
        environment["OPENTAU_RUNS"] = str(runs)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        command = [sys.executable, "-P", "-m", "torch.distributed.run", *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )


def two_ranks(program: Sequence[str], *, max_restarts: int = 0) -> list[str]:
    """Return torchrun's arguments for two processes on this machine."""
    place = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
    return [*place, "--max-restarts", str(max_restarts), *program]


def agent(*, port: int, program: Sequence[str]) -> list[str]:
    """Return the arguments of one of two agents with a process each, as on two machines."""
    place = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test", "--local-addr", "127.0.0.1"]
    return ["--nnodes", "2", "--nproc-per-node", "1", *place, *program]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(processes: Sequence[subprocess.Popen[bytes]], *, timeout_s: float = TIMEOUT_S) -> list[int]:
    """Return the exit codes; whatever runs too long is told to end, and fails the test."""
    try:
        return [process.wait(timeout_s) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()  # the agent ends its workers, and gives them half a minute for it
                try:
                    process.wait(45.0)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
