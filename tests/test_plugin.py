"""The example of a loss in a package of its own: installed as a user does, and used without a line of ours changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin_loss"

NAIVE = """
from mine import NeighbourSmoothingLoss
from ordage.losses import reduce_loss, register
from ordage.losses.testing import check_loss

@register("naive")
class Naive(NeighbourSmoothingLoss):
    def compute_loss(self, logits, target, **options):
        def hard(z, y):
            probs = z.exp() / z.exp().sum(-1, keepdim=True)
            own, younger, older = (
                probs.gather(-1, (y + step).clamp(0, self.num_classes - 1)[:, None]).log() for step in (0, -1, 1)
            )
            return -((1 - self.smoothing) * own + self.smoothing * (younger + older) / 2)[:, 0]

        return reduce_loss(hard, logits, target, num_classes=self.num_classes, **options)

check_loss("naive")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Run Python with the plug-in installed."""
    folder = tmp_path_factory.mktemp("plugin")
    site = folder / "site"
    source = shutil.copytree(EXAMPLE, folder / "source")  # a build leaves files beside the sources
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1", "OMP_NUM_THREADS": "1"}
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", site, source]
    subprocess.run([sys.executable, *install], env=environment, check=True, capture_output=True, timeout=300)
    path = os.pathsep.join([str(site), *filter(None, [environment.get("PYTHONPATH")])])

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={**environment, "PYTHONPATH": path},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
        )

    return run


def test_the_command_line_lists_it(python):
    done = python("-m", "ordage", "losses")

    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.split()[0] == "mine"]
    assert "ordage-plugin-loss, an example" in line


@pytest.mark.slow
def test_the_command_line_trains_with_it_and_its_option(python, arrays, tmp_path):
    options = ("--epochs", "1", "--device", "cpu", "-q", "--out", tmp_path, "--name", "run")
    done = python("-m", "ordage", "fit", arrays, "--loss", "mine:smoothing=0.2", *options)

    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "report.json").read_text())["loss"] == "mine:smoothing=0.2"
    assert "mine:smoothing=0.2" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.slow
def test_an_option_that_it_does_not_have_is_a_usage_error_of_one_line(python, arrays, tmp_path):
    done = python("-m", "ordage", "fit", arrays, "--loss", "mine:smothing=0.2", "--out", tmp_path, "-q")

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "mine has no option 'smothing'; did you mean 'smoothing'? (its options: smoothing)" in line


def test_it_keeps_the_contract_whatever_its_option_is(python):
    program = "import sys; sys.path.append('source'); from test_mine import *; test_mine_keeps_the_contract()"
    done = python("-c", f"{program}; [check_loss('mine', smoothing=value) for value in (0.01, 1)]")

    assert done.returncode == 0, done.stderr


def test_the_contract_finds_out_an_unstable_version_of_it(python):
    done = python("-c", NAIVE)

    assert done.returncode == 1
    last = [line for line in done.stderr.splitlines() if line.startswith("AssertionError: ")][-1]
    assert last.startswith("AssertionError: The loss 'naive' fails the check 'saturated_logits': ")
