"""Compare every frame of datasets that OpenTau writes and LeRobot reads, and of datasets that LeRobot writes and both read.

Numbers are compared as LeRobot's tensors hold them: integers as int64, floats as float32.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from opentau.data.lerobot import layout
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.writer import DatasetWriter
from opentau.errors import OpenTauError
from opentau.types import Episode, Interface, Outcome, Source

# Shapes: T control steps, S state dimensions, A action dimensions, N numbers of a simulator state.

REPOSITORY = Path(__file__).resolve().parents[1]
LEROBOT_SIDE = Path(__file__).resolve().parent / "lerobot_side"
LEROBOT_PYTHON = REPOSITORY / ".venv-lerobot" / "bin" / "python"
BY_OPENTAU, BY_LEROBOT = "written by OpenTau", "written by LeRobot"
TASK, ROW = "task", "meta/episodes"
FPS = 20
LEVELS_ALLOWED = 2
"""How far pixels of a video may lie apart: both sides decode the same stream, but convert to RGB with their own FFmpeg."""


class LeRobotError(Exception):
    """A program of LeRobot's environment ended with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One column of a dataset on both sides."""

    dataset: str
    column: str
    num_frames: int = 0
    num_different: int = 0
    """Frames in which the sides differ by more than is allowed."""
    largest_difference: float = 0.0

    @property
    def is_equal(self) -> bool:
        return self.num_frames > 0 and self.num_different == 0


def roundtrip_interface() -> Interface:
    """Return the interface of the dataset that is written here; its cameras are not square, so that axes cannot be swapped."""
    return Interface(
        cameras={"agentview": (48, 64, 3), "wrist": (40, 32, 3)},
        state_names=tuple(f"s{dim}" for dim in range(8)),
        state_units=("rad",) * 8,
        action_names=tuple(f"a{dim}" for dim in range(7)),
        action_units=("1",) * 7,
        action_space="delta_ee",
        control_hz=float(FPS),
    )


