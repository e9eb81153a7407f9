"""Write what LeRobot's action processor makes of a few chunks, and the folder that it saves: tests/golden/fast.

.venv-lerobot/bin/python benchmarks/lerobot_side/write_fast_golden.py tests/golden/fast
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

import fast_processor
import numpy as np

HORIZON, ACTION_DIM, VOCAB_SIZE = 16, 3, 384
NUM_FITTED, NUM_CHUNKS = 600, 24
WILD = {0: 6.0, 1: -6.0}
"""Chunks that are moved out of the range that was fitted, above and below."""


def smooth_chunks(num_chunks: int, *, rng: np.random.Generator) -> np.ndarray:
    """Return a few slow waves with noise, rounded to what JSON holds exactly as written."""
    time_H1 = np.arange(HORIZON)[:, None] / HORIZON
    shape = (num_chunks, 1, ACTION_DIM)
    waves = np.sin(2 * np.pi * (rng.uniform(0, 1.5, shape) * time_H1 + rng.uniform(size=shape)))
    chunks = rng.gamma(2.0, 0.25, shape) * waves + rng.normal(scale=0.03, size=(num_chunks, HORIZON, ACTION_DIM))
    return np.round(chunks, 4)


def main() -> int:
    """Write the folder, and golden.json beside its files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    logging.disable(logging.CRITICAL)
    rng = np.random.default_rng(0)
    fast_processor.fit(smooth_chunks(NUM_FITTED, rng=rng), folder, vocab_size=VOCAB_SIZE)
    chunks = smooth_chunks(NUM_CHUNKS, rng=rng)
    for row, moved in WILD.items():
        chunks[row] += moved
    processor = fast_processor.UniversalActionProcessor.from_pretrained_local(str(folder))
    ids = processor(chunks)
    decoded = processor.decode(ids, time_horizon=HORIZON, action_dim=ACTION_DIM)
    golden = {"chunks": chunks.tolist(), "ids": ids, "decoded": np.round(decoded, 7).tolist()}
    (folder / "golden.json").write_text(json.dumps(golden) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
