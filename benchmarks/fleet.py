"""Control steps a second of whole rollouts on 1 to 16 stations, beside the simulators alone and inference alone.

Trains a policy for two updates on the tabletop first: how well it plays does not matter here. A batch is as large as there are
stations, up to 8, and its size is part of the numbers. `--require` fails unless all fleets of one batch size play the same
episodes, hash for hash. Takes about three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opentau.policies.policy import VLAPolicy
from opentau.rollout.options import RolloutOptions
from opentau.rollout.session import RolloutSession
from opentau.types import Actor, EpisodePlan, EpisodeResult, Observation, PolicyRequest

ENV = {"target": "envs.tabletop.environment:TabletopEnv", "args": {"image_size": 64}}
TASK = "tabletop/0"
EXECUTE_HORIZON = 8
MAX_STEPS = 100
COUNTS = (1, 2, 4, 8, 16)
FLEETS: dict[str, dict[str, Any]] = {
    "local": {"target": "opentau.rollout.fleet:LocalPlace"},
    "ray": {"target": "opentau.rollout.ray_place:RayPlace", "args": {"cpus_per_station": 0.05}},
}
SIMULATOR = """
import sys, time
import numpy as np
from envs.tabletop.environment import TabletopEnv
env = TabletopEnv(image_size=64)
action, num_steps = np.zeros(7, np.float32), 0
env.reset(seed=0)
print("ready", flush=True)
sys.stdin.readline()
started = time.perf_counter()
while time.perf_counter() - started < 4.0:
    if num_steps % int(sys.argv[1]) == 0:
        env.observe()
    if num_steps % int(sys.argv[2]) == 0:
        env.reset(seed=num_steps)
    env.advance(action)
    num_steps += 1
print(num_steps / (time.perf_counter() - started))
"""


def train(folder: Path) -> Path:
    """Return a checkpoint after two updates."""
    command = [sys.executable, "-P", "-m", "opentau.cli.main", "sft", "env=tabletop", "data.demonstrations=2", "--json"]
    environment = {**os.environ, "OPENTAU_RUNS": str(folder)}
    done = subprocess.run(
        [*command, "sft.num_updates=2", "sft.batch_size=4"], env=environment, capture_output=True, text=True, check=True
    )
    return Path(json.loads(done.stdout.strip().splitlines()[-1])["path"])


def simulators_alone(num_stations: int) -> float:
    """Return the control steps a second of so many simulators at once that wait for nobody."""
    command = [sys.executable, "-P", "-c", SIMULATOR, str(EXECUTE_HORIZON), str(MAX_STEPS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(num_stations)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in processes)


def inference_alone(policy: VLAPolicy, *, batch_size: int) -> float:
    """Return the control steps a second that the policy's answers would play, asked without pause in full batches."""
    interface = policy.interface
    images = {camera: np.zeros(shape, np.uint8) for camera, shape in interface.cameras.items()}
    seen = Observation(images=images, state=np.zeros(interface.state_dim, np.float32), prompt="put it there", time_s=0.0)
    requests = [PolicyRequest(observation=seen, episode_seed=number, tick=0) for number in range(batch_size)]
    policy.infer(requests)
    started, num_answers = time.perf_counter(), 0
    while time.perf_counter() - started < 4.0:
        num_answers += len(policy.infer(requests))
    return EXECUTE_HORIZON * num_answers / (time.perf_counter() - started)


def plans(count: int) -> list[EpisodePlan]:
    return [
        EpisodePlan(
            index=index, episode_id=f"e/{index}", task_id=TASK, seed=index, actor=Actor.POLICY, policy_id="p", is_recorded=False
        )
        for index in range(count)
    ]


def rollout(policy: VLAPolicy, fleet: str, num_stations: int, *, batch_size: int, episodes: int) -> tuple[float, list[str]]:
    """Return the control steps a second of a warm session, and the episodes' hashes."""
    options = RolloutOptions(
        env=ENV,
        tasks={TASK: {"task_id": 0, "max_steps": MAX_STEPS}},
        num_stations=num_stations,
        fleet=FLEETS[fleet],
        execute_horizon=EXECUTE_HORIZON,
        batch_size=batch_size,
    )
    everything = plans(num_stations + max(episodes, 2 * num_stations))
    with RolloutSession(options, policies={"p": policy}) as session:
        warm = session.run(everything[:num_stations])  # every station starts and builds its scene
        started = time.perf_counter()
        results: Sequence[EpisodeResult] = session.run(everything[num_stations:])
        seconds = time.perf_counter() - started
    return sum(result.num_steps for result in results) / seconds, [result.digest for result in (*warm, *results)]


def main(arguments: list[str] | None = None) -> int:
    """Measure every number of stations and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stations", nargs="+", type=int, default=list(COUNTS))
    parser.add_argument("--fleet", choices=sorted(FLEETS), default="local")
    parser.add_argument("--episodes", type=int, default=16, help="episodes of each measurement, at least (default 16)")
    parser.add_argument("--json", action="store_true", help="print one line of figures")
    parser.add_argument("--require", action="store_true", help="fail unless all give the same episodes")
    parsed = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = train(Path(folder))
        rows, hashes = [], dict[int, list[list[str]]]()
        for num_stations in parsed.stations:
            batch_size = min(8, num_stations)
            policy = VLAPolicy.load(checkpoint, batch_size=batch_size)
            steps, digests = rollout(policy, parsed.fleet, num_stations, batch_size=batch_size, episodes=parsed.episodes)
            hashes.setdefault(batch_size, []).append(digests)
            alone, asked = simulators_alone(num_stations), inference_alone(policy, batch_size=batch_size)
            rows.append({"stations": num_stations, "rollout": steps, "simulators": alone, "inference": asked})
    are_same = all(len(set(same)) == 1 for group in hashes.values() for same in zip(*group, strict=False))
    if parsed.json:
        print(json.dumps({"fleet": parsed.fleet, "cores": os.cpu_count(), "are_same": are_same, "rows": rows}))
    else:
        print(f"control steps a second on {os.cpu_count()} cores, fleet={parsed.fleet}, one thread each")
        print(f"{'stations':>8}{'rollout':>10}{'simulators alone':>18}{'inference alone':>17}")
        for row in rows:
            print(f"{row['stations']:>8}{row['rollout']:>10.0f}{row['simulators']:>18.0f}{row['inference']:>17.0f}")
        print("the same episodes hash for hash" if are_same else "EPISODES DIFFER between fleets of one batch size")
    return 1 if parsed.require and not are_same else 0


if __name__ == "__main__":
    sys.exit(main())
