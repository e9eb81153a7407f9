"""The policies of a run: what each is worth, what its gate said, and a person's word against it."""

from __future__ import annotations

from textual.app import ComposeResult

from opentau.runstate import RunSummary
from tui.panels import ListPanel, Panel
from tui.text.checkpoints import CheckpointRow, checkpoint_detail, checkpoint_list, checkpoint_rows
from tui.text.lines import Line
from tui.views import View


class CheckpointsView(View):
    """Choose a policy; promote or roll back its iteration."""

    def compose(self) -> ComposeResult:
        yield ListPanel(self._table, id="policies", title="Policies; ● stands")
        yield Panel(self._detail, id="verdict", title="Its gate")

    @property
    def rows(self) -> list[CheckpointRow]:
        return checkpoint_list(self.summary, self.surroundings.stages)

    @property
    def chosen(self) -> CheckpointRow | None:
        """Return the policy at the cursor."""
        rows = self.rows
        return rows[min(self.query_one("#policies", ListPanel).cursor, len(rows) - 1)] if rows else None

    def context(self) -> dict[str, object]:
        row = self.chosen
        if row is None:
            return {}
        return {"stage": row.stage} | ({"iteration": row.iteration} if row.iteration else {})

    def on_list_panel_chosen(self) -> None:
        self.show()

    def _table(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        return checkpoint_rows(self.rows, width)

    def _detail(self, summary: RunSummary, now: float, width: int) -> list[Line]:
        row = self.chosen
        return checkpoint_detail(row, width) if row is not None else [[("no policy yet", "dim")]]
