"""The overview: one sentence that tells whether all is well, and then what needs a hand."""

import os
import re
import subprocess

import pytest
from playwright.sync_api import expect

import patience
from application import Answer, Application
from gateway import ENDPOINT, Gateway, destination
from webhooks import OPENAI_SECRET, event

ANOTHER_SECRET = "whsec_" + "A" * 44


@pytest.fixture
def application():
    with Application() as application:
        yield application


@pytest.fixture
def gateway(application):
    with Gateway(destination("app", application.url, events=["response.*"])) as gateway:
        yield gateway


def headline(page):
    return page.get_by_role("heading", level=1)


def need(page, text):
    """The line of what needs a hand, with this text."""
    needs = page.get_by_role("heading", name="Needs attention").locator("+ ul")
    return needs.get_by_role("listitem").filter(has_text=text)


def test_a_gateway_at_work_says_that_all_is_well(application, gateway, page):
    gateway.receive(event("response.completed"))
    application.wait_for(1)
    page.goto("/")
    expect(headline(page)).to_have_text("All is well.")
    expect(page.get_by_text(re.compile(r"The last webhook came \d+ seconds? ago. Nothing waits."))).to_be_visible()
    expect(page.get_by_role("heading", name="Needs attention")).to_be_hidden()
    card = page.get_by_role("main").get_by_role("link", name="app").locator("xpath=ancestor::section")
    expect(card.get_by_role("img", name="up")).to_be_visible()
    expect(card.get_by_role("img", name="Last 24 hours: 1 delivered")).to_be_visible()
    row = page.get_by_role("row").filter(has_text=ENDPOINT)
    expect(row).to_contain_text("used")


def test_an_empty_store_shows_the_way_to_a_first_webhook(gateway, page):
    page.goto("/events")
    page.get_by_role("link", name="How to get a first webhook").click()
    expect(page.get_by_role("heading", name="The first webhook")).to_be_visible()
    expect(page.get_by_text(f"/webhooks/{ENDPOINT}")).to_be_visible()
    command = page.get_by_text("unwrapd trigger").text_content()

    # The command of the page, with the URL of this gateway.
    arguments = command.replace("URL", f"{gateway.public}/webhooks/{ENDPOINT}").split()[1:]
    environment = {"OPENAI_WEBHOOK_SECRET": OPENAI_SECRET}
    subprocess.run([os.environ["UNWRAPD"], *arguments], env=environment, check=True, timeout=60)
    expect(headline(page)).to_have_text("All is well.")
    expect(page.get_by_role("heading", name="The first webhook")).to_be_hidden()


def test_a_destination_that_is_down_comes_first_with_what_waits(application, gateway, page):
    application.answer = Answer(502, "no upstream")
    gateway.receive(*(event("response.completed") for _ in range(12)))
    page.goto("/")
    expect(headline(page)).to_have_text(
        re.compile(
            r"^app has been down for \d+ seconds?. 12 deliveries are waiting, "
            r"the oldest for \d+ seconds?.$"
        )
    )
    line = need(page, re.compile(r"app has failed for \d+ seconds?: HTTP 502."))
    expect(line).to_contain_text("12 deliveries wait.")
    line.get_by_role("button", name="Test").click()
    expect(page.get_by_role("status")).to_contain_text("HTTP 502")
    page.goto("/")
    line.get_by_role("link", name="Failures").click()
    row = page.get_by_role("row").filter(has_text="HTTP 502")
    expect(row.get_by_role("cell").nth(1)).to_have_text("12")
    row.get_by_role("link", name="waiting").click()
    expect(page.get_by_text("12 messages match")).to_be_visible()

    page.goto("/")
    application.answer = Answer()
    expect(headline(page)).to_have_text("All is well.")
    expect(page.get_by_text("Nothing waits.")).to_be_visible()


