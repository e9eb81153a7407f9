"""The screen of a run: head, tab bar, the chosen view and the keys; a thread follows the events and posts what they say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Static

from opentau.control import (
    JOG,
    NOTE_DOWN,
    PAUSE,
    RESUME,
    SAFE_OPTIONS,
    SET,
    STOP,
    STOP_ROBOT,
    TAKE_OVER,
    VERBS,
    Command,
    RunClient,
)
from opentau.errors import OpenTauError, OptionError
from opentau.runfiles import Live, StageFiles
from opentau.runsnapshot import RunFollower
from opentau.runstate import RunPhase, RunSummary
from tui.actions import ACTIONS, VIEWS, Action
from tui.dialogs import HelpScreen, LineDialog, number_of
from tui.key_bar import KeyBar
from tui.panels import Panel
from tui.screens.checkpoints import CheckpointsView
from tui.screens.differences import DifferencesView
from tui.screens.episodes import EpisodesView
from tui.screens.log import LogView
from tui.screens.loop import LoopView
from tui.screens.operator import OperatorView
from tui.screens.stations import StationsView
from tui.screens.success import SuccessView
from tui.screens.training import TrainingView
from tui.screens.value import ValueView
from tui.takeover import TakeoverScreen
from tui.text.loop import header
from tui.views import Surroundings, TabBar, View

POLL_S = 0.25
"""The log is read this often: bursts of events become one update of the screen."""
BLOCK_EVENTS = 500
"""Events that are folded at once, a few milliseconds of work."""
BREATH_S = 0.002
"""While there is more to read, the thread stands back for so long between blocks."""
HURRY_S = 0.2
"""And for so long where a key was pressed: what it does comes first."""
DRAWING_SHARE = 0.2
"""Of the screen's time, at most, that goes into drawing what is new; a slow machine sees news less often."""
RETRY_S = 2.0
FOLLOW = "follow"
"""The group of the worker that reads as long as the screen is open."""
TICK_S = 1.0

VIEW_CLASSES: dict[str, type[View]] = {
    "loop": LoopView,
    "success": SuccessView,
    "value": ValueView,
    "stations": StationsView,
    "training": TrainingView,
    "checkpoints": CheckpointsView,
    "episodes": EpisodesView,
    "operator": OperatorView,
    "log": LogView,
    "differences": DifferencesView,
}


