"""Seconds that statistics of a million frames take, and how far the fixture's quantiles are from those of its sorted data."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from opentau.data.lerobot.dataset import Dataset
from opentau.data.statistics import QUANTILES, DimStatistics, StreamingStatistics

REPOSITORY = Path(__file__).resolve().parents[1]
FIXTURE = REPOSITORY / "tests" / "fixtures" / "lerobot_v3_ds"
STATE_DIM, ACTION_DIM, EPISODE_LENGTH = 14, 14, 250
NUM_FRAMES = 1_000_000
ALLOWED_S, ALLOWED_ERROR = 120.0, 1e-3


def time_of_streaming(num_frames: int) -> float:
    """Return the seconds of one pass over states and actions that arrive episode by episode."""
    rng = np.random.default_rng(0)
    episodes = [rng.normal(size=(EPISODE_LENGTH, STATE_DIM + ACTION_DIM)).astype(np.float32) for _ in range(64)]
    started_s = time.perf_counter()
    state, action = StreamingStatistics(STATE_DIM), StreamingStatistics(ACTION_DIM)
    for number in range(num_frames // EPISODE_LENGTH):
        rows = episodes[number % len(episodes)]
        state.add(rows[:, :STATE_DIM])
        action.add(rows[:, STATE_DIM:])
    finished = (state.finish(), action.finish())
    if {statistics.count for statistics in finished} != {num_frames // EPISODE_LENGTH * EPISODE_LENGTH}:
        raise ValueError("frames were lost")
    return time.perf_counter() - started_s


def quantile_error(fixture: Path) -> float:
    """Return the largest difference to the quantiles of the sorted data, as a share of a dimension's range."""
    dataset = Dataset(fixture, with_images=False)
    episodes = [dataset.numbers(position) for position in range(len(dataset))]
    worst = 0.0
    for name in ("state", "action"):
        stream = StreamingStatistics(getattr(episodes[0], name).shape[1])
        for episode in episodes:
            stream.add(getattr(episode, name))
        found: DimStatistics = stream.finish()
        rows = np.sort(np.concatenate([getattr(episode, name) for episode in episodes]).astype(np.float64), axis=0)
        for quantile, fraction in QUANTILES.items():
            exact = np.quantile(rows, fraction, axis=0, method="inverted_cdf")
            spread = np.maximum(rows[-1] - rows[0], 1e-9)
            worst = max(worst, float((np.abs(np.array(getattr(found, quantile)) - exact) / spread).max()))
    return worst


def main(arguments: list[str] | None = None) -> int:
    """Print both figures; 1 beyond what is allowed with --require."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=NUM_FRAMES)
    parser.add_argument("--json", action="store_true", help="print one line of figures")
    parser.add_argument("--require", action="store_true", help=f"fail beyond {ALLOWED_S:.0f} s or an error of {ALLOWED_ERROR}")
    parsed = parser.parse_args(arguments)
    seconds, error = time_of_streaming(parsed.frames), quantile_error(FIXTURE)
    if parsed.json:
        print(json.dumps({"frames": parsed.frames, "seconds": round(seconds, 2), "quantile_error": error}))
    else:
        print(
            f"{parsed.frames} frames of {STATE_DIM} states and {ACTION_DIM} actions: {seconds:.1f} s, allowed {ALLOWED_S:.0f}"
        )
        print(f"largest error of a quantile on the fixture: {error:.2g} of the range, allowed {ALLOWED_ERROR}")
    return 1 if parsed.require and (seconds > ALLOWED_S or error > ALLOWED_ERROR) else 0


if __name__ == "__main__":
    sys.exit(main())
