"""Browsers of visitors, and the rules that every page keeps while a test looks at it."""

import re
from urllib.parse import urlsplit

DESKTOP = {"width": 1280, "height": 820}
PHONE = {"width": 390, "height": 844}

# Every page forbids at least this.
POLICY = ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"]


class Visitors:
    """Opens browsers without cookies. A console error, a violation of the content security policy,
    a request to another origin and a page without that policy are problems, which fail the test at
    its end."""

    def __init__(self, browser):
        self._browser = browser
        self._gateways = set()
        self._others = set()
        self._expected = []
        self._problems = []
        self.contexts = []

    def open(self, gateway, **options):
        """A page of a new visitor. `options` are those of a browser context."""
        self._gateways.add(gateway.admin)
        options = {"base_url": gateway.admin, "viewport": DESKTOP, **options}
        context = self._browser.new_context(**options)
        self.contexts.append(context)
        context.on("console", self._console)
        context.on("weberror", lambda error: self._note(f"uncaught: {error.error}"))
        context.on("request", self._request)
        context.on("response", self._response)
        return context.new_page()

    def allow(self, origin):
        """Pages of this origin are a part of the test."""
        self._others.add(origin)

    def expect_problem(self, pattern):
        """Problems with this text are a part of the test."""
        self._expected.append(pattern)

    def close(self):
        for context in self.contexts:
            context.close()
        is_expected = re.compile("|".join(self._expected)).search if self._expected else None
        problems = [one for one in self._problems if not (is_expected and is_expected(one))]
        assert not problems, "\n".join(problems)

    def _note(self, problem):
        self._problems.append(problem)

    def _console(self, message):
        if message.type == "error" or "Content Security Policy" in message.text:
            self._note(f"console: {message.text}")

    def _request(self, request):
        is_known = _origin(request.url) in self._gateways | self._others
        if not is_known and not request.url.startswith("data:"):
            self._note(f"a request to another origin: {request.url}")

    def _response(self, response):
        is_page = response.headers.get("content-type", "").startswith("text/html")
        if not is_page or _origin(response.url) not in self._gateways:
            return
        policy = response.headers.get("content-security-policy", "")
        if not all(rule in policy for rule in POLICY):
            self._note(f"the policy of {response.url} is {policy!r}")


def _origin(url):
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
