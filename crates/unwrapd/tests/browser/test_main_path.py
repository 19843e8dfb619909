"""The way of someone on call: from a failed delivery to its replay."""

import pytest
from playwright.sync_api import expect

from application import Answer, Application
from gateway import Gateway, destination
from postgresql import PostgreSQL
from webhooks import event, resource


@pytest.fixture(params=["sqlite", "postgresql"])
def gateways(request, application):
    """The gateway where someone works, and one that shows the same."""
    app = destination("app", application.url)
    if request.param == "sqlite":
        with Gateway(app) as gateway:
            yield gateway, gateway
        return
    with PostgreSQL() as server:
        with Gateway(app, store=server.store()) as one, Gateway(app, store=server.store()) as other:
            yield one, other


def test_a_failed_delivery_is_found_and_understood_and_replayed(application, gateways, visitors):
    gateway, other = gateways
    application.answer = Answer.failure(500, 'relation "orders" does not exist')
    webhook = event("response.completed")
    before = len(application.received)
    gateway.receive(webhook)
    application.wait_for(before + 1)

    page = visitors.open(gateway)
    page.goto("/events")
    row = page.get_by_role("row").filter(has_text=resource(webhook))
    expect(row).to_contain_text("app")
    expect(row.get_by_role("img", name="waiting")).to_be_visible()
    row.get_by_role("link", name="response.completed").click()

    expect(page.get_by_role("heading", level=1)).to_contain_text("response.completed")
    attempt = page.get_by_role("listitem").filter(has_text="app: HTTP 500")
    expect(attempt).to_contain_text("attempt 1")
    expect(attempt).to_contain_text('relation "orders" does not exist')
    expect(page.get_by_role("listitem").filter(has_text="next attempt in")).to_be_visible()
    expect(page.get_by_text(f'"id": "{resource(webhook)}"')).to_be_visible()

    elsewhere = visitors.open(other)
    elsewhere.goto(f"/events/{webhook.id}")
    expect(elsewhere.get_by_text("app: HTTP 500")).to_be_visible()

    application.answer = Answer(200, "ok")
    tab = page.context.new_page()
    tab.goto(page.url)
    tab.get_by_role("link", name="Replay…").click()
    expect(tab.get_by_role("heading", level=1)).to_have_text("Replay 1 delivery")
    expect(tab.get_by_text("1 delivery waits already and will be attempted at once.")).to_be_visible()
    tab.get_by_role("button", name="Replay").click()
    expect(tab.get_by_text("Done.")).to_be_visible()

    for shown in (page, elsewhere):
        expect(shown.get_by_text("app: delivered")).to_be_visible()
        expect(shown.get_by_role("listitem").filter(has_text="app: HTTP 200")).to_contain_text(
            "attempt 2"
        )
        expect(shown.get_by_role("heading", level=1).get_by_role("img", name="delivered")).to_be_visible()
    received = application.wait_for(before + 2)[before:]
    assert [one.id for one in received] == [webhook.id] * 2


def test_an_event_is_replayed_to_another_destination(visitors):
    with Application() as app, Application() as audit:
        destinations = [
            destination("app", app.url, events=["response.*"]),
            destination("audit", audit.url, events=["batch.*"]),
        ]
        with Gateway(*destinations) as gateway:
            webhook = event("response.completed")
            gateway.receive(webhook)
            app.wait_for(1)
            page = visitors.open(gateway)
            page.goto(f"/events/{webhook.id}")
            page.get_by_role("link", name="Replay…").click()
            page.get_by_label("Deliver to").select_option("audit")
            page.get_by_role("button", name="Count again").click()
            expect(page.get_by_role("definition").filter(has_text="1 delivery")).to_be_visible()
            page.get_by_role("button", name="Replay").click()
            expect(page.get_by_text("Done.")).to_be_visible()
            assert audit.wait_for(1)[0].id == webhook.id
            page.goto(f"/events/{webhook.id}")
            expect(page.get_by_text("audit: delivered")).to_be_visible()
            assert len(app.received) == 1
            # The page asks for news until it is closed, and the gateway ends first.
            page.context.close()
