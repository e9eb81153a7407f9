"""The Textual app: one screen on a run's events, with the keys that steer the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import ClassVar

from textual import work
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import ModalScreen, Screen
from textual.theme import Theme
from textual.widgets import Footer, Static

from opentau.control import PAUSE, RESUME, STOP, Command, RunClient
from opentau.runfold import RunFold
from opentau.runstate import RunPhase, RunSummary
from tui.panels import Panel
from tui.text import curve_rows, header, log_rows, stage_rows, station_rows, success_rows

POLL_S = 0.25
"""The log is read this often: bursts of events become one update of the screen."""
RETRY_S = 2.0

# Action, key, what it does, its twin on the command line.
ACTIONS = (
    ("toggle_pause", "space", "pause or resume", "wait after the episode or update at hand", "opentau ctl pause|resume {run}"),
    ("stop", "S", "stop after stage", "end after this stage; the same command resumes", "opentau ctl stop {run}"),
    ("detach", "q", "detach", "close this screen; the run goes on, tui attaches again", "opentau tui {run}"),
    ("show_keys", "question_mark", "help", "show every key and its command", "opentau tui --help"),
)
KEY_NAMES = {"question_mark": "?"}

THEME = Theme(
    name="opentau",
    primary="#6ea8e0",
    accent="#6ea8e0",
    success="#5fbf8f",
    warning="#e0a94a",
    error="#f0786e",
    foreground="#dfe3e8",
    background="#12151a",
    surface="#1a1e25",
    panel="#1f242c",
)


class HelpScreen(ModalScreen[None]):
    """Every key, what it does, and the command that does the same."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,space,enter", "dismiss", "close")]

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id

    def compose(self) -> ComposeResult:
        rows = ["[b]Keys and their commands[/b]", ""]
        for _, key, label, tooltip, twin in ACTIONS:
            command = twin.format(run=self._run_id)
            rows += [f"[b]{KEY_NAMES.get(key, key):<6}[/b] {label:<16}  {command}", f"       [dim]{tooltip}[/dim]"]
        rows += ["[b]ctrl+p[/b] palette           every action, and themes", "[b]tab[/b]    next panel        arrows scroll it"]
        yield Static("\n".join(rows), id="help")


class LoopScreen(Screen[None]):
    """Stages, success, stations and log of one run."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, action, label, tooltip=f"{tooltip} ({twin.format(run='RUN')})", key_display=KEY_NAMES.get(key))
        for action, key, label, tooltip, twin in ACTIONS
    ]

    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]  # noqa: RUF012  Textual types it as an instance variable

    class Changed(Message):
        """The run said something new."""

        def __init__(self, summary: RunSummary) -> None:
            super().__init__()
            self.summary = summary

    class LinkChanged(Message):
        """The run can or cannot be reached; `text` says why, '' means that all is well."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, client: RunClient, run_id: str, *, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._client = client
        self._run_id = run_id
        self._now = now
        self._summary = RunSummary(run_id=run_id)
        self._is_closing = threading.Event()

    def compose(self) -> ComposeResult:
        yield Panel(header, id="header")
        yield Static(id="link")
        with Horizontal(id="body"):
            yield Panel(stage_rows, id="stages", title="Stages", marker="●")
            with Vertical(id="results"):
                yield Panel(success_rows, id="success", title="Success, 95 % intervals", is_tail=True)
                yield Panel(station_rows, id="stations", title="Stations")
                yield Panel(curve_rows, id="curves", title="Training")
        yield Panel(log_rows, id="log", title="Log", is_tail=True)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#header").can_focus = False
        self.query_one("#link").display = False
        self.set_interval(1.0, self._draw)
        self.call_after_refresh(self._draw)
        self._follow()

    def on_unmount(self) -> None:
        self._is_closing.set()

    @work(thread=True, group="follow", exclusive=True)
    def _follow(self) -> None:
        """Fold the run's events and post what they add up to; a lost link is told and tried again."""
        fold, is_lost = RunFold(), False
        while not self._is_closing.is_set():
            try:
                new = self._client.new_events()
            except Exception as error:  # noqa: BLE001  a worker's border: whatever the link meets, the screen stays
                is_lost = True
                self.post_message(self.LinkChanged(f"cannot follow the run: {error or type(error).__name__}; trying again"))
                self._is_closing.wait(RETRY_S)
                continue
            for event in new:
                fold.update(event)
            if is_lost:
                is_lost = False
                self.post_message(self.LinkChanged(""))
            if new:
                self.post_message(self.Changed(fold.summary()))
            self._is_closing.wait(POLL_S)

    def on_loop_screen_changed(self, message: Changed) -> None:
        was_over = self._summary.phase.is_over
        self._summary = message.summary
        self._draw()
        if was_over != self._summary.phase.is_over:
            self.refresh_bindings()

    def on_loop_screen_link_changed(self, message: LinkChanged) -> None:
        link = self.query_one("#link", Static)
        link.update(f" ! {message.text}", layout=False)
        link.display = bool(message.text)

    def _draw(self) -> None:
        now = self._summary.last_t if self._summary.phase.is_over else self._now()
        for panel in self.query(Panel):
            panel.show(self._summary, now)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Dim the keys that steer once there is nothing left to steer."""
        return None if action in ("toggle_pause", "stop") and self._summary.phase.is_over else True

    def action_toggle_pause(self) -> None:
        is_paused = self._summary.phase is RunPhase.PAUSED or PAUSE in self._summary.pending
        self._send(Command(verb=RESUME if is_paused else PAUSE))

    def action_stop(self) -> None:
        self._send(Command(verb=STOP))

    def action_detach(self) -> None:
        self.app.exit()

    def action_show_keys(self) -> None:
        self.app.push_screen(HelpScreen(self._run_id))

    @work(thread=True, group="send")
    def _send(self, command: Command) -> None:
        """Send without blocking the screen; the run's own echo, not this, changes what is shown."""
        try:
            self._client.send(command)
        except Exception as error:  # noqa: BLE001  a worker's border: the run keeps its state, the user is told
            self.app.call_from_thread(self.notify, f"{command.verb} was not sent: {error}", severity="error")
            return
        self.app.call_from_thread(self.notify, f"{command.verb} sent\nopentau ctl {command.verb} {self._run_id}", timeout=3)


class LoopApp(App[None]):
    """The terminal app on one run."""

    CSS_PATH = "loop.tcss"
    TITLE = "OpenTau"

    def __init__(self, client: RunClient, run_id: str, *, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._run_screen = LoopScreen(client, run_id, now=now)

    def on_mount(self) -> None:
        self.register_theme(THEME)
        self.theme = THEME.name
        self.push_screen(self._run_screen)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer the screen's actions in the palette, each with its command-line twin, and the themes."""
        for action, _, label, tooltip, twin in ACTIONS:
            if self._run_screen.check_action(action, ()):
                run = getattr(self._run_screen, f"action_{action}")
                yield SystemCommand(label.capitalize(), f"{tooltip.capitalize()} ({twin.format(run='RUN')})", run)
        yield SystemCommand("Theme", "Change the colours", self.action_change_theme)


def run_app(client: RunClient, run_id: str) -> None:
    """Show the screen until the user detaches; the run does not depend on it."""
    LoopApp(client, run_id).run()
