"""Options that the documentation and the help show exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from opentau.cli.compose import OVERRIDES_HELP, compose_config
from opentau.cli.main import main
from opentau.errors import OptionError

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    [ROOT / "README.md", *(page for page in (ROOT / "docs").glob("*.md") if page.name not in ("decisions.md", "results.md"))]
)
"""Decisions and results name options as they were."""
COMMANDS = ("loop", "sft", "eval", "collect", "value", "label", "update", "demonstrate", "serve", "study", "expert")
OPTION = re.compile(r"\+?[a-z_]+(?:[./][a-z_0-9]+)*=[^\s`]+")


def examples(text: str) -> Iterator[list[str]]:
    """Yield the options of every example command; placeholders stand as they are, what is cut short is left out."""
    for example in re.findall(rf"opentau (?:{'|'.join(COMMANDS)}) ([^`\n#]*)", text):
        if example.rstrip().endswith("\\"):
            continue  # half of a command
        if options := [option for option in OPTION.findall(example.replace("'", " ")) if is_whole(option)]:
            yield options


def is_whole(option: str) -> bool:
    """Return whether this is an option and no placeholder, cut short or continued on another line."""
    return not option.startswith("name=") and "…" not in option and option.count("[") == option.count("]")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_of_a_page_exist(page: Path) -> None:
    for options in examples(page.read_text()):
        compose_config("loop", options)


@pytest.mark.parametrize("command", COMMANDS)
def test_options_of_a_help_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    for options in examples(capsys.readouterr().out):
        compose_config("loop", options)


def test_options_of_the_common_help_exist() -> None:
    lines = [OPTION.findall(line) for line in OVERRIDES_HELP.splitlines()]
    assert sum(map(bool, lines)) >= 4
    for options in filter(None, lines):
        compose_config("loop", [option for option in options if is_whole(option)])


def test_a_wrong_option_of_an_example_is_found() -> None:
    (options,) = examples("`opentau loop policy.width=192`")
    with pytest.raises(OptionError, match=r"policy\.width"):
        compose_config("loop", options)
