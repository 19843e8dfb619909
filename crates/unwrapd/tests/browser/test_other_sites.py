"""Pages of other web sites cannot steer a gateway."""

import pytest
from playwright.sync_api import expect

from elsewhere import Site
from gateway import Gateway, destination
from test_access import FILES, OPERATE, TOKENS, log_in
from webhooks import event

WEBHOOK = event("response.completed")


@pytest.fixture(scope="module", params=["without tokens", "with a session"])
def gateway(request, application):
    server = TOKENS if request.param == "with a session" else ""
    with Gateway(destination("app", application.url), server=server, files=FILES) as gateway:
        gateway.receive(WEBHOOK)
        gateway.is_guarded = bool(server)
        yield gateway


@pytest.fixture
def site(gateway, visitors):
    pages = {
        "/form": f"""
            <form method="post" action="{gateway.admin}/destinations/app/pause">
              <button>You have won</button>
            </form>""",
        "/script": f"""
            <body><script>
              fetch("{gateway.admin}/destinations/app/pause", {{
                method: "POST", mode: "no-cors", credentials: "include",
              }}).then(() => document.body.append("sent"));
            </script>""",
        "/link": f'<a href="{gateway.admin}/events/{WEBHOOK.id}">an event</a>',
        "/frame": f'<iframe src="{gateway.admin}/destinations/app"></iframe>',
    }
    with Site(pages) as site:
        visitors.allow(site.url)
        # Chromium asks a site for its icon.
        visitors.expect_problem("favicon|status of 404")
        yield site


@pytest.fixture
def page(gateway, visitors):
    page = visitors.open(gateway)
    page.goto("/destinations/app")
    if gateway.is_guarded:
        log_in(page, OPERATE)
    expect_up(page)
    return page


def expect_up(page):
    expect(page.get_by_role("heading", level=1).get_by_role("img", name="up")).to_be_visible()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def expect_unchanged(page):
    page.goto("/destinations/app")
    expect_up(page)


def test_a_form_of_another_site_is_refused(site, page, visitors):
    visitors.expect_problem("status of 40[13]")
    page.goto(f"{site.url}/form")
    page.get_by_role("button").click()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    expect(page.get_by_role("button", name="Resume")).to_be_hidden()
    expect_unchanged(page)


def test_a_script_of_another_site_is_refused(site, page, visitors):
    visitors.expect_problem("status of 40[13]")
    page.goto(f"{site.url}/script")
    expect(page.get_by_text("sent")).to_be_visible()
    expect_unchanged(page)


def test_a_link_on_another_site_leads_to_its_event(site, page):
    page.goto(f"{site.url}/link")
    page.get_by_role("link").click()
    expect(page.get_by_role("heading", name="response.completed")).to_be_visible()
    expect(page.get_by_text("app: delivered")).to_be_visible()


def test_a_page_of_another_site_cannot_frame_a_page(site, page, visitors):
    visitors.expect_problem("frame-ancestors|ERR_BLOCKED_BY_RESPONSE|status of 403")
    page.goto(f"{site.url}/frame")
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="app")).to_have_count(0)
    expect(frame.get_by_role("button")).to_have_count(0)
