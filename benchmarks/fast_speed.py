"""Action tokens beside the processor that LeRobot ships, in the same run: same vocabulary, same tokens, chunks per CPU-second.

Chunks are 50 steps of 7 numbers, smooth motions with sensor noise and a gripper that opens or closes, from a seed; or a file's.
The vocabulary is LeRobot's, fitted on other such chunks; with --ours it is one of ours, exported; with --folder any.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from opentau.policies.fast_tokenizer import FastTokenizer

REPOSITORY = Path(__file__).resolve().parents[1]
LEROBOT_SIDE = Path(__file__).resolve().parent / "lerobot_side" / "fast_processor.py"
LEROBOT_PYTHON = REPOSITORY / ".venv-lerobot" / "bin" / "python"
REQUIRED = {"encode": 2.0, "decode": 5.0}
"""Times LeRobot's chunks per CPU-second."""
NUM_FITTED, NUM_CHUNKS, HORIZON, ACTION_DIM = 3000, 2000, 50, 7
VOCAB_SIZE = 1024
BATCHES = (32, NUM_CHUNKS)
"""Chunks that ours is given at once: a training batch, and all. LeRobot's works on one after another in any case."""
ALLOWED_DIFFERENCE = 1e-6
"""Between decoded numbers, which span [-1, 1]; ours are float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """One direction, at one batch size."""

    direction: str
    batch_size: int
    theirs_per_cpu_s: float
    ours_per_cpu_s: float

    @property
    def ratio(self) -> float:
        return self.ours_per_cpu_s / self.theirs_per_cpu_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far tokens and chunks agree."""

    num_chunks: int
    num_spelled: int
    """Chunks that need no clipping and whose coefficients can all be spelled; of others LeRobot's drops characters."""
    num_other_tokens: int
    """Of those that are spelled."""
    num_undecoded: int
    """Chunks that LeRobot's tokens do not spell; its processor gives zeros, or takes broken characters for numbers."""
    largest_difference: float
    """Between what both decode."""
    largest_of_undecoded: float
    """The largest number that LeRobot's processor gives for those that are not spelled."""

    @property
    def is_equal(self) -> bool:
        return not self.num_other_tokens and self.largest_difference <= ALLOWED_DIFFERENCE


def smooth_chunks(num_chunks: int, *, seed: int, noise: float = 0.02) -> np.ndarray:
    """Return encoded actions, float64 [N, H, A] of float32's precision, so that both sides see the same numbers."""
    rng = np.random.default_rng(seed)
    time_H1 = np.arange(HORIZON)[:, None] / HORIZON
    action_NHA = noise * rng.standard_normal((num_chunks, HORIZON, ACTION_DIM))
    for _ in range(4):
        shape = (num_chunks, 1, ACTION_DIM)
        waves = np.sin(2 * np.pi * (rng.uniform(0.1, 2.0, shape) * time_H1 + rng.uniform(size=shape)))
        action_NHA += rng.gamma(1.0, 0.25, shape) * waves
    switches_N1 = np.arange(HORIZON) < rng.integers(-HORIZON, 2 * HORIZON, num_chunks)[:, None]
    action_NHA[:, :, -1] = rng.choice([-1, 1], num_chunks)[:, None] * np.where(switches_N1, -1, 1)
    return np.clip(action_NHA, -1.2, 1.2).astype(np.float32).astype(np.float64)


def measure_ours(tokenizer: FastTokenizer, chunks_NHA: np.ndarray) -> dict[tuple[str, int], float]:
    """Return chunks per CPU-second, by direction and batch size."""
    ids = tokenizer.encode(chunks_NHA)
    speeds = {}
    for size in BATCHES:
        firsts = range(0, len(ids), size)
        started_s = time.process_time()
        for first in firsts:
            tokenizer.encode(chunks_NHA[first : first + size])
        encoded_s = time.process_time()
        for first in firsts:
            tokenizer.decode_batch(ids[first : first + size])
        speeds["encode", size] = len(ids) / (encoded_s - started_s)
        speeds["decode", size] = len(ids) / (time.process_time() - encoded_s)
    return speeds


