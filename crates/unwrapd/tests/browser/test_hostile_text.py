"""Text of strangers is shown as text. Callers choose SIP headers, applications choose answers, and
whoever has a secret chooses types and ids."""

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

import patience
from application import Answer
from gateway import Gateway, destination
from webhooks import Webhook, incoming_call, of_data

SCRIPT = "<script>window.ran = 1</script>"
IMAGE = "<img src=x onerror='window.ran = 1'>"
CLOSING = "\"'></td></pre></main></title></svg>"
# An override of the direction of writing, an escape sequence of terminals, and a NUL.
HIDDEN = "\u202egnp.exe\u202c\u2066 \x1b[31mred\x1b[0m \x00"
HOSTILE = SCRIPT + IMAGE + CLOSING + HIDDEN

# Without blanks and dots, as in every webhook id.
ID = "wh_<script>ran=1</script><img/src=x/onerror=ran=1>\"'></td>?a=b#c%2F&amp;"

# Characters that change the text around them, or that are not seen.
ACTIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def gateway(application):
    application.answer = Answer(410, f"{SCRIPT}{IMAGE}{CLOSING}\u202eabc\x1b[31m")
    with Gateway(destination("app", application.url, events=["*", "!odd.*"])) as gateway:
        gateway.receive(
            incoming_call([("From", HOSTILE), (SCRIPT, IMAGE)], id=ID),
            of_data(HOSTILE, {"id": HOSTILE}),
            of_data("odd." + HOSTILE, {"id": IMAGE}),
            Webhook(HOSTILE.encode()),
            Webhook(b"\xff\xfe" + HOSTILE.encode()),
        )
        wrong = Webhook(HOSTILE.encode(), id=ID)
        assert gateway.post(wrong, secret="whsec_" + "A" * 44) == 401
        patience.until("all are dead", lambda: gateway.destination("app")["dead"] == 4)
        yield gateway


@pytest.fixture
def page(gateway, visitors):
    visitors.expect_problem("status of 40[04]")
    return visitors.open(gateway)


def expect_inert(page):
    """Nothing ran, nothing was added to the page, and nothing hides or turns its text."""
    expect(page.get_by_role("heading", level=1).first).to_be_visible()
    assert page.evaluate("window.ran") is None
    scripts = page.evaluate("[...document.scripts].map((script) => script.getAttribute('src'))")
    assert len(scripts) <= 1 and all(source.startswith("/assets/script.js") for source in scripts)
    assert page.locator("img, iframe, object, embed, base, meta[http-equiv]").count() == 0
    on_attributes = """[...document.querySelectorAll("*")].flatMap((element) =>
        [...element.attributes].map((one) => one.name).filter((name) => name.startsWith("on")))"""
    assert page.evaluate(on_attributes) == []
    assert not ACTIVE.search(page.title())
    # A field keeps a filter as it came.
    content = page.evaluate(
        """() => {
            const page = document.documentElement.cloneNode(true);
            page.querySelectorAll("input[name=q]").forEach((field) => field.remove());
            return page.outerHTML;
        }"""
    )
    assert not ACTIVE.search(content), repr(ACTIVE.search(content))


def test_a_webhook_id_leads_to_its_page_and_is_shown_as_text(page):
    page.goto("/events?q=type:realtime.*")
    expect_inert(page)
    page.get_by_role("link", name="realtime.call.incoming").click()
    expect(page.get_by_role("heading", name="realtime.call.incoming")).to_be_visible()
    expect(page.get_by_role("definition").filter(has_text=ID)).to_be_visible()
    expect_inert(page)


def test_sip_headers_are_shown_as_text(page):
    page.goto(f"/events/{quote(ID, safe='')}")
    expect(page.get_by_text("<script>window.ran = 1</script>").first).to_be_visible()
    expect(page.get_by_text("\\u202e").first).to_be_visible()
    expect_inert(page)
    page.get_by_role("link", name="Exact bytes").click()
    expect(page.get_by_role("link", name="Exact bytes")).to_have_attribute("aria-current", "true")
    expect_inert(page)


def test_an_answer_of_an_application_is_shown_as_text(page):
    page.goto(f"/events/{quote(ID, safe='')}")
    attempt = page.get_by_role("listitem").filter(has_text="app: HTTP 410")
    expect(attempt).to_contain_text(SCRIPT)
    expect(attempt).to_contain_text("\\u{202e}abc")
    expect_inert(page)


def test_types_and_resources_are_shown_as_text(page):
    page.goto("/events")
    expect(page.get_by_role("link", name="odd.<script>").first).to_be_visible()
    expect_inert(page)
    for place in range(page.get_by_role("table").get_by_role("link").count()):
        page.goto("/events")
        page.get_by_role("table").get_by_role("link").nth(place).click()
        expect_inert(page)


@pytest.mark.parametrize("text", [SCRIPT, IMAGE + CLOSING, "type:" + SCRIPT, "id:" + ID, HIDDEN])
def test_a_filter_from_a_link_is_shown_as_text(page, text):
    for path in ["/events", "/replay", "/drop"]:
        page.goto(f"{path}?q={quote(text)}")
        expect_inert(page)


@pytest.mark.parametrize(
    "path",
    ["/", "/destinations", "/destinations/app", "/refused", "/system", "/runs"],
)
def test_a_page_with_text_of_strangers_is_inert(page, path):
    page.goto(path)
    expect_inert(page)


def test_a_refused_request_is_shown_as_text(page):
    page.goto("/refused")
    page.get_by_role("table").get_by_role("link").click()
    expect(page.get_by_text(SCRIPT).first).to_be_visible()
    expect_inert(page)


@pytest.mark.parametrize("path", ["/{}", "/events/{}", "/destinations/{}", "/runs/{}", "/refused/{}"])
def test_a_path_that_does_not_exist_is_shown_as_text(page, path):
    page.goto(path.format(quote(SCRIPT + "'\"\u202e", safe="")))
    expect_inert(page)


def test_a_run_over_hostile_ids_is_inert(page):
    page.goto(f"/events/{quote(ID, safe='')}")
    page.get_by_role("link", name="Replay…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Replay 1 delivery")
    expect_inert(page)
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("Done.")).to_be_visible()
    expect_inert(page)


def test_a_body_is_downloaded_and_never_shown_as_a_page(gateway, page):
    answer = page.request.get(f"/events/{quote(ID, safe='')}/body")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]
    page.goto(f"/events/{quote(ID, safe='')}")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "event.json"
    assert SCRIPT.encode() in download.value.path().read_bytes()
