"""The report of a run: one self-contained HTML page with what was measured, what was promoted, and why."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from opentau import events
from opentau.checkpoint import write_text
from opentau.loop.report_charts import percent
from opentau.loop.report_data import Film, ReportData
from opentau.loop.report_images import frame_indices, picture, runs_of
from opentau.loop.report_learning import advantages_section, conditioning_section, critic_section, training_section
from opentau.loop.report_parts import Section
from opentau.loop.report_scores import gate_section, interventions_section, success_section, time_section
from opentau.runstate import RunPhase, RunSummary, Score, duration_text
from opentau.types import Outcome, Source

REPORT_FILE = "report.html"
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A score on the official states, as the head of the page shows it."""

    label: str
    rate: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Filmstrip:
    """A film as the page shows it."""

    caption: str
    outcome: str
    is_success: bool
    pictures: tuple[tuple[str, bool], ...]
    """Data URI, and whether somebody intervened in that frame."""
    sources: tuple[tuple[str, float], ...]
    """Stretches of one source: its class on the page and its share of the episode."""


def write_report(run_dir: Path, data: ReportData) -> Path:
    """Write `report.html` into the run directory, whole or not at all, and return its path."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template(REPORT_FILE).render(
        run=data.run,
        facts=_facts(data.run),
        conclusion=conclusion(data.run),
        headlines=_headlines(data.run),
        sections=sections(data),
        filmstrips=[_filmstrip(film) for film in data.films],
        options=list(_flat(data.config)),
        eval_specs={name: list(_flat(spec)) for name, spec in _eval_specs(data).items()},
        machine=dict(data.machine),
    )
    write_text(run_dir / REPORT_FILE, page)
    return run_dir / REPORT_FILE


def sections(data: ReportData) -> list[Section]:
    """Return all sections in the order of the page."""
    return [
        success_section(data.run),
        gate_section(data.run),
        interventions_section(data.run),
        advantages_section(data.advantages),
        critic_section(data.critics),
        training_section(data.run.curves),
        conditioning_section(data.conditioning),
        time_section(data.run),
    ]


def conclusion(run: RunSummary) -> list[str]:
    """Return what came of the run in plain sentences: promotions first, then what is missing."""
    promoted = [verdict.iteration for verdict in run.verdicts if verdict.is_promoted]
    kept = [verdict for verdict in run.verdicts if not verdict.is_promoted]
    sentences = []
    if not run.verdicts:
        sentences.append("No gate has been held yet, so the policy is that of iteration 0.")
    elif not promoted:
        sentences.append("No candidate was promoted: the final policy is that of iteration 0.")
    else:
        sentences.append(_promotion(promoted))
    if promoted and kept:
        sentences.append(" ".join(f"Iteration {verdict.iteration} was not: {verdict.verdict}." for verdict in kept))
    if run.phase is not RunPhase.FINISHED:
        reason = f" ({run.error})" if run.error else ""
        sentences.append(f"The run is {run.phase}{reason}, not finished: this page shows what there is so far.")
    return sentences


def _promotion(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"The candidate of iteration {numbers[0]} was promoted and stands at the end."
    earlier = ", ".join(map(str, numbers[:-1]))
    return f"The candidates of iterations {earlier} and {numbers[-1]} were promoted; the last one stands at the end."


def _headlines(run: RunSummary) -> list[Headline]:
    final = run.scores_of(events.FINAL)
    if len({score.policy for score in final}) == 1:
        return [_headline("iteration 0, also the final policy", final[0])]
    return [_headline(label, score) for label, score in zip(("iteration 0", "final policy"), final, strict=False)]


def _headline(label: str, score: Score) -> Headline:
    low, high = (round(100 * end) for end in score.interval)
    return Headline(label=label, rate=percent(score.rate), detail=f"{score.successes} of {score.episodes} · {low} to {high} %")


def _facts(run: RunSummary) -> list[tuple[str, str]]:
    """Return the small print of the head of the page."""
    facts = [
        ("state", str(run.phase)),
        ("iterations", str(max(run.iterations, default=0))),
        ("working time", duration_text(run.seconds(run.last_t))),
        ("processor time", f"{run.cpu_seconds / 60:.1f} CPU-minutes" if run.cpu_seconds else "not known"),
        ("newest event", time.strftime("%Y-%m-%d %H:%M", time.localtime(run.last_t))),
    ]
    return facts


def _filmstrip(film: Film) -> Filmstrip:
    names = {source.value: source.name.lower() for source in Source}
    is_intervention = film.source == Source.INTERVENTION
    return Filmstrip(
        caption=film.caption,
        outcome=f"{film.outcome} after {len(film.frames)} steps",
        is_success=film.outcome is Outcome.SUCCESS,
        pictures=tuple((picture(film.frames[i]), bool(is_intervention[i])) for i in frame_indices(len(film.frames))),
        sources=tuple((names[source], 100 * share) for source, share in runs_of(film.source)),
    )


def _eval_specs(data: ReportData) -> dict[str, Mapping[str, Any]]:
    """Return every eval-spec id that a score of the run carries, with what is known of it."""
    ids = dict.fromkeys(score.eval_spec for score in data.run.scores)
    return {name: data.eval_specs.get(name, {}) for name in ids}


def _flat(plain: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested options as ('env.image_size', '64') pairs."""
    rows: list[tuple[str, str]] = []
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", str(value)))
    return rows
