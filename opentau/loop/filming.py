"""Films of scored episodes: they are played once more, and every step is drawn."""

# Shapes: T frames, Y and X image rows and columns.

from __future__ import annotations

from dataclasses import replace

import numpy as np

from opentau.checkpoint import storage_errors
from opentau.data.lerobot.video import encode
from opentau.loop.judging import scored_plans
from opentau.loop.plans import CANDIDATE
from opentau.loop.run import Product, StageWork
from opentau.loop.setting import Setting
from opentau.types import Episode, EpisodeResult

MIN_ROWS = 256
"""Pictures are enlarged by whole numbers to at least that."""


def film(setting: Setting, *, policy: Product, num_films: int, is_official: bool = False) -> Product:
    """Film the first episodes of each task of an evaluation, as one video each that names task, episode and outcome."""
    plans = [
        replace(plan, is_recorded=True)
        for plan in scored_plans(setting, "evaluate-0", num_episodes=num_films, is_official=is_official)
    ]

    def work(work: StageWork) -> None:
        def keep(result: EpisodeResult, episode: Episode | None) -> None:
            if episode is not None:
                name = f"{result.plan.task_id.replace('/', '-')}-{result.plan.index:03d}-{result.outcome}.mp4"
                video = encode(picture_of(episode), fps=round(setting.interface.control_hz))
                with storage_errors(work.output):
                    (work.output / name).write_bytes(video)
            setting.run.obey_commands()

        with setting.session("film-0", 0, policies={CANDIDATE: policy.path}) as session:
            results = session.run(plans, on_episode=keep)
        work.summary.update(films=len(results), successes=sum(result.is_success for result in results))

    inputs = {
        **setting.env_inputs,
        **setting.play_inputs,
        "policy": policy.id,
        "films": num_films,
        "official": is_official,
    }
    return setting.run.stage("film-0", iteration=0, inputs=inputs, work=work)


def picture_of(episode: Episode) -> np.ndarray:
    """Return all cameras of an episode side by side, uint8 [T, Y, X, 3], each with at least `MIN_ROWS` rows and alike high."""
    columns = list(episode.images.values())
    rows = max(MIN_ROWS, *(frames.shape[1] for frames in columns))
    enlarged = [_enlarged(frames, rows=rows) for frames in columns]
    whole = np.concatenate(enlarged, axis=2)
    return whole[:, : whole.shape[1] // 2 * 2, : whole.shape[2] // 2 * 2]


def _enlarged(frames: np.ndarray, *, rows: int) -> np.ndarray:
    """Return frames with as many rows, every pixel as large as the next as far as that goes, black below."""
    factor = max(1, rows // frames.shape[1])
    large = frames.repeat(factor, axis=1).repeat(factor, axis=2)
    below = np.zeros((len(large), rows - large.shape[1], *large.shape[2:]), np.uint8)
    return np.concatenate([large, below], axis=1)
