"""axe-core looks for what keeps people from using a page: https://github.com/dequelabs/axe-core."""

import os
from functools import cache
from pathlib import Path

SEVERE = ("serious", "critical")


def severe_violations(page):
    """The serious and critical violations of the page, a line for each element."""
    if not page.evaluate("() => 'axe' in window"):
        # The browser runs it outside of the policy of the page, which allows no such script.
        page.evaluate(_source())
    found = page.evaluate(
        "() => axe.run(document, { resultTypes: ['violations'], preload: false })"
    )
    return [
        f"{violation['id']}: {violation['help']}: {node['html']}: {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in SEVERE
        for node in violation["nodes"]
    ]


@cache
def _source():
    # The value of the expression would be copied out of the page otherwise.
    return Path(os.environ["AXE"]).read_text() + "\n;null"
