"""A recorded run on the same screens: a clock that can be stopped, hurried and moved stands in for the link to the run."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual import work
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from opentau.control import RunClient
from opentau.errors import OpenTauError
from opentau.runreplay import Replay
from tui.actions import Action
from tui.panels import STYLES
from tui.run_screen import FOLLOW, RunScreen
from tui.text.replay import replay_line
from tui.views import Surroundings

STEP_S = 0.1
SEEK_SHARE = 0.02
SPEEDS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


class ReplayScreen(RunScreen):
    """All views of one run as they were."""

    def __init__(
        self,
        client: RunClient,
        run_id: str,
        *,
        surroundings: Surroundings,
        open_replay: Callable[[], Replay],
        view: str = "loop",
        at: float = 0.0,
        speed: float = 10.0,
    ) -> None:
        """`at`: where to begin, a share of the recording; `speed`: times as fast as it was, 0 to begin with a stopped clock."""
        super().__init__(client, run_id, surroundings=surroundings, view=view, now=lambda: self._moment)
        self._open_replay = open_replay
        self._replay: Replay | None = None
        self._moment = 0.0
        self._start_share = at
        self.position_s = 0.0
        """Seconds of the recording that were played."""
        self.speed = speed or SPEEDS[2]
        self.is_playing = speed > 0

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield Static(id="replay")

    @property
    def is_replay(self) -> bool:
        return True

    @work(thread=True, group=FOLLOW, exclusive=True)
    def _follow(self) -> None:
        """Play: fold to where the clock stands and post it, as a live run would be."""
        self.post_message(self.LinkChanged("reading the run's events"))
        try:
            replay = self._open_replay()
        except (OpenTauError, OSError) as error:
            self.post_message(self.LinkChanged(f"cannot replay: {error}"))
            return
        self.position_s, self._replay = self._start_share * replay.duration_s, replay
        self.post_message(self.LinkChanged(""))
        shown, last = -1.0, time.monotonic()
        while not self._is_closing.is_set():
            now = time.monotonic()
            if self.is_playing:
                self.position_s = min(replay.duration_s, self.position_s + self.speed * (now - last))
            last = now
            if self.position_s != shown:
                shown = self.position_s
                summary = replay.seek(shown)
                self._moment = replay.moment(shown)
                self._is_drawn.clear()
                self.post_message(self.Changed(summary))
                self._is_behind = False
            self._is_closing.wait(STEP_S)

    def _draw(self) -> None:
        super()._draw()
        if self._replay is not None:
            line = replay_line(
                self.position_s,
                self._replay.duration_s,
                t=self._moment,
                speed=self.speed,
                is_playing=self.is_playing,
                width=self.size.width,
            )
            content = Content.assemble(*((text, STYLES[style]) for text, style in line))
            self.query_one("#replay", Static).update(content, layout=False)

    def offers(self, action: Action) -> bool | None:
        return True if action.name == "toggle_pause" else super().offers(action)

    def action_toggle_pause(self) -> None:
        self.is_playing = not self.is_playing
        self._draw()

    def action_seek(self, step: int) -> None:
        """Move by steps of two per cent of the recording."""
        if self._replay is not None:
            length_s = self._replay.duration_s
            self.position_s = min(length_s, max(0.0, self.position_s + step * SEEK_SHARE * length_s))

    def action_change_speed(self, step: int) -> None:
        """Play at the next speed of `SPEEDS`."""
        others = [speed for speed in SPEEDS if (speed > self.speed if step > 0 else speed < self.speed)]
        if others:
            self.speed = others[0] if step > 0 else others[-1]
            self._draw()
