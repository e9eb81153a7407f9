"""Gathering a report: reads what a run's events and finished stages say, while it runs or years later."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from pathlib import Path

import numpy as np
import yaml

from opentau.checkpoint import is_complete, read_manifest
from opentau.data.frames import FrameTable
from opentau.data.labels import LABELLING_FILE, LABELS_FOLDER, Labels
from opentau.data.lerobot.dataset import Dataset
from opentau.data.lerobot.hub import find_dataset
from opentau.events import EventReader
from opentau.loop.frames import judged, kept
from opentau.loop.report_data import AdvantageReport, ConditioningReport, CriticReport, Film, ReportData
from opentau.loop.run import CONFIG_FILE, STAGES_FOLDER, STATE_FILE
from opentau.loop.valuing import QUALITY_FILE
from opentau.runfold import fold
from opentau.runstate import RunSummary, iteration_of
from opentau.types import Indicator, Outcome, Source

FILMS_PER_STAGE = 3
PACKAGES = ("torch", "mujoco", "numpy")


def gather_report(run_dir: Path) -> ReportData:
    """Return everything that a run's directory holds for its report; stages that have not run are left out."""
    run = fold(EventReader(run_dir).read_new())
    stages = _stage_directories(run_dir)
    config = yaml.safe_load((run_dir / CONFIG_FILE).read_text())
    recorded = {name: path for name, path in stages.items() if name.startswith(("demonstrations", "collect"))}
    iterations = sorted({iteration_of(name) or 0 for name in stages if name.startswith("label")})
    datasets = [find_dataset(reference) for reference in config["data"]["datasets"]]
    advantages, critics = [], []
    for iteration in iterations:
        so_far = [
            path for name, path in recorded.items() if (iteration_of(name) or 0) <= iteration and (path / "meta").is_dir()
        ]
        outcomes = read_manifest(stages[f"label-{iteration}"])["content"]["inputs"].get("outcomes", {})
        left = (kept(folder, outcomes.get(folder.name, {}), with_images=False) for folder in [*datasets, *so_far])
        learned = [dataset for dataset in left if dataset is not None]
        table = judged(FrameTable.from_datasets(learned), learned, outcomes)
        labels = Labels.read(stages[f"label-{iteration}"] / LABELS_FOLDER).aligned_with(table)
        advantages.append(_advantages(iteration, table, labels, stages[f"label-{iteration}"]))
        critics.append(_critic(iteration, table, labels, stages[f"value-{iteration}"]))
    return ReportData(
        run=run,
        advantages=tuple(advantages),
        critics=tuple(critics),
        conditioning=tuple(_conditioning(run)),
        films=tuple(film for name, path in recorded.items() if (path / "meta").is_dir() for film in _films(name, path)),
        config=config,
        machine=machine_facts(),
    )


def _stage_directories(run_dir: Path) -> dict[str, Path]:
    """Return the complete stages that the run's state names, by stage."""
    state = json.loads((run_dir / STATE_FILE).read_text())
    directories = {name: run_dir / STAGES_FOLDER / stage["directory"] for name, stage in state["stages"].items()}
    return {name: path for name, path in directories.items() if is_complete(path)}


def _advantages(iteration: int, table: FrameTable, labels: Labels, stage: Path) -> AdvantageReport:
    labelling = json.loads((stage / LABELLING_FILE).read_text())
    of_source = {source: table.source == source for source in Source if (table.source == source).any()}
    return AdvantageReport(
        iteration=iteration,
        advantages={source: labels.advantages[rows] for source, rows in of_source.items()},
        thresholds=labelling["thresholds"],
        positive_shares={
            source: float(np.mean(labels.indicator[rows] == Indicator.POSITIVE)) for source, rows in of_source.items()
        },
    )


def _critic(iteration: int, table: FrameTable, labels: Labels, stage: Path) -> CriticReport:
    quality = json.loads((stage / QUALITY_FILE).read_text())
    is_autonomous = table.source == Source.AUTONOMOUS
    return CriticReport(
        iteration=iteration,
        measures={f"value/{name}": float(value) for name, value in quality.items() if value is not None},
        predicted=labels.values[is_autonomous],
        realised=labels.returns[is_autonomous],
    )


def _conditioning(run: RunSummary) -> list[ConditioningReport]:
    """Return the last measured losses under right and flipped indicators of every policy update."""
    measured: dict[int, dict[str, float]] = {}
    for curve in run.curves:
        if curve.stage.startswith(("update", "sft")) and curve.metric in ("train/cond_gap", "train/cond_loss"):
            measured.setdefault(iteration_of(curve.stage) or 0, {})[curve.metric] = curve.points[-1][1]
    return [
        ConditioningReport(
            iteration=iteration,
            loss_right=losses["train/cond_loss"],
            loss_flipped=losses["train/cond_loss"] + losses["train/cond_gap"],
        )
        for iteration, losses in sorted(measured.items())
        if len(losses) == 2
    ]


def _films(stage: str, path: Path) -> list[Film]:
    """Return a few episodes of a stage: first what failed, was rescued, succeeded."""
    dataset = Dataset(path)
    camera = next(iter(dataset.interface.cameras))
    kinds: dict[tuple[bool, bool], int] = {}
    for index, info in enumerate(dataset.episodes):
        kinds.setdefault((info.outcome is Outcome.SUCCESS, info.num_intervention_steps > 0), index)
    chosen = [index for _, index in sorted(kinds.items())][:FILMS_PER_STAGE]
    films = []
    for index in chosen:
        episode = dataset.load(index)
        caption = f"{stage}, episode {index}"
        films.append(Film(caption=caption, outcome=episode.outcome, frames=episode.images[camera], source=episode.source))
    return films


def machine_facts() -> dict[str, str]:
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {"processor": platform.processor() or platform.machine(), "cores": str(len(os.sched_getaffinity(0))), **versions}
