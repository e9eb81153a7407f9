"""Options: wrong ones fail before anything heavy loads, with the near matches."""

from __future__ import annotations

import pytest

from opentau.cli.compose import compose_config
from opentau.cli.main import main
from opentau.errors import OptionError
from opentau.loop.options import LoopOptions, options_id
from opentau.training.options import DistributionOptions


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("env=libero/objct", "libero/object"),
        ("experiment=quik", "'quick'"),
        ("colect.episodes=3", "collect.episodes"),
        ("nonsense", "name=value"),
    ],
)
def test_an_unknown_option_is_answered_with_near_matches(override: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        compose_config("loop", [override])


def test_a_list_may_be_written_over_several_lines() -> None:
    config = compose_config(
        "loop", ["mixture.parts=[\n  {name: a, questions: x},\n  {name: b, dataset: y, weight: [[0, 1], [1, 2]]}]"]
    )
    assert [part["name"] for part in config["mixture"]["parts"]] == ["a", "b"]
    assert config["mixture"]["parts"][1]["weight"] == [[0, 1], [1, 2]]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task_id=10", "tasks 0 to 9"),
        ("seed=one", "type int"),
        ("sft.num_updates=0", "num_updates"),
        ("gate.looks=[20]", "one level per look"),
        ("collect.supervised_share=0.8", "half is autonomous"),
        ("improve.positive_draw=frames", "'frame' or 'episode'"),
        ("improve.start=zero", "pretrained"),
        ("inference.action_source=fats", "'flow' or 'fast'"),
        ("+env.args.sise=3", "no option 'sise'"),
        ("+env.expert.args.pase=3", "no option 'pase'"),
        ("env.target=envs.nowhere:Env", "cannot be imported"),
    ],
)
def test_a_wrong_value_names_the_option_and_its_limit(override: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        LoopOptions.from_config(compose_config("loop", [override]))


@pytest.mark.parametrize("experiment", ["default", "quick", "tabletop", "tiny"])
def test_every_experiment_has_valid_options(experiment: str) -> None:
    config = compose_config("loop", [f"experiment={experiment}"])
    options = LoopOptions.from_config(config)
    assert options.experiment == experiment
    assert f"-{experiment}-" in options.default_run_id(config)


@pytest.mark.parametrize(
    ("command", "experiment", "work"),
    [
        ("sft", "pi05_libero", "30000 updates"),
        ("loop", "pi05_recap", "4096 episodes"),
        ("sft", "so101", "10000 updates"),
    ],
)
def test_runs_for_a_gpu_are_planned_without_one(command: str, experiment: str, work: str, capsys) -> None:
    options = [f"experiment={experiment}", "policy.args.checkpoint=checkpoints/pi05"]
    if experiment == "so101":
        options.append("data.datasets=[lerobot/svla_so101_pickplace]")
    assert main([command, *options, "--dry-run"]) == 0
    assert work in capsys.readouterr().out


def test_the_recap_run_is_task_0_of_libero_10() -> None:
    config = compose_config("loop", ["experiment=pi05_recap", "policy.args.checkpoint=checkpoints/pi05"])
    options = LoopOptions.from_config(config)
    assert (options.env.args["suite"], options.env.args["image_size"], options.task_id) == ("libero_10", 224, (0,))
    assert "-pi05_recap-" in options.default_run_id(config)


@pytest.mark.parametrize(("member", "suite", "num_tasks"), [("spatial", "libero_spatial", 10), ("90", "libero_90", 90)])
def test_suites_are_members_of_the_group_env(member: str, suite: str, num_tasks: int) -> None:
    options = LoopOptions.from_config(compose_config("loop", [f"env=libero/{member}", f"task_id={num_tasks - 1}"]))
    assert (options.env.args["suite"], options.env.num_tasks) == (suite, num_tasks)
    with pytest.raises(OptionError, match=f"tasks 0 to {num_tasks - 1}"):
        LoopOptions.from_config(compose_config("loop", [f"env=libero/{member}", f"task_id={num_tasks}"]))


def test_an_option_that_has_no_default_is_asked_for_by_its_whole_name() -> None:
    with pytest.raises(OptionError, match=r"policy\.args\.checkpoint must be given"):
        compose_config("loop", ["policy=pretrained"])


def test_the_same_options_name_the_same_run_and_others_another() -> None:
    configs = [compose_config("loop", overrides) for overrides in ([], [], ["seed=1"])]
    names = [LoopOptions.from_config(config).default_run_id(config) for config in configs]
    assert names[0] == names[1] != names[2]


def test_an_estimate_of_what_a_run_costs_makes_no_other_run() -> None:
    config = compose_config("loop", [])
    dearer = {**config, "cost": {"update_cpu_s": 9.0}, "env": {**config["env"], "cost": {"episode_cpu_s": 9.0}}}
    assert options_id(dearer) == options_id(config)
    assert options_id({**config, "env": {**config["env"], "args": {}}}) != options_id(config)


def test_over_how_many_processes_a_training_is_spread_makes_no_other_run() -> None:
    spread = compose_config("loop", ["training.strategy=fsdp", "training.accumulation=4"])
    assert LoopOptions.from_config(spread).training == DistributionOptions(strategy="fsdp", accumulation=4)
    assert options_id(spread) == options_id(compose_config("loop", []))
    assert options_id(compose_config("loop", ["+placement.serve=cpu"])) == options_id(compose_config("loop", []))


def test_action_tokens_and_a_delay_do_not_go_together() -> None:
    config = compose_config("loop", ["inference.action_source=fast", "rollout.delay_ticks=2"])
    with pytest.raises(OptionError, match="delay_ticks=0 or action_source=flow"):
        LoopOptions.from_config(config)


def test_newer_options_of_inference_name_another_run_only_where_they_are_used() -> None:
    config = compose_config("loop", [])
    known = {name: config["inference"][name] for name in ("guidance", "num_flow_steps", "indicator")}
    assert options_id({**config, "inference": known}) == options_id(config)
    assert options_id(compose_config("loop", ["inference.action_source=fast"])) != options_id(config)


def test_errors_are_printed_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["loop", "env=libero/objct", "--dry-run"]) == 2
    assert main(["lop"]) == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert "Did you mean 'loop'" in printed


