"""Fit, or measure and ask, the action processor that LeRobot ships: its tokens, its chunks, and how many per CPU-second.

The class is LeRobot's own (`molmoact2_hf_model/action_tokenizer.py`); what π0-FAST loads from the hub is the same algorithm.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

# Read when the tokenizers library is imported.
os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

from lerobot.policies.molmoact2.molmoact2_hf_model.action_tokenizer import UniversalActionProcessor

IDS_FILE, CHUNKS_FILE = "ids.json", "chunks.npy"


def fit(chunks: np.ndarray, folder: Path, *, vocab_size: int) -> None:
    """Fit a processor and save it as `lerobot-train-tokenizer` does."""
    _, horizon, action_dim = chunks.shape
    processor = UniversalActionProcessor.fit(
        list(chunks), scale=10, vocab_size=vocab_size, time_horizon=horizon, action_dim=action_dim
    )
    processor.save_pretrained(folder)


def measure(chunks: np.ndarray, folder: Path, out: Path) -> dict[str, float | str | int]:
    """Leave the tokens of the chunks, and what these decode to, in plain files, and return the figures."""
    processor = UniversalActionProcessor.from_pretrained_local(str(folder))
    shape = {"time_horizon": chunks.shape[1], "action_dim": chunks.shape[2]}
    processor.decode(processor(chunks[:20]), **shape)
    started_s = time.process_time()
    ids = processor(chunks)
    encoded_s = time.process_time()
    decoded = processor.decode(ids, **shape)
    ended_s = time.process_time()
    (out / IDS_FILE).write_text(json.dumps(ids))
    np.save(out / CHUNKS_FILE, decoded)
    return {
        "encoded_per_cpu_s": len(chunks) / (encoded_s - started_s),
        "decoded_per_cpu_s": len(chunks) / (ended_s - encoded_s),
        "num_changed_by_float32": sum(
            one != other for one, other in zip(processor(chunks.astype(np.float32)), ids, strict=True)
        ),
        "lerobot": version("lerobot"),
        "transformers": version("transformers"),
        "tokenizers": version("tokenizers"),
    }


def main() -> int:
    """Fit with --vocab-size, else measure and print one line of figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("chunks", type=Path, help="a npy file of chunks, float [N, H, A]")
    parser.add_argument("folder", type=Path, help="the processor's folder")
    parser.add_argument("--vocab-size", type=int, help="fit a processor of that many ids on the chunks into the folder")
    parser.add_argument("--out", type=Path, help="an existing folder for tokens and chunks")
    parsed = parser.parse_args()
    chunks = np.load(parsed.chunks, allow_pickle=False)
    # Of each chunk that it cannot decode the processor logs a traceback, whose cost is no part of decoding.
    logging.disable(logging.CRITICAL)
    if parsed.vocab_size:
        fit(chunks, parsed.folder, vocab_size=parsed.vocab_size)
    else:
        print(json.dumps(measure(chunks, parsed.folder, parsed.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
