"""The page of `ordage serve` in a real browser, with a real server."""

import subprocess
import sys

import pytest
from PIL import Image

import ordage
from ordage.data import demo

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return ordage.fit(
        data="demo",
        img_size=24,
        model="ordage_tiny",
        epochs=1,
        device="cpu",
        verbosity=0,
        out=tmp_path_factory.mktemp("runs"),
        name="a",
    )


@pytest.fixture(scope="module")
def address(run):
    command = [sys.executable, "-m", "ordage", "serve", str(run.path), "--port", "0", "--max-mb", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().split()[0]
        process.kill()


@pytest.fixture
def page(chromium, address):
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.complaints, page.asked = [], []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    yield page
    context.close()


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(demo.draw(n=3, size=48, seed=7).images[1]).save(tmp_path / "face.png")
    return tmp_path / "face.png"


def test_a_dropped_picture_shows_its_age_distribution(page, picture, run, address):
    content = list(picture.read_bytes())
    page.evaluate(
        """content => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(content)], "face.png", {type: "image/png"}));
            document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
        }""",
        content,
    )
    page.locator("#said .age").wait_for()
    ages = ordage.load(run.path)([picture])

    assert page.locator(".age").inner_text() == f"{ages.age[0]:g} years"
    low, high = (f"{end[0]:g}" for end in ages.interval)
    assert page.locator(".interval").inner_text() == f"{low} to {high.replace('inf', 'more')} with 90\u00a0%"
    assert ages.bin[0] in page.locator(".sure").inner_text()
    rows = page.locator(".bar").all_inner_texts()
    assert [row.split("\n")[0] for row in rows] == list(ages.bins.labels)
    assert [row.split("\n")[1] for row in rows] == [f"{100 * share:.1f} %" for share in ages.bin_probs[0]]
    assert page.locator(".curve path").get_attribute("d").count("L") == len(ages.classes) + 1
    assert page.evaluate("document.getElementById('image').naturalWidth") == 48
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert all(url.startswith((address, "blob:")) for url in page.asked)
    assert page.complaints == []


def test_a_file_may_be_chosen_and_another_after_it(page, picture, tmp_path):
    Image.new("L", (30, 30), 200).save(tmp_path / "grey.jpg")
    for file in (picture, tmp_path / "grey.jpg"):
        with page.expect_response("**/predict") as answered:
            page.set_input_files("#file", file)
        assert answered.value.ok
        page.locator("#said .age").wait_for()

    assert page.locator(".age").count() == 1
    assert page.complaints == []


def test_what_is_no_picture_is_told_on_the_page(page, tmp_path):
    (tmp_path / "note.png").write_text("<img src=x onerror=alert(1)>")
    page.set_input_files("#file", tmp_path / "note.png")
    page.locator("#error:visible").wait_for()

    assert "not an image" in page.locator("#error").inner_text()
    assert page.locator("#said:visible").count() == 0


def test_a_picture_that_is_too_large_is_told_without_sending_it(page, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(2**20 + 1))
    page.set_input_files("#file", tmp_path / "large.png")
    page.locator("#error:visible").wait_for()

    assert "1 MB" in page.locator("#error").inner_text()
    assert not [url for url in page.asked if url.endswith("/predict")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_drop_field_works_by_keyboard_and_can_be_seen(chromium, address, scheme):
    context = chromium.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.keyboard.press("Tab")

    assert page.evaluate("document.activeElement.id") == "file"
    border = page.evaluate("getComputedStyle(document.getElementById('drop')).borderColor")
    page.evaluate("document.activeElement.blur()")
    assert border != page.evaluate("getComputedStyle(document.getElementById('drop')).borderColor")
    context.close()
