"""`opentau bench sim`: every part of a step is timed, and the parts are the whole."""

from __future__ import annotations

import json

import mujoco
import pytest

from opentau.cli.main import main

TABLETOP = ["env=tabletop", "env.args.image_size=32"]


def measured(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main(["bench", "sim", *arguments, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


def test_the_parts_of_a_step_add_up_and_larger_images_take_a_larger_share(capsys):
    step = mujoco.mj_step
    small = measured(capsys, *TABLETOP, "--steps", "60")
    assert (small["task_id"], small["steps"]) == ("tabletop/0", 60)
    assert sum(small["shares"].values()) == pytest.approx(1.0)
    assert all(share > 0 for share in small["shares"].values())
    assert small["steps_per_s"] == pytest.approx(1000 / sum(small["ms_per_step"].values()))
    assert small["steps_per_s"] < small["steps_per_s_without_rendering"]
    large = measured(capsys, "env=tabletop", "env.args.image_size=512", "--steps", "20")
    assert (
        large["shares"]["rendering"] + large["shares"]["transport"]
        > small["shares"]["rendering"] + small["shares"]["transport"]
    )
    assert mujoco.mj_step is step, "what was timed is put back"


def test_it_teaches_itself_and_refuses_nothing_to_measure(capsys):
    for arguments in (["bench", "--help"], ["bench", "sim", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        assert "control" in capsys.readouterr().out
    assert main(["bench", "sim", *TABLETOP, "--steps", "0"]) != 0
    assert "--steps is 0" in capsys.readouterr().err
