"""`--listen` and `--connect`: a run is followed and stopped from elsewhere, and wrong words are answered with the fix."""

from __future__ import annotations

import argparse

import pytest

from opentau.cli.connecting import listening
from opentau.cli.main import main
from opentau.control import take_commands
from opentau.events import NOTE, EventLog
from robot_bridge.security.keys import load_public, make_pair, save_pair
from robot_bridge.security.trust import TrustList


def test_a_run_is_followed_and_stopped_with_keys(tmp_path, monkeypatch, capsys):
    keys = tmp_path / "keys"
    monkeypatch.setenv("OPENTAU_KEYS", str(keys))
    for name in ("server", "laptop"):
        save_pair(make_pair(name), keys)
    trusted = TrustList(keys)
    trusted.trust("server", load_public(keys / "server.public.yaml")[1], "policy")
    trusted.trust("laptop", load_public(keys / "laptop.public.yaml")[1], "operator")
    options = argparse.Namespace(listen="127.0.0.1:0", keys="server", insecure="")
    with EventLog(tmp_path / "run", "main") as log, listening(tmp_path / "run", options, log):
        log.emit(NOTE, level="info", text="hello")
        address = capsys.readouterr().out.split()[-1]
        words = ["--connect", address, "--keys", "laptop", "--server", "server"]
        assert main(["status", *words]) == 0
        assert main(["ctl", "stop", "--no-wait", *words]) == 0
    assert [command.verb for command in take_commands(tmp_path / "run")] == ["stop"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--connect", "somewhere"], "write HOST:PORT"),
        (["--connect", "127.0.0.1:1", "--keys", "laptop"], "go together"),
        (["run-1", "--connect", "127.0.0.1:1"], "names the run already"),
    ],
)
def test_wrong_words_are_answered_with_the_fix(words, told, capsys):
    assert main(["status", *words]) == 2
    assert told in capsys.readouterr().err
