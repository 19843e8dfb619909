"""Fixtures of the tests of the dashboard. `scripts/browser-test` runs them."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from application import Application
from scenery import Scenery
from visitors import Visitors

# A page loads its content again every five seconds, and another program may keep the machine busy.
expect.set_options(timeout=20_000)

# Only the gateways and applications of the tests can be reached.
NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"

FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser):
    parser.addoption(
        "--screenshots",
        action="store_true",
        help="write pictures of all pages to docs/screenshots, and test nothing",
    )


def pytest_ignore_collect(collection_path, config):
    if collection_path.suffix == ".py" and collection_path.stem != "conftest":
        is_picture = collection_path.stem == "test_screenshots"
        return is_picture != config.getoption("--screenshots")
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        assert path, "chromium is missing: run scripts/browser-test"
        browser = playwright.chromium.launch(executable_path=path, args=[NO_NETWORK])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def scenery():
    with Scenery() as scenery:
        yield scenery


@pytest.fixture
def visitors(browser, request):
    visitors = Visitors(browser)
    yield visitors
    if request.node.stash.get(FAILED, False):
        take_pictures(visitors, request.node.name)
    visitors.close()


@pytest.fixture
def page(visitors, gateway):
    """A page of a visitor of the gateway of the test file."""
    return visitors.open(gateway)


@pytest.fixture(scope="module")
def application():
    with Application() as application:
        yield application


def take_pictures(visitors, name):
    """Pictures of what the visitors saw when the test failed."""
    folder = Path(os.environ["FAILURES"])
    folder.mkdir(parents=True, exist_ok=True)
    pages = [page for context in visitors.contexts for page in context.pages]
    for place, page in enumerate(pages):
        picture = folder / f"{name}-{place}.png".replace("/", "-")
        page.screenshot(path=picture, full_page=True)
        print(f"{page.url}: {picture}")
