"""Success against the delay of chunks, for each way in which chunks can follow each other.

One `nano` a horizon is trained on demonstrations of LIBERO object, task 0, with committed actions of up to half its chunk; all
ways ask the same weights on the same official states. It plays half a chunk; delays go up to that half, beyond which a robot
holds. What is done stays in --work, and the same command goes on; takes about two hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from opentau.intervals import wilson_interval

ENV = ("env=libero/object", "task_id=0")
MODES = ("naive", "blend", "guided", "trained")
HORIZONS = (16, 32)
STEPS_OF_DELAY = {16: (1, 2, 4, 6, 8), 32: (2, 4, 8, 12, 16)}
"""Control ticks, by action horizon; no delay is the same for all ways and measured once."""
SMALL = ("data.demonstrations=2", "sft.num_updates=2", "sft.batch_size=4")
"""Options of --smoke: the machinery alone."""


def opentau(work: Path, *words: str) -> dict[str, Any]:
    """Run a command and return its line of JSON."""
    command = [sys.executable, "-P", "-m", "opentau.cli.main", *words, "--json"]
    environment = os.environ | {"OPENTAU_RUNS": str(work), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def train(work: Path, horizon: int, *, demonstrations: int, smoke: bool) -> str:
    """Return the folder of the policy of a horizon."""
    half = horizon // 2
    options = (f"data.demonstrations={demonstrations}", "sft.num_updates=1000") if not smoke else SMALL
    policy = (f"policy.args.action_horizon={horizon}", f"+policy.args.max_committed={half}")
    return str(opentau(work, "sft", *ENV, *policy, *options, f"run_id=delays-{horizon}")["path"])


def evaluate(work: Path, checkpoint: str, horizon: int, mode: str, delay: int, *, episodes: int) -> dict[str, Any]:
    """Return the score of one way at one delay."""
    words = [f"rollout.execute_horizon={horizon // 2}", f"rollout.delay_ticks={delay}", f"+rollout.chunking.mode={mode}"]
    if mode == "guided":
        words.append("inference.committed=guided")
    score = opentau(work, "eval", checkpoint, *ENV, *words, "--official", "--episodes", str(episodes))
    return {"mode": mode, "delay": delay, "successes": score["successes"], "episodes": score["episodes"]}


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, measure what is missing, and print a table a horizon."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of trainings and scores")
    parser.add_argument("--horizons", nargs="+", type=int, choices=HORIZONS, default=list(HORIZONS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--episodes", type=int, default=50, help="official states of each score (default 50)")
    parser.add_argument("--demonstrations", type=int, default=25)
    parser.add_argument("--smoke", action="store_true", help="train for two updates, to see that everything runs")
    parser.add_argument("--json", action="store_true", help="print one line of figures")
    parser.add_argument("--require", action="store_true", help="fail where the trained way loses to the naive one at the end")
    parsed = parser.parse_args(arguments)
    found: dict[int, list[dict[str, Any]]] = {}
    for horizon in parsed.horizons:
        checkpoint = train(parsed.work, horizon, demonstrations=parsed.demonstrations, smoke=parsed.smoke)
        score = evaluate(parsed.work, checkpoint, horizon, MODES[0], 0, episodes=parsed.episodes)
        rows = [{**score, "mode": mode} for mode in parsed.modes]
        for delay in STEPS_OF_DELAY[horizon]:
            for mode in parsed.modes:
                rows.append(evaluate(parsed.work, checkpoint, horizon, mode, delay, episodes=parsed.episodes))
        found[horizon] = rows
    if parsed.json:
        print(json.dumps(found))
    else:
        for horizon, rows in found.items():
            print(_table(horizon, rows, modes=parsed.modes))
    return 1 if parsed.require and not all(_is_kept(horizon, rows) for horizon, rows in found.items()) else 0


def _table(horizon: int, rows: list[dict[str, Any]], *, modes: list[str]) -> str:
    scores = {(row["mode"], row["delay"]): row for row in rows}
    lines = [f"H = {horizon}, {horizon // 2} played; successes of {rows[0]['episodes']} and 95 % intervals"]
    lines.append(f"{'delay, ticks':<14}" + "".join(f"{mode:>18}" for mode in modes))
    for delay in sorted({row["delay"] for row in rows}):
        cells = []
        for mode in modes:
            row = scores[mode, delay]
            low, high = wilson_interval(row["successes"], row["episodes"])
            cells.append(f"{row['successes']:>4} ({low:.0%} to {high:.0%})".rjust(18))
        lines.append(f"{delay:<14}" + "".join(cells))
    return "\n".join(lines) + "\n"


def _is_kept(horizon: int, rows: list[dict[str, Any]]) -> bool:
    """Return whether the trained way does at the longest delay at least as well as the naive one."""
    at_end = {row["mode"]: row["successes"] for row in rows if row["delay"] == STEPS_OF_DELAY[horizon][-1]}
    return at_end.get("trained", 0) >= at_end.get("naive", 0)


if __name__ == "__main__":
    sys.exit(main())
