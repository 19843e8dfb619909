"""An application with the official OpenAI SDK for Python, against a mock.

OPENAI_BASE_URL and OPENAI_API_KEY lead the SDK to the mock, MOCK is the URL of its control routes.
"""

import json
import os
import queue
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from openai import InvalidWebhookSignatureError, NotFoundError, OpenAI

client = OpenAI()
webhooks = queue.Queue()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        webhooks.put((self.rfile.read(int(self.headers["content-length"])), self.headers))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def next_event(event_type, secret=None):
    payload, headers = webhooks.get(timeout=60)
    event = client.webhooks.unwrap(payload, headers, secret=secret)
    assert event.type == event_type, event
    return event


def control(path, body):
    request = urllib.request.Request(f"{os.environ['MOCK']}/{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/"

# A webhook endpoint, and its secret.
types = client.webhooks.event_types.list().data
endpoint = client.webhooks.create(name="app", url=url, event_types=types)
client.webhook_secret = endpoint.signing_secret
assert [one.id for one in client.webhooks.list()] == [endpoint.id]
tested = client.webhooks.test(endpoint.id, event_type="batch.failed")
assert tested.status_code == 200, tested
next_event("batch.failed")

# A background response, whose result vanishes. The SDK tries again after the 429.
control("rules", {"rule": "POST /v1/responses 429 retry_after=1 times=1"})
response = client.responses.create(model="gpt-6-astra", input="Hi", background=True, store=False)
assert response.status == "queued", response
event = next_event("response.completed")
response = client.responses.retrieve(event.data.id)
assert response.status == "completed" and response.output_text.endswith("Hi"), response
control("clock", {"advance": "11m"})
try:
    raise AssertionError(client.responses.retrieve(response.id))
except NotFoundError as error:
    assert error.type == "invalid_request_error", error

# A batch, from its input file to its output file and its error file.
lines = [
    {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"model": "gpt-6-astra", "input": "Hi"}},
    {"custom_id": "b", "method": "POST", "url": "/v1/responses", "body": {"input": "no model"}},
]
content = "\n".join(json.dumps(line) for line in lines).encode()
file = client.files.create(file=("input.jsonl", content), purpose="batch")
assert file.bytes == len(content) and file.filename == "input.jsonl", file
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
batch = client.batches.retrieve(next_event("batch.completed").data.id)
assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1), batch
output = json.loads(client.files.content(batch.output_file_id).text)
assert output["custom_id"] == "a" and output["response"]["body"]["status"] == "completed", output
errors = json.loads(client.files.content(batch.error_file_id).text)
assert errors["custom_id"] == "b" and errors["response"]["status_code"] == 400, errors
assert [one.id for one in client.batches.list()] == [batch.id]

# A call.
control("calls", {"ring_seconds": 3600})
event = next_event("realtime.call.incoming")
assert event.data.sip_headers[0].name == "From", event
client.realtime.calls.accept(event.data.call_id, type="realtime", model="gpt-realtime")
client.realtime.calls.refer(event.data.call_id, target_uri="tel:+14155550123")
control("calls", {"ring_seconds": 3600})
client.realtime.calls.reject(next_event("realtime.call.incoming").data.call_id, status_code=486)

# An agent session.
session = client.beta.agents.sessions.create(
    environment={"type": "none"}, agent={"model": "gpt-6-astra"}, input="Hi"
)
# The order of webhooks is not promised.
types = {client.webhooks.unwrap(*webhooks.get(timeout=60)).type for _ in range(3)}
assert types == {"agent.session.created", "agent.session.in_progress", "agent.session.idle"}, types
assert client.beta.agents.sessions.retrieve(session.id).status == "idle"

# A rotation: while both secrets are active, either unwraps.
old = endpoint.signing_secret
rotated = client.webhooks.rotate_secret(endpoint.id, keep_old_secret_active_for_24_hours=True)
for secret in [old, rotated.signing_secret]:
    control("events", {"type": "safety.alert.created"})
    next_event("safety.alert.created", secret)
control("clock", {"advance": "25h"})
control("events", {"type": "safety.alert.created"})
try:
    raise AssertionError(next_event("safety.alert.created", old))
except InvalidWebhookSignatureError:
    pass
updated = client.webhooks.update(endpoint.id, event_types=["batch.failed"])
assert updated.event_types == ["batch.failed"], updated
assert client.webhooks.delete(endpoint.id).deleted
