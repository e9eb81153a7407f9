"""Where a replay is."""

from __future__ import annotations

import time

from tui.text.lines import Line, bar, clock


def replay_line(position_s: float, duration_s: float, *, t: float, speed: float, is_playing: bool, width: int) -> Line:
    """Return one line: playing or not and how fast, how much is played, and the run's own time there."""
    left = f" {'▸' if is_playing else '‖'} replay ×{speed:g} "
    stamp = time.strftime("%m-%d %H:%M:%S", time.localtime(t))
    right = f" {clock(position_s)} of {clock(duration_s)} · {stamp} "
    room = max(0, width - len(left) - len(right))
    return [(left, "strong"), *bar(position_s / duration_s if duration_s else 1.0, room), (right, "dim")]
