"""The dashboard in a browser without JavaScript."""

import re

import pytest
from playwright.sync_api import expect

from gateway import Gateway, destination
from webhooks import event


@pytest.fixture(scope="module")
def gateway(application):
    with Gateway(destination("app", application.url)) as gateway:
        gateway.receive(*(event("response.completed", f"resp_{place:03}") for place in range(70)))
        gateway.receive(event("batch.completed", "batch_1"))
        application.wait_for(71)
        yield gateway


@pytest.fixture
def page(gateway, visitors):
    return visitors.open(gateway, java_script_enabled=False)


def rows(page):
    return page.get_by_role("table").get_by_role("row").filter(has=page.get_by_role("link"))


def test_a_filter_works_with_enter_and_with_its_button(page):
    page.goto("/events")
    page.get_by_role("textbox", name="Filter").fill("type:batch.*")
    page.get_by_role("textbox", name="Filter").press("Enter")
    expect(rows(page)).to_have_count(1)
    page.get_by_role("textbox", name="Filter").fill("resp_069")
    page.get_by_role("button", name="Filter").click()
    expect(rows(page)).to_have_text(re.compile("resp_069"))


def test_a_list_has_no_parts_that_need_javascript(page):
    page.goto("/events")
    expect(page.get_by_role("button", name=re.compile("pause|Copy"))).to_have_count(0)
    expect(page.get_by_text("j k move")).to_be_hidden()
    expect(page.get_by_role("link", name=re.compile(" new"))).to_have_count(0)


def test_older_events_are_one_click_away(page):
    page.goto("/events")
    expect(rows(page)).to_have_count(50)
    page.get_by_role("link", name="Older").click()
    expect(rows(page)).to_have_count(21)
    expect(rows(page).last).to_contain_text("resp_000")
    page.get_by_role("link", name="Newest").click()
    expect(rows(page).first).to_contain_text("batch_1")


def test_a_destination_is_paused_and_resumed(page):
    page.goto("/destinations/app")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("paused", exact=False).first).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_a_destination_is_tested(application, page):
    before = len(application.received)
    page.goto("/destinations/app")
    page.get_by_role("button", name="Test").click()
    expect(page.get_by_role("status")).to_contain_text(
        "Test with a sample of response.completed: HTTP 200"
    )
    application.wait_for(before + 1)


def test_an_event_is_replayed(application, page):
    before = len(application.received)
    page.goto("/events?q=type:batch.*")
    page.get_by_role("link", name="batch.completed").click()
    page.get_by_role("link", name="Replay…").click()
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Replay of 1 delivery")
    application.wait_for(before + 1)


def test_times_are_relative_and_have_an_exact_one(page):
    page.goto("/events")
    time = rows(page).first.get_by_role("time")
    expect(time).to_have_text(re.compile(r"^\d+ (s|min)$"))
    expect(time).to_have_attribute("title", re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"))
