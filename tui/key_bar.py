"""The foot of a screen: the keys that do something here, in one line that is drawn and not composed: that costs little."""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import ActiveBinding
from textual.content import Content
from textual.events import Click, MouseMove
from textual.screen import Screen
from textual.widgets import Static


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key as the line shows it."""

    key: str
    shown: str
    label: str
    tooltip: str
    is_enabled: bool

    @property
    def text(self) -> str:
        return f" {self.shown} {self.label} "


class KeyBar(Static):
    """Keys from left to right as far as there is room, the palette's at the right end; a click is a press."""

    def __init__(self) -> None:
        super().__init__(id="keys")
        self._keys: list[Key] = []
        self._palette: Key | None = None

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._note_bindings)

    def on_resize(self) -> None:
        self._draw_keys()

    def _note_bindings(self, screen: Screen[object]) -> None:
        active = screen.active_bindings
        palette = active.get(self.app.COMMAND_PALETTE_BINDING)
        known: dict[str, Key] = {}
        for one in active.values():
            if one.binding.show and one is not palette:
                known.setdefault(one.binding.action, self._key(one))
        keys = list(known.values())
        if (keys, palette and self._key(palette)) != (self._keys, self._palette):
            self._keys, self._palette = keys, palette and self._key(palette)
            self._draw_keys()

    def _key(self, active: ActiveBinding) -> Key:
        binding = active.binding
        return Key(
            key=binding.key,
            shown=self.app.get_key_display(binding),
            label=binding.description,
            tooltip=active.tooltip or binding.tooltip,
            is_enabled=active.enabled,
        )

    def _draw_keys(self) -> None:
        """Draw whole keys while they fit, then where the line is cut, then the palette."""
        end = f"▏{self._palette.shown} {self._palette.label} " if self._palette is not None else ""
        room, parts = self.size.width - len(end), list[tuple[str, str]]()
        for key in self._keys:
            style = "" if key.is_enabled else " dim"
            head = f" {key.shown} "
            parts += [
                (head[:room], f"bold $accent{style}"),
                (key.text[len(head) :][: max(0, room - len(head))], f"$text-muted{style}"),
            ]
            room -= len(key.text)
            if room <= 0:
                break
        parts += [(" " * max(0, room), ""), (end[:2], "bold $accent"), (end[2:], "$text-muted")]
        self.update(Content.assemble(*parts), layout=False)

    def _at(self, x: int) -> Key | None:
        palette_width = len(f"▏{self._palette.shown} {self._palette.label} ") if self._palette is not None else 0
        if self._palette is not None and x >= self.size.width - palette_width:
            return self._palette
        for key in self._keys:
            x -= len(key.text)
            if x < 0:
                return key
        return None

    def on_mouse_move(self, event: MouseMove) -> None:
        key = self._at(event.x)
        self.tooltip = key.tooltip or key.label if key is not None else None

    def on_click(self, event: Click) -> None:
        key = self._at(event.x)
        if key is not None and key.is_enabled:
            self.app.simulate_key(key.key)
