import pytest

from ordage.progress import Reporter


@pytest.mark.parametrize(("level", "lines"), [(0, 0), (1, 1), (2, 3)])
def test_each_level_says_as_much_as_it_promises(capsys, level, lines):
    reporter = Reporter(level, prefix="[1/2] ")

    reporter.note("read")
    for epoch in range(2):
        reporter.epoch(f"epoch {epoch}")
    with reporter.bar("training", 3) as bar:
        bar.advance()
        bar.describe("loss 1.0")

    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == lines
    assert all(line.startswith("[1/2] ") for line in err.splitlines())
