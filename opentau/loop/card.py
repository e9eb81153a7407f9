"""A model card in Markdown, from its facts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ABOUT_PERTURBATIONS = {
    "camera": "cameras moved and turned",
    "light": "other light",
    "texture": "other colours of what does not move",
    "noise": "noise on every pixel",
    "objects": "objects of other colours and sizes (LIBERO-PRO)",
    "positions": "two objects in each other's place (LIBERO-PRO)",
    "instructions": "the same task in other words (LIBERO-PRO)",
    "tasks": "asked for another thing of the same scene (LIBERO-PRO): whether words are followed",
}
LIMITS = (
    "It has seen this simulator alone, at this picture size and with these cameras: on a robot, with other cameras or other "
    "instructions it is expected to fail, and nothing stops it from moving where it should not; use it behind limits."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What a card says; scores are plain data of `EvalResult`."""

    name: str
    policy_id: str
    environment: str
    prompts: Mapping[str, str]
    """Instruction of each task."""
    num_parameters: int | None
    size_mb: float
    cameras: Sequence[str]
    action_horizon: int
    num_flow_steps: int
    infer_ms: float
    """Median time of a chunk for one observation, on one thread of this machine."""
    learned_from: Sequence[tuple[str, Mapping[str, Any]]]
    """Every recorded stage behind it that is still beside it: name and summary."""
    training: Sequence[tuple[str, Mapping[str, Any]]]
    """Every training stage behind it that is still beside it, the last one last."""
    is_official: bool
    score: Mapping[str, Any]
    under: Mapping[str, Mapping[str, Any]]
    """Scores by perturbation."""
    command: str
    """What makes the card again."""


def card_text(facts: CardFacts) -> str:
    """Return the card."""
    sections = [
        [f"# {facts.name}", "", _sentence(facts)],
        ["## What it is", "", *_table(("", ""), _identity(facts))],
        ["## What it learned from", "", *_origin(facts)],
        ["## How it does", "", _about_scores(facts), "", *_table(("task", "instruction", "succeeds"), _task_rows(facts))],
        ["## Where it is perturbed", "", *_perturbed(facts)],
        ["## Limits", "", LIMITS],
        ["## Again", "", f"    {facts.command}"],
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def share(score: Mapping[str, Any]) -> str:
    """Return a score with its interval: '18 of 20, 90 % (70 to 97)'."""
    low, high = score["interval"]
    rate = score["successes"] / score["episodes"]
    return f"{score['successes']} of {score['episodes']}, {rate:.0%} ({100 * low:.0f} to {100 * high:.0f})".replace("%", " %")


def _sentence(facts: CardFacts) -> str:
    tasks = "one task" if len(facts.prompts) == 1 else f"{len(facts.prompts)} tasks"
    return f"A policy of OpenTau for {tasks} of {facts.environment}: {share(facts.score)} succeed."


def _identity(facts: CardFacts) -> list[tuple[str, str]]:
    parameters = [("parameters", f"{facts.num_parameters:,}")] if facts.num_parameters else []
    return [
        ("id", f"`{facts.policy_id}`"),
        *parameters,
        ("size", f"{facts.size_mb:.1f} MB"),
        ("cameras", ", ".join(facts.cameras)),
        ("actions a chunk", str(facts.action_horizon)),
        ("a chunk takes", f"{facts.infer_ms:.0f} ms on one thread, {facts.num_flow_steps} flow steps"),
    ]


def _origin(facts: CardFacts) -> list[str]:
    rows = [(name, _told(summary)) for name, summary in (*facts.learned_from, *facts.training)]
    return _table(("stage", "summary"), rows) if rows else ["Nothing beside the checkpoint says."]


def _told(summary: Mapping[str, Any]) -> str:
    numbers = {name: value for name, value in summary.items() if isinstance(value, int | float | str)}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in numbers.items())


def _about_scores(facts: CardFacts) -> str:
    states = "official initial states, which training never saw" if facts.is_official else "placements drawn from a seed"
    return f"{share(facts.score)} on {states}; eval-spec `{facts.score['eval_spec']}`. Intervals are 95 % (Wilson)."


def _task_rows(facts: CardFacts) -> list[tuple[str, str, str]]:
    return [(task, facts.prompts[task], share(score)) for task, score in facts.score["tasks"].items()]


def _perturbed(facts: CardFacts) -> list[str]:
    if not facts.under:
        return ["Not measured."]
    rows = [
        (kind, ABOUT_PERTURBATIONS.get(kind, ""), share(score), f"`{score['eval_spec']}`")
        for kind, score in facts.under.items()
    ]
    return _table(("perturbation", "what is otherwise", "succeeds", "eval-spec"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
