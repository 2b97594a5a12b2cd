import math

import pytest

from ordage.data.ages import parse_age


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("34", (34, 34)),
        (" 34.5 ", (34.5, 34.5)),
        ("30-39", (30, 39)),
        ("30–39", (30, 39)),
        ("(25, 32)", (25, 32)),
        ("[25;32]", (25, 32)),
        ("25 to 32", (25, 32)),
        ("60+", (60, math.inf)),
        ("more than 70", (70, math.inf)),
        ("over 70", (70, math.inf)),
        ("100 and over", (100, math.inf)),
    ],
)
def test_ages_as_people_write_them_are_read(text, interval):
    assert parse_age(text) == interval


@pytest.mark.parametrize(("spoiled", "interval"), [("03-Sep", (3, 9)), ("Oct-19", (10, 19)), ("9-Dec", (9, 12))])
def test_intervals_that_a_spreadsheet_took_for_dates_are_repaired(spoiled, interval):
    assert parse_age(spoiled) == interval


@pytest.mark.parametrize("text", ["", "old", "-3", "39-30", "nan", "1e3", "None", "12a", "Sep-03x"])
def test_what_is_no_age_is_not_guessed_at(text):
    assert parse_age(text) is None
