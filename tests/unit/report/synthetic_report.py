"""A report's data around the invented run: plausible advantages, critics and films, for the report tests."""

from __future__ import annotations

import numpy as np

from opentau.loop.report_data import AdvantageReport, ConditioningReport, CriticReport, Film, ReportData
from opentau.runfold import fold
from opentau.types import Outcome, Source
from tests.unit.report.synthetic_run import run_events


def report_data(*, is_promoted: bool = True) -> ReportData:
    """Return the data of the finished run."""
    rng = np.random.default_rng(0)
    return ReportData(
        run=fold(run_events(is_promoted=is_promoted)),
        advantages=tuple(_advantages(iteration, rng) for iteration in (1, 2)),
        critics=tuple(_critic(iteration, rng) for iteration in (0, 1, 2)),
        conditioning=tuple(
            ConditioningReport(iteration=i, loss_right=0.1421, loss_flipped=0.1421 + gap)
            for i, gap in ((1, 0.0062), (2, -0.0011))
        ),
        films=(film(Outcome.SUCCESS), film(Outcome.TIMEOUT, num_helped=0)),
        config={"env": {"target": "envs.libero.environment:LiberoEnv", "image_size": 64}, "iterations": 2, "seed": 0},
        eval_specs={"official-9f31c2": {"states": "official 0 to 49", "max_steps": 280, "mujoco": "3.3.0"}},
        machine={"processor": "2 cores", "python": "3.11.2"},
    )


def _advantages(iteration: int, rng: np.random.Generator) -> AdvantageReport:
    return AdvantageReport(
        iteration=iteration,
        advantages={
            Source.DEMONSTRATION: rng.normal(0.01, 0.03, 4000),
            Source.AUTONOMOUS: rng.normal(-0.01, 0.05, 6000),
            Source.INTERVENTION: rng.normal(0.04, 0.03, 500),
        },
        thresholds={"libero_object/0": 0.0024},
        positive_shares={Source.DEMONSTRATION: 1.0, Source.AUTONOMOUS: 0.4, Source.INTERVENTION: 1.0},
    )


def _critic(iteration: int, rng: np.random.Generator) -> CriticReport:
    realised = rng.uniform(-1, 0, 2000)
    predicted = np.clip(0.8 * realised - 0.1 + rng.normal(0, 0.12, 2000), -1, 0)
    measures = {"value/spearman": 0.71, "value/auroc": 0.83, "value/calibration_error": 0.062}
    return CriticReport(iteration=iteration, measures=measures, predicted=predicted, realised=realised)


def film(outcome: Outcome, *, length: int = 120, num_helped: int = 30) -> Film:
    """Return a red square that crosses a plain background; the expert helps in the middle."""
    y, x = np.mgrid[:64, :64]
    frames = np.empty((length, 64, 64, 3), np.uint8)
    for tick in range(length):
        frames[tick] = np.stack([90 + y, 110 + y, 130 + x // 2], axis=-1)
        left = 4 + tick * 48 // length
        frames[tick, 28:38, left : left + 10] = (200, 60, 50)
    source = np.full(length, Source.AUTONOMOUS, np.int8)
    source[60 : 60 + num_helped] = Source.INTERVENTION
    return Film(caption="collect-1, episode 17", outcome=outcome, frames=frames, source=source)
