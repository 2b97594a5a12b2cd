import subprocess
import sys

import numpy as np
import pytest

from ordage.eval import Calibration, OrdinalScale, Predictions, cs, decode, evaluate, figures, mae, rank_methods

BINS = OrdinalScale.parse("0-10,11-20,21-30,31+")
YEARS = OrdinalScale.years(0, 60)


@pytest.fixture(scope="module")
def said():
    rng = np.random.default_rng(0)
    age = rng.integers(0, 61, 500).astype(float)
    width = rng.uniform(1, 8, 500)  # of a distribution, and of its errors
    scores = np.exp(-np.abs(np.arange(61) - (age + rng.normal(size=500) * width)[:, None]) / width[:, None])
    return Predictions.from_probs(scores / scores.sum(axis=1, keepdims=True), YEARS, age=age)


@pytest.fixture(scope="module")
def evaluation(said):
    return evaluate(said, bins=BINS, n_resamples=50)


def is_png(figure, path):
    figure.savefig(path / "figure.png")
    return (path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_confusion_shows_shares_of_the_true_bin(evaluation, tmp_path):
    figure = figures.confusion_figure(evaluation)

    shown = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(shown.sum(axis=1), 1)
    assert shown[1, 1] == evaluation.confusion[1, 1] / evaluation.confusion[1].sum()
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == list(BINS.labels)
    assert is_png(figure, tmp_path)


def test_confusion_of_many_classes_leaves_labels_out(said, tmp_path):
    figure = figures.confusion_figure(evaluate(said, n_resamples=0))

    assert len(figure.axes[0].get_xticklabels()) < 30
    assert is_png(figure, tmp_path)


def test_cumulative_score_of_several_models(said, tmp_path):
    figure = figures.cs_figure({"one": said, "half": said.select(np.arange(250))}, largest=12)

    one, half = figure.axes[0].lines
    assert one.get_ydata()[5] == pytest.approx(100 * cs(said.age, decode(said, "median").values, 5))
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["one", "half"]
    assert len(half.get_xdata()) == 13
    assert is_png(figure, tmp_path)


def test_error_by_age_shows_each_decade(evaluation, tmp_path):
    figure = figures.error_by_age_figure(evaluation)

    rows = evaluation.groups["decade"].rows
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == [row.name for row in rows]
    bars = [patch.get_height() for patch in figure.axes[1].patches]
    assert bars == [row.n for row in rows]
    assert is_png(figure, tmp_path)


def test_reliability_with_and_without_a_temperature(said, tmp_path):
    plain = figures.reliability_figure(said)
    both = figures.reliability_figure(said, calibration=Calibration.fit(said))

    assert len(plain.axes[0].collections) == 1
    assert len(both.axes[0].collections) == 2
    assert is_png(both, tmp_path)


def test_risk_at_full_coverage_is_the_mae(said, tmp_path):
    figure = figures.risk_coverage_figure(said)

    (line,) = figure.axes[0].lines
    assert line.get_ydata()[-1] == pytest.approx(mae(said.age, decode(said, "median").values))
    assert line.get_xdata()[-1] == 100
    assert line.get_ydata()[10] < line.get_ydata()[-1]  # those of a narrow distribution err less here
    assert is_png(figure, tmp_path)


def test_density_holds_every_sample(said, tmp_path):
    figure = figures.density_figure(said)

    (mesh,) = figure.axes[0].collections
    assert np.nansum(np.ma.filled(mesh.get_array(), np.nan)) == len(said)
    assert is_png(figure, tmp_path)


def test_critical_difference_names_every_method(tmp_path):
    scores = np.random.default_rng(0).random((7, 5)) + np.arange(5)
    figure = figures.critical_difference_figure(rank_methods(scores, ["a", "b", "c", "d", "e"]))

    words = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert all(f"{name} " in words for name in "abcde")
    assert is_png(figure, tmp_path)


def test_what_needs_ages_says_so():
    grades = Predictions.from_probs([[0.5, 0.5]] * 3, OrdinalScale.from_labels(["low", "high"]), target=[0, 1, 1])

    for figure in (figures.cs_figure, figures.risk_coverage_figure, figures.density_figure):
        with pytest.raises(ValueError, match="known age, but none"):
            figure(grades)
    with pytest.raises(ValueError, match="two decades of age"):
        figures.error_by_age_figure(evaluate(grades, n_resamples=0))


def test_figures_leave_pyplot_alone_and_importing_them_does_not_import_matplotlib():
    script = (
        "import sys; from ordage.eval import figures; assert 'matplotlib' not in sys.modules;"
        "from ordage.eval import *; import numpy as np;"
        "figures.cs_figure(Predictions.from_probs([[.5, .5]], OrdinalScale.years(0, 1), age=[1]));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
