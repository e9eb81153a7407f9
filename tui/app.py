"""The Textual app: the screens of one run, in the terminal's colours and characters."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence

from textual.app import App, SystemCommand
from textual.events import Event, Key
from textual.filter import LineFilter
from textual.screen import Screen

from opentau.control import LocalRunClient, RunClient
from opentau.runfiles import Live, RunFiles
from opentau.runreplay import Replay
from tui.actions import ACTIONS
from tui.glyphs import AsciiFilter, is_plain_terminal
from tui.replay_screen import ReplayScreen
from tui.run_screen import RunScreen
from tui.themes import THEMES, theme_of
from tui.views import Surroundings


class LoopApp(App[None]):
    """The terminal app on one run."""

    CSS_PATH = "loop.tcss"
    TITLE = "OpenTau"

    def __init__(
        self,
        client: RunClient,
        run_id: str,
        *,
        files: RunFiles | None = None,
        look: Callable[[str], Live | None] | None = None,
        view: str = "loop",
        theme: str | None = None,
        is_ascii: bool | None = None,
        replay: tuple[float, float] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`theme` and `is_ascii`: what the terminal says of itself by default; `look`: what a station shows, if not `files`.

        `replay` plays a local run again: where to begin, a share of it, and how many times as fast as it was.
        """
        super().__init__()
        self._is_ascii = is_plain_terminal(os.environ) if is_ascii is None else is_ascii
        self._ascii_filter = AsciiFilter()
        self._theme_name = theme or theme_of(os.environ)
        surroundings = Surroundings(
            files=files, look=look or (files.live if files is not None else None), is_ascii=self._is_ascii
        )
        if replay is not None and isinstance(client, LocalRunClient):
            run_dir, (at, speed) = client.run_dir, replay
            self._run_screen: RunScreen = ReplayScreen(
                client,
                run_id,
                surroundings=surroundings,
                open_replay=lambda: Replay(run_dir),
                view=view,
                at=at,
                speed=speed,
            )
        else:
            self._run_screen = RunScreen(client, run_id, surroundings=surroundings, view=view, now=now)

    @property
    def run_screen(self) -> RunScreen:
        return self._run_screen

    def on_mount(self) -> None:
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self._theme_name
        self.push_screen(self._run_screen)

    async def on_event(self, event: Event) -> None:
        if isinstance(event, Key):
            self._run_screen.hurry()
        await super().on_event(event)

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = list(super().get_line_filters())
        return [*filters, self._ascii_filter] if self._is_ascii else filters

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer the screen's actions in the palette, each with its command-line twin, and the themes."""
        for action in ACTIONS:
            if not self._run_screen.offers(action):
                continue
            run = self._runner(action.name)
            twin = action.twin.format(run="RUN")
            yield SystemCommand(action.label.capitalize(), f"{action.tooltip.capitalize()} ({twin})", run)
        yield SystemCommand("Theme", "Change the colours", self.action_change_theme)

    def _runner(self, action: str) -> Callable[[], None]:
        def run() -> None:
            self.call_later(self._run_screen.run_action, action)

        return run


def run_app(client: RunClient, run_id: str, **options: object) -> None:
    """Show the screens until the user detaches; the run does not depend on them. Options as in `LoopApp`."""
    LoopApp(client, run_id, **options).run()  # type: ignore[arg-type]
