"""Real faces, as they come: slow, and only where the images are."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.real

BINS = "0-10,11-20,21-30,31-40,41-50,51-60,61-70,71-80,81-90,91+"


@pytest.fixture(scope="module")
def faces():
    return Path(os.environ["ORDAGE_TEST_FACES"])


@pytest.fixture(scope="module")
def comparison(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("real")
    command = [sys.executable, "-m", "ordage", "compare", str(faces), "--losses", "coral,corn,mean-variance,softmax"]
    command += ["--bins", BINS, "--img-size", "28", "--in-chans", "1", "--seeds", "0", "--epochs", "3", "--json"]
    result = subprocess.run([*command, "--out", str(out), "--name", "c"], capture_output=True, text=True, timeout=1800)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), result.stderr, out / "c"


def test_every_loss_is_far_better_than_the_constants(comparison):
    content, _, _ = comparison
    constants = content["baselines"]

    assert [row["loss"] for row in content["results"]] == ["coral", "corn", "mean-variance", "softmax"]
    for row in content["results"]:
        assert row["test"]["mae"] < 0.85 * constants["median_age_mae"]
        # In a short run mean-variance serves its squared years first and its classes later.
        if row["loss"] != "mean-variance":
            assert row["test"]["bin_accuracy"] > constants["majority_bin_accuracy"] + 0.05


def test_odd_file_names_are_named_and_none_is_lost(comparison, faces):
    content, said, _ = comparison

    assert content["data"]["samples"] == sum(1 for _ in faces.iterdir())
    assert "odd file names" in said


def test_no_byte_identical_file_is_on_two_sides(comparison, faces):
    _, _, path = comparison
    splits = pd.read_csv(path / "cells" / "softmax-seed0" / "splits.csv")

    content = [(faces / name).read_bytes() for name in splits["id"]]
    sides = splits["part"].groupby(pd.Series(content)).nunique()

    assert (sides == 1).all()
    assert len(sides) < len(splits)  # there are identical files, or this test would show nothing


def test_prediction_intervals_hold_what_they_promise(comparison):
    _, _, path = comparison

    for cell in sorted((path / "cells").iterdir()):
        told = json.loads((cell / "report.json").read_text())["test"]["intervals"]
        assert told["promised"] == 0.9
        assert told["n_calibration"] > 1500
        assert told["coverage"]["value"] == pytest.approx(0.9, abs=0.03), cell.name  # 3.5 standard errors


# VmHWM, not ru_maxrss: the latter also knows the memory of the process that this one was forked from.
INSPECT = """
import sys
from ordage.cli import main
try:
    main(["inspect", *sys.argv[1:], "--json"])
finally:
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def audit(faces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    options = ["--bins", BINS, "--html", folder / "page.html", "--write", folder / "clean.csv"]
    result = subprocess.run(
        [sys.executable, "-c", INSPECT, faces, *options],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "ORDAGE_CACHE": str(folder / "cache")},
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout), int(result.stderr.split()[-1]), folder


def test_the_audit_counts_what_the_files_say(audit, faces):
    content, _, folder = audit
    files = sorted(faces.iterdir())
    ages = pd.Series([int(file.name.split("_")[0]) for file in files])
    copies = ages.groupby([hashlib.sha256(file.read_bytes()).hexdigest() for file in files]).agg(["size", "nunique"])
    copies = copies[copies["size"] > 1]
    edges = [-1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 200]

    assert content["samples"]["usable"] == content["samples"]["total"] == len(files)
    assert content["samples"]["rejected"] == 0
    assert content["duplicates"]["groups"] == len(copies) > 100
    assert content["duplicates"]["conflicts"] == (copies["nunique"] > 1).sum() > 100
    assert content["near_duplicates"]["groups"] > 0
    histogram = pd.cut(ages, edges).value_counts(sort=False)
    assert list(content["ages"]["histogram"].values()) == histogram.tolist()
    assert content["ages"]["median"] == ages.median()
    assert content["baselines"]["majority_bin"] == BINS.split(",")[histogram.to_numpy().argmax()]
    assert content["baselines"]["majority_bin_accuracy"] == pytest.approx(histogram.max() / len(files), abs=0.01)
    odd = [file.name for file in files if len(file.name.split("_")) != 4 or ".jpg" not in file.name]
    assert odd
    assert all(any(name in note for note in content["data"]["notes"]) for name in odd)
    # Every picture once, and none whose ages contradict each other.
    alone = len(files) - copies["size"].sum() + (copies["nunique"] == 1).sum()
    assert len(pd.read_csv(folder / "clean.csv")) == alone
    assert (folder / "page.html").read_text(encoding="utf-8").count("data:image/jpeg") > 100


def test_the_audit_takes_less_than_a_gibibyte(audit):
    _, kibibytes, _ = audit

    assert kibibytes < 2**20


def test_interrupted_ten_times_at_random_it_ends_with_the_same_table(faces, tmp_path):
    command = [sys.executable, "-m", "ordage", "compare", str(faces), "--losses", "corn", "--seeds", "0,1"]
    command += ["--bins", BINS, "--img-size", "28", "--in-chans", "1", "--epochs", "3", "--json", "--no-report"]
    command += ["--out", str(tmp_path), "--name"]
    begun = time.monotonic()
    whole = subprocess.run([*command, "whole"], capture_output=True, text=True, timeout=1800)
    took = time.monotonic() - begun
    assert whole.returncode == 0, whole.stderr

    draws = random.Random(0)
    codes = []
    for _ in range(10):
        process = subprocess.Popen([*command, "part", "--resume"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            process.communicate(timeout=draws.uniform(0.1, 0.5) * took)
        except subprocess.TimeoutExpired:
            process.send_signal(draws.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL]))
            process.communicate(timeout=120)
        codes.append(process.returncode)
    assert any(code != 0 for code in codes)
    resumed = subprocess.run([*command, "part", "--resume"], capture_output=True, text=True, timeout=1800)
    assert resumed.returncode == 0, resumed.stderr

    one, other = (json.loads(each.stdout) for each in (whole, resumed))
    for key in ("results", "pairs", "measures", "baselines", "verdicts"):
        assert one[key] == other[key]