def test_a_dry_run_prints_the_plan_and_makes_nothing(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    assert main(["loop", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "gate-2" in printed
    assert "CPU min" in printed
    assert not (tmp_path / "runs").exists()


def test_every_command_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    from opentau.cli.main import COMMANDS

    for name in COMMANDS:
        with pytest.raises(SystemExit) as left:
            main([name, "--help"])
        assert left.value.code == 0
        assert f"opentau {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rollout.delay_ticks=2", "rollout.delay_ticks is 2 with improve=dsrl"),
        ("inference.num_candidates=3", "inference.num_candidates is 3 with improve=dsrl"),
        ("improve.start=incumbent", "improve.start is 'incumbent' with improve=dsrl"),
        ("improve.args.discount=2", "improve.args.discount is 2"),
        ("improve.args.disount=0.9", "disount"),
    ],
)
def test_what_does_not_go_together_with_steering_by_noise_is_refused(override: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        LoopOptions.from_config(compose_config("loop", ["improve=dsrl", override]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("label", "improve=dsrl"), "without a value function and labels"),
        (("value", "improve=metadata"), "without a value function and labels"),
        (("collect", "--iteration=3"), "it plans 2 iterations"),
        (("update", "--iteration=0"), "value.labels.demonstration_share"),
    ],
)
def test_a_stage_that_a_run_does_not_have_is_answered_with_what_would_give_it(words, message, capsys) -> None:
    with pytest.raises(SystemExit):
        main(list(words))
    assert message in capsys.readouterr().err
