import csv
import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import ordage
import ordage as package
from ordage.errors import DataError, UsageError
from ordage.eval import decode
from ordage.reporting import report
from ordage.runs import Run

SMALL = {"img_size": 24, "in_chans": 1, "model": "ordage_tiny", "device": "cpu", "verbosity": 0, "epochs": 2}
NASTY = "<img src=x onerror=alert(1)>"


class Parsed(HTMLParser):
    """What a browser would make of a page: its elements, and the text of each gallery card."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.cards, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "figure" and dict(attributes).get("class") == "sample":
            self.cards.append(dict(attributes))

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def nasty_faces(drawn, tmp_path_factory):
    """A folder whose file names, columns and groups are what nobody should put into a page as they are."""
    folder = tmp_path_factory.mktemp("nasty")
    rows = []
    for row, (image, age) in enumerate(zip(drawn.images, drawn.ages, strict=True)):
        name = f"{NASTY} {row}.png" if row % 50 == 0 else f"{row}.png"
        Image.fromarray(image).save(folder / name)
        rows.append((name, age, ("a&b", "$x_1$")[row % 2]))
    Image.fromarray(drawn.images[0]).save(folder / "again.png")
    rows.append(("again.png", drawn.ages[0] + 30, "a&b"))
    table = folder / "faces.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("file", "age", "kind"), *rows])
    return table


@pytest.fixture(scope="module")
def compared(nasty_faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("reported")
    options = {"losses": ("coral", "softmax"), "seeds": (0, 1), "group_col": ("kind",)}
    return ordage.compare(**SMALL, **options, data=str(nasty_faces), out=out, name="c")


@pytest.fixture(scope="module")
def page(compared):
    report([compared.path])
    return (compared.path / "report.html").read_text(encoding="utf-8")


def test_the_verdict_comes_first(page, compared):
    verdict = html.escape(compared.report["verdicts"][0])

    assert verdict in page
    assert page.index(verdict) < page.index("<table")


def test_the_headline_table_repeats_the_report(page, compared):
    page = page.replace("\N{NO-BREAK SPACE}", " ")  # which keeps the ends of an interval on one line
    for row in compared.report["losses"]:
        assert f"{row['mae']['value']:.2f} [{row['mae']['low']:.2f}, {row['mae']['high']:.2f}]" in page
    assert f"{compared.report['baselines']['median_age_mae']:.2f}" in page


def test_the_page_needs_nothing_from_elsewhere(page):
    parsed = Parsed(page)

    for tag, attributes in parsed.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:image/", "#")), (tag, name, value[:60])
    assert not re.search(r"url\((?!#)", page)


def test_names_stay_text(page):
    parsed = Parsed(page)

    assert not any("onerror" in attributes for _, attributes in parsed.elements)
    assert any(NASTY in text for text in parsed.text)
    assert {json.loads(card["data-groups"])["kind"] for card in parsed.cards} == {"a&b", "$x_1$"}


def test_the_gallery_says_what_the_models_said(page, compared):
    cards = {card["data-id"]: card for card in Parsed(page).cards}
    first = {cell.arm.name: cell for cell in reversed(compared.cells)}
    assert len(cards) >= 40

    for place, (_, cell) in enumerate(sorted(first.items())):  # coral, softmax
        said = cell.run.predictions("test")
        errors = dict(zip(said.ids.tolist(), np.abs(decode(said, "median").values - said.age), strict=True))
        inside = dict(zip(said.ids.tolist(), cell.run.calibration.intervals.covers(said), strict=True))
        for name, card in cards.items():
            assert json.loads(card["data-errors"])[place] == pytest.approx(errors[name])
            assert json.loads(card["data-inside"])[place] == inside[name]
        worst = max(errors, key=errors.get)
        assert worst in cards


def test_label_conflicts_are_listed(page):
    assert "The same picture with different ages" in page
    assert "again.png" in page


def test_what_to_try_next_is_a_command_that_works(compared, page, ordage):
    commands = [html.unescape(text) for text in re.findall(r"<pre>(.*?)</pre>", page)]
    assert any("--ladder" in command for command in commands)
    import shlex

    words = shlex.split(next(command for command in commands if "--ladder" in command))
    result = ordage(*words[1:], "--dry-run", "--json", "-q")

    assert result.returncode == 0, result.stderr
    assert [arm["arm"] for arm in json.loads(result.stdout)["arms"]][:2] == ["plain softmax on bins", "+ augmentation"]


def test_summary_and_figures_lie_beside_it(compared, page):
    text = (compared.path / "summary.md").read_text(encoding="utf-8")
    figures = {
        path.relative_to(compared.path / "figures").as_posix() for path in compared.path.glob("figures/**/*.png")
    }

    assert compared.report["verdicts"][0] in text
    assert "| coral |" in text
    assert {"cumulative_score.png", "training.png", "coral/confusion.png", "softmax/confusion.png"} <= figures


def test_a_report_is_made_anew_without_the_data(compared, tmp_path, nasty_faces):
    gone = nasty_faces.rename(nasty_faces.with_suffix(".gone"))
    try:
        path = report([compared.path], tmp_path / "elsewhere")
    finally:
        gone.rename(nasty_faces)

    text = path.read_text(encoding="utf-8")
    assert "The images themselves are not where they were" in text
    assert compared.report["verdicts"][0] in html.unescape(text)


@pytest.mark.slow
def test_several_runs_are_compared_as_a_comparison_would(compared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [cell.run.path for cell in compared.cells]
    path = report(cells)
    with (path.parent / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    assert path.parent.name == "report"
    assert compared.report["verdicts"][0] in html.unescape(path.read_text(encoding="utf-8"))
    assert sorted((row["arm"], row["seed"]) for row in rows) == sorted(
        (cell.arm.name, str(cell.seed)) for cell in compared.cells
    )


def test_a_run_has_a_page_of_its_own(compared):
    run = Run(compared.cells[0].run.path)
    text = report([run.path]).read_text(encoding="utf-8")

    assert f"{run.report['test']['test']['mae']:.2f}" in text
    assert (run.path / "figures" / "confusion.png").exists()


def test_what_is_no_run_is_told(tmp_path, compared):
    with pytest.raises(DataError, match="no such folder"):
        report([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="finished run"):
        report([tmp_path])
    with pytest.raises(UsageError, match="is a comparison"):
        report([compared.path, compared.cells[0].run.path])


def test_evaluate_writes_a_page_too(compared, tmp_path, ordage):
    first, second = (cell.run.path for cell in compared.cells[:2])
    result = ordage("evaluate", first, "--baseline", second, "--html", "page.html")

    assert result.returncode == 0, result.stderr
    assert "Page: page.html" in result.stdout
    assert "beside" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert ordage("evaluate", first, "--html", "nowhere/page.html").returncode == 2
    assert ordage("evaluate", first, "--open").returncode == 2


@pytest.mark.slow
def test_runs_that_are_alike_but_for_an_option_are_told_apart_by_where_they_lie(arrays, tmp_path):
    options = {**SMALL, "epochs": 1, "data": str(arrays), "loss": "softmax", "out": tmp_path}
    runs = [package.fit(**options, ema=ema, name=f"ema{place}") for place, ema in enumerate((0.0, 0.9))]
    path = report([run.path for run in runs], tmp_path / "both")
    with (path.parent / "summary.csv").open(newline="") as file:
        arms = [row["arm"] for row in csv.DictReader(file)]

    assert len(set(arms)) == 2
    assert all(str(run.path) in arm for run, arm in zip(runs, arms, strict=True))
    with pytest.raises(UsageError, match="once more"):
        report([runs[0].path, runs[0].path])


def test_runs_that_were_judged_on_other_bins_are_not_compared(arrays, tmp_path):
    options = {**SMALL, "epochs": 1, "data": str(arrays), "out": tmp_path}
    one = package.fit(**options, loss="softmax", bins="0-17,18+", name="one")
    other = package.fit(**options, loss="coral", bins="width:20", name="other")

    with pytest.raises(DataError, match="was judged on the bins"):
        report([one.path, other.path])
