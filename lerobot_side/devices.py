"""Robots and teleoperators of LeRobot's by their type and options, and its errors as ours."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import draccus
import lerobot.cameras
import lerobot.robots
import lerobot.teleoperators
from lerobot.utils.import_utils import register_third_party_plugins

from opentau.errors import OptionError, RobotError, near_matches

NUM_ATTEMPTS = 3
KEEPS_POWER = "disable_torque_on_disconnect"
"""LeRobot lets its arms fall where their link is closed; ours hold their pose unless they are told to relax."""


def make_config(kind: type[Any], *, package: ModuleType, type_name: str, options: Mapping[str, Any]) -> Any:
    """Return LeRobot's configuration of a device of a registered type; raises `OptionError` for what it does not take.

    `kind` is the registry (RobotConfig, TeleoperatorConfig), `package` where LeRobot's own devices are. Cameras are named by
    their type as well, as in LeRobot's yaml: {front: {type: opencv, index_or_path: 0, width: 640, height: 480, fps: 30}}.
    """
    _import_all(package, until=lambda: type_name in kind.get_known_choices())
    _import_all(lerobot.cameras, until=lambda: False)
    register_third_party_plugins()
    known = kind.get_known_choices()
    if type_name not in known:
        raise OptionError(
            f"LeRobot knows no {type_name!r} here.{near_matches(type_name, known)} There are {', '.join(sorted(known))}"
        )
    given = dict(options)
    if KEEPS_POWER in getattr(kind.get_choice_class(type_name), "__dataclass_fields__", {}):
        given.setdefault(KEEPS_POWER, False)
    try:
        return draccus.decode(kind, {"type": type_name, **given})
    except (draccus.utils.DecodingError, TypeError, ValueError) as error:
        raise OptionError(f"LeRobot does not take these options of {type_name}: {error}") from error


@contextlib.contextmanager
def as_robot_errors(name: str) -> Iterator[None]:
    """Let what LeRobot raises where a device fails come as `RobotError`."""
    try:
        yield
    except RobotError:
        raise
    except (OSError, RuntimeError, TimeoutError, ValueError, KeyError) as error:
        raise RobotError(f"LeRobot's {name}: {type(error).__name__}: {error}") from error


def opened(make: Callable[[], Any], *, name: str, command: str) -> Any:
    """Return a device that `make` made, open; raises `RobotError` for one that fails or is not calibrated.

    LeRobot asks each motor once, and one lost answer fails; so it is tried again, each time with a fresh device, because one
    that failed half-way cannot be opened again. Nobody could answer the questions of a calibration here.
    """
    for attempt in range(1, NUM_ATTEMPTS + 1):
        with as_robot_errors(name):
            device = make()
        try:
            with as_robot_errors(name):
                device.connect(calibrate=False)
                break
        except RobotError:
            if attempt == NUM_ATTEMPTS:
                raise
    if not device.is_calibrated:
        device.disconnect()
        raise RobotError(
            f"LeRobot's {name} is not calibrated, or not as the file says that options.id and calibration_dir name; run "
            f"`{command}` in LeRobot's environment"
        )
    return device


def _import_all(package: ModuleType, *, until: Callable[[], bool]) -> None:
    """Import what registers the devices of a package; those whose own packages are not installed are left out."""
    for module in pkgutil.iter_modules(package.__path__):
        if until():
            return
        with contextlib.suppress(ImportError):
            importlib.import_module(f"{package.__name__}.{module.name}")
