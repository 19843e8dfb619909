"""The list of events while events arrive."""

import pytest
from playwright.sync_api import expect

from gateway import Gateway, destination
from webhooks import event


@pytest.fixture(scope="module")
def gateway(application):
    with Gateway(destination("app", application.url)) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def earlier_events(application, gateway):
    application.release()
    gateway.receive(event("response.completed"), event("response.failed"))


def rows(page):
    return page.get_by_role("table").get_by_role("row").filter(has=page.get_by_role("link"))


def links(page):
    return [row.get_by_role("link").get_attribute("href") for row in rows(page).all()]


def open_list(page):
    page.goto("/events")
    expect(page.get_by_text("live", exact=True)).to_be_visible()


def test_a_new_event_waits_behind_a_bar_and_the_list_does_not_move(gateway, page):
    open_list(page)
    shown, place = links(page), rows(page).first.bounding_box()

    gateway.receive(event("batch.completed"))
    bar = page.get_by_role("link", name="1 new")
    expect(bar).to_be_visible()
    assert links(page) == shown
    assert rows(page).first.bounding_box() == place

    gateway.receive(event("video.completed"))
    expect(page.get_by_role("link", name="2 new")).to_be_visible()
    assert links(page) == shown

    page.get_by_role("link", name="2 new").click()
    expect(rows(page)).to_have_count(len(shown) + 2)
    expect(rows(page).nth(0)).to_contain_text("video.completed")
    expect(rows(page).nth(1)).to_contain_text("batch.completed")
    expect(page.get_by_role("link", name="new", exact=False)).to_be_hidden()


def test_an_event_that_is_shown_changes_its_state_in_its_place(application, gateway, page):
    application.hold()
    gateway.receive(event("batch.failed"))
    open_list(page)
    expect(rows(page).first.get_by_role("img", name="waiting")).to_be_visible()
    shown = links(page)

    application.release()
    expect(rows(page).first.get_by_role("img", name="delivered")).to_be_visible()
    assert links(page) == shown


def test_a_paused_list_stays_as_it_is_until_it_is_resumed(gateway, page, visitors):
    # Without waiting for real minutes: the timers of the page are moved on.
    page.clock.install()
    open_list(page)
    other = visitors.open(gateway)
    open_list(other)
    shown = links(page)

    page.get_by_role("button", name="pause").click()
    expect(page.get_by_text("paused")).to_be_visible()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    gateway.receive(event("response.incomplete"))
    expect(other.get_by_role("link", name="1 new")).to_be_visible()
    page.clock.fast_forward("10:00")
    gateway.receive(event("response.cancelled"))
    expect(other.get_by_role("link", name="2 new")).to_be_visible()
    assert links(page) == shown
    assert asked == []
    expect(page.get_by_role("link", name="new", exact=False)).to_be_hidden()

    page.get_by_role("button", name="resume").click()
    expect(page.get_by_role("link", name="2 new")).to_be_visible()


def test_the_bar_counts_only_events_that_match_the_filter(gateway, page):
    page.goto("/events?q=type:eval.run.*")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    gateway.receive(event("response.completed"), event("eval.run.succeeded"))
    expect(page.get_by_role("link", name="1 new")).to_be_visible()


def test_the_list_connects_again_after_a_restart_of_the_gateway(gateway, page, visitors):
    visitors.expect_problem("ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE")
    open_list(page)
    gateway.stop()
    expect(page.get_by_text("not connected")).to_be_visible()
    gateway.start()
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    gateway.receive(event("batch.expired"))
    expect(page.get_by_role("link", name="1 new")).to_be_visible()
