"""Times `client.webhooks.unwrap` of OpenAI's Python SDK.

Reads rounds as JSON lines, and prints nanoseconds per call.
"""

import json
import sys
import time

from openai import OpenAI

for line in sys.stdin:
    round = json.loads(line)
    body = round["body"].encode()
    headers = round["headers"]
    unwrap = OpenAI(api_key="unused", webhook_secret=round["secret"]).webhooks.unwrap
    start = time.perf_counter_ns()
    for _ in range(round["calls"]):
        unwrap(body, headers)
    print((time.perf_counter_ns() - start) / round["calls"], flush=True)
