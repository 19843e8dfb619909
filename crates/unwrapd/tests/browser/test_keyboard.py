"""The keys of the list of events and of an event."""

import re

import pytest
from playwright.sync_api import expect

from gateway import Gateway, destination
from webhooks import event, resource

WEBHOOKS = [event("response.completed") for _ in range(4)]


@pytest.fixture(scope="module")
def gateway(application):
    with Gateway(destination("app", application.url)) as gateway:
        gateway.receive(*WEBHOOKS)
        yield gateway


@pytest.fixture
def listed(page):
    page.goto("/events")
    expect(page.get_by_text("/ filter · j k move · Enter open · r replay")).to_be_visible()
    return page


def selected(page):
    return page.get_by_role("row", selected=True)


def test_slash_leads_to_the_filter_and_escape_out_of_it(listed):
    field = listed.get_by_role("textbox", name="Filter")
    expect(field).not_to_be_focused()
    listed.keyboard.press("/")
    expect(field).to_be_focused()
    expect(field).to_have_value("")
    listed.keyboard.type("jkr/")
    expect(field).to_have_value("jkr/")
    expect(selected(listed)).to_have_count(0)
    listed.keyboard.press("Escape")
    expect(field).not_to_be_focused()


def test_j_and_k_select_a_row_and_enter_opens_it(listed):
    # The newest is the first.
    for key, place in [("j", 3), ("j", 2), ("j", 1), ("k", 2), ("j", 1), ("j", 0), ("j", 0)]:
        listed.keyboard.press(key)
        expect(selected(listed)).to_have_count(1)
        expect(selected(listed)).to_contain_text(resource(WEBHOOKS[place]))
    listed.keyboard.press("k")
    listed.keyboard.press("Enter")
    expect(listed).to_have_url(re.compile(f"/events/{WEBHOOKS[1].id}$"))


def test_r_opens_the_replay_of_the_selected_row(listed):
    listed.keyboard.press("j")
    listed.keyboard.press("j")
    listed.keyboard.press("r")
    expect(listed.get_by_role("heading", level=1)).to_have_text("Replay 1 delivery")
    expect(listed.get_by_text(f"id:{WEBHOOKS[2].id}")).to_be_visible()


def test_r_opens_the_replay_of_an_event(page):
    page.goto(f"/events/{WEBHOOKS[0].id}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("r")
    expect(page.get_by_text(f"id:{WEBHOOKS[0].id}")).to_be_visible()


def test_an_event_is_filtered_and_opened_and_replayed_without_a_mouse(application, listed):
    before = len(application.received)
    listed.keyboard.press("/")
    listed.keyboard.type(f"resource:{resource(WEBHOOKS[1])}")
    listed.keyboard.press("Enter")
    expect(listed.get_by_text("1 message matches")).to_be_visible()
    listed.keyboard.press("j")
    listed.keyboard.press("Enter")
    expect(listed).to_have_url(re.compile("/events/wh_"))
    listed.keyboard.press("r")
    button = listed.get_by_role("button", name="Replay")
    expect(button).to_be_visible()
    for _ in range(30):
        listed.keyboard.press("Tab")
        if button.evaluate("(element) => element === document.activeElement"):
            break
    expect(button).to_be_focused()
    listed.keyboard.press("Enter")
    expect(listed.get_by_text("Done.")).to_be_visible()
    application.wait_for(before + 1)


def test_a_key_with_a_modifier_is_left_to_the_browser(listed):
    listed.keyboard.press("Alt+j")
    listed.keyboard.press("Control+k")
    expect(selected(listed)).to_have_count(0)


def test_the_first_tab_leads_to_the_content(listed):
    listed.keyboard.press("Tab")
    link = listed.get_by_role("link", name="Skip to the content")
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()
    listed.keyboard.press("Enter")
    listed.keyboard.press("Tab")
    expect(listed.get_by_role("textbox", name="Filter")).to_be_focused()
