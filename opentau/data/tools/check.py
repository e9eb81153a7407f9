"""Reads a whole dataset once and says everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opentau.data.lerobot import layout
from opentau.data.lerobot.catalog import Catalog, EpisodeRow
from opentau.data.lerobot.dataset import Dataset
from opentau.data.statistics import StreamingStatistics
from opentau.data.tools.check_actions import ActionSpaces, Grippers
from opentau.data.tools.check_cameras import Cameras
from opentau.data.tools.check_duplicates import Duplicates
from opentau.data.tools.check_files import count_findings, file_findings, open_catalog
from opentau.data.tools.check_numbers import Dimensions, length_findings, statistics_findings
from opentau.data.tools.check_rows import read_episode_rows, row_findings
from opentau.data.tools.findings import Finding, Progress, Severity
from opentau.data.tools.stated import EPISODES_STATS_PATH, read_stated
from opentau.errors import DataError

# Shapes: T frames of an episode.


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check found."""

    path: str
    num_episodes: int
    """Listed in meta/; 0 where that cannot be read."""
    has_pixels: bool
    """Whether pictures were looked at."""
    findings: tuple[Finding, ...]
    """Errors first."""

    @property
    def num_errors(self) -> int:
        return sum(finding.severity is Severity.ERROR for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "num_episodes": self.num_episodes,
            "has_pixels": self.has_pixels,
            "num_errors": self.num_errors,
            "num_warnings": len(self.findings) - self.num_errors,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def check(root: Path, *, with_pixels: bool, on_episode: Progress) -> CheckReport:
    """Check a dataset; whatever is wrong with it is a finding, never an exception. A clean one gives none."""
    catalog = open_catalog(root)
    if isinstance(catalog, Finding):
        return _report(root, 0, with_pixels, [catalog])
    findings, unusable = file_findings(catalog)
    findings += count_findings(catalog)
    findings += length_findings({row.index: row.length for row in catalog.rows})
    readable = [row for row in catalog.rows if row.data_path not in unusable and row.length]
    if readable:
        try:
            dataset = Dataset(root, with_images=False, episodes=[row.index for row in readable])
        except DataError as error:
            findings.append(_unreadable("metadata", error, ()))
        else:
            findings += _Pass(dataset, unusable, with_pixels=with_pixels).run(on_episode)
    return _report(root, len(catalog.rows), with_pixels, findings)


class _Pass:
    """One pass over the episodes whose files are whole; what concerns them all is collected on the way."""

    def __init__(self, dataset: Dataset, unusable: set[str], *, with_pixels: bool) -> None:
        interface, fps = dataset.interface, dataset.fps
        self._dataset = dataset
        self._catalog: Catalog = dataset.catalog
        self._unusable = unusable
        self._cameras = Cameras(fps=fps) if with_pixels else None
        self._camera_keys = {layout.camera_of(key): key for key in layout.camera_keys(self._catalog.features)}
        self._names = {layout.STATE: interface.state_names, layout.ACTION: interface.action_names}
        self._dimensions = {feature: Dimensions(feature, names, fps=fps) for feature, names in self._names.items() if names}
        self._streams = {feature: StreamingStatistics(len(self._names[feature])) for feature in self._dimensions}
        self._grippers = Grippers(interface, fps=fps)
        self._spaces = ActionSpaces(interface, fps=fps)
        self._duplicates = Duplicates()
        self._num_read = 0

    def run(self, on_episode: Progress) -> Iterator[Finding]:
        first_frames = np.cumsum([0, *(row.length for row in self._catalog.rows)])
        for position, info in enumerate(self._dataset.episodes):
            row = self._catalog.rows[info.index]
            try:
                yield from self._episode(position, row, first_frame=int(first_frames[info.index]))
            except DataError as error:
                yield _unreadable("unreadable", error, (row.index,))
            on_episode(position + 1, len(self._dataset))
        for dimensions in self._dimensions.values():
            yield from dimensions.findings()
        for collected in (self._grippers, self._spaces, self._duplicates):
            yield from collected.findings()
        if self._cameras:
            yield from self._cameras.findings()
        yield from self._statistics()

    def _episode(self, position: int, row: EpisodeRow, *, first_frame: int) -> Iterator[Finding]:
        rows = read_episode_rows(self._catalog, row)
        found = list(row_findings(rows, row, catalog=self._catalog, first_frame=first_frame))
        yield from found
        if any(finding.code in ("not-finite", "episode-length") for finding in found):
            return
        length = row.length
        state_TS, action_TA = (
            rows.columns.get(name, np.zeros((length, 0))).astype(np.float32) for name in (layout.STATE, layout.ACTION)
        )
        for feature, columns in ((layout.STATE, state_TS), (layout.ACTION, action_TA)):
            if feature in self._dimensions:
                self._dimensions[feature].add(row.index, columns)
                self._streams[feature].add(columns)
        self._num_read += 1
        self._grippers.add(row.index, state_TS, action_TA)
        self._spaces.add(state_TS, action_TA)
        self._duplicates.add(row.index, state_TS, action_TA)
        # Pictures of frames that are numbered wrongly cannot be told apart; the finding above says so.
        if not any(finding.code == "frame-index" for finding in found):
            yield from self._pictures(position, row, state_TS)

    def _pictures(self, position: int, row: EpisodeRow, state_TS: np.ndarray) -> Iterator[Finding]:
        if not self._cameras:
            return
        if state_TS.shape[1]:
            self._cameras.add_state(state_TS)
        for camera, key in self._camera_keys.items():
            if key in row.videos and row.videos[key].path in self._unusable:
                continue
            try:
                frames = self._dataset.frames(position, camera)
            except DataError as error:
                yield _unreadable("unreadable", error, (row.index,), camera=camera)
                continue
            self._cameras.add(row.index, camera, frames, state_TS=state_TS, is_video=key in row.videos)

    def _statistics(self) -> Iterator[Finding]:
        """Compare with what is stated, unless episodes are missing from the data or nothing is stated."""
        if self._num_read != len(self._catalog.rows):
            return
        root = self._dataset.root
        is_per_episode = self._catalog.info["codebase_version"] == "v2.1" and not (root / layout.STATS_PATH).exists()
        path = EPISODES_STATS_PATH if is_per_episode else layout.STATS_PATH
        try:
            stated = read_stated(root, features=list(self._streams))
        except DataError as error:
            yield _unreadable("statistics", error, ())
            return
        for feature, stream in self._streams.items():
            if feature in stated:
                names = self._names[feature]
                yield from statistics_findings(feature, stream, stated=stated[feature], names=names, path=path)
            else:
                yield Finding(
                    severity=Severity.WARNING,
                    code="no-statistics",
                    text=f"{path} says nothing of {feature}; LeRobot cannot normalise without it",
                    fix="Export the dataset with `opentau data export`, which computes statistics.",
                    path=path,
                    dimension=feature,
                )


def _unreadable(code: str, error: DataError, episodes: tuple[int, ...], *, camera: str = "") -> Finding:
    fix = f"Or leave it out: `opentau data export --exclude {episodes[0]}`." if episodes else "Mend meta/ first."
    return Finding(severity=Severity.ERROR, code=code, text=str(error), fix=fix, episodes=episodes, camera=camera)


def _report(root: Path, num_episodes: int, has_pixels: bool, findings: list[Finding]) -> CheckReport:
    ordered = sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR)
    return CheckReport(path=str(root), num_episodes=num_episodes, has_pixels=has_pixels, findings=tuple(ordered))
