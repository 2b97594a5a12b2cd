import io

import numpy as np
import pandas as pd
import pytest
import rich.console

from ordage.eval import Calibration, ConstantBaselines, OrdinalScale, Predictions, evaluate

BINS = OrdinalScale.parse("0-20,21-40,41-60")
YEARS = OrdinalScale.years(0, 60)


@pytest.fixture(scope="module")
def evaluation():
    rng = np.random.default_rng(0)
    age = rng.integers(0, 61, 600).astype(float)
    scores = np.exp(-np.abs(np.arange(61) - (age + rng.normal(size=600) * 5)[:, None]) / 4)
    groups = {"odd|name": np.where(rng.random(600) < 0.01, "[few]", np.where(rng.random(600) < 0.5, "a", "b"))}
    said = Predictions.from_probs(
        scores / scores.sum(axis=1, keepdims=True), YEARS, age=age, groups=groups, meta={"loss": "coral"}
    )
    return evaluate(
        said.select(np.arange(400)),
        bins=BINS,
        baselines=ConstantBaselines.fit(BINS, age=age[:400]),
        calibration=Calibration.fit(said.select(np.arange(400, 600))),
        n_resamples=50,
    )


def cells(line):
    return [cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")]


def test_markdown_has_every_figure_that_is_told(evaluation):
    text = evaluation.to_markdown(name="ours")

    first = next(line for line in text.splitlines() if line.startswith("| ours"))
    mae = evaluation.headline.mae
    assert cells(first)[3] == f"{mae.value:.2f} [{mae.low:.2f}, {mae.high:.2f}]"
    assert f"| always {evaluation.baselines['median_age']:g} (median age) | — | — |" in text
    assert all(f"| {key}" in text for key in evaluation.rest)
    for row in evaluation.groups["decade"].rows:
        name = f"{row.name} *" if row.small else row.name
        assert any(cells(line)[:2] == [name, f"{row.n:,}"] for line in text.splitlines())
    assert "prediction intervals for 90 %, from 200 validation images" in text


def test_markdown_tables_are_whole(evaluation):
    for block in evaluation.to_markdown().split("\n\n"):
        if block.startswith("|"):
            lines = block.splitlines()
            assert len({len(cells(line)) for line in lines}) == 1
            assert set(lines[1]) <= set("|-: ")


def test_small_groups_are_marked_and_explained(evaluation):
    text = evaluation.to_markdown()

    assert "| [few] * |" in text
    assert "* few images: these figures say little" in text


def test_a_terminal_shows_the_same_and_takes_names_as_they_are(evaluation):
    console = rich.console.Console(file=io.StringIO(), width=200)
    console.print(evaluation.to_rich(name="[bold]ours"))

    said = console.file.getvalue()
    assert "[bold]ours" in said
    assert "[few] *" in said
    assert f"{evaluation.headline.mae.value:.2f} [" in said


def test_pandas_has_a_row_a_figure(evaluation):
    frame = evaluation.to_frame()

    overall = frame[frame["column"] == ""].set_index("metric")
    assert overall.loc["mae", "value"] == evaluation.headline.mae.value
    assert overall.loc["mae", "decoder"] == "median"
    assert overall.loc["interval_coverage", "low"] == evaluation.intervals.coverage.low
    assert set(evaluation.rest) <= set(overall.index)
    ours = frame.query("column == 'decade' and metric == 'bias'").set_index("group")
    for row in evaluation.groups["decade"].rows:
        assert (ours.loc[row.name, "value"], ours.loc[row.name, "n"]) == (row.bias.value, row.n)
    assert isinstance(frame, pd.DataFrame)
    assert not frame[["metric", "unit", "decoder", "column", "group"]].isna().any(axis=None)


def test_grades_without_ages_make_tables_too():
    grades = OrdinalScale.from_labels(["low", "middle", "high"])
    said = Predictions.from_probs([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], grades, target=[0, 2])

    text = evaluate(said, baselines=ConstantBaselines.fit(grades, target=[0, 1, 1])).to_markdown()

    assert "| always middle (median bin) | — | — | 1.00 |" in text
    assert "MAE (bins)" in text
