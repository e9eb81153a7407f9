"""What a workcell is composed of: members of the groups `robot` and `teleop`, a yaml file over them, options over both."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from opentau.cli.compose import WORKCELL_GROUPS, groups, parser
from opentau.config import check_args
from opentau.errors import OptionError, near_matches

DEFAULTS, LIMITS, MISSING = "defaults", "limits", "???"
LEROBOT_SIDE = "lerobot_side."
"""How targets of what LeRobot's environment runs begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkcellWords:
    """A workcell as it was asked for."""

    file: Path | None
    plain: Mapping[str, Any]
    """Keys of `robot_bridge.config.StationConfig`."""

    @property
    def folder(self) -> Path:
        """Where relative paths of the workcell start."""
        return Path() if self.file is None else self.file.parent

    @property
    def where(self) -> str:
        return "the options" if self.file is None else str(self.file)


def compose_workcell(words: Sequence[str], *, needs: Sequence[str] = ("robot",)) -> WorkcellWords:
    """Compose a workcell from a command's words: at most one file, and options `name=value`.

    `robot=so101` and `teleop=gamepad` choose members, and replace what the file says of them; `defaults` in the file chooses
    as well. What the file says stands over its members, options stand over everything. `needs` are plug-ins that must be
    there. Raises `OptionError` for what cannot be read, is unknown, or must be given.
    """
    named, overrides = [word for word in words if "=" not in word and not word.startswith("~")], _overrides(words)
    if len(named) > 1:
        raise OptionError(f"{named[0]} and {named[1]} are two files; name one, and write options as name=value")
    file = Path(named[0]).absolute() if named else None
    said = _read(file) if file else {}
    chosen = _defaults(said.pop(DEFAULTS, []), where=str(file))
    asked = {
        override.key_or_group: name
        for override in overrides
        if override.key_or_group in WORKCELL_GROUPS and isinstance(name := override.value(), str)
    }
    said = {key: value for key, value in said.items() if key not in asked or asked[key] == chosen.get(key)}
    plain: dict[str, Any] = {group: _member(group, name) for group, name in (chosen | asked).items()}
    plain = _merged(plain, said)
    for override in overrides:
        if override.key_or_group not in asked:
            _set(plain, override)
    _require_given(plain)
    made = WorkcellWords(file=file, plain={key: value for key, value in plain.items() if value is not None})
    for name in needs:
        if not isinstance(made.plain.get(name), Mapping) or "target" not in made.plain[name]:
            choices = f"; or choose one: {name}={'|'.join(groups(WORKCELL_GROUPS)[name])}" if name in WORKCELL_GROUPS else ""
            raise OptionError(f"{made.where} has no '{name}: {{target: …, args: {{…}}}}' (docs/robots.md){choices}")
    return made


def workcell_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Return an argument parser that takes a workcell's words, and whose help teaches them."""
    made = parser(command, description, takes_options=False)
    made.epilog = words_epilog()
    made.add_argument("words", nargs="*", metavar="ROBOT.yaml | name=value", help="a file, options over it, or both; see below")
    return made


def is_lerobots(spec: Mapping[str, Any] | None) -> bool:
    """Return whether a plug-in is of LeRobot's environment, where the station then runs."""
    return spec is not None and str(spec.get("target", "")).startswith(LEROBOT_SIDE)


def check_plugins(plain: Mapping[str, Any]) -> None:
    """Check the arguments of robot and device against their signatures; the station checks those that are of LeRobot's
    environment. Raises `OptionError`.
    """
    for group, given in (("robot", ()), ("teleop", ("interface",))):
        if plain.get(group) and not is_lerobots(plain[group]):
            check_args(plain[group], *given)


def require_ours(plain: Mapping[str, Any], command: str) -> None:
    """Raise `OptionError` where robot or device are LeRobot's, whose code this process cannot load."""
    if any(is_lerobots(plain.get(group)) for group in WORKCELL_GROUPS):
        raise OptionError(
            f"`opentau robot {command}` loads the robot here, and LeRobot's devices are of its own environment; use LeRobot's "
            f"lerobot-{'record, whose datasets are read here' if command == 'record' else 'calibrate and its other tools'}"
        )


def words_epilog() -> str:
    """Return the part of `--help` that teaches how a workcell is composed."""
    members = "\n".join(f"  {group:<8}{', '.join(names)}" for group, names in groups(WORKCELL_GROUPS).items())
    return (
        "options are written name=value, stand over the file, and need none where they say everything, for example\n"
        "  robot=so101 robot.args.port=/dev/ttyACM0 robot.args.calibration=follower.json limits=limits.yaml\n"
        "  teleop=gamepad                       another device than the file's; teleop=null: none\n"
        "  takeover.moves_robot=true            any key of the file\n"
        "a file may choose members itself: defaults: [{robot: so101}, {teleop: keyboard}]\n"
        f"groups and their members (configs/robot, configs/teleop; add one by adding a yaml):\n{members}"
    )


def _overrides(words: Sequence[str]) -> list[Override]:
    options = [word for word in words if "=" in word or word.startswith("~")]
    try:
        return OverridesParser.create().parse_overrides(options)
    except HydraException as error:
        raise OptionError(f"{str(error).splitlines()[0]}; options are written name=value") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        plain = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise OptionError(f"{file} cannot be read: {error}; write it as docs/robots.md shows") from error
    if not isinstance(plain, dict):
        raise OptionError(f"{file} is no mapping of names to values; write it as docs/robots.md shows")
    return plain


def _defaults(listed: Any, *, where: str) -> dict[str, str]:
    try:
        pairs = [pair for entry in listed for pair in entry.items()]
        chosen = {str(group): str(name) for group, name in pairs}
    except (TypeError, AttributeError) as error:
        raise OptionError(f"{where}: defaults is {listed!r}; write it as [{{robot: so101}}, {{teleop: keyboard}}]") from error
    for group in chosen:
        if group not in WORKCELL_GROUPS:
            raise OptionError(f"{where}: there is no group {group!r} in a workcell.{near_matches(group, WORKCELL_GROUPS)}")
    return chosen


def _member(group: str, name: str) -> Any:
    known = groups(WORKCELL_GROUPS)[group]
    if name not in known:
        raise OptionError(f"there is no {group}={name}.{near_matches(name, known)} There are {', '.join(known)}")
    return yaml.safe_load((files("configs") / group / f"{name}.yaml").read_text())


def _merged(below: Any, above: Any) -> Any:
    """Return mappings merged key by key; anything else is what stands above."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}


def _set(plain: dict[str, Any], override: Override) -> None:
    *path, last = override.key_or_group.split(".")
    inner: Any = plain
    for key in path:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else None
    if not isinstance(inner, dict):
        raise OptionError(f"{override.key_or_group} cannot be set: what stands before its last dot holds no names")
    if override.is_delete():
        inner.pop(last, None)
    elif override.key_or_group == LIMITS:  # of the one who types, not of the file
        inner[last] = str(Path(str(override.value())).absolute())
    else:
        inner[last] = override.value()


def _require_given(plain: Mapping[str, Any]) -> None:
    for key, value in _leaves(plain):
        if value == MISSING:
            raise OptionError(f"{key} must be given: {key}=…, or in the file")


def _leaves(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in plain.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
