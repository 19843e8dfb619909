"""An HTTP server that receives webhooks with the official OpenAI SDK for Python.

The environment variable OPENAI_WEBHOOK_SECRET has the secret. The first line on stdout is
{"listening": "http://127.0.0.1:PORT/"}. One JSON line follows for each POST, before its answer of
200 or 400:

    {"ok": true, "webhook_id": str, "type": str, "id": str, "payload_base64": str}
    {"ok": false, "webhook_id": str or null, "error": "<class name>"}
"""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from openai import OpenAI

client = OpenAI(api_key="unused")
stdout = threading.Lock()


def say(line):
    with stdout:
        print(json.dumps(line), flush=True)


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        payload = self.rfile.read(int(self.headers.get("content-length") or 0))
        webhook_id = self.headers.get("webhook-id")
        try:
            event = client.webhooks.unwrap(payload, self.headers)
        except Exception as error:
            say({"ok": False, "webhook_id": webhook_id, "error": type(error).__name__})
            self.answer(400)
        else:
            say(
                {
                    "ok": True,
                    "webhook_id": webhook_id,
                    "type": getattr(event, "type", None),
                    "id": getattr(event, "id", None),
                    "payload_base64": base64.b64encode(payload).decode(),
                }
            )
            self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
say({"listening": f"http://127.0.0.1:{server.server_address[1]}/"})
server.serve_forever()
