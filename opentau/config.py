"""Plug-ins and options: locate a `target`, check its arguments against its signature, build typed options from plain dicts."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import os
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from opentau.errors import OptionError, near_matches

T = TypeVar("T")

_IS_LATER = "is_later"


def runs_dir() -> Path:
    """Return the folder of all runs: `OPENTAU_RUNS`, else ./runs."""
    return Path(os.environ.get("OPENTAU_RUNS", "runs"))


def cache_dir() -> Path:
    """Return the folder of what can be built again (scenes): `OPENTAU_CACHE`, else ~/.cache/opentau."""
    return Path(os.environ.get("OPENTAU_CACHE", Path.home() / ".cache" / "opentau"))


def locate(target: str) -> Callable[..., Any]:
    """Import "pkg.mod:Attr" and return the attribute; raises `OptionError` that names what is missing."""
    module_name, separator, attribute = target.partition(":")
    if not separator:
        raise OptionError(f"target {target!r} has no ':'; write it as 'package.module:Name'")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise OptionError(f"target {target!r} cannot be imported: {error}. Is the extra that holds it installed?") from error
    if not hasattr(module, attribute):
        raise OptionError(f"module {module_name} has no {attribute!r}.{near_matches(attribute, vars(module))}")
    return getattr(module, attribute)


def check_args(spec: Mapping[str, Any], *extra: str) -> None:
    """Raise `OptionError` unless the arguments of a plug-in spec fit the signature of its target.

    `extra` names what the caller will pass besides `args`.
    """
    parameters = inspect.signature(locate(spec["target"])).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    args = spec.get("args") or {}
    for name in args:
        if name not in parameters and not takes_any:
            raise OptionError(f"{spec['target']} takes no option {name!r}.{near_matches(name, parameters)}")
    needed = {
        name for name, p in parameters.items() if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    missing = sorted(needed - set(args) - set(extra))
    if missing:
        raise OptionError(f"{spec['target']} needs the option {missing[0]!r}; set it under args")


def build(spec: Mapping[str, Any], *positional: Any, **extra: Any) -> Any:
    """Build a plug-in from {"target": "pkg.mod:Attr", "args": {…}}; `extra` adds to its arguments."""
    return locate(spec["target"])(*positional, **{**(spec.get("args") or {}), **extra})


def options_from(kind: type[T], plain: Mapping[str, Any], *, where: str) -> T:
    """Build a (nested) options dataclass from a plain dict; unknown keys and wrong types raise `OptionError`."""
    hints = typing.get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in plain:
        if key not in names:
            raise OptionError(f"unknown option {where}.{key}.{near_matches(key, names)}")
    values = {key: _convert(hints[key], value, where=f"{where}.{key}") for key, value in plain.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise OptionError(f"{where}: {error}") from error


def later(default: Any) -> Any:
    """Return the default of an option that came later; left out of plain data, so that older choices stay the same there."""
    return dataclasses.field(default=default, metadata={_IS_LATER: True})


def plain_from(options: Any) -> Any:
    """Return options as plain data with tuples as lists, as JSON and yaml read it back."""
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        kept = [
            field
            for field in dataclasses.fields(options)
            if not (field.metadata.get(_IS_LATER) and getattr(options, field.name) == field.default)
        ]
        return {field.name: plain_from(getattr(options, field.name)) for field in kept}
    if isinstance(options, enum.Enum):
        return options.value
    if isinstance(options, Mapping):
        return {key: plain_from(value) for key, value in options.items()}
    return [plain_from(value) for value in options] if isinstance(options, list | tuple) else options


def _convert(hint: Any, value: Any, *, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return options_from(typing.cast(type, hint), value, where=where)
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_convert(arguments[0], item, where=where) for item in items)
    if origin is not None and type(None) in arguments:
        if value is None:
            return None
        return _convert(next(kind for kind in arguments if kind is not type(None)), value, where=where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise OptionError(f"option {where} is {value!r}; it must be of type {hint.__name__}")
    return value
