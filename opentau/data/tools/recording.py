"""Episodes as a recording for the Rerun viewer, where the extra `rerun` is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from opentau.data.lerobot.dataset import Dataset
from opentau.data.tools.findings import Progress
from opentau.errors import DataError


def write_recording(root: Path, out: Path, *, episodes: Sequence[int], on_episode: Progress) -> None:
    """Write an .rrd file: images, states and actions by episode, over frame and time.

    Raises `DataError` where Rerun is not installed or the data cannot be read.
    """
    rerun = _rerun()
    dataset = Dataset(root, with_images=False, episodes=episodes)
    partial = out.with_name(out.name + ".partial")
    with rerun.RecordingStream("opentau_data") as recording:
        recording.save(str(partial))
        for position in range(len(dataset)):
            _log_episode(rerun, recording, dataset, position)
            on_episode(position + 1, len(dataset))
        recording.flush()
        recording.disconnect()
    partial.replace(out)


def _log_episode(rerun: ModuleType, recording: object, dataset: Dataset, position: int) -> None:
    info, interface, episode = dataset.episodes[position], dataset.interface, dataset.numbers(position)
    frames = {camera: dataset.frames(position, camera) for camera in interface.cameras}
    columns = {"state": (episode.state, interface.state_names), "action": (episode.action, interface.action_names)}
    base = f"episode_{info.index}"
    for tick in range(len(episode)):
        rerun.set_time("frame", sequence=tick, recording=recording)
        rerun.set_time("time", duration=tick / dataset.fps, recording=recording)
        for camera, pixels in frames.items():
            rerun.log(f"{base}/cameras/{camera}", rerun.Image(pixels[tick]).compress(), recording=recording)
        for kind, (rows_TD, names) in columns.items():
            for dim, name in enumerate(names):
                rerun.log(f"{base}/{kind}/{name}", rerun.Scalars(float(rows_TD[tick, dim])), recording=recording)


def _rerun() -> ModuleType:
    try:
        import rerun  # optional: the extra `rerun`
    except ImportError as error:
        raise DataError(
            "a recording for the Rerun viewer needs the package rerun-sdk; install the extra `rerun` "
            "(`pip install -e '.[rerun]'` in a checkout), or leave out --rerun for a picture"
        ) from error
    return rerun
