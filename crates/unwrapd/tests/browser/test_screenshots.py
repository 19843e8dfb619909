"""Pictures of all pages, for the documentation: `scripts/browser-test --screenshots`."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from scenery import OPERATE
from test_access import log_in
from visitors import DESKTOP, PHONE

FOLDER = Path(__file__).parents[4] / "docs" / "screenshots"

LOOKS = {
    "light": {"color_scheme": "light", "viewport": DESKTOP},
    "dark": {"color_scheme": "dark", "viewport": DESKTOP},
    "phone": {"color_scheme": "light", "viewport": PHONE},
}

# Of the pages of the scenery, those that differ much.
NAMES = [
    "overview",
    "events",
    "event",
    "replay",
    "destinations",
    "destination",
    "refused",
    "refused-request",
    "system",
]


@pytest.mark.parametrize("look", LOOKS)
def test_screenshots(scenery, visitors, look):
    FOLDER.mkdir(exist_ok=True)
    page = visitors.open(scenery.gateway, timezone_id="Europe/Berlin", **LOOKS[look])
    page.goto("/")
    page.screenshot(path=FOLDER / f"login-{look}.png")
    log_in(page, OPERATE)
    # The overview keeps itself up to date.
    down = page.get_by_role("heading", level=1).filter(has_text="crm has been down for 1 minute")
    expect(down).to_be_visible(timeout=90_000)
    for name in NAMES:
        page.goto(scenery.pages()[name])
        expect(page.get_by_role("heading", level=1).first).to_be_visible()
        if name == "events":
            expect(page.get_by_text("live", exact=True)).to_be_visible()
        page.screenshot(path=FOLDER / f"{name}-{look}.png")
    page.goto(scenery.pages()["replay"])
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("Done.")).to_be_visible()
    page.screenshot(path=FOLDER / f"run-{look}.png")
