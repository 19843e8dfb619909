"""Log-in with the tokens of the configuration, and what each shows."""

import re

import pytest
from playwright.sync_api import expect

from application import Answer
from gateway import Gateway, destination
from webhooks import event, resource

OPERATE = "token-to-operate-0123456789"
READ = "token-to-read-0123456789012"
TOKENS = """
    admin_token = { file = "operate.token" }
    admin_read_token = { file = "read.token" }
"""
FILES = {"operate.token": OPERATE, "read.token": READ}


def guarded(application, lines=""):
    app = destination("app", application.url)
    return Gateway(app, server=TOKENS + lines, files=FILES)


@pytest.fixture(scope="module")
def gateway(application):
    with guarded(application) as gateway:
        yield gateway


def log_in(page, token):
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()


def main_buttons(page):
    """Whatever changes something. The filter and the copies change nothing."""
    return page.get_by_role("main").get_by_role("button").filter(
        has_not_text=re.compile("^(Filter|Copy|pause)$")
    )


def test_a_log_in_leads_to_the_page_that_was_asked_for_and_a_log_out_ends_it(page):
    page.goto("/events?q=type:batch.*")
    expect(page).to_have_url(re.compile("/login"))
    log_in(page, OPERATE)
    expect(page).to_have_url(re.compile(r"/events\?q=type:batch\.\*$"))
    expect(page.get_by_role("heading", name="Events")).to_be_visible()

    page.goto("/")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.goto("/events")
    expect(page.get_by_label("Token")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Events")).to_be_hidden()


def test_a_wrong_token_is_refused(page, visitors):
    visitors.expect_problem("status of 401")
    page.goto("/")
    log_in(page, OPERATE + "x")
    expect(page.get_by_role("alert")).to_have_text("This is not a token of this gateway.")
    page.goto("/events")
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_session_is_out_of_reach_of_scripts(page):
    page.goto("/")
    log_in(page, OPERATE)
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    assert page.evaluate("document.cookie") == ""
    [cookie] = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert OPERATE not in cookie["value"]


def test_a_token_to_read_shows_everything_and_changes_nothing(application, gateway, page):
    application.answer = Answer(410, "no customer 42")
    webhook = event("response.completed")
    gateway.receive(webhook)
    page.goto(f"/events/{webhook.id}")
    log_in(page, READ)
    expect(page.get_by_text("no customer 42")).to_be_visible()
    expect(page.get_by_text(f'"id": "{resource(webhook)}"')).to_be_visible()
    for path in ["/", "/events", f"/events/{webhook.id}", "/destinations", "/destinations/app"]:
        page.goto(path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(main_buttons(page)).to_have_count(0)
        expect(page.get_by_role("link", name=re.compile("Replay|Drop"))).to_have_count(0)


def test_a_change_with_a_token_to_read_is_refused(gateway, page, visitors):
    visitors.expect_problem("status of 403")
    page.goto("/destinations/app")
    log_in(page, READ)
    expect(page.get_by_role("heading", name="app")).to_be_visible()
    # Someone who takes the style sheet away finds the buttons.
    page.evaluate("document.body.classList.remove('reader')")
    page.evaluate(
        """() => {
            const form = document.createElement("form");
            form.method = "post";
            form.action = "/destinations/app/pause";
            document.body.append(form);
            form.submit();
        }"""
    )
    expect(page.get_by_text("this token is for reading only")).to_be_visible()
    page.goto("/destinations/app")
    expect(page.get_by_role("heading", level=1).get_by_role("img", name="up")).to_be_visible()


def test_a_token_that_may_not_see_payloads_shows_none(application, visitors):
    application.answer = Answer(410, "the name of the customer is secret")
    with guarded(application, "admin_read_payloads = false") as gateway:
        webhook = event("response.completed")
        gateway.receive(webhook)
        gateway.post(event("batch.failed"), secret="whsec_" + "A" * 44)
        page = visitors.open(gateway)
        page.goto(f"/events/{webhook.id}")
        log_in(page, READ)
        expect(page.get_by_text("Your token does not show bodies.")).to_be_visible()
        expect(page.get_by_text("app: HTTP 410")).to_be_visible()
        assert "name of the customer" not in page.content()
        assert '"created_at"' not in page.content()
        expect(page.get_by_role("link", name="Download")).to_have_count(0)
        answer = page.request.get(f"/events/{webhook.id}/body")
        assert answer.status == 403

        page.goto("/refused")
        page.get_by_role("table").get_by_role("link").click()
        expect(page.get_by_text("Your token does not show headers.")).to_be_visible()
        expect(page.get_by_text("Your token does not show bodies.")).to_be_visible()
        assert '"created_at"' not in page.content()


def test_a_session_ends_when_its_token_changes(application, visitors):
    visitors.expect_problem("ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET")
    with guarded(application) as gateway:
        operator, reader = visitors.open(gateway), visitors.open(gateway)
        for page, token in [(operator, OPERATE), (reader, READ)]:
            page.goto("/system")
            log_in(page, token)
            expect(page.get_by_role("heading", name="System")).to_be_visible()
        gateway.write_secret("operate.token", "another-token-0123456789012")
        gateway.restart()
        operator.get_by_role("link", name="Events").click()
        expect(operator.get_by_label("Token")).to_be_visible()
        reader.get_by_role("link", name="Events").click()
        expect(reader.get_by_role("heading", name="Events")).to_be_visible()


def test_every_page_works_below_a_base_path(application, visitors):
    with guarded(application, 'admin_base_path = "/ops/unwrapd"') as gateway:
        webhook = event("response.completed")
        gateway.receive(webhook)
        page = visitors.open(gateway)
        page.goto("/ops/unwrapd/")
        log_in(page, OPERATE)
        for name in ["Events", "Destinations", "Refused", "System", "Overview"]:
            page.get_by_role("navigation").get_by_role("link", name=name).click()
            expect(page.get_by_role("navigation").get_by_role("link", name=name)).to_have_attribute(
                "aria-current", "page"
            )
            assert "/ops/unwrapd/" in page.url
        page.goto("/ops/unwrapd/events")
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        page.get_by_role("link", name="response.completed").click()
        expect(page).to_have_url(f"{gateway.admin}/ops/unwrapd/events/{webhook.id}")
        page.keyboard.press("r")
        page.get_by_role("button", name="Replay").click()
        expect(page).to_have_url(re.compile("/ops/unwrapd/runs/"))
        page.get_by_role("button", name="Log out").click()
        expect(page).to_have_url(f"{gateway.admin}/ops/unwrapd/login")
