"""The policies of a run, one a line: how often each succeeds, what the gate said of it, and which one stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opentau import events
from opentau.runfiles import StageFiles
from opentau.runstate import RunSummary, Score, Verdict
from tui.text.lines import Line, Span, cut, percent, points, table, wrapped

ID_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """One policy."""

    iteration: int
    policy: str
    """Its content id; '' while it is not evaluated and its files cannot be reached."""
    stage: str
    score: Score | None
    verdict: Verdict | None
    is_standing: bool
    """Whether it is the incumbent after all gates so far."""
    num_bytes: int | None = None
    is_pinned: bool = False


def checkpoint_list(summary: RunSummary, files: Mapping[str, StageFiles] | None = None) -> list[CheckpointRow]:
    """Return the policies in the order of their iterations; sizes where the files are given."""
    files = files or {}
    promoted = [verdict.iteration for verdict in summary.verdicts if verdict.is_promoted]
    standing = promoted[-1] if promoted else 0
    # What was scored at the end stands, also where an open gate told no verdict.
    last = [score.policy for score in summary.scores_of(events.FINAL) if score.iteration]
    rows = []
    for stage in summary.stages:
        if stage.work not in ("sft", "update") or stage.iteration is None:
            continue
        scores = [
            score
            for score in summary.scores
            if score.iteration == stage.iteration and score.role in (events.CANDIDATE, events.FINAL)
        ]
        on_disk = files.get(stage.name)
        # The final score is of the policy that stands at the end; it is this candidate's only if it is the same checkpoint.
        candidate = next((score for score in scores if score.role == events.CANDIDATE), None)
        first_final = next((score for score in scores if score.role == events.FINAL and not score.iteration), None)
        same = next((score for score in summary.scores if on_disk is not None and score.policy == on_disk.content_id), None)
        score = candidate or first_final or same
        policy = on_disk.content_id if on_disk is not None else (score.policy if score is not None else "")
        if stage.status.value == "waiting" and not policy:
            continue
        rows.append(
            CheckpointRow(
                iteration=stage.iteration,
                policy=policy,
                stage=stage.name,
                score=score,
                verdict=summary.verdict_of(stage.iteration),
                is_standing=policy == last[-1] if last and policy else stage.iteration == standing,
                is_pinned=stage.name in summary.pinned,
                num_bytes=on_disk.num_bytes if on_disk is not None else None,
            )
        )
    return rows


def checkpoint_rows(rows: Sequence[CheckpointRow], width: int) -> list[Line]:
    """Return a head and a line per policy."""
    if not rows:
        return [[("no policy yet", "dim")]]
    return table(("", "stage", "policy", "success", "95 %", "gate", "p", "size"), [_cells(row) for row in rows], width, left=3)


def _cells(row: CheckpointRow) -> list[Span]:
    mark: Span = ("●", "good") if row.is_standing else ("·", "dim")
    success = interval = gate = p_value = ""
    if row.score is not None:
        low, high = row.score.interval
        success, interval = percent(row.score.rate), f"{100 * low:.0f}-{100 * high:.0f}"
    if row.verdict is not None:
        gate, p_value = ("promoted" if row.verdict.is_promoted else "kept out"), f"{row.verdict.p_value:.2g}"
    size = f"{row.num_bytes / 1e6:.1f} MB" if row.num_bytes is not None else ""
    style = "good" if row.verdict is not None and row.verdict.is_promoted else "warning"
    return [
        mark,
        (row.stage + (" pinned" if row.is_pinned else ""), ""),
        (row.policy[:ID_DIGITS], "dim"),
        (success, "strong"),
        (interval, "dim"),
        (gate, style),
        (p_value, "dim"),
        (size, "dim"),
    ]


def checkpoint_detail(row: CheckpointRow, width: int) -> list[Line]:
    """Return the gate's words on one policy."""
    lines: list[Line] = [cut([(row.stage, "strong"), (f" {row.policy}", "dim")], width)]
    if row.score is not None:
        lines.append([(f"{row.score.successes} of {row.score.episodes} succeed", ""), (f" · {row.score.eval_spec}", "dim")])
    verdict = row.verdict
    if verdict is None:
        words = "no gate: it is where the run began" if not row.iteration else "its gate has not been held"
        return [*lines, [(words, "dim")]]
    difference, low, high = verdict.difference
    style = "good" if verdict.is_promoted else "warning"
    lines.append(
        [(f"{verdict.verdict}, {'promoted' if verdict.is_promoted else 'kept out'}", style), (f" · {verdict.counts}", "dim")]
    )
    lines.append([(f"{points(difference)} points, {points(low)} to {points(high)} at 95 %", "")])
    return [cut(line, width) for line in lines] + wrapped(verdict.text, width)
