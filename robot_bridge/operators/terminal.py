"""An operator at the station's terminal: sets the scene up, says so, and says what came of the episode."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from opentau.types import EpisodePlan, Outcome, derive_seed
from robot_bridge.teleops.terminal import Terminal, own_terminal

READY = "\n"
VERDICTS = {"+": Outcome.SUCCESS, "-": Outcome.FAILURE, "x": Outcome.ABORTED}
PICTURE_COLUMNS = 48


class TerminalOperator:
    """Shows what to set up, waits for Enter, and takes "+", "-" and "x" for success, failure and discard.

    With `pictures`, each episode has one to match, chosen by its seed. Which policy acts is never shown.
    """

    def __init__(
        self,
        *,
        pictures: str | Sequence[str] | None = None,
        terminal: Terminal | None = None,
        say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> None:
        """`pictures`: a folder, or files; `terminal`: None for the one that the program was started in."""
        named = [pictures] if isinstance(pictures, str) else list(pictures or ())
        self._pictures = sorted(file for name in named for file in _files(Path(name)))
        self._terminal = terminal or own_terminal()
        self._say = say
        self._is_open = False
        self._prepared: str | None = None

    def prepare(self, plan: EpisodePlan) -> bool:
        if not self._is_open:
            self._terminal.open()
            self._is_open = True
        if self._prepared != plan.episode_id:
            self._prepared = plan.episode_id
            self._terminal.take({READY})  # pressed before it was asked for
            self._show(plan)
            return False
        if not self._terminal.take({READY}):
            return False
        self._prepared = None
        self._say('it moves: "+" success, "-" failure, "x" discard')
        return True

    def verdict(self, plan: EpisodePlan, *, tick: int) -> Outcome | None:
        pressed = self._terminal.take(VERDICTS)
        return VERDICTS[pressed[-1]] if pressed else None

    def close(self) -> None:
        if self._is_open:
            self._terminal.close()
            self._is_open = False

    def _show(self, plan: EpisodePlan) -> None:
        self._say(f"\nepisode {plan.episode_id}, task {plan.task_id}: set the scene up, then press Enter")
        if self._pictures:
            picture = self._pictures[derive_seed(plan.seed, "picture") % len(self._pictures)]
            self._say(f"{as_text(Image.open(picture))}\n{picture}")


def as_text(image: Image.Image, *, columns: int = PICTURE_COLUMNS) -> str:
    """Return a picture in half blocks, two rows of pixels a line, in 24-bit colour."""
    num_rows = max(2, round(columns * image.height / image.width / 2) * 2)
    pixels = np.asarray(image.convert("RGB").resize((columns, num_rows)))
    lines = [
        "".join(f"\x1b[38;2;{r};{g};{b};48;2;{br};{bg};{bb}m▀" for (r, g, b), (br, bg, bb) in zip(upper, lower, strict=True))
        for upper, lower in zip(pixels[::2], pixels[1::2], strict=True)
    ]
    return "\n".join(f"{line}\x1b[0m" for line in lines)


def _files(path: Path) -> list[Path]:
    return [file for file in path.iterdir() if file.suffix.lower() in (".png", ".jpg", ".jpeg")] if path.is_dir() else [path]
