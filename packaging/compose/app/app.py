"""An example application: prints the type of each event that the gateway delivers."""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from openai import InvalidWebhookSignatureError, OpenAI

with open(os.environ["WEBHOOK_SECRET_FILE"]) as file:
    client = OpenAI(api_key="unused", webhook_secret=file.read().strip())


class Application(BaseHTTPRequestHandler):
    def do_POST(self):
        payload = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = client.webhooks.unwrap(payload, self.headers)
        except (InvalidWebhookSignatureError, ValueError):
            return self.answer(400)
        # An event may come twice: remember its `webhook-id` if that matters.
        print(f"{event.type} {self.headers['webhook-id']}", flush=True)
        self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    ThreadingHTTPServer(("", port), Application).serve_forever()
