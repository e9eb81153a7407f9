"""The shape of the tree: what is light stays light, and nothing grows past a reader's patience."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("opentau", "envs", "robot_bridge", "lerobot_side", "tui")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LIGHT_CORE = (
    *("types", "protocols", "errors", "events", "lease", "control", "config", "checkpoint", "runstate", "runfold"),
    *("intervals", "labelfacts", "runtally", "runsnapshot", "runfiles", "runreplay"),
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_no_file_is_over_500_lines() -> None:
    assert {str(path): n for path in SOURCES if (n := len(path.read_text().splitlines())) > 500} == {}


def test_no_function_is_over_80_lines() -> None:
    long = {
        f"{path}:{node.name}": n
        for path in SOURCES
        for node in functions(path)
        if (n := node.end_lineno - node.lineno + 1) > 80
    }
    assert long == {}


def test_the_iteration_is_one_page() -> None:
    assert len((ROOT / "opentau/loop/iteration.py").read_text().splitlines()) <= 90


def test_nothing_unpickles() -> None:
    names = ("pickle", "dill", "cloudpickle", "shelve")
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            imported = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "") or ""]
            )
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not {name.split(".")[0] for name in imported} & set(names), path


@pytest.mark.parametrize("package", ["envs", "robot_bridge", "tui", "light core"])
def test_light_packages_never_load_torch(package: str) -> None:
    if package == "light core":
        modules = [f"opentau.{name}" for name in LIGHT_CORE]
    else:
        modules = [module_name(path) for path in SOURCES if path.is_relative_to(ROOT / package) and path.name != "__main__.py"]
    code = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        "heavy = {'torch', 'transformers'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
