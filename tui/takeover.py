"""A simulator in a person's hand: keys move it, its camera shows it, and what came of the episode is said here."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from opentau.control import HAND_BACK, JOG, LABEL, Command
from opentau.errors import OpenTauError
from opentau.runfiles import Live
from opentau.runstate import RunSummary
from tui.actions import IN_HAND, JOGS, KEY_NAMES, STEPS
from tui.key_bar import KeyBar
from tui.panels import STYLES
from tui.text.lines import Line, Span, cut
from tui.text.pictures import beside, picture_lines
from tui.views import Surroundings

LOOK_S = 0.2
RENEW_S = 5.0


class TakeoverScreen(ModalScreen[None]):
    """Every press of a key is a jog of a few control steps; the lease ends what is left in hand."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(key, f"jog({i})", label, tooltip=f"{label} (opentau ctl jog)") for i, (key, label, _) in enumerate(JOGS)),
        *(
            Binding(key, f"tell({i})", label, key_display=KEY_NAMES.get(key), tooltip=f"{label} (opentau ctl {verb})")
            for i, (key, label, verb, _) in enumerate(IN_HAND)
        ),
        Binding("tab", "change_step", "step", tooltip="how far one press goes (opentau ctl jog --dx X --ticks N)"),
        Binding("c", "next_camera", "camera", tooltip="show the next camera (opentau tui)"),
    ]

    def __init__(
        self,
        send: Callable[[Command], object],
        station: str,
        *,
        surroundings: Surroundings,
        renew: Callable[[], object] = lambda: None,
    ) -> None:
        """`renew` is called every few seconds, so that the lease lasts while this is open."""
        super().__init__()
        self._renew = renew
        self._send = send
        self._station = station
        self._surroundings = surroundings
        self._step = len(STEPS) // 2
        self._camera = 0
        self._live: Live | None = None
        self._episode_id = ""
        """What was in hand here; '' before it is."""
        self._is_over = False

    def compose(self) -> ComposeResult:
        with Vertical(id="in-hand"):
            yield Static(id="in-hand-text")
        yield KeyBar()

    def on_mount(self) -> None:
        self._draw()
        self.set_interval(LOOK_S, self._look)
        self.set_interval(RENEW_S, self._renew)

    @work(thread=True, group="live", exclusive=True)
    def _look(self) -> None:
        look = self._surroundings.look
        try:
            self._live = look(self._station) if look is not None else None
        except OpenTauError:  # the screen behind tells that the link is lost; jogs go on where it is not
            self._live = None
        self.app.call_from_thread(self._draw)

    def _draw(self) -> None:
        width, rows = max(20, self.size.width - 4), max(4, self.size.height - 9)
        summary, _ = self._surroundings.shown
        lines: list[Line] = [[(self._station, "strong"), (" ", ""), self._told(summary)]]
        if self._live is None:
            lines.append([("no picture yet", "dim")])
        else:
            lines.append([(f"{self._live.episode_id}, step {self._live.tick}", "dim")])
            lines += self._picture(self._live, width=width, rows=rows)
        keys = "  ".join(f"{key} {label}" for key, label, _ in JOGS)
        rate, ticks = STEPS[self._step]
        step = f"{ticks} control steps" if ticks > 1 else "a control step" if rate == 1 else f"{rate:g} of a control step"
        lines += [[(keys, "")], [(f"tab: {step} a press", "dim")]]
        content = Content("\n").join(
            Content.assemble(*((text, STYLES.get(style, style)) for text, style in cut(line, 3 * width))) for line in lines
        )
        self.query_one("#in-hand-text", Static).update(content)

    def _told(self, summary: RunSummary) -> Span:
        """Return who has the station in hand, or that what was in hand here is over."""
        station = next((one for one in summary.stations if one.name == self._station), None)
        if station is not None and station.operator:
            self._episode_id, self._is_over = station.episode_id, False
            return f"in hand of {station.operator}", ""
        self._is_over = bool(self._episode_id)
        if not self._is_over:
            return "asked for; it comes with its next control step or episode", "warning"
        played = next((one for one in reversed(summary.episodes) if one.episode_id == self._episode_id), None)
        outcome = f": {played.outcome}" if played is not None else ""
        return f"{self._episode_id} is over{outcome}. Say what came of it, or leave (escape)", "accent"

    def _picture(self, live: Live, *, width: int, rows: int) -> list[Line]:
        cameras = list(live.pictures.values())
        if not cameras:
            return []
        chosen = cameras[self._camera % len(cameras) :] + cameras[: self._camera % len(cameras)]
        is_ascii = self._surroundings.is_ascii
        return beside([picture_lines(one, columns=(width - 2) // 2, rows=rows, is_ascii=is_ascii) for one in chosen[:2]])

    def action_jog(self, number: int) -> None:
        _, _, rates = JOGS[number]
        rate, ticks = (1.0, 1) if "gripper" in rates else STEPS[self._step]
        moves = {name: rate * part for name, part in rates.items()}
        self._send(Command(verb=JOG, args={"station": self._station, **moves, "ticks": ticks}))

    def action_tell(self, number: int) -> None:
        _, _, verb, outcome = IN_HAND[number]
        target = self._episode_id or self._station  # the episode, since the station may play the next one by now
        args = {"target": target, "outcome": outcome} if verb == LABEL else {"station": self._station}
        if verb != HAND_BACK or not self._is_over:
            self._send(Command(verb=verb, args=args))
        if verb == HAND_BACK:
            self.dismiss(None)

    def action_change_step(self) -> None:
        self._step = (self._step + 1) % len(STEPS)
        self._draw()

    def action_next_camera(self) -> None:
        self._camera += 1
        self._draw()
