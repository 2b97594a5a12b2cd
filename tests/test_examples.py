"""The scripts of the examples, run as a reader runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("script", ["plain_pytorch.py", "lightning_module.py"])
def test_training_takes_the_error_well_below_that_of_a_constant(script, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, EXAMPLES / script]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^(always|before|after) .*: MAE (\S+) classes$", done.stdout, re.MULTILINE))
    constant, before, after = (float(found[word]) for word in ("always", "before", "after"))
    # The median of ten equally frequent classes is 2.5 off on average.
    assert constant == pytest.approx(2.5, abs=0.2)
    assert before > 0.8 * constant
    assert after < 0.6 * constant
    assert not any(tmp_path.iterdir())  # neither logs nor checkpoints
