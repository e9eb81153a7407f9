"""Options of a command: Hydra composes the groups of `configs`, errors name the option and its near matches."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from opentau.errors import OptionError, near_matches

OVERRIDES_HELP = """options are written name=value, for example
  env=libero/object task_id=3                     another task of the suite
  env=tabletop                                    a tiny environment of primitive shapes
  env=metaworld                                   one that has a Python of its own (env.interpreter; docs/environments.md)
  experiment=quick                                half the work, for a first look
  policy.args.width=192 sft.num_updates=2000      any number of any group
groups and their members:
"""
STUDY_FOLDER = "study"
"""Holds studies, which are no options: `opentau study`."""
WORKCELL_GROUPS = ("robot", "teleop")
"""Groups of what stands beside a run and is no part of its options: `opentau robot connect | record | check`."""


def compose_config(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Compose `configs/<name>.yaml` with overrides into plain data; raises `OptionError`."""
    for override in overrides:
        if "=" not in override:
            raise OptionError(f"{override!r} is no option; write options as name=value.{near_matches(override, groups())}")
    try:
        with initialize_config_module("configs", version_base="1.3"):
            # Hydra's grammar knows no line breaks; long lists are written with some.
            config = compose(config_name=name, overrides=[" ".join(override.split("\n")) for override in overrides])
            return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except MissingConfigException as error:
        raise OptionError(_unknown_member(error)) from error
    except MissingMandatoryValue as error:
        raise OptionError(f"{error.full_key} must be given: {error.full_key}=…") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise OptionError(_unknown_key(error, name)) from error


def groups(names: Sequence[str] | None = None) -> dict[str, list[str]]:
    """Return config groups and their members, e.g. {"env": ["libero/object", "tabletop"]}; by default those of runs."""
    root = files("configs")
    folders = {entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("_")}
    chosen = folders - {STUDY_FOLDER, *WORKCELL_GROUPS} if names is None else names
    return {group: sorted(_members(root / group, "")) for group in sorted(chosen)}


def overrides_epilog() -> str:
    """Return the part of `--help` that teaches overrides."""
    return OVERRIDES_HELP + "\n".join(f"  {group:<11}{', '.join(members)}" for group, members in groups().items())


def parser(command: str, description: str, *, takes_options: bool = True) -> argparse.ArgumentParser:
    """Return an argument parser whose help teaches the options of a command."""
    made = argparse.ArgumentParser(
        prog=f"opentau {command}",
        description=description,
        epilog=overrides_epilog() if takes_options else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if takes_options:
        made.add_argument("options", nargs="*", metavar="name=value", help="options, see below")
    return made


def _members(folder: Any, prefix: str) -> list[str]:
    members = []
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.name.startswith("_"):
            members.extend(_members(entry, f"{prefix}{entry.name}/"))
        elif entry.name.endswith(".yaml"):
            members.append(prefix + entry.name.removesuffix(".yaml"))
    return members


def _unknown_member(error: MissingConfigException) -> str:
    group, _, member = (error.missing_cfg_file or "").partition("/")
    known = groups().get(group, [])
    return f"there is no {group}={member}.{near_matches(member, known)}"


def _unknown_key(error: Exception, name: str) -> str:
    first_line = str(error).splitlines()[0]
    match = re.search(r"Could not override '([^']+)'", first_line) or re.search(r"Key '([^']+)' is not in struct", str(error))
    if match is None:
        return first_line
    key = match.group(1)
    with initialize_config_module("configs", version_base="1.3"):
        known = _keys(OmegaConf.to_container(compose(config_name=name), resolve=False))
    if key in known:
        return str(error)
    return f"unknown option {key!r}.{near_matches(key, known)} Arguments that a plug-in's yaml does not list need a +: +{key}=…"


def _keys(plain: Any, prefix: str = "") -> list[str]:
    if not isinstance(plain, dict):
        return []
    keys = []
    for key, value in plain.items():
        keys += [f"{prefix}{key}", *_keys(value, f"{prefix}{key}.")]
    return keys
