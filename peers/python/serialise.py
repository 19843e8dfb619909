"""Writes an event as programs in Python write JSON.

Reads one JSON text from stdin, and prints for each way a JSON line with its name and the text:

    ["json.dumps(event)", "{\\"id\\": ..."]
"""

import json
import sys

event = json.loads(sys.stdin.buffer.read())

for name, text in [
    ("json.dumps(event)", json.dumps(event)),
    ("json.dumps(event, ensure_ascii=False)", json.dumps(event, ensure_ascii=False)),
    ('json.dumps(event, separators=(",", ":"))', json.dumps(event, separators=(",", ":"))),
    ("json.dumps(event, indent=2)", json.dumps(event, indent=2)),
    ("json.dumps(event, indent=4)", json.dumps(event, indent=4)),
    ("json.dumps(event, sort_keys=True)", json.dumps(event, sort_keys=True)),
    (
        "json.dumps(event, sort_keys=True, ensure_ascii=False)",
        json.dumps(event, sort_keys=True, ensure_ascii=False),
    ),
    (
        'json.dumps(event, sort_keys=True, separators=(",", ":"))',
        json.dumps(event, sort_keys=True, separators=(",", ":")),
    ),
    ("json.dumps(event, sort_keys=True, indent=2)", json.dumps(event, sort_keys=True, indent=2)),
    ("json.dumps(event, sort_keys=True, indent=4)", json.dumps(event, sort_keys=True, indent=4)),
]:
    print(json.dumps([name, text]))
