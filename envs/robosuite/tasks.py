"""Which robosuite tasks are offered, under which names, and how long their episodes may be."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One of robosuite's environments with the Panda, as its benchmark has it."""

    stock_name: str
    """robosuite's name of the environment, for example 'PickPlaceCan'."""
    prompt: str
    max_steps: int
    """Control steps an episode may take; robosuite leaves it to its user, who mostly takes 500."""
    object: str = ""
    """The one object that is to be moved where others of its scene are put away; empty where all are."""
    goal: tuple[tuple[str, str, str], ...] = ()
    """What the scripted pick-and-place expert brings about; empty where that expert does not know the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Tasks that share a scene."""

    scene: str
    """robosuite's name of the environment whose model all of them use."""
    tasks: tuple[Task, ...]
    object_names: Mapping[str, str] = field(default_factory=dict)
    """robosuite's name of an object to what a person calls it."""


SUITES: Mapping[str, Suite] = {
    "lift": Suite(
        scene="Lift",
        tasks=(Task(stock_name="Lift", prompt="lift the red cube", max_steps=200),),
        object_names={"cube": "red cube"},
    ),
    "stack": Suite(
        scene="Stack",
        tasks=(
            Task(
                stock_name="Stack",
                prompt="stack the red cube on the green cube",
                max_steps=300,
                goal=(("on", "cubeA", "cubeB"),),
            ),
        ),
        object_names={"cubeA": "red cube", "cubeB": "green cube"},
    ),
    "pick_place": Suite(
        scene="PickPlace",
        tasks=(
            *(
                Task(
                    stock_name=f"PickPlace{name}",
                    prompt=f"put the {name.lower()} into its bin",
                    max_steps=400,
                    object=name,
                )
                for name in ("Milk", "Bread", "Cereal", "Can")
            ),
            Task(stock_name="PickPlace", prompt="put all four objects into their bins", max_steps=1500),
        ),
        object_names={"Milk": "milk", "Bread": "bread", "Cereal": "cereal", "Can": "can"},
    ),
    "nut_assembly": Suite(
        scene="NutAssembly",
        tasks=(
            Task(
                stock_name="NutAssemblySquare",
                prompt="put the square nut on the square peg",
                max_steps=400,
                object="SquareNut",
            ),
            Task(stock_name="NutAssemblyRound", prompt="put the round nut on the round peg", max_steps=400, object="RoundNut"),
            Task(stock_name="NutAssembly", prompt="put both nuts on their pegs", max_steps=800),
        ),
        object_names={"SquareNut": "square nut", "RoundNut": "round nut"},
    ),
    "door": Suite(
        scene="Door",
        tasks=(Task(stock_name="Door", prompt="turn the handle and open the door", max_steps=300),),
        object_names={"Door": "door"},
    ),
}


def require_task(suite: str, task_id: int) -> Task:
    """Return the task; raises ValueError with near matches when suite or task does not exist."""
    if suite not in SUITES:
        close = difflib.get_close_matches(suite, SUITES, n=2, cutoff=0.5) or sorted(SUITES)
        raise ValueError(f"there is no robosuite suite {suite!r}; did you mean {' or '.join(close)}?")
    tasks = SUITES[suite].tasks
    if not 0 <= task_id < len(tasks):
        raise ValueError(f"robosuite's {suite} has the tasks 0 to {len(tasks) - 1}, not {task_id}")
    return tasks[task_id]
