"""The plan of a study: what its yaml asks and expects, and the runs that it expands into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml

from opentau.config import options_from
from opentau.errors import OptionError, near_matches
from opentau.study.rows import FIRST


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """One run of a study; each of its tasks becomes a row."""

    variant: str
    tasks: tuple[int, ...]
    """What one policy does; several are trained and scored together."""
    seed: int
    overrides: tuple[str, ...]
    """Options of `opentau loop`, without run_id."""
    options_id: str = ""
    """Hash of all options that these give; a run that was made with others is made again."""

    @property
    def cell(self) -> tuple[tuple[int, ...], int]:
        """Return (tasks, seed): runs of equal ones share stages, so that they run one after another."""
        return self.tasks, self.seed

    @property
    def name(self) -> str:
        return f"{self.variant}-task{'_'.join(map(str, self.tasks))}-seed{self.seed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """A study as it was written down before its runs."""

    name: str
    """Name of the yaml; also of the folder with its runs."""
    question: str
    hypotheses: tuple[str, ...]
    primary: str
    """The measure and the comparison that decide, in a sentence."""
    comparisons: tuple[tuple[str, ...], ...]
    """Pairs of variants, candidate first; the first pair is the primary one. The control 'first' is the candidate's own
    iteration 0."""
    base: tuple[str, ...]
    """Options of every run."""
    variants: Mapping[str, tuple[str, ...]]
    """Options that a variant adds."""
    tasks: tuple[tuple[int, ...], ...]
    """A number is a policy of its own, a list of numbers one policy for all of them; every task counts as a cell."""
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("tasks", "seeds", "variants", "hypotheses"):
            if not getattr(self, name):
                raise OptionError(f"study {self.name}: {name} is empty; a study needs at least one")
        for pair in self.comparisons:
            if len(pair) != 2:
                raise OptionError(f"study {self.name}: the comparison {list(pair)} must name two variants")
            for variant in pair:
                if variant not in self.variants and variant != FIRST:
                    raise OptionError(
                        f"study {self.name} compares {variant!r}, which is no variant.{near_matches(variant, self.variants)}"
                    )

    def runs(self) -> Iterator[RunPlan]:
        """Yield every run, cell by cell, in the order in which they share stages."""
        for seed in self.seeds:
            for tasks in self.tasks:
                asked = tasks[0] if len(tasks) == 1 else list(tasks)
                for variant, options in self.variants.items():
                    overrides = (*self.base, *options, f"task_id={asked}", f"seed={seed}")
                    yield RunPlan(variant=variant, tasks=tasks, seed=seed, overrides=overrides)


def study_names() -> list[str]:
    """Return the names of the studies that come with the package."""
    names = [entry.name for entry in files("configs.study").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def read_study(name: str) -> StudyPlan:
    """Read `configs/study/<name>.yaml`, or the yaml file of that path; a wrong one raises `OptionError`."""
    is_path = name.endswith(".yaml")
    source = Path(name) if is_path else files("configs.study") / f"{name}.yaml"
    if not source.is_file():
        raise OptionError(f"there is no study {name!r}.{near_matches(name, study_names())}")
    plain = yaml.safe_load(source.read_text())
    if not isinstance(plain, dict):
        raise OptionError(f"study {name} is no mapping of question, hypotheses, variants, tasks and seeds")
    if isinstance(plain.get("variants"), dict):
        plain["variants"] = {variant: tuple(options or ()) for variant, options in plain["variants"].items()}
    return options_from(StudyPlan, {"name": Path(name).stem, **plain}, where=f"study {name}")
