"""Prints the verdict of the official OpenAI SDK for Python on webhooks.

Reads JSON lines from stdin, and answers each with one JSON line on stdout:

    {"secret": str, "headers": [[name, value], ...], "payload_base64": str, "tolerance": int?, "now": int?, "op": str?}
    {"verdict": "ok"}
    {"verdict": "refused", "error": "<class name>"}

`op` is "unwrap" or "verify". The default is "verify" with a tolerance (this SDK's `unwrap` takes
none), else "unwrap". `now` freezes the clock, in Unix seconds. Header values reach the SDK
unchanged, in an `email.message.Message`, the type that `http.server` uses for headers. The type
stores repeated headers and returns the first.
"""

import base64
import json
import sys
import time
from email.message import Message

from openai import OpenAI

client = OpenAI(api_key="unused")
real_clock = time.time


def judge(question):
    headers = Message()
    for name, value in question["headers"]:
        headers[name] = value
    payload = base64.b64decode(question["payload_base64"])
    tolerance = question.get("tolerance")
    op = question.get("op") or ("unwrap" if tolerance is None else "verify")
    now = question.get("now")
    time.time = real_clock if now is None else lambda: now
    try:
        if op == "unwrap":
            client.webhooks.unwrap(payload, headers, secret=question["secret"])
        elif tolerance is None:
            client.webhooks.verify_signature(payload, headers, secret=question["secret"])
        else:
            client.webhooks.verify_signature(payload, headers, secret=question["secret"], tolerance=tolerance)
    except Exception as error:  # A crash of the SDK refuses the request too.
        return {"verdict": "refused", "error": type(error).__name__}
    finally:
        time.time = real_clock
    return {"verdict": "ok"}


for line in sys.stdin:
    print(json.dumps(judge(json.loads(line))), flush=True)
