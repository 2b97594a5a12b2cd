import subprocess
import sys

import pytest

import ordage.losses
from ordage.losses import (
    CdwCeLoss,
    CoralLoss,
    OrdinalLoss,
    SoftmaxLoss,
    available,
    create,
    get,
    options,
    own_options,
    register,
)


def test_available_is_sorted_and_holds_the_promised_losses():
    assert available() == sorted(available())
    assert {"softmax", "coral", "corn", "mean-variance"} <= set(available())


def test_create_makes_the_class_of_that_name():
    loss = create("coral", 5, [1, 2, 3, 4, 9], reduction="sum", monotone=True)

    assert type(loss) is CoralLoss is get("coral")
    assert loss.name == "coral"
    assert loss.class_values.tolist() == [1, 2, 3, 4, 9]
    assert (loss.reduction, loss.monotone) == ("sum", True)


def test_all_names_are_exported():
    assert sorted(ordage.losses.__all__) == ordage.losses.__all__
    assert all(hasattr(ordage.losses, name) for name in ordage.losses.__all__)


def test_unknown_name_suggests_the_closest():
    with pytest.raises(ValueError, match=r"Unknown loss 'corall'; did you mean 'coral'\? \(available: .*coral, corn, "):
        create("corall", 5)


def test_unknown_option_names_the_loss_its_options_and_the_closest():
    message = (
        r"Loss 'corn' has no option 'normalisation'; did you mean 'normalization'\? "
        r"\(its options: class_values, class_weights, ignore_index, normalization, reduction, task_weights\)"
    )
    with pytest.raises(ValueError, match=message):
        create("corn", 5, normalisation="samples")


def test_options_of_a_loss_are_its_own_and_those_of_all():
    assert set(options("coral")) - set(options("softmax")) == {"monotone", "task_weights"}


def test_own_options_come_with_their_defaults():
    assert own_options("coral") == {"monotone": False, "task_weights": None}
    assert own_options("softmax") == {}
    assert repr(CdwCeLoss(5)) == repr(CdwCeLoss(5, **own_options("cdw-ce")))


class TestRegister:
    def test_taken_name_is_an_error(self):
        class Other(SoftmaxLoss):
            pass

        with pytest.raises(ValueError, match=r"'coral' of .*Other belongs to CoralLoss already"):
            register("coral")(Other)

    def test_class_that_is_no_loss_is_an_error(self):
        with pytest.raises(ValueError, match="subclass of OrdinalLoss to register as 'number'"):
            register("number")(int)

    def test_class_without_a_source_is_an_error(self):
        class Anonymous(OrdinalLoss):
            summary = "something"

        with pytest.raises(ValueError, match=r"Anonymous.source to be one line of text"):
            register("anonymous")(Anonymous)

    def test_abstract_class_cannot_be_made(self):
        with pytest.raises(TypeError, match="abstract"):
            OrdinalLoss(5)


PLUGIN = """
from ordage.losses import SoftmaxLoss, register

@register("from-a-plugin")
class PluginLoss(SoftmaxLoss):
    source = "a plugin"
"""
SCRIPT = """
import sys, warnings
import ordage.losses
assert "ordage_plugin" not in sys.modules, "plug-ins must not be imported before they are asked for"
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert "from-a-plugin" in ordage.losses.available()
assert "coral" in ordage.losses.available(), "a broken plug-in took the others away"
assert type(ordage.losses.create("from-a-plugin", 5)).__name__ == "PluginLoss"
print(*(warning.message for warning in caught))
"""


def test_entry_points_of_other_packages_are_found(tmp_path):
    (tmp_path / "ordage_plugin.py").write_text(PLUGIN)
    metadata = tmp_path / "ordage_plugin-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ordage-plugin\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[ordage.losses]\nfrom-a-plugin = ordage_plugin\nbroken = ordage_plugin:NoSuchLoss\n"
    )

    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{SCRIPT}"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    assert "The loss 'broken' of the entry point 'ordage_plugin:NoSuchLoss' could not be loaded" in done.stdout
