import shlex

import pytest

from ordage.config import CompareConfig, RunConfig
from ordage.next_steps import command_line, next_steps

FINDINGS = [
    {
        "name": "overfitting",
        "evidence": "MAE 3 and 5",
        "tries": [
            {"what": "stronger augmentation", "options": {"augment": "full"}},
            {"what": "shorter training", "options": {"epochs": 7, "time_limit": None}},
        ],
    },
    {"name": "waiting for images", "evidence": "40 %", "tries": []},
]


@pytest.fixture
def read_back(monkeypatch):
    """What the command line makes of a command: the options that reach the work."""
    from ordage import cli

    def read(command):
        reached = {}

        def stop(options, **work):
            reached.update(options)
            raise SystemExit(0)

        monkeypatch.setattr("ordage.fitting.fit", stop)
        monkeypatch.setattr("ordage.comparison.compare", stop)
        with pytest.raises(SystemExit):
            cli.main(shlex.split(command)[1:])
        return reached

    return read


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("fit", {"data": "my faces; rm -rf", "bins": "0-17,18+", "img_size": 64, "pretrained": False, "compile": True}),
        ("fit", {"data": "x", "lr": "find", "log": ["tensorboard", "wandb"], "loss": "dldl-v2:mean_weight=0.5"}),
        ("compare", {"data": "x", "losses": ["coral", "corn"], "seeds": [0, 4], "baseline": False, "lrs": [0.1, 1e-5]}),
        ("compare", {"data": "$HOME", "ladder": True, "group_col": ["a b", "c"]}),
    ],
)
def test_a_command_says_to_a_shell_what_the_options_say(command, options, read_back):
    kind = {"fit": RunConfig, "compare": CompareConfig}[command]

    assert kind.parse(read_back(command_line(command, options))) == kind.parse(options)


def test_each_thing_to_try_is_a_command_with_that_one_change(read_back):
    given = {"data": "faces", "time_limit": "10m", "img_size": 28}
    steps = next_steps("fit", given, FINDINGS)

    assert [step.what for step in steps] == [
        "stronger augmentation",
        "shorter training",
        "see what each step brings",
    ]
    assert steps[0].why == "overfitting: MAE 3 and 5"
    assert read_back(steps[0].command) == {"data": "faces", "time_limit": "10m", "img_size": 28, "augment": "full"}
    assert read_back(steps[1].command) == {"data": "faces", "img_size": 28, "epochs": 7}


def test_the_ladder_is_offered_without_what_it_sets_itself(read_back):
    given = {"data": "faces", "loss": "corn", "model": "seed_cnn", "seed": 3, "img_size": 28, "devices": "2"}
    [step] = next_steps("fit", given, [])

    reached = read_back(step.command)
    assert reached == {"data": "faces", "ladder": True, "img_size": 28}
    CompareConfig.parse(reached)
    assert next_steps("compare", {"ladder": True}, []) == []


def test_no_step_contradicts_what_was_given(read_back):
    tries = [
        {"what": "another rate", "options": {"lr": "find"}},
        {"what": "a pretrained backbone", "options": {"model": "resnet18", "pretrained": True}},
    ]
    finding = {"name": "x", "evidence": "y", "tries": tries}
    given = {"data": "faces", "models": ["seed_cnn", "ordage_tiny"], "lrs": [0.1, 0.01], "pretrained": False}

    for step in next_steps("compare", given, [finding]):
        CompareConfig.parse(read_back(step.command))
    assert next_steps("compare", {"ladder": True}, [finding]) == []
