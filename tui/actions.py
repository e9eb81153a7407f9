"""Every action of the screens in one table: its key, what it does, and its twin on the command line; the palette reads it."""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding

KEY_NAMES = {
    "question_mark": "?",
    "slash": "/",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "left": "←",
    "right": "→",
    "less_than_sign": "<",
    "greater_than_sign": ">",
}

# Screens by id, in the order of their keys: short name, full name, what it shows.
VIEWS = {
    "loop": ("Loop", "Loop", "where the run is"),
    "success": ("Success", "Success", "rates, differences, throughput, failures, tasks"),
    "value": ("Value", "Value", "advantages, calibration, an episode's values"),
    "stations": ("Stations", "Stations", "simulators and robots"),
    "training": ("Train", "Training", "losses, rates, the machine"),
    "checkpoints": ("Ckpt", "Checkpoints", "policies and verdicts"),
    "episodes": ("Film", "Episodes", "recorded episodes and their pictures"),
    "operator": ("Label", "Operator", "what a person is asked"),
    "log": ("Log", "Log", "the run's story"),
    "differences": ("Diff", "Differences", "what was configured otherwise"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing that a person can do."""

    name: str
    """`action_<name>` of the screen does it; arguments in parentheses."""
    key: str
    """As Textual calls it."""
    label: str
    tooltip: str
    twin: str
    """The command that does the same; {run} stands for the run."""
    views: tuple[str, ...] = ()
    """Where it is offered; everywhere by default."""
    is_steering: bool = False
    """Whether it sends a command to the run, and so ends with it."""
    is_replay: bool = False
    """Whether it is offered only while a run is replayed."""
    is_shown: bool = True
    """Whether the foot of the screen shows it."""

    @property
    def key_name(self) -> str:
        return KEY_NAMES.get(self.key, self.key)

    def binding(self) -> Binding:
        """Return the key as Textual takes it."""
        tooltip = f"{self.tooltip} ({self.twin.format(run='RUN')})"
        shown = KEY_NAMES.get(self.key)
        return Binding(self.key, self.name, self.label, tooltip=tooltip, key_display=shown, show=self.is_shown)


def _view_action(number: int, view: str) -> Action:
    _, name, what = VIEWS[view]
    twin = f"opentau tui {{run}} --plain --screen {view}"
    return Action(name=f"view('{view}')", key=str(number % 10), label=name, tooltip=what, twin=twin, is_shown=False)


_SCREEN = "opentau tui {run} --plain --screen "
_REPLAY = "opentau tui {run} --replay"

ACTIONS: tuple[Action, ...] = (
    Action(
        name="toggle_pause",
        key="space",
        label="pause or resume",
        tooltip="wait after the episode or update at hand",
        twin="opentau ctl pause|resume {run}",
        is_steering=True,
    ),
    Action(
        name="stop",
        key="S",
        label="stop after stage",
        tooltip="end after this stage; the same command resumes",
        twin="opentau ctl stop {run}",
        is_steering=True,
    ),
    Action(
        name="promote",
        key="p",
        label="promote",
        tooltip="let this iteration's candidate stand, whatever its gate says",
        twin="opentau ctl promote {run} --iteration N",
        views=("checkpoints",),
        is_steering=True,
    ),
    Action(
        name="rollback",
        key="b",
        label="roll back",
        tooltip="keep this iteration's candidate out, whatever its gate says",
        twin="opentau ctl rollback {run} --iteration N",
        views=("checkpoints",),
        is_steering=True,
    ),
    Action(
        name="change_iteration(-1)",
        key="left_square_bracket",
        label="earlier",
        tooltip="the iteration or training before",
        twin=_SCREEN + "value",
        views=("value", "training", "differences"),
    ),
    Action(
        name="change_iteration(1)",
        key="right_square_bracket",
        label="later",
        tooltip="the iteration or training after",
        twin=_SCREEN + "value",
        views=("value", "training", "differences"),
    ),
    Action(
        name="cycle_filter",
        key="l",
        label="filter",
        tooltip="show all, or only what is worse or helped",
        twin="opentau tui {run} --plain --screen log --level warning",
        views=("log", "episodes"),
    ),
    Action(
        name="search",
        key="slash",
        label="search",
        tooltip="show the lines that contain a text",
        twin="opentau tui {run} --plain --screen log --search TEXT",
        views=("log",),
    ),
    Action(
        name="next_camera",
        key="c",
        label="camera",
        tooltip="show the next camera",
        twin=_SCREEN + "episodes",
        views=("episodes",),
    ),
    Action(
        name="seek(-1)",
        key="left",
        label="back",
        tooltip="two per cent of the run back",
        twin=_REPLAY + " --at SHARE",
        is_replay=True,
    ),
    Action(
        name="seek(1)",
        key="right",
        label="forward",
        tooltip="two per cent of the run forward",
        twin=_REPLAY + " --at SHARE",
        is_replay=True,
    ),
    Action(
        name="change_speed(-1)",
        key="less_than_sign",
        label="slower",
        tooltip="replay more slowly",
        twin=_REPLAY + " --speed X",
        is_replay=True,
    ),
    Action(
        name="change_speed(1)",
        key="greater_than_sign",
        label="faster",
        tooltip="replay faster",
        twin=_REPLAY + " --speed X",
        is_replay=True,
    ),
    *(_view_action(number, view) for number, view in enumerate(VIEWS, start=1)),
    Action(
        name="detach",
        key="q",
        label="detach",
        tooltip="close this screen; the run goes on, tui attaches again",
        twin="opentau tui {run}",
    ),
    Action(
        name="show_keys",
        key="question_mark",
        label="help",
        tooltip="show every key and its command",
        twin="opentau tui --help",
    ),
)
