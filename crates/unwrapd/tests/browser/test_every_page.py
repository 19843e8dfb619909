"""What holds on every page, whatever it shows. The rules of `visitors` hold as well."""

import pytest
from playwright.sync_api import expect

import axe
from scenery import OPERATE
from test_access import log_in
from visitors import PHONE

# The names of `Scenery.pages`.
NAMES = [
    "overview",
    "events",
    "events-filtered",
    "events-misspelt",
    "events-none",
    "event",
    "event-exact",
    "replay",
    "drop",
    "runs",
    "destinations",
    "destination",
    "destination-down",
    "refused",
    "refused-request",
    "refused-drop",
    "system",
    "problem",
]


@pytest.fixture(scope="module")
def session(browser, scenery):
    """The cookies of someone who has logged in."""
    context = browser.new_context(base_url=scenery.gateway.admin)
    page = context.new_page()
    page.goto("/")
    log_in(page, OPERATE)
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    yield context.storage_state()
    context.close()


@pytest.fixture
def visit(scenery, session, visitors):
    """Opens a page by its name."""

    def visit(name, **options):
        visitors.expect_problem("status of 40[04]")
        page = visitors.open(scenery.gateway, storage_state=session, **options)
        page.goto(scenery.pages()[name])
        expect(page.get_by_role("heading", level=1).first).to_be_visible()
        return page

    return visit


def test_the_list_of_names_is_complete(scenery):
    assert NAMES == list(scenery.pages())


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_no_severe_violation_of_accessibility_in_light_and_dark(visit, name):
    page = visit(name, color_scheme="light")
    assert axe.severe_violations(page) == []
    page.emulate_media(color_scheme="dark")
    assert axe.severe_violations(page) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_the_width_of_a_phone(visit, name):
    page = visit(name, viewport=PHONE, has_touch=True, is_mobile=True)
    # With a page that is too wide, phones zoom out, so both widths would be equal.
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate("innerWidth") <= PHONE["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_log_in_is_accessible_and_fits_a_phone(scenery, visitors, scheme):
    page = visitors.open(scenery.gateway, color_scheme=scheme, viewport=PHONE)
    page.goto("/")
    expect(page.get_by_label("Token")).to_be_focused()
    assert axe.severe_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_can_be_read_and_left_without_javascript(visit, name):
    page = visit(name, java_script_enabled=False)
    if name == "problem":
        page.get_by_role("link", name="First page").click()
    else:
        page.get_by_role("navigation").get_by_role("link", name="Overview").click()
    expect(page.get_by_role("heading", name="Needs attention")).to_be_visible()


@pytest.mark.parametrize(
    "name", ["overview", "events", "event", "replay", "destination", "refused", "refused-request"]
)
def test_the_tab_key_reaches_everything_that_can_be_used_and_shows_where_it_is(visit, name):
    page = visit(name)
    # The content must not change meanwhile.
    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now()") + 1_000)
    page.evaluate(
        """() => {
            const usable = document.querySelectorAll(
                "a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']");
            const isSeen = (element) => element.checkVisibility({ visibilityProperty: true });
            window.left = new Set([...usable].filter(isSeen));
        }"""
    )
    count = page.evaluate("left.size")
    assert count > 5
    for _ in range(count + 3):
        page.keyboard.press("Tab")
        # Scrolling areas can be reached too.
        is_seen = page.evaluate(
            """() => {
                const element = document.activeElement;
                left.delete(element);
                const style = getComputedStyle(element);
                return element === document.body ||
                    (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1);
            }"""
        )
        assert is_seen, page.evaluate("document.activeElement.outerHTML")
    assert page.evaluate("[...left].map((element) => element.outerHTML)") == []