def lerobot(python: Path, *arguments: str | Path) -> str:
    """Return what LeRobot's side prints."""
    command = [str(python), str(LEROBOT_SIDE), *map(str, arguments)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"LeRobot's side ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def compare(tokenizer: FastTokenizer, chunks_NHA: np.ndarray, answers: Path) -> Parity:
    """Compare with the tokens and chunks that LeRobot's side left."""
    theirs = json.loads((answers / "ids.json").read_text())
    their_chunks_NHA = np.load(answers / "chunks.npy", allow_pickle=False)
    is_spelled_N = tokenizer.can_spell(chunks_NHA)
    ours = tokenizer.encode(chunks_NHA)
    decoded = tokenizer.decode_batch(theirs)
    gaps = [abs(own - their).max() for own, their in zip(decoded, their_chunks_NHA, strict=True) if own is not None]
    undecoded = [abs(their).max() for own, their in zip(decoded, their_chunks_NHA, strict=True) if own is None]
    return Parity(
        num_chunks=len(theirs),
        num_spelled=int(is_spelled_N.sum()),
        num_other_tokens=sum(
            is_spelled and own != their for is_spelled, own, their in zip(is_spelled_N, ours, theirs, strict=True)
        ),
        num_undecoded=len(undecoded),
        largest_difference=float(max(gaps)),
        largest_of_undecoded=float(max(undecoded, default=0.0)),
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 below the bar or for other tokens with --require, 2 without LeRobot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=Path, help="a npy file of encoded actions [N, H, A], instead of made-up motions")
    parser.add_argument("--noise", type=float, default=0.02, help="of the made-up motions, which span [-1, 1]")
    parser.add_argument("--folder", type=Path, help="a published or fitted tokenizer, instead of fitting one")
    parser.add_argument("--ours", action="store_true", help="fit with ours, and let LeRobot read the exported folder")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of either side, alternating; the medians count")
    parser.add_argument("--python", type=Path, default=LEROBOT_PYTHON, help="python of an environment with LeRobot")
    parser.add_argument("--json", action="store_true", help="print one line of figures")
    parser.add_argument("--require", action="store_true", help="fail below " + ", ".join(map(str, REQUIRED.items())))
    parsed = parser.parse_args(arguments)
    if not parsed.python.exists():
        print(f"There is no LeRobot environment ({parsed.python}). Make it with: make lerobot-env", file=sys.stderr)
        return 2
    made_up = smooth_chunks(NUM_FITTED + NUM_CHUNKS, seed=0, noise=parsed.noise)
    given = np.load(parsed.chunks, allow_pickle=False) if parsed.chunks else made_up
    fitted, measured = (made_up[:NUM_FITTED], made_up[NUM_FITTED:]) if parsed.chunks is None else (given[::2], given[1::2])
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = parsed.folder or work / "fitted"
        np.save(work / "fitted.npy", fitted)
        np.save(work / "measured.npy", measured)
        if parsed.ours:
            FastTokenizer.fit(fitted, vocab_size=VOCAB_SIZE)[0].save_folder(folder)
        elif not parsed.folder:
            lerobot(parsed.python, work / "fitted.npy", folder, "--vocab-size", str(VOCAB_SIZE))
        tokenizer = FastTokenizer.from_folder(folder, action_horizon=measured.shape[1], action_dim=measured.shape[2])
        theirs, ours = [], []
        for _ in range(parsed.rounds):
            theirs.append(json.loads(lerobot(parsed.python, work / "measured.npy", folder, "--out", work)))
            ours.append(measure_ours(tokenizer, measured))
        parity = compare(tokenizer, measured, work)
    their_speed = {each: median(figures[f"{each}d_per_cpu_s"] for figures in theirs) for each in REQUIRED}
    speeds = [
        Speed(
            direction=direction,
            batch_size=size,
            theirs_per_cpu_s=their_speed[direction],
            ours_per_cpu_s=median(figures[direction, size] for figures in ours),
        )
        for direction in REQUIRED
        for size in BATCHES
    ]
    report(speeds, parity, theirs[0], as_json=parsed.json)
    is_enough = all(speed.ratio >= REQUIRED[speed.direction] for speed in speeds)
    return 1 if parsed.require and not (is_enough and parity.is_equal) else 0


def report(speeds: list[Speed], parity: Parity, theirs: dict[str, float | str | int], *, as_json: bool) -> None:
    """Print a table, or one line of figures."""
    if as_json:
        rows = [asdict(speed) | {"ratio": speed.ratio} for speed in speeds]
        print(json.dumps({"lerobot": theirs, "rows": rows, "parity": asdict(parity)}))
        return
    print(f"LeRobot {theirs['lerobot']} with transformers {theirs['transformers']} and tokenizers {theirs['tokenizers']}")
    print(f"{'':<8}{'at once':>9}{'LeRobot':>10}{'ours':>10}  chunks per CPU-s{'ratio':>8}{'wanted':>8}")
    for speed in speeds:
        print(
            f"{speed.direction:<8}{speed.batch_size:>9}{speed.theirs_per_cpu_s:>10.0f}{speed.ours_per_cpu_s:>10.0f}"
            f"{speed.ratio:>26.1f}{REQUIRED[speed.direction]:>8.0f}"
        )
    print(
        f"{parity.num_spelled} of {parity.num_chunks} chunks are spelled, {parity.num_other_tokens} of them with other tokens; "
        f"decoded chunks differ by {parity.largest_difference:.1e} at most"
    )
    print(
        f"LeRobot's tokens do not spell {parity.num_undecoded} chunks, and decode to numbers up to "
        f"{parity.largest_of_undecoded:.0f}; float32 instead of float64 changes its tokens of "
        f"{theirs['num_changed_by_float32']} chunks"
    )


if __name__ == "__main__":
    sys.exit(main())
