"""The filter of the list of events."""

import re

import pytest
from playwright.sync_api import expect

import patience
from application import Answer
from gateway import Gateway, destination
from webhooks import event, resource

CANCELLED = event("batch.cancelled")


@pytest.fixture(scope="module")
def gateway(application):
    application.answer = lambda received: Answer(410 if b'"batch.' in received.body else 200)
    with Gateway(destination("app", application.url)) as gateway:
        gateway.receive(event("response.completed"), event("response.failed"))
        gateway.receive(event("batch.completed"), event("batch.completed"), CANCELLED)
        patience.until("three are dead", lambda: gateway.destination("app")["dead"] == 3)
        patience.until("nothing waits", lambda: gateway.destination("app")["waiting"] == 0)
        yield gateway


def rows(page):
    return page.get_by_role("table").get_by_role("row").filter(has=page.get_by_role("link"))


def links(page):
    return [row.get_by_role("link").get_attribute("href") for row in rows(page).all()]


def field(page):
    return page.get_by_role("textbox", name="Filter")


def test_a_filter_is_the_query_of_the_url_and_can_be_shared(gateway, page, visitors):
    page.goto("/events")
    expect(rows(page)).to_have_count(5)
    field(page).fill("type:batch.* status:dead")
    field(page).press("Enter")
    expect(page).to_have_url(re.compile(r"/events\?q=type%3Abatch\.\*\+status%3Adead$"))
    expect(rows(page)).to_have_count(3)
    expect(page.get_by_text("3 messages match")).to_be_visible()

    other = visitors.open(gateway)
    other.goto(page.url)
    expect(field(other)).to_have_value("type:batch.* status:dead")
    expect(rows(other)).to_have_count(3)
    assert links(other) == links(page)


def test_a_misspelt_word_is_refused_with_the_right_one(page):
    page.goto("/events")
    field(page).fill("stats:dead")
    field(page).press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("did you mean `status:`?")
    expect(field(page)).to_have_value("stats:dead")
    field(page).fill("status:daed")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("alert")).to_contain_text("dead")


def test_a_view_keeps_the_other_words_of_the_filter(page):
    page.goto("/events?q=type:batch.completed+status:delivered")
    expect(page.get_by_text("No event matches.")).to_be_visible()
    page.get_by_role("link", name="Dead 2").click()
    expect(field(page)).to_have_value("type:batch.completed status:dead")
    expect(rows(page)).to_have_count(2)
    expect(page.get_by_role("link", name="Dead 2")).to_have_attribute("aria-current", "page")
    page.get_by_role("link", name="All 2").click()
    expect(field(page)).to_have_value("type:batch.completed")


def test_a_part_of_an_id_finds_its_event(page):
    page.goto("/events")
    field(page).fill(resource(CANCELLED)[8:20])
    field(page).press("Enter")
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text("batch.cancelled")


def test_a_filter_without_a_match_leads_back_to_all_events(page):
    page.goto("/events?q=type:video.*")
    expect(page.get_by_text("No event matches.")).to_be_visible()
    page.get_by_role("link", name="Show all events").click()
    expect(rows(page)).to_have_count(5)


def test_older_events_are_on_further_pages_which_new_ones_do_not_shift(application, page, visitors):
    with Gateway(destination("app", application.url)) as gateway:
        resources = [f"resp_{number:03}" for number in range(120)]
        gateway.receive(*(event("response.completed", resource=one) for one in resources))
        page = visitors.open(gateway)
        page.goto("/events")
        seen = []
        for _ in range(3):
            seen += [row.get_by_role("cell").nth(2).text_content() for row in rows(page).all()]
            gateway.receive(event("response.completed", resource="resp_new"))
            older = page.get_by_role("link", name="Older")
            if older.is_visible():
                older.click()
                expect(page).to_have_url(re.compile("after="))
        assert seen == resources[::-1]
        page.get_by_role("link", name="Newest").click()
        expect(rows(page).first).to_contain_text("resp_new")
        # The page asks for news until it is closed, and the gateway ends first.
        page.context.close()


def test_a_search_that_ended_early_goes_on_until_it_finds_something(gateway, page):
    """A gateway with few events never ends a search early, so the first two pages are changed."""
    pages = []

    def searching(route):
        after = 1000 - len(pages)
        pages.append(route.request.url)
        if len(pages) > 2:
            return route.continue_()
        response = route.fetch()
        older = f'<a rel="next" href="/events?q=type%3Abatch.*&amp;after={after}">Older</a>'
        main = re.compile("<h1>Events</h1>.*</main>", re.DOTALL)
        body = main.sub(f'<p class="empty" data-search>Nothing so far.</p>{older}</main>', response.text())
        assert "data-search" in body
        return route.fulfill(response=response, body=body)

    page.route(re.compile(r"/events\?q="), searching)
    page.goto("/events?q=type:batch.*")
    expect(rows(page)).to_have_count(3)
    expect(page).to_have_url(re.compile("after=999"))
    assert [re.sub(".*after=", "", url) for url in pages[1:3]] == ["1000", "999"]
