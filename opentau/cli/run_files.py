"""A run's directory as a screen asks for it: stages, labels and recorded episodes, read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from opentau.checkpoint import is_complete, read_manifest
from opentau.control import LIVE_FOLDER
from opentau.data.labels import LABELLING_FILE, LABELS_FOLDER, Labels
from opentau.data.lerobot.dataset import Dataset
from opentau.errors import OpenTauError
from opentau.labelfacts import LabelFacts, label_facts
from opentau.loop.run import STAGES_FOLDER, STATE_FILE
from opentau.runfiles import Film, Live, StageFiles
from opentau.runstate import iteration_of
from opentau.types import Source

RECORDED = ("demonstrations-", "collect-")
"""Stages that keep the frames of their episodes."""


class LocalRunFiles:
    """`opentau.runfiles.RunFiles` of a directory on this machine."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._datasets: dict[Path, Dataset] = {}

    def stages(self) -> Mapping[str, StageFiles]:
        found = {}
        for stage, path in self._directories().items():
            manifest = read_manifest(path)
            found[stage] = StageFiles(
                stage=stage,
                content_id=manifest["id"],
                num_bytes=sum((path / name).stat().st_size for name in manifest["files"] if (path / name).is_file()),
                inputs=manifest["content"]["inputs"],
            )
        return found

    def labels(self, iteration: int) -> LabelFacts | None:
        directories = self._directories()
        path = directories.get(f"label-{iteration}")
        if path is None:
            return None
        labels = Labels.read(path / LABELS_FOLDER)
        source = self._sources(labels, directories)
        if source is None:
            return None
        return label_facts(
            iteration=iteration,
            source=source,
            advantages=labels.advantages,
            indicator=labels.indicator,
            values=labels.values,
            returns=labels.returns,
            thresholds=json.loads((path / LABELLING_FILE).read_text())["thresholds"],
        )

    def film(self, stage: str, episode_id: str, *, num_pictures: int, camera: str | None = None) -> Film | None:
        path = self._directories().get(stage)
        if path is None or not stage.startswith(RECORDED) or not (path / "meta").is_dir():
            return None
        dataset = self._dataset(path)
        position = next((i for i, info in enumerate(dataset.episodes) if info.episode_id == episode_id), None)
        if position is None:
            return None
        cameras = tuple(dataset.interface.cameras)
        camera = camera or cameras[0]
        numbers = dataset.numbers(position)
        chosen = np.unique(np.linspace(0, len(numbers) - 1, max(1, num_pictures)).round().astype(int))
        frames = dataset.frames(position, camera)[chosen] if num_pictures else np.empty((0, 1, 1, 3), np.uint8)
        values, advantages = self._judged(stage, episode_id, length=len(numbers))
        return Film(
            stage=stage,
            episode_id=episode_id,
            outcome=str(numbers.outcome),
            prompt=numbers.prompt,
            cameras=cameras,
            camera=camera,
            ticks=tuple(chosen.tolist()) if num_pictures else (),
            pictures=frames,
            source=numbers.source,
            values=numbers.value if values is None else values,
            advantages=np.full(len(numbers), np.nan, np.float32) if advantages is None else advantages,
        )

    def live(self, station: str) -> Live | None:
        folder = self._run_dir / LIVE_FOLDER / station
        try:
            facts = json.loads((folder / "shown.json").read_text())
            pictures = {}
            for camera in facts["cameras"]:
                with Image.open(folder / f"{camera}.jpg") as image:
                    pictures[camera] = np.asarray(image.convert("RGB"))
        except (OSError, ValueError, KeyError):  # it shows nothing, or is being replaced at this moment
            return None
        state = tuple(facts.get("state", ()))
        return Live(episode_id=facts["episode_id"], tick=facts["tick"], pictures=pictures, state=state)

    def _directories(self) -> dict[str, Path]:
        """Return the complete stages that the run's state names."""
        path = self._run_dir / STATE_FILE
        if not path.is_file():
            return {}
        named = json.loads(path.read_text())["stages"]
        paths = {stage: self._run_dir / STAGES_FOLDER / one["directory"] for stage, one in named.items()}
        return {stage: path for stage, path in paths.items() if is_complete(path)}

    def _dataset(self, path: Path) -> Dataset:
        if path not in self._datasets:
            self._datasets[path] = Dataset(path)
        return self._datasets[path]

    def _sources(self, labels: Labels, directories: Mapping[str, Path]) -> np.ndarray | None:
        """Return who acted in every labelled frame; None where a labelled episode is not of the run's own.

        Episodes are found by their ids, unique in a run: ids of whole datasets depend on what wrote them.
        """
        recorded = [self._dataset(path) for stage, path in directories.items() if stage.startswith(RECORDED)]
        places = {
            (info.episode_id, info.length): (dataset, position)
            for dataset in recorded
            for position, info in enumerate(dataset.episodes)
        }
        named = [(episode_id, length) for (_, episode_id), length in zip(labels.keys, labels.lengths, strict=True)]
        if any(key not in places for key in named):
            return None
        columns = []
        for key in named:
            length = key[1]
            dataset, position = places[key]
            info = dataset.episodes[position]
            # Demonstrations, and episodes without an intervention, are of one source throughout: nothing to be read.
            if info.num_intervention_steps:
                columns.append(dataset.numbers(position).source)
            else:
                kind = Source.DEMONSTRATION if info.episode_id.startswith("demonstrations") else Source.AUTONOMOUS
                columns.append(np.full(length, kind, np.int8))
        return np.concatenate(columns)

    def _judged(self, stage: str, episode_id: str, *, length: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return what the labels of an episode's own iteration say of its frames, None each where there are none."""
        path = self._directories().get(f"label-{iteration_of(stage)}")
        try:
            labels = Labels.read(path / LABELS_FOLDER) if path is not None else None
        except OpenTauError:
            labels = None
        found = [i for i, key in enumerate(labels.keys) if key[1] == episode_id] if labels is not None else []
        if labels is None or not found or labels.lengths[found[0]] != length:
            return None, None
        start = sum(labels.lengths[: found[0]])
        rows = slice(start, start + length)
        return labels.values[rows], labels.advantages[rows]
