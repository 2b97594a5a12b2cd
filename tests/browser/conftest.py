"""The browser that all tests of pages share."""

import os
import shutil

import pytest


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    found = os.environ.get("ORDAGE_TEST_CHROMIUM") or shutil.which("chromium")
    assert found, "no chromium: install it, or name it by ORDAGE_TEST_CHROMIUM"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()
