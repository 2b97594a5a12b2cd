import inspect
import re
from pathlib import Path

import pytest

import ordage.losses
from ordage.losses import OrdinalLoss, available, get

PUBLIC = sorted(ordage.losses.__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_has_an_example_that_the_doctests_run(name):
    assert ">>> " in inspect.getdoc(getattr(ordage.losses, name))


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.endswith(("_loss", "_labels", "_log_probs"))])
def test_function_says_what_it_takes_returns_and_raises(name):
    function = getattr(ordage.losses, name)
    documentation = inspect.getdoc(function)

    assert "Returns:" in documentation
    assert "Raises:" in documentation
    assert not [
        parameter for parameter in inspect.signature(function).parameters if f"{parameter}:" not in documentation
    ]


@pytest.mark.parametrize("name", available())
def test_loss_names_its_source_and_all_of_its_options(name):
    loss = get(name)
    documentation = inspect.getdoc(loss)

    assert loss.source
    own = inspect.signature(loss).parameters.keys() - inspect.signature(OrdinalLoss).parameters.keys() - {"options"}
    assert not [option for option in own if f"{option}:" not in documentation]


def test_everything_that_a_loss_module_defines_for_users_is_exported():
    losses = {type(loss).__name__ for loss in (get(name)(3) for name in available())}

    assert losses <= set(PUBLIC)


def test_document_lists_every_loss_and_no_other():
    text = (Path(__file__).parents[2] / "docs" / "losses.md").read_text(encoding="utf-8")
    table = text[text.index("| name |") : text.index("Losses differ a hundredfold")]

    assert sorted(re.findall(r"^\| `([a-z0-9-]+)` \|", table, re.MULTILINE)) == available()
