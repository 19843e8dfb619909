"""Replays and drops of many deliveries, which the gateway carries out by itself."""

import re

import pytest
from playwright.sync_api import expect

import patience
from application import Answer
from gateway import Gateway, destination
from webhooks import event

DEAD = 4_812


@pytest.fixture(scope="module")
def gateway(application):
    application.answer = Answer(410, "the customer is gone")
    with Gateway(destination("app", application.url, concurrency=64)) as gateway:
        yield gateway


def all_are_dead(gateway, count):
    app = gateway.destination("app")
    return app["dead"] == count and app["waiting"] == 0


def test_dead_letters_are_all_replayed_although_the_tab_is_closed(application, gateway, visitors):
    gateway.receive_many([event("response.completed") for _ in range(DEAD)])
    patience.until("all are dead", lambda: all_are_dead(gateway, DEAD), seconds=120)
    assert len(application.received) == DEAD

    page = visitors.open(gateway)
    page.goto("/")
    needs = page.get_by_role("listitem").filter(has_text="4,812 dead letters at app.")
    needs.get_by_role("link", name="Replay…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Replay 4,812 deliveries")
    expect(page.get_by_text("status:dead destination:app")).to_be_visible()
    application.answer = Answer()
    page.get_by_role("button", name="Replay").click(no_wait_after=True)
    page.wait_for_url("**/runs/*", wait_until="commit")
    run = page.url
    page.close()

    tab = visitors.contexts[-1].new_page()
    tab.goto("/runs")
    tab.get_by_role("link", name="Replay of 4,812 deliveries").click()
    expect(tab).to_have_url(run)
    expect(tab.get_by_role("progressbar", name="Progress")).to_be_visible()
    heading = tab.get_by_role("heading", level=1)
    expect(heading).to_have_text(re.compile("Replay of 4,812 deliveries: 4,812 of 4,812$"))
    expect(tab.get_by_text("Done.")).to_be_visible()

    received = application.wait_for(2 * DEAD, seconds=120)
    again = [one.id for one in received[DEAD:]]
    assert len(set(again)) == len(again) == DEAD
    assert set(again) == {one.id for one in received[:DEAD]}
    patience.until("all are delivered", lambda: all_are_dead(gateway, 0))
    tab.goto("/events")
    expect(tab.get_by_role("link", name="All 4,812")).to_be_visible()
    expect(tab.get_by_role("link", name="Dead 0")).to_be_visible()
    expect(tab.get_by_role("link", name="Waiting 0")).to_be_visible()


def test_dead_letters_that_are_dropped_stay_visible_and_are_not_replayed(application, gateway, page):
    application.answer = Answer(410)
    gateway.receive(*(event("batch.expired") for _ in range(3)))
    patience.until("all are dead", lambda: all_are_dead(gateway, 3))
    page.goto("/destinations/app")
    page.get_by_role("link", name="Drop…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Drop 3 dead letters?")
    page.get_by_role("button", name="Drop").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("3 of 3")
    expect(page.get_by_text("Done.")).to_be_visible()
    page.goto("/events?q=status:dropped")
    expect(page.get_by_text("3 messages match")).to_be_visible()
    page.goto("/destinations/app")
    expect(page.get_by_role("link", name="Drop…")).to_be_hidden()
