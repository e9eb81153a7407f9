"""What lies over the screen for a moment: the keys with their commands, and a line to type."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui.actions import ACTIONS, Action


class HelpScreen(ModalScreen[None]):
    """Every key, what it does, and the command that does the same."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,space,enter", "dismiss", "close")]

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(help_text(self._run_id), markup=False)


class LineDialog(ModalScreen[str | None]):
    """One line of text; None when it is left with escape."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "leave")]

    def __init__(self, question: str, *, text: str = "") -> None:
        super().__init__()
        self._question = question
        self._text = text

    def compose(self) -> ComposeResult:
        with Vertical(id="dialog"):
            yield Static(self._question)
            yield Input(value=self._text)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)

    def action_leave(self) -> None:
        self.dismiss(None)


def number_of(text: str) -> str | int | float | bool:
    """Return a typed value as the number or truth that it is, else as the text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def help_text(run_id: str) -> str:
    """Return every key, what it does, where, and its command."""
    rows = ["Keys and their commands", ""]
    for action in ACTIONS:
        rows.append(f"{action.key_name:<6} {action.label}: {action.tooltip}{_where(action)}")
        rows.append(f"         {action.twin.format(run=run_id)}")
    return "\n".join([*rows, "ctrl+p palette: every action, and themes", "tab    next panel; arrows scroll or choose in it"])


def _where(action: Action) -> str:
    return f" ({', '.join(action.views)})" if action.views else " (replay)" if action.is_replay else ""