class RunScreen(Screen[None]):
    """All views of one run."""

    BINDINGS: ClassVar[list[BindingType]] = [action.binding() for action in ACTIONS]

    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]  # noqa: RUF012  Textual types it as an instance variable
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012

    class Changed(Message):
        """The run said something new."""

        def __init__(self, summary: RunSummary) -> None:
            super().__init__()
            self.summary = summary

    class LinkChanged(Message):
        """The run can or cannot be reached, or is still being read; '' means that all is well."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class StagesRead(Message):
        """What lies on disk was looked through."""

        def __init__(self, stages: dict[str, StageFiles]) -> None:
            super().__init__()
            self.stages = stages

    def __init__(
        self,
        client: RunClient,
        run_id: str,
        *,
        surroundings: Surroundings,
        view: str = "loop",
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._client = client
        self._run_id = run_id
        self._now = now
        self.surroundings = surroundings
        self.current = view
        self._summary = RunSummary(run_id=run_id)
        self._num_finished = -1
        self._is_behind = True
        """Whether there is more to read, or to post, than the screen was told of."""
        self._is_drawn = threading.Event()
        """Whether what was posted last is on the screen; nothing newer is posted before, so that keys never wait behind it."""
        self._is_drawn.set()
        self._drawing_s = 0.0
        self._hurry_until = 0.0
        self._is_closing = threading.Event()
        self._client_lock = threading.Lock()
        """Clients are not safe to share: one thread follows, others send."""
        if surroundings.files is None and (look := surroundings.look) is not None:
            surroundings.look = lambda station: self._look(look, station)

    def compose(self) -> ComposeResult:
        yield Panel(header, id="header")
        yield TabBar()
        yield Static(id="link")
        with ContentSwitcher(id="views", initial=f"view-{self.current}"):
            yield VIEW_CLASSES[self.current](self.current, self.surroundings)  # others once they are asked for
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#header").can_focus = False
        self.query_one("#link").display = False
        self.query_one(TabBar).select(self.current)
        self.set_interval(TICK_S, self._draw)
        self.call_after_refresh(self._draw)
        self._follow()

    def hurry(self) -> None:
        """Have the reading of events stand back for a moment: a key was pressed."""
        self._hurry_until = time.monotonic() + HURRY_S

    def on_unmount(self) -> None:
        self._is_closing.set()

    @property
    def is_replay(self) -> bool:
        """Return whether a recorded run is played, which nobody can steer."""
        return False

    @property
    def is_reading(self) -> bool:
        """Return whether something is being read that the screen is going to show, beside the run's next events."""
        return any(worker.group != FOLLOW and not worker.is_finished for worker in self.app.workers)

    @property
    def is_shown(self) -> bool:
        """Return whether all that the run has said so far is on the screen."""
        return not self._is_behind and self._is_drawn.is_set()

    @property
    def view(self) -> View:
        """Return the view that is shown."""
        return self.query_one(f"#view-{self.current}", View)

    @work(thread=True, group=FOLLOW, exclusive=True)
    def _follow(self) -> None:
        """Fold the run's events and post what they add up to; a lost link is told and tried again."""
        follower, told = RunFollower(self._client), ""
        is_new = follower.has_begun  # a snapshot may hold all there is: nothing more need come for it to be shown
        posted = 0.0
        while not self._is_closing.is_set():
            text = ""
            if (left_s := self._hurry_until - time.monotonic()) > 0:
                self._is_closing.wait(left_s)
            try:
                with self._client_lock:
                    is_new = bool(follower.advance(BLOCK_EVENTS)) or is_new
            except Exception as error:  # noqa: BLE001  a worker's border: whatever the link meets, the screen stays
                text = f"cannot follow the run: {error or type(error).__name__}; trying again"
            is_behind = follower.is_behind and not text
            pace_s = max(POLL_S, self._drawing_s / DRAWING_SHARE)
            is_due = not is_behind or time.monotonic() - posted > pace_s
            if is_new and is_due and self._is_drawn.is_set():
                posted, is_new = time.monotonic(), False
                self._is_drawn.clear()
                self.post_message(self.Changed(follower.summary()))
                if is_behind and (share := follower.share_read) < 0.9:
                    text = f"reading the run's events, {100 * share:.0f} %"
            if text != told and (text or not is_behind):
                told = text
                self.post_message(self.LinkChanged(text))
            self._is_behind = is_behind or is_new
            self._is_closing.wait(RETRY_S if text and not is_behind else BREATH_S if is_behind else POLL_S)

    @work(thread=True, group="stages", exclusive=True)
    def _read_stages(self) -> None:
        files = self.surroundings.files
        if files is None:
            return
        try:
            self.post_message(self.StagesRead(dict(files.stages())))
        except (OpenTauError, OSError) as error:
            self.app.call_from_thread(self.notify, f"the run's stages cannot be read: {error}", severity="error")

    def on_run_screen_changed(self, message: Changed) -> None:
        began = time.monotonic()
        try:
            self._take(message)
        finally:
            self._drawing_s = time.monotonic() - began
            self._is_drawn.set()

    def _take(self, message: Changed) -> None:
        was_over = self._summary.phase.is_over
        self._summary = message.summary
        self._draw()
        if was_over != self._summary.phase.is_over:
            self.refresh_bindings()
        num_finished = sum(stage.seconds is not None for stage in self._summary.stages)
        if num_finished != self._num_finished:
            self._num_finished = num_finished
            self._read_stages()

    def on_run_screen_link_changed(self, message: LinkChanged) -> None:
        link = self.query_one("#link", Static)
        link.update(Content(f" ! {message.text}"), layout=False)
        link.display = bool(message.text)

    def on_run_screen_stages_read(self, message: StagesRead) -> None:
        self.surroundings.stages = message.stages
        self._draw()

    async def on_tab_bar_clicked(self, message: TabBar.Clicked) -> None:
        await self.action_view(message.view)

    def _draw(self) -> None:
        now = self._summary.last_t if self._summary.phase.is_over else self._now()
        self.surroundings.shown = (self._summary, now)
        self.query_one("#header", Panel).show(self._summary, now)
        self.view.show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide the keys of other screens, and dim those that steer once there is nothing left to steer."""
        name = f"{action}({', '.join(map(repr, parameters))})" if parameters else action
        found = next((one for one in ACTIONS if one.name == name), None)
        return True if found is None else self.offers(found)

    def offers(self, action: Action) -> bool | None:
        """Return whether an action can be done here and now; None: it is shown, but dimmed."""
        if (action.views and self.current not in action.views) or (action.is_replay and not self.is_replay):
            return False
        return None if action.is_steering and (self._summary.phase.is_over or self.is_replay) else True

    async def action_view(self, name: str) -> None:
        """Switch to a screen."""
        switcher = self.query_one("#views", ContentSwitcher)
        if not switcher.query(f"#view-{name}"):
            await switcher.add_content(VIEW_CLASSES[name](name, self.surroundings))
        self.current = name
        switcher.current = f"view-{name}"
        self.query_one(TabBar).select(name)
        self.refresh_bindings()
        self.view.enter()
        self.call_after_refresh(self._draw)

    def action_toggle_pause(self) -> None:
        is_paused = self._summary.phase is RunPhase.PAUSED or PAUSE in self._summary.pending
        self._send(Command(verb=RESUME if is_paused else PAUSE))

    def action_stop(self) -> None:
        self._send(Command(verb=STOP))

    def action_steer(self, verb: str, *given: str) -> None:
        """Send a command about what the screen has chosen; `given` are its last arguments."""
        chosen, rest = self.view.context(), list(given)
        args: dict[str, object] = {}
        for argument in VERBS[verb].arguments:
            if argument.name in chosen:
                args[argument.name] = chosen[argument.name]
            elif rest and argument.is_needed:
                args[argument.name] = rest.pop(0)
            elif argument.is_needed:
                self.notify(f"{verb} needs {argument.name}: choose one that has it", severity="warning")
                return
        self._send(Command(verb=verb, args=args))
        if verb == TAKE_OVER:
            self.app.push_screen(
                TakeoverScreen(self._send, str(args["station"]), surroundings=self.surroundings, renew=self._renew)
            )

    def action_stop_robots(self) -> None:
        """Stop the chosen station, or every one that plays."""
        chosen = self.view.context().get("station")
        playing = [station.name for station in self._summary.stations if station.state in ("connected", "replaced")]
        for station in [str(chosen)] if chosen is not None else playing:
            self._send(Command(verb=STOP_ROBOT, args={"station": station}))

    def action_note(self) -> None:
        self.app.push_screen(LineDialog("A line for the run's log:"), self._note_down)

    def _note_down(self, text: str | None) -> None:
        if text and text.strip():
            self._send(Command(verb=NOTE_DOWN, args={"text": text}))

    def action_set_option(self) -> None:
        names = "\n".join(f"{name}: {option.about}" for name, option in SAFE_OPTIONS.items())
        self.app.push_screen(LineDialog(f"OPTION=VALUE, from the next iteration on\n{names}"), self._set_option)

    def _set_option(self, text: str | None) -> None:
        if not text:
            return
        name, _, value = text.partition("=")
        try:
            command = Command(verb=SET, args={"option": name.strip(), "value": number_of(value.strip())})
        except OptionError as error:
            self.notify(str(error), severity="error")
            return
        self._send(command)

    def action_change_iteration(self, step: int) -> None:
        self.view.change_iteration(step)

    def action_cycle_filter(self) -> None:
        self.view.cycle_filter()

    def action_next_camera(self) -> None:
        self.view.next_camera()

    def action_search(self) -> None:
        view = self.query_one(LogView)
        self.app.push_screen(LineDialog("Show the lines that contain:", text=view.search), view.look_for)

    def action_detach(self) -> None:
        self.app.exit()

    def action_show_keys(self) -> None:
        self.app.push_screen(HelpScreen(self._run_id))

    def _look(self, look: Callable[[str], Live | None], station: str) -> Live | None:
        with self._client_lock:
            return look(station)

    @work(thread=True, group="renew", exclusive=True)
    def _renew(self) -> None:
        """Hold the lease while something is in hand."""
        try:
            with self._client_lock:
                self._client.renew()
        except Exception as error:  # noqa: BLE001  a worker's border: what is in hand goes back by rule, the user is told
            self.app.call_from_thread(self.notify, f"the lease was not renewed: {error}", severity="error")

    @work(thread=True, group="send")
    def _send(self, command: Command) -> None:
        """Send without blocking the screen; the run's own echo, not this, changes what is shown."""
        try:
            with self._client_lock:
                self._client.send(command)
        except Exception as error:  # noqa: BLE001  a worker's border: the run keeps its state, the user is told
            self.app.call_from_thread(self.notify, f"{command.verb} was not sent: {error}", severity="error")
            return
        if command.verb != JOG:
            self.app.call_from_thread(self.notify, f"{command.verb} sent\n{command.twin(self._run_id)}", timeout=3)


assert list(VIEW_CLASSES) == list(VIEWS), "every screen has a view"
