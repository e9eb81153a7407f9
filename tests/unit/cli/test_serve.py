"""`opentau serve`: what it refuses before anything heavy loads."""

from __future__ import annotations

import pytest

from opentau.cli.main import main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["folder", "--host", "0.0.0.0"], "asked to listen on 0.0.0.0; without keys it listens on 127.0.0.1 only"),
        (["folder", "--host", "robot.example"], "asked to listen on robot.example"),
        (["env=tabletop"], "name the checkpoint first, as in `opentau serve"),
        (["no/such/folder", "env=tabletop"], "no/such/folder is not complete"),
        (["policy=lerobot", "policy.args.checkpoint=no/such/folder"], "no/such/folder is not complete"),
    ],
)
def test_wrong_words_are_answered_with_the_fix(words, told, capsys):
    assert main(["serve", *words]) == 2
    assert told in capsys.readouterr().err
