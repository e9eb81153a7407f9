"""Samples per CPU-second of training batches from video, beside LeRobot's loader on the same data in the same run.

Three states: once everything is in the frame cache, on the first pass, and in the long run with a cache that holds a quarter.
A sample is two cameras of 128 pixels and a chunk of 50 actions; one thread on both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from opentau.data.batches import BatchSource
from opentau.data.cache import FrameCache
from opentau.data.codec import Codec
from opentau.data.frames import FrameTable
from opentau.data.lerobot.dataset import Dataset
from opentau.data.window import Window

REPOSITORY = Path(__file__).resolve().parents[1]
FIXTURE = REPOSITORY / "tests" / "fixtures" / "lerobot_v3_ds"
MEASURE = Path(__file__).resolve().parent / "lerobot_side" / "measure_loader.py"
LEROBOT_PYTHON = REPOSITORY / ".venv-lerobot" / "bin" / "python"
CACHED, FIRST_PASS, STEADY = "cached", "first pass", "a quarter cached"
REQUIRED = {CACHED: 20.0, FIRST_PASS: 5.0, STEADY: 3.0}
"""Times LeRobot's samples per CPU-second."""
NUM_FRAMES, BATCH_SIZE, HORIZON, IMAGE_SIZE = 200_000, 32, 50, 128
ALLOWED_MEMORY_MB = 3000
"""Of the whole process; the quarter of the data that is cached takes 4.9 GB on disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One state of the loader."""

    state: str
    num_frames: int
    num_samples: int
    samples_per_cpu_s: float
    num_decoded: int
    """Episodes and cameras decoded while it was measured."""
    cache_mb: float
    budget_mb: float


def repeated(fixture: Path, root: Path, *, num_frames: int) -> Path:
    """Lay out the fixture again and again as one dataset of at least so many frames; its videos are links."""
    info = json.loads((fixture / "meta/info.json").read_text())
    rows = pq.read_table(fixture / "meta/episodes/chunk-000/file-000.parquet")
    rows = rows.select([name for name in rows.column_names if not name.startswith("stats/")]).to_pylist()
    data = pq.read_table(fixture / "data/chunk-000/file-000.parquet")
    num_copies = -(-num_frames // info["total_frames"])
    described = []
    for copy in range(num_copies):
        first_episode, first_frame = copy * len(rows), copy * info["total_frames"]
        for row in rows:
            placed = {name: copy for name in row if name.endswith("file_index") and not name.startswith("meta/")}
            counted = {"episode_index": first_episode, "dataset_from_index": first_frame, "dataset_to_index": first_frame}
            described.append({**row, **placed, **{name: row[name] + more for name, more in counted.items()}})
        shifted = data
        for name, more in (("episode_index", first_episode), ("index", first_frame)):
            column = pa.array(data[name].to_numpy() + more)
            shifted = shifted.set_column(data.column_names.index(name), name, column)
        path = root / info["data_path"].format(chunk_index=0, file_index=copy)
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, shifted.schema) as writer:
            for row in rows:
                writer.write_table(shifted.slice(row["dataset_from_index"], row["length"]))
        for key in [key for key, feature in info["features"].items() if feature["dtype"] == "video"]:
            video = root / info["video_path"].format(video_key=key, chunk_index=0, file_index=copy)
            video.parent.mkdir(parents=True, exist_ok=True)
            video.symlink_to(fixture / info["video_path"].format(video_key=key, chunk_index=0, file_index=0))
    totals = {"total_episodes": len(described), "total_frames": num_copies * info["total_frames"]}
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(described), root / "meta/episodes/chunk-000/file-000.parquet")
    (root / "meta/info.json").write_text(json.dumps(info | totals | {"splits": {"train": f"0:{len(described)}"}}))
    for name in ("tasks.parquet", "stats.json"):
        (root / "meta" / name).write_bytes((fixture / "meta" / name).read_bytes())
    return root


def batch_source(dataset: Dataset, cache: FrameCache) -> BatchSource:
    """Return batches whose window takes half of what the cache may hold."""
    table = FrameTable.from_datasets([dataset], image_size=IMAGE_SIZE, cache=cache)
    episode_bytes = len(table) / len(dataset) * len(table.images) * IMAGE_SIZE**2 * 3
    num_episodes = min(len(dataset), int(cache.budget_bytes / 2 / episode_bytes))
    codec = Codec.from_statistics(table.statistics())
    window = Window(num_episodes=num_episodes, seed=0)
    return BatchSource(table, codec=codec, horizon=HORIZON, batch_size=BATCH_SIZE, seed=0, window=window)


