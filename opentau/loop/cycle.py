"""A whole run from its open directory to its scores, and its report once it has finished."""

from __future__ import annotations

from pathlib import Path

from opentau.checkpoint import write_json
from opentau.loop.iteration import run_loop
from opentau.loop.options import LoopOptions
from opentau.loop.report import write_report
from opentau.loop.report_gather import gather_report
from opentau.loop.run import Run
from opentau.loop.setting import open_setting

SCORES_FILE = "scores.json"


def run_cycle(run: Run, options: LoopOptions) -> None:
    """Run the loop in an open run, then write its scores."""
    result = run_loop(open_setting(run, options))
    if not run.crew.leads:
        return
    scores = {"iteration 0": result.first_score.summary, "final": result.final_score.summary}
    scores |= {f"final, {indicator}": product.summary for indicator, product in result.further_scores.items()}
    write_json(run.directory / SCORES_FILE, scores)


def report_run(directory: Path) -> Path:
    """Write the report of a run, finished or not, and return its path."""
    return write_report(directory, gather_report(directory))
