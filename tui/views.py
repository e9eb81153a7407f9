"""What a screen of the run is: panels that share what it is given, and the tab bar that chooses between screens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from textual.containers import Vertical
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from opentau.runfiles import Live, RunFiles, StageFiles
from opentau.runstate import RunSummary
from tui.actions import VIEWS
from tui.panels import ListPanel, Panel

WIDE = 110
"""Columns from which the tab bar has room for full names."""


@dataclass(slots=True)
class Surroundings:
    """What all screens are given beside the summary."""

    files: RunFiles | None = None
    """The run's directory; None where only its events can be reached."""
    look: Callable[[str], Live | None] | None = None
    """Says what a station shows whoever has it in hand; None where nobody can tell."""
    stages: Mapping[str, StageFiles] | None = None
    """What `files` said last of complete stages."""
    is_ascii: bool = False
    shown: tuple[RunSummary, float] = field(default_factory=lambda: (RunSummary(), 0.0))


class View(Vertical):
    """One screen; subclasses compose panels."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        super().__init__(id=f"view-{name}")
        self.surroundings = surroundings

    @property
    def summary(self) -> RunSummary:
        return self.surroundings.shown[0]

    def show(self) -> None:
        """Draw what is newest."""
        for panel in self.query(Panel):
            panel.show(*self.surroundings.shown)

    def enter(self) -> None:
        """Take the keys when the screen is switched to."""
        lists = list(self.query(ListPanel))
        if lists:
            lists[0].focus()

    def context(self) -> dict[str, object]:
        """Return what is chosen, by the names of the arguments of commands (`opentau.control.VERBS`)."""
        return {}

    def change_iteration(self, step: int) -> None:
        """Go to another iteration, where the screen shows one."""

    def cycle_filter(self) -> None:
        """Choose the next filter, where the screen has some."""

    def next_camera(self) -> None:
        """Show another camera, where the screen shows one."""


class TabBar(Static):
    """The names of the screens with their keys; the shown one in brackets, and a click goes to another."""

    class Clicked(Message):
        """A screen was asked for."""

        def __init__(self, view: str) -> None:
            super().__init__()
            self.view = view

    def __init__(self) -> None:
        super().__init__(id="tabs")
        self.current = next(iter(VIEWS))

    def select(self, view: str) -> None:
        self.current = view
        self._draw_tabs()

    def on_resize(self) -> None:
        self._draw_tabs()

    def on_click(self, event: Click) -> None:
        at = 0
        for view, text in self._texts():
            at += len(text)
            if event.x < at:
                self.post_message(self.Clicked(view))
                return

    def _texts(self) -> list[tuple[str, str]]:
        """Return every screen's name with its key, and a column before it for a bracket or a space."""
        return [
            (view, f" {number % 10} {names[1 if self.size.width >= WIDE else 0]}")
            for number, (view, names) in enumerate(VIEWS.items(), start=1)
        ]

    def _draw_tabs(self) -> None:
        parts: list[tuple[str, str]] = []
        is_after = False
        for view, text in self._texts():
            is_current = view == self.current
            bracket = "[" if is_current else "]" if is_after else " "
            parts += [(bracket, "$accent"), (text[1:], "bold $accent" if is_current else "$text-muted")]
            is_after = is_current
        parts.append(("]" if is_after else " ", "$accent"))
        self.update(Content.assemble(*parts), layout=False)