def random_episodes(interface: Interface) -> list[Episode]:
    """Return episodes of different length, task, outcome and source, with simulator states of different width."""
    lengths = (23, 1, 40, 7, 12, 31)
    prompts = ("put the bowl on the stove", "räume den Tisch auf", "open the drawer")
    outcomes = (Outcome.SUCCESS, Outcome.FAILURE, Outcome.TIMEOUT)
    return [
        random_episode(
            interface,
            number=number,
            num_frames=num_frames,
            prompt=prompts[number % len(prompts)],
            outcome=outcomes[number // 2 % len(outcomes)],
            sim_state_dim=(14, 9, 0)[number % 3],
        )
        for number, num_frames in enumerate(lengths)
    ]


def random_episode(
    interface: Interface, *, number: int, num_frames: int, prompt: str, outcome: Outcome, sim_state_dim: int
) -> Episode:
    """Return an episode of random content, in the middle of which a person intervenes."""
    rng = np.random.default_rng(number)
    source = np.full(num_frames, Source.AUTONOMOUS, np.int8)
    source[num_frames // 3 : num_frames // 2] = Source.INTERVENTION
    policy_action = rng.uniform(-1, 1, (num_frames, interface.action_dim)).astype(np.float32)
    policy_action[source == Source.INTERVENTION] = np.nan
    reward = np.zeros(num_frames, np.float32)
    reward[-1] = outcome is Outcome.SUCCESS
    return Episode(
        images={
            camera: rng.integers(0, 256, (num_frames, *shape), dtype=np.uint8) for camera, shape in interface.cameras.items()
        },
        state=rng.normal(size=(num_frames, interface.state_dim)).astype(np.float32),
        action=rng.uniform(-1, 1, (num_frames, interface.action_dim)).astype(np.float32),
        policy_action=policy_action,
        executed_action=rng.uniform(-1, 1, (num_frames, interface.action_dim)).astype(np.float32),
        source=source,
        reward=reward,
        value=np.where(rng.random(num_frames) < 0.5, -rng.random(num_frames), np.nan).astype(np.float32),
        sim_state=rng.normal(size=(num_frames, sim_state_dim)),
        prompt=prompt,
        task_id=f"roundtrip/{number % 3}",
        outcome=outcome,
        seed=2**62 + number,
        episode_id=f"collect-1/{number:06d}",
        env_id="roundtrip-1",
        policy_version="policy-1" if number else "",
        subtasks=tuple("reach" if tick < num_frames // 2 else "grasp" for tick in range(num_frames)) if number % 2 else (),
    )


def write_dataset(root: Path, episodes: list[Episode], interface: Interface) -> None:
    """Record the episodes with OpenTau's writer, last one first and with gaps in the plan."""
    writer = DatasetWriter(root, interface=interface, fps=FPS, robot_type="roundtrip", env_id="roundtrip-1")
    for number, episode in reversed(list(enumerate(episodes))):
        writer.add(3 * number, episode)
    writer.finish()


def expected_columns(episodes: list[Episode]) -> Iterator[dict[str, Any]]:
    """Yield what every episode of the written dataset must contain, by the names of its columns."""
    prompts = list(dict.fromkeys(episode.prompt for episode in episodes))
    subtasks = list(dict.fromkeys(text for episode in episodes for text in episode.subtasks or [""] * len(episode)))
    widest, first_frame = max(episode.sim_state.shape[1] for episode in episodes), 0
    for number, episode in enumerate(episodes):
        num_frames = len(episode)
        ticks = np.arange(num_frames)
        row = {name: getattr(episode, name) for name in ("episode_id", "task_id", "seed", "env_id", "policy_version")}
        row |= {"outcome": str(episode.outcome), "success": episode.outcome is Outcome.SUCCESS, "length": num_frames}
        row |= {"num_intervention_steps": episode.num_intervention_steps, "digest": episode.digest()}
        yield {
            **{layout.IMAGE_PREFIX + camera: frames for camera, frames in episode.images.items()},
            layout.STATE: episode.state,
            layout.ACTION: episode.action,
            layout.POLICY_ACTION: episode.policy_action,
            layout.EXECUTED_ACTION: episode.executed_action,
            layout.SOURCE: episode.source,
            layout.REWARD: episode.reward,
            layout.VALUE: episode.value,
            layout.SIM_STATE: np.pad(episode.sim_state, ((0, 0), (0, widest - episode.sim_state.shape[1]))),
            layout.TIMESTAMP: (ticks / FPS).astype(np.float32),
            layout.FRAME_INDEX: ticks,
            layout.EPISODE_INDEX: np.full(num_frames, number),
            layout.INDEX: first_frame + ticks,
            layout.TASK_INDEX: np.full(num_frames, prompts.index(episode.prompt)),
            layout.SUBTASK_INDEX: np.array([subtasks.index(text) for text in episode.subtasks or [""] * num_frames]),
            TASK: [episode.prompt] * num_frames,
            ROW: row,
        }
        first_frame += num_frames


def loaded_columns(root: Path) -> Iterator[dict[str, Any]]:
    """Yield what OpenTau's reader gives of every episode of a dataset that LeRobot has written."""
    dataset = Dataset(root)
    keys = {
        layout.camera_of(key): key for key in layout.camera_keys(json.loads((root / layout.INFO_PATH).read_text())["features"])
    }
    for number in range(len(dataset)):
        episode = dataset.load(number)
        ticks = np.arange(len(episode))
        yield {
            **{keys[camera]: frames for camera, frames in episode.images.items()},
            layout.STATE: episode.state,
            layout.ACTION: episode.action,
            layout.TIMESTAMP: (ticks / dataset.fps).astype(np.float32),
            TASK: [episode.prompt] * len(episode),
        }


def compare(
    name: str, ours: Iterator[dict[str, Any]], theirs: Iterator[dict[str, Any]], *, index: dict[str, Any]
) -> list[Compared]:
    """Return every column of ours and every camera of LeRobot's over all episodes; what one side lacks differs everywhere."""
    rows: dict[str, Compared] = {}
    for wanted, given in zip_longest(ours, theirs, fillvalue=dict[str, Any]()):
        for column in dict.fromkeys([*(wanted or given), *index["camera_keys"]]):
            allowed = LEVELS_ALLOWED if column in index["video_keys"] else 0
            num_different, largest = differences(wanted.get(column), given.get(column), allowed=allowed)
            so_far = rows.get(column, Compared(dataset=name, column=column))
            rows[column] = replace(
                so_far,
                num_frames=so_far.num_frames + num_rows(wanted.get(column, given.get(column))),
                num_different=so_far.num_different + num_different,
                largest_difference=max(so_far.largest_difference, largest),
            )
    return list(rows.values())


def num_rows(column: Any) -> int:
    """Return the frames of a column, or 1 for an episode's row in meta/episodes."""
    return 1 if isinstance(column, dict) else len(column)


def differences(wanted: Any, given: Any, *, allowed: float) -> tuple[int, float]:
    """Return in how many frames two columns differ, and by how much at most; infinity where they cannot be subtracted."""
    if wanted is None or given is None or (isinstance(wanted, np.ndarray) and wanted.shape != given.shape):
        return num_rows(given if wanted is None else wanted), np.inf
    if isinstance(wanted, dict):
        is_same = all(given.get(key) == value for key, value in wanted.items())
        return (0, 0.0) if is_same else (1, np.inf)
    if isinstance(wanted, list):
        num_different = sum(a != b for a, b in zip_longest(wanted, given))
        return num_different, np.inf if num_different else 0.0
    tensor_like = wanted if wanted.dtype == np.uint8 else wanted.astype(np.float32 if wanted.dtype.kind == "f" else np.int64)
    if given.dtype != tensor_like.dtype:
        return len(wanted), np.inf
    apart = np.abs(tensor_like.astype(np.float64) - given.astype(np.float64)).reshape(len(wanted), -1)
    apart[(np.isnan(tensor_like) & np.isnan(given)).reshape(apart.shape)] = 0
    apart[np.isnan(apart)] = np.inf
    return int((apart > allowed).any(axis=1).sum()), float(apart.max())


def run_lerobot(python: Path, script: str, *arguments: Path) -> None:
    """Run a program of LeRobot's side in its own environment, with a cache folder of its own."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"HF_HOME": cache, "HF_HUB_OFFLINE": "1"}
        environment.pop("PYTHONPATH", None)
        command = [str(python), str(LEROBOT_SIDE / script), *map(str, arguments)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise LeRobotError(f"{script} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")


def read_with_lerobot(python: Path, root: Path, out: Path) -> dict[str, Any]:
    """Let LeRobot read a dataset into files and return their index."""
    out.mkdir()
    run_lerobot(python, "read_dataset.py", root, out)
    return json.loads((out / "index.json").read_text())


def dumped_columns(index: dict[str, Any], out: Path) -> Iterator[dict[str, Any]]:
    """Yield the columns that LeRobot gave of every episode."""
    for episode in index["episodes"]:
        with np.load(out / episode["file"], allow_pickle=False) as columns:
            yield {**columns, TASK: episode["task"], ROW: episode["row"]}


def readable_by_lerobot(python: Path, root: Path, work: Path) -> Path:
    """Return a dataset that LeRobot reads: the given one, or a copy of the layout v2.1 that LeRobot has converted."""
    if json.loads((root / layout.INFO_PATH).read_text())["codebase_version"] == layout.CODEBASE_VERSION:
        return root
    converted = work / "converted"
    shutil.copytree(root, converted)
    run_lerobot(python, "convert_dataset.py", converted)
    return converted


def compare_ours(python: Path, work: Path) -> tuple[str, list[Compared]]:
    """Return LeRobot's version and how it reads a dataset that OpenTau has written."""
    interface = roundtrip_interface()
    episodes = random_episodes(interface)
    write_dataset(work / "ours", episodes, interface)
    index = read_with_lerobot(python, work / "ours", work / "ours-read")
    theirs = dumped_columns(index, work / "ours-read")
    return index["lerobot"], compare(BY_OPENTAU, expected_columns(episodes), theirs, index=index)


def compare_theirs(python: Path, work: Path, root: Path | None) -> list[Compared]:
    """Return how both sides read a dataset that LeRobot has written, now or before."""
    if root is None:
        root = work / "theirs"
        run_lerobot(python, "write_dataset.py", root)
    index = read_with_lerobot(python, readable_by_lerobot(python, root, work), work / "theirs-read")
    theirs = dumped_columns(index, work / "theirs-read")
    return compare(BY_LEROBOT, loaded_columns(root), theirs, index=index)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 when a side cannot read a dataset or, with --require, when a column differs, 2 without LeRobot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--theirs", type=Path, help="a dataset of LeRobot's, v3.0 or v2.1; without it LeRobot writes a small one"
    )
    parser.add_argument("--python", type=Path, default=LEROBOT_PYTHON, help="python of an environment with LeRobot")
    parser.add_argument("--json", action="store_true", help="print one line of figures")
    parser.add_argument("--require", action="store_true", help="fail when a column differs")
    parsed = parser.parse_args(arguments)
    if not parsed.python.exists():
        print(f"There is no LeRobot environment ({parsed.python}). Make it with: make lerobot-env", file=sys.stderr)
        return 2
    rows, unreadable, version = list[Compared](), dict[str, str](), ""
    with tempfile.TemporaryDirectory() as work:
        try:
            version, rows = compare_ours(parsed.python, Path(work))
        except LeRobotError as error:
            unreadable[BY_OPENTAU] = f"LeRobot: {error}"
        try:
            rows += compare_theirs(parsed.python, Path(work), parsed.theirs)
        except LeRobotError as error:
            unreadable[BY_LEROBOT] = f"LeRobot: {error}"
        except OpenTauError as error:
            unreadable[BY_LEROBOT] = f"OpenTau: {error}"
    if parsed.json:
        print(json.dumps({"lerobot": version, "columns": [plain(row) for row in rows], "unreadable": unreadable}))
    else:
        print_table(rows, unreadable, version=version)
    return 1 if unreadable or (parsed.require and not all(row.is_equal for row in rows)) else 0


def plain(row: Compared) -> dict[str, Any]:
    """Return a row for JSON, which knows no infinity."""
    largest = row.largest_difference if np.isfinite(row.largest_difference) else None
    return asdict(row) | {"largest_difference": largest, "is_equal": row.is_equal}


def print_table(rows: list[Compared], unreadable: dict[str, str], *, version: str) -> None:
    """Print every column, then what could not be read."""
    print(f"LeRobot {version}\n{'dataset':<20}{'column':<28}{'frames':>8}{'different':>11}{'largest difference':>20}")
    for row in rows:
        counts = f"{row.num_frames:>8}{row.num_different:>11}{row.largest_difference:>20g}"
        print(f"{row.dataset:<20}{row.column:<28}{counts}{'' if row.is_equal else '  NOT EQUAL'}")
    for dataset, reason in unreadable.items():
        print(f"{dataset}: CANNOT BE READ by {reason}")


if __name__ == "__main__":
    sys.exit(main())
