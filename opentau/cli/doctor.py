"""`opentau doctor`: what this machine offers, what is missing, and how to mend it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from opentau.checkpoint import is_complete
from opentau.cli.compose import parser
from opentau.config import cache_dir, locate, runs_dir
from opentau.errors import OpenTauError
from opentau.policies.parts.store import COMMAND, parts_dir

DESCRIPTION = """Check rendering, packages, cores, memory and disk of this machine; with --memory, whether a training fits.
  opentau doctor
  opentau doctor --memory policy=pi05 --limit-gb 24         what π0.5 needs, and what makes it fit a GPU of 24 GB
  opentau doctor --memory policy=pi05 tuning=lora sft.batch_size=16 training.checkpoint_activations=true"""
MIN_FREE_GB = 4.0
EXTRAS = {
    "train": ("torch", "tokenizers", "safetensors", "pyarrow"),
    "sim": ("mujoco", "gymnasium", "libero", "robosuite"),
    "tui": ("textual",),
}
PINNED = {"mujoco": "3.3.0", "robosuite": "1.4.0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the doctor's answer."""

    name: str
    is_good: bool
    finding: str
    fix: str = ""
    """What to do when it is not good."""


def main(argv: Sequence[str]) -> int:
    """Print the checks; exit 1 when something needs mending."""
    arguments = parser("doctor", DESCRIPTION)
    arguments.add_argument("--memory", action="store_true", help="predict the memory of a training with these options")
    arguments.add_argument("--limit-gb", type=float, help="with --memory: what there is (this GPU's, else this machine's)")
    arguments.add_argument("--stage", choices=("sft", "update"), default="sft", help="with --memory: which training (sft)")
    arguments.add_argument("--processes", type=int, default=1, help="with --memory: over so many processes (1)")
    arguments.add_argument("--json", action="store_true", help="with --memory: one line")
    parsed = arguments.parse_intermixed_args(argv)
    if parsed.memory:
        return int(
            locate("opentau.cli.doctor_memory:show_memory")(
                parsed.options,
                stage=parsed.stage,
                limit_gb=parsed.limit_gb,
                num_processes=parsed.processes,
                as_json=parsed.json,
            )
        )
    if parsed.options:
        arguments.error("options are for --memory: opentau doctor --memory " + " ".join(parsed.options))
    checks = [_python(), _cores(), *_packages(), *_pins(), _rendering(), _parts(), _disk(runs_dir()), _disk(cache_dir())]
    table = Table("", "check", "found", "fix")
    for check in checks:
        table.add_row("[green]✓[/]" if check.is_good else "[red]✗[/]", check.name, check.finding, check.fix)
    Console().print(table)
    return 0 if all(check.is_good for check in checks) else 1


def _python() -> Check:
    is_good = (3, 11) <= sys.version_info[:2] < (3, 14)
    return Check(
        name="python", is_good=is_good, finding=platform.python_version(), fix="" if is_good else "use Python 3.11 to 3.13"
    )


def _cores() -> Check:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    is_good = memory_gb >= 6
    return Check(
        name="cores and memory",
        is_good=is_good,
        finding=f"{len(os.sched_getaffinity(0))} cores, {memory_gb:.0f} GB",
        fix="" if is_good else "the default loop needs 6 GB; use rollout.num_stations=1",
    )


def _packages() -> list[Check]:
    checks = []
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        checks.append(
            Check(
                name=f"extra {extra}",
                is_good=not missing,
                finding=f"missing: {', '.join(missing)}" if missing else "installed",
                fix="run `make setup` in a checkout" if missing else "",
            )
        )
    return checks


def _pins() -> list[Check]:
    checks = []
    for package, wanted in PINNED.items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        checks.append(
            Check(
                name=package,
                is_good=found == wanted,
                finding=found,
                fix="" if found == wanted else f"contacts differ between versions: install {package}=={wanted}",
            )
        )
    return checks


def _rendering() -> Check:
    try:
        return Check(name="rendering", is_good=True, finding=str(locate("envs.rendering:describe_backend")()))
    except (RuntimeError, OpenTauError) as error:
        return Check(name="rendering", is_good=False, finding="no usable OpenGL", fix=str(error))


def _parts() -> Check:
    """Say whether the parts of `policy=small` are there; nothing else needs them."""
    folder = parts_dir()
    finding = str(folder) if is_complete(folder) else f"not fetched; policy=small needs them: {COMMAND}"
    return Check(name="pre-trained parts", is_good=True, finding=finding)


def _disk(folder: Path) -> Check:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    is_good = free_gb >= MIN_FREE_GB
    return Check(
        name=f"disk for {folder}",
        is_good=is_good,
        finding=f"{free_gb:.0f} GB free",
        fix="" if is_good else f"the default loop wants {MIN_FREE_GB:.0f} GB: free some, or set OPENTAU_RUNS / OPENTAU_CACHE",
    )
