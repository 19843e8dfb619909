"""Waiting for something outside the browser."""

import time

# Longest wait. It is long because another program may keep the machine busy.
SECONDS = 30


def until(description, is_so, seconds=SECONDS):
    """Waits until `is_so()` is true, and returns its result."""
    deadline = time.monotonic() + seconds
    while True:
        result = is_so()
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds} s still not: {description}")
        time.sleep(0.02)