def measure(state: str, source: BatchSource, cache: FrameCache, *, first: int, num_samples: int) -> Measured:
    """Draw batches from update `first` on and return what they cost."""
    built = cache.num_built
    started_s = time.process_time()
    for update in range(first, first + num_samples // BATCH_SIZE):
        batch = source(update)
        if batch.action.shape[1] != HORIZON or len(batch.images) != 2:
            raise ValueError(f"a batch has actions {batch.action.shape} and {len(batch.images)} cameras")
    spent_s = time.process_time() - started_s
    return Measured(
        state=state,
        num_frames=len(source.table),
        num_samples=num_samples,
        samples_per_cpu_s=num_samples / spent_s,
        num_decoded=cache.num_built - built,
        cache_mb=cache.size_bytes() / 1e6,
        budget_mb=cache.budget_bytes / 1e6,
    )


def measure_fixture(fixture: Path, work: Path) -> list[Measured]:
    """Measure a pass over the fixture with an empty cache, and more with a full one."""
    cache = FrameCache(work / "fixture", budget_bytes=2 << 30)
    source = batch_source(Dataset(fixture), cache)
    num_frames = len(source.table)
    first = measure(FIRST_PASS, source, cache, first=0, num_samples=num_frames)
    # Whatever chance has not drawn yet is decoded before the next measurement.
    for column in source.table.images.values():
        column[source.table.start]
    return [first, measure(CACHED, source, cache, first=num_frames, num_samples=8 * num_frames)]


def measure_steady(fixture: Path, work: Path, *, num_frames: int) -> Measured:
    """Measure the long run on the repeated fixture: first fill the cache past its budget, then draw on."""
    dataset = Dataset(repeated(fixture, work / "repeated", num_frames=num_frames))
    frame_bytes = 2 * IMAGE_SIZE**2 * 3
    cache = FrameCache(work / "repeated-cache", budget_bytes=num_frames * frame_bytes // 4)
    source = batch_source(dataset, cache)
    warm_up = num_frames // 4
    measure(STEADY, source, cache, first=0, num_samples=warm_up)
    return measure(STEADY, source, cache, first=warm_up // BATCH_SIZE, num_samples=num_frames // 4)


def measure_lerobot(python: Path, fixture: Path, *, backend: str) -> dict[str, float]:
    """Return what LeRobot's side prints of itself."""
    command = [str(python), str(MEASURE), str(fixture), "--video-backend", backend, "--horizon", str(HORIZON)]
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HOME": home}, check=False)
    if done.returncode:
        raise SystemExit(f"LeRobot's side ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 below the bar with --require, 2 without LeRobot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fixture", type=Path, default=FIXTURE, help="a small LeRobot v3.0 dataset with two video cameras")
    parser.add_argument("--frames", type=int, default=NUM_FRAMES, help="frames of the repeated dataset")
    parser.add_argument("--python", type=Path, default=LEROBOT_PYTHON, help="python of an environment with LeRobot")
    parser.add_argument("--video-backend", default="pyav", help="LeRobot's: pyav or torchcodec")
    parser.add_argument("--json", action="store_true", help="print one line of figures")
    parser.add_argument("--require", action="store_true", help="fail below " + ", ".join(map(str, REQUIRED.items())))
    parsed = parser.parse_args(arguments)
    if not parsed.python.exists():
        print(f"There is no LeRobot environment ({parsed.python}). Make it with: make lerobot-env", file=sys.stderr)
        return 2
    theirs = measure_lerobot(parsed.python, parsed.fixture, backend=parsed.video_backend)
    with tempfile.TemporaryDirectory() as work:
        rows = measure_fixture(parsed.fixture, Path(work))
        rows.append(measure_steady(parsed.fixture, Path(work), num_frames=parsed.frames))
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ratios = {row.state: row.samples_per_cpu_s / theirs["samples_per_cpu_s"] for row in rows}
    is_enough = all(ratios[state] >= wanted for state, wanted in REQUIRED.items())
    fits = all(row.cache_mb <= row.budget_mb for row in rows) and memory_mb <= ALLOWED_MEMORY_MB
    if parsed.json:
        plain = {"lerobot": theirs, "rows": [asdict(row) for row in rows], "ratios": ratios, "memory_mb": memory_mb}
        print(json.dumps(plain))
    else:
        speed = theirs["samples_per_cpu_s"]
        print(f"LeRobot {theirs['lerobot']} with {theirs['video_backend']}: {speed:.0f} samples per CPU-second")
        sizes = f"{'decoded':>9}{'cache / budget, MB':>20}"
        print(f"{'state':<18}{'frames':>9}{'samples':>9}{'per CPU-s':>11}{'ratio':>8}{'wanted':>8}{sizes}")
        for row in rows:
            sizes = f"{row.cache_mb:.0f} / {row.budget_mb:.0f}"
            print(
                f"{row.state:<18}{row.num_frames:>9}{row.num_samples:>9}{row.samples_per_cpu_s:>11.0f}{ratios[row.state]:>8.1f}"
                f"{REQUIRED[row.state]:>8.0f}{row.num_decoded:>9}{sizes:>20}"
            )
        print(f"largest memory of the process {memory_mb:.0f} MB, allowed {ALLOWED_MEMORY_MB}")
    return 1 if parsed.require and not (is_enough and fits) else 0


if __name__ == "__main__":
    sys.exit(main())
