"""A contact sheet of episodes: their frames over time, camera by camera, and every dimension of state and action."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from opentau.data.lerobot.dataset import Dataset
from opentau.data.parquet import commit_bytes
from opentau.data.tools.drawing import BACKGROUND, FAINT, Curve, curve_picture, frame_strip, grid, stack, text_picture
from opentau.data.tools.findings import Progress
from opentau.errors import DataError, near_matches
from opentau.types import Episode, Source

# Shapes: T frames of an episode, D dimensions.

WIDTH = 1200
NUM_FRAMES = 8
MAX_FRAME_HEIGHT = 150
EPISODE_GAP = 24
PANEL_COLUMNS, PANEL_HEIGHT = 5, 92
MAX_EPISODES = 24
"""A picture of more is too high for viewers to open."""
NUM_DEFAULT_EPISODES = 3


def default_episodes(num_episodes: int) -> list[int]:
    """Return the first, the middle and the last episode."""
    return [int(index) for index in np.unique(np.linspace(0, num_episodes - 1, NUM_DEFAULT_EPISODES).round())]


def write_sheet(
    root: Path, out: Path, *, episodes: Sequence[int], cameras: Sequence[str] = (), on_episode: Progress
) -> tuple[int, int]:
    """Write the sheet of the episodes as PNG and return its size in pixels; no camera named means all.

    Too many episodes, unknown cameras and data that cannot be read raise `DataError`.
    """
    if len(episodes) > MAX_EPISODES:
        raise DataError(f"a sheet of {len(episodes)} episodes is too high to look at; choose {MAX_EPISODES} at most")
    dataset = Dataset(root, with_images=False, episodes=episodes)
    known = dataset.interface.cameras
    for camera in cameras:
        if camera not in known:
            raise DataError(f"dataset {root} has no camera {camera!r}.{near_matches(camera, known)}")
    loaded = [dataset.numbers(position) for position in range(len(dataset))]
    ranges = {name: _range([getattr(each, name) for each in loaded]) for name in ("state", "action")}
    parts: list[Image.Image] = []
    for position, episode in enumerate(loaded):
        parts += _episode_parts(dataset, position, episode, cameras=list(cameras or known), ranges=ranges)
        on_episode(position + 1, len(loaded))
    sheet = stack(parts, margin=20, gap=8)
    file = io.BytesIO()
    sheet.save(file, format="PNG")
    commit_bytes(file.getvalue(), out)
    return sheet.size


def _episode_parts(
    dataset: Dataset,
    position: int,
    episode: Episode,
    *,
    cameras: Sequence[str],
    ranges: dict[str, tuple[np.ndarray, np.ndarray]],
) -> list[Image.Image]:
    space = Image.new("RGB", (WIDTH, EPISODE_GAP if position else 1), BACKGROUND)
    parts = [space, text_picture(_title(dataset, position), width=WIDTH, size=17)]
    ticks = [int(tick) for tick in np.unique(np.linspace(0, len(episode) - 1, NUM_FRAMES).round())]
    labels = [f"{tick / dataset.fps:.1f} s" for tick in ticks]
    for camera in cameras:
        frames = dataset.frames(position, camera)
        shape = "x".join(map(str, frames.shape[1:3]))
        parts.append(text_picture(f"{camera}, {shape}", width=WIDTH, colour=FAINT))
        parts.append(frame_strip([frames[tick] for tick in ticks], labels, width=WIDTH, max_height=MAX_FRAME_HEIGHT))
    names = {"state": dataset.interface.state_names, "action": dataset.interface.action_names}
    for kind, of_dims in names.items():
        if of_dims:
            parts.append(_panels(kind, of_dims, getattr(episode, kind), ranges[kind], episode.source))
    return parts


def _title(dataset: Dataset, position: int) -> str:
    info = dataset.episodes[position]
    helped = f", {info.num_intervention_steps} frames of help" if info.num_intervention_steps else ""
    return f"episode {info.index}: {info.prompt or 'no prompt'} ({info.length / dataset.fps:.1f} s, {info.outcome}{helped})"


def _panels(
    kind: str, names: Sequence[str], rows_TD: np.ndarray, limits: tuple[np.ndarray, np.ndarray], source_T: np.ndarray
) -> Image.Image:
    curves = [
        Curve(
            title=f"{kind} {dim}" if name == str(dim) else f"{kind} {dim}: {name}",
            values_T=rows_TD[:, dim],
            low=float(limits[0][dim]),
            high=float(limits[1][dim]),
            shaded_T=source_T == Source.INTERVENTION,
        )
        for dim, name in enumerate(names)
    ]
    width = WIDTH // PANEL_COLUMNS
    return grid([curve_picture(curve, width=width, height=PANEL_HEIGHT) for curve in curves], columns=PANEL_COLUMNS)


def _range(columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest number per dimension over all episodes, [D] each."""
    rows = np.concatenate(columns).astype(np.float64)
    rows = np.where(np.isfinite(rows), rows, np.nan)
    return np.nan_to_num(np.nanmin(rows, axis=0)), np.nan_to_num(np.nanmax(rows, axis=0))
