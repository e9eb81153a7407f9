"""The SLURM example does what it says: a job that is preempted queues itself again, and the next one goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opentau.events import RUN_STARTED, RUN_STOPPED, TRAIN_METRICS, EventReader
from tests.distributed.launching import ROOT, TIMEOUT_S, free_port, wait
from tests.distributed.test_commands import OPTIONS

pytestmark = pytest.mark.dist

# What SLURM's own programs do, as far as the example needs it on one node.
TOOLS = {
    "srun": 'shift\nexec "$@"',
    "scontrol": 'if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> "$REQUEUED"; fi',
    "python": f'exec {sys.executable} "$@"',
}


def submit(folder: Path, options: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Start the batch script as SLURM would on one node with two devices."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name, body in TOOLS.items():
        (tools / name).write_text(f"#!/bin/bash\n{body}\n")
        (tools / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OPENTAU_RUNS": str(folder),
        "REQUEUED": str(folder / "requeued"),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "CUDA_VISIBLE_DEVICES": "",
        "SLURM_JOB_ID": str(free_port()),
        "SLURM_JOB_NODELIST": "node",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_GPUS_ON_NODE": "2",
    }
    with open(folder / "log.txt", "ab") as log:
        command = ["bash", str(ROOT / "docs" / "train.sbatch"), "sft", *options]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)


def test_a_preempted_job_queues_again_and_goes_on_with_another_strategy(tmp_path: Path) -> None:
    run, reader = tmp_path / "run", EventReader(tmp_path / "run")
    job, updates = submit(tmp_path, OPTIONS), [0]
    deadline = time.monotonic() + TIMEOUT_S
    while max(updates) < 5 and job.poll() is None and time.monotonic() < deadline:
        updates += [event["update"] for event in reader.read_new() if event["kind"] == TRAIN_METRICS]
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    assert wait([job]) == [0], (tmp_path / "log.txt").read_text()[-3000:]
    assert (tmp_path / "requeued").read_text().startswith("requeue ")
    assert wait([submit(tmp_path, (*OPTIONS, "training.strategy=fsdp"))]) == [0], (tmp_path / "log.txt").read_text()[-3000:]

    seen = EventReader(run).read_new()
    kinds = [event["kind"] for event in seen if event["kind"] in (RUN_STARTED, RUN_STOPPED)]
    assert kinds == [RUN_STARTED, RUN_STOPPED] * 2
    losses = [event["update"] for event in seen if event["kind"] == TRAIN_METRICS and "train/loss" in event["metrics"]]
    assert (losses.count(1), losses[-1]) == (1, 12)
