"""Serves a sample of the README of the official OpenAI SDK for Python, which is taken unchanged
from the installed package.

    readme_sample.py unwrap|verify_signature

The environment variable OPENAI_WEBHOOK_SECRET has the secret. The first line on stdout is
{"listening": "http://127.0.0.1:PORT/webhook"}. What the sample prints goes to stderr.
"""

import importlib.metadata
import json
import os
import re
import sys

from werkzeug.serving import make_server

os.environ.setdefault("OPENAI_API_KEY", "unused")
readme = importlib.metadata.metadata("openai").get_payload()
blocks = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
sample = next(block for block in blocks if f"client.webhooks.{sys.argv[1]}(" in block)
# Not as the main program, because its port is fixed then.
names = {"__name__": "sample"}
exec(compile(sample, "README.md", "exec"), names)

server = make_server("127.0.0.1", 0, names["app"], threaded=True)
print(json.dumps({"listening": f"http://127.0.0.1:{server.server_port}/webhook"}), flush=True)
sys.stdout = sys.stderr
server.serve_forever()
