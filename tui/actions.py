"""Every action of the screens in one table: its key, what it does, and its twin on the command line; the palette reads it."""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding

from opentau.control import DISCARD, FAILURE, HAND_BACK, LABEL, STOP_ROBOT, SUCCESS, VERBS

KEY_NAMES = {
    "question_mark": "?",
    "slash": "/",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "left": "←",
    "right": "→",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "full_stop": ".",
    "plus": "+",
    "minus": "-",
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


def _steer(verb: str, *given: str, key: str, label: str, views: tuple[str, ...], is_shown: bool = True) -> Action:
    """Return the action that sends a command; its other arguments are what the screen has chosen."""
    name = f"steer({', '.join(map(repr, (verb, *given)))})"
    about = VERBS[verb]
    places = ["--iteration N" if a.name == "iteration" else a.name.upper() for a in about.arguments if a.is_needed]
    words = [*places[: len(places) - len(given)], *given]
    twin = " ".join(["opentau ctl", verb, *words, "{run}"])
    return Action(
        name=name, key=key, label=label, tooltip=about.about, twin=twin, views=views, is_steering=True, is_shown=is_shown
    )


LABELLED = ("stations", "episodes", "operator")
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
    _steer("promote", key="p", label="promote", views=("checkpoints",)),
    _steer("rollback", key="b", label="roll back", views=("checkpoints",)),
    _steer("pin", key="i", label="pin", views=("checkpoints",)),
    _steer("unpin", key="I", label="unpin", views=("checkpoints",), is_shown=False),
    _steer("take_over", key="t", label="take over", views=("stations", "operator")),
    _steer("hand_back", key="T", label="hand back", views=("stations", "operator")),
    _steer("clear", key="C", label="clear", views=("stations", "operator"), is_shown=False),
    _steer("label", "success", key="s", label="success", views=LABELLED),
    _steer("label", "failure", key="f", label="failure", views=LABELLED),
    _steer("label", "unknown", key="u", label="unknown", views=LABELLED, is_shown=False),
    _steer("label", "discard", key="x", label="discard", views=LABELLED),
    Action(
        name="stop_robots",
        key="full_stop",
        label="STOP",
        tooltip="stop what the chosen station moves, or all of them from other screens; the hardware stop stays your last word",
        twin="opentau ctl stop_robot STATION {run}",
        is_steering=True,
        is_shown=False,
    ),
    Action(
        name="note",
        key="n",
        label="note",
        tooltip="write a line into the run's log",
        twin='opentau ctl note "TEXT" {run}',
        is_steering=True,
        is_shown=False,
    ),
    Action(
        name="set_option",
        key="o",
        label="set option",
        tooltip="change an option that may change between iterations",
        twin="opentau ctl set OPTION=VALUE {run}",
        views=("loop", "differences"),
        is_steering=True,
        is_shown=False,
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

STEPS: tuple[tuple[float, int], ...] = ((0.2, 1), (1.0, 1), (1.0, 5), (1.0, 20))
"""What one press of a key does, from the finest: part of the largest action, and for how many control steps."""
# What moves a station in hand: key, what it does, part of the largest action per direction.
JOGS: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("w", "forward", {"dx": 1.0}),
    ("s", "back", {"dx": -1.0}),
    ("a", "left", {"dy": 1.0}),
    ("d", "right", {"dy": -1.0}),
    ("r", "up", {"dz": 1.0}),
    ("f", "down", {"dz": -1.0}),
    ("j", "roll left", {"droll": -1.0}),
    ("l", "roll right", {"droll": 1.0}),
    ("i", "pitch down", {"dpitch": 1.0}),
    ("k", "pitch up", {"dpitch": -1.0}),
    ("q", "turn left", {"dyaw": 1.0}),
    ("e", "turn right", {"dyaw": -1.0}),
    ("g", "close", {"gripper": 1.0}),
    ("h", "open", {"gripper": -1.0}),
)
# What ends or judges it: key, what it does, verb, outcome.
IN_HAND: tuple[tuple[str, str, str, str], ...] = (
    ("plus", "success", LABEL, SUCCESS),
    ("minus", "failure", LABEL, FAILURE),
    ("x", "discard", LABEL, DISCARD),
    ("full_stop", "STOP", STOP_ROBOT, ""),
    ("escape", "hand back", HAND_BACK, ""),
)
