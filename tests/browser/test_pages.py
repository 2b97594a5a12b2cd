"""The pages in a real browser, from disk and without a network."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import ordage
from ordage.data import demo
from ordage.reporting import report

pytestmark = pytest.mark.browser

NASTY = "<img src=x onerror=alert(1)>.jpg"
VIEWS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 390)]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """The page of a comparison on a folder in which one file is called what no page may believe."""
    folder = tmp_path_factory.mktemp("faces")
    drawn = demo.draw(n=240, size=24, seed=5)
    rows = []
    for row, (image, age) in enumerate(zip(drawn.images, drawn.ages, strict=True)):
        name = f"{row} {NASTY}" if row % 20 == 0 else f"{row}.jpg"
        Image.fromarray(image).save(folder / name)
        rows.append((name, age, row % 2))
    with (folder / "faces.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "age", "glasses"), *rows])
    comparison = ordage.compare(
        data=str(folder / "faces.csv"),
        losses=("coral", "softmax"),
        seeds=(0,),
        group_col=("glasses",),
        model="ordage_tiny",
        img_size=24,
        epochs=2,
        device="cpu",
        verbosity=0,
        out=tmp_path_factory.mktemp("runs"),
        name="c",
    )
    return report([comparison.path])


@pytest.fixture
def opened(chromium, page_file):
    """Open the page in a scheme and a width; nothing may be asked of a network or complained about."""
    contexts = []

    def open_page(scheme="light", width=1280):
        context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 844}, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.complaints, page.asked = [], []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(page_file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


def shown(page):
    return page.locator("#gallery .sample:visible")


def numbers(page, name, place=0):
    return [json.loads(text)[place] for text in shown(page).evaluate_all(f"cards => cards.map(c => c.dataset.{name})")]


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_it_opens_from_disk_without_a_complaint_and_fits_the_screen(opened, page_file, scheme, width):
    page = opened(scheme, width)

    assert page.complaints == []
    assert [url for url in page.asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = "[...document.images].filter(each => !each.complete || !each.naturalWidth).length"
    assert page.evaluate("document.images.length") > 40
    assert page.evaluate(broken) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(opened, scheme):
    page = opened(scheme)
    drawn = page.evaluate(
        """[...document.querySelectorAll("p, td, th, svg text")].slice(0, 400).map(node => {
            const style = getComputedStyle(node);
            const ground = each => getComputedStyle(each).backgroundColor;
            let under = node;
            while (under.parentElement && ground(under) === "rgba(0, 0, 0, 0)") under = under.parentElement;
            return [node.namespaceURI.endsWith("svg") ? style.fill : style.color, ground(under)];
        })"""
    )
    assert len(drawn) > 100
    # The numbers inside of a heat map stand on its own colours, not on the page's.
    own = {"rgb(8, 48, 107)", "rgb(255, 255, 255)"}
    assert {(text, ground) for text, ground in drawn if text not in own and contrast(text, ground) < 4.5} == set()


def contrast(one, other):
    """Contrast ratio of the Web Content Accessibility Guidelines 2.2."""

    def luminance(colour):
        channels = np.array([float(part) for part in colour.strip("rgba()").split(",")[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_gallery_is_sorted_as_asked(opened):
    page = opened()

    assert numbers(page, "errors") == sorted(numbers(page, "errors"), reverse=True)
    page.select_option("#model", "1")
    assert numbers(page, "errors", 1) == sorted(numbers(page, "errors", 1), reverse=True)
    page.select_option("#order", "best")
    assert numbers(page, "errors", 1) == sorted(numbers(page, "errors", 1))
    page.select_option("#order", "unsure")
    assert numbers(page, "spreads", 1) == sorted(numbers(page, "spreads", 1), reverse=True)
    page.select_option("#order", "young")
    ages = shown(page).evaluate_all("cards => cards.map(card => Number(card.dataset.age))")
    assert ages == sorted(ages)
    assert page.complaints == []


def test_the_gallery_is_filtered_as_asked(opened):
    page = opened()
    every = shown(page).count()

    page.select_option("select[data-column=glasses]", "1")
    groups = shown(page).evaluate_all("cards => cards.map(card => JSON.parse(card.dataset.groups).glasses)")
    assert set(groups) == {"1"}
    assert 0 < len(groups) < every
    assert page.inner_text("#count") == str(len(groups))

    page.select_option("select[data-column=glasses]", "")
    page.check("#outside")
    assert set(numbers(page, "inside")) == {False}
    page.uncheck("#outside")
    page.fill("#search", "onerror")
    names = shown(page).evaluate_all("cards => cards.map(card => card.dataset.id)")
    assert names
    assert all("onerror" in name for name in names)
    page.fill("#search", "")
    assert shown(page).count() == every


def test_a_file_name_that_is_markup_is_shown_as_text(opened):
    page = opened()
    page.fill("#search", "onerror")

    assert NASTY in shown(page).first.locator(".id").inner_text()
    assert page.locator("img[src=x]").count() == 0
    assert page.complaints == []


def test_it_prints_without_its_controls(opened):
    page = opened()
    page.emulate_media(media="print")

    assert not page.locator("#controls").is_visible()
    assert page.locator("#verdict").is_visible()
    assert page.pdf().startswith(b"%PDF")