def test_a_pause_is_shown_until_it_ends(application, gateway, page):
    page.goto("/destinations/app")
    page.get_by_role("button", name="Pause").click()
    gateway.receive(event("response.completed"))
    page.goto("/")
    expect(headline(page)).to_have_text("One thing needs a look.")
    line = need(page, "app is paused.")
    expect(line).to_contain_text("1 delivery waits.")
    assert application.received == []
    line.get_by_role("button", name="Resume").click()
    application.wait_for(1)
    page.goto("/")
    expect(headline(page)).to_have_text("All is well.")


def test_a_type_without_a_destination_is_named_and_can_be_replayed_to_one(application, gateway, page):
    gateway.receive(event("batch.completed"))
    page.goto("/")
    need(page, "No destination subscribes to batch.completed.").get_by_role("link", name="Open").click()
    expect(page.get_by_text("no destination subscribes")).to_be_visible()
    page.get_by_role("link", name="batch.completed").click()
    expect(page.get_by_text("No destination subscribed to this type.")).to_be_visible()
    page.get_by_role("link", name="Replay…").click()
    expect(page.get_by_text("Nothing can be replayed.")).to_be_visible()
    page.get_by_label("Deliver to").select_option("app")
    page.get_by_role("button", name="Count again").click()
    page.get_by_role("button", name="Replay").click()
    application.wait_for(1)
    page.goto("/")
    expect(headline(page)).to_have_text("All is well.")


def test_a_secret_that_was_rotated_wrongly_is_found_and_mended(application, gateway, page):
    assert gateway.post(event("response.completed"), secret=ANOTHER_SECRET) == 401
    page.goto("/")
    line = need(page, f"1 request was refused at {ENDPOINT}.")
    expect(line).to_contain_text("No secret of this gateway verifies it")
    expect(page.get_by_role("navigation").get_by_role("link", name="Refused 1")).to_be_visible()
    line.get_by_role("link", name="See the cause").click()
    expect(page.get_by_text("No secret of this gateway verifies it")).to_be_visible()
    expect(page.get_by_text("webhook-signature")).to_be_visible()
    page.get_by_role("button", name="Verify again").click()
    expect(page.get_by_role("status")).to_contain_text("1 still not verified.")

    gateway.write_secret("openai.secret", ANOTHER_SECRET)
    gateway.reload()
    page.get_by_role("button", name="Verify all again").click()
    expect(page.get_by_role("status")).to_contain_text("1 accepted.")
    expect(page.get_by_text("No request was refused.")).to_be_visible()
    application.wait_for(1)
    page.goto("/")
    expect(headline(page)).to_have_text("All is well.")


def test_dead_letters_are_named_with_their_last_answer(application, gateway, page):
    application.answer = Answer(410, "no such customer")
    gateway.receive(event("response.completed"), event("response.failed"))
    patience.until("both are dead", lambda: gateway.destination("app")["dead"] == 2)
    page.goto("/")
    line = need(page, "2 dead letters at app.")
    expect(line).to_contain_text("HTTP 410")
    line.get_by_role("link", name="Open").click()
    expect(page.get_by_text("2 messages match")).to_be_visible()
    page.goto("/")
    application.answer = Answer()
    line.get_by_role("link", name="Replay…").click()
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("Done.")).to_be_visible()
    page.goto("/")
    expect(headline(page)).to_have_text("All is well.")


def test_the_overview_keeps_itself_up_to_date(application, gateway, page):
    page.goto("/")
    expect(page.get_by_role("heading", name="The first webhook")).to_be_visible()
    gateway.receive(event("response.completed"))
    expect(headline(page)).to_have_text("All is well.")
    expect(page.get_by_role("heading", name="The first webhook")).to_be_hidden()


def test_an_overview_that_is_not_up_to_date_says_so(application, gateway, page, visitors):
    visitors.expect_problem("ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE")
    page.clock.install()
    page.goto("/")
    note = page.get_by_text("Not up to date: the state of")
    expect(note).to_be_hidden()
    gateway.stop()
    page.clock.fast_forward("00:40")
    expect(note).to_be_visible()
    gateway.start()
    page.clock.fast_forward("00:10")
    expect(note).to_be_hidden()
