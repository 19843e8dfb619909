"""The application behind a destination: an HTTP server whose answers a test chooses."""

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import patience


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: str = ""
    headers: dict = field(default_factory=dict)

    @classmethod
    def failure(cls, status, body=""):
        """A failure that the gateway does not repeat by itself while a test runs."""
        return cls(status, body, {"retry-after": "3600"})


@dataclass(frozen=True)
class Received:
    id: str
    body: bytes


class Application:
    """Answers every request with `answer`, or with `answer(received)` if that is a function."""

    def __init__(self):
        self.answer = Answer()
        self.received = []
        self._changed = threading.Condition()
        self._may_answer = threading.Event()
        self._may_answer.set()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.application = self
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}/webhook"

    def hold(self):
        """Lets requests wait for their answers until `release`."""
        self._may_answer.clear()

    def release(self):
        self._may_answer.set()

    def wait_for(self, count, seconds=patience.SECONDS):
        """Waits for this number of requests since the beginning, and returns all."""
        with self._changed:
            has_come = self._changed.wait_for(lambda: len(self.received) >= count, seconds)
            assert has_come, f"{len(self.received)} requests came, not {count}"
            return list(self.received)

    def receive(self, received):
        with self._changed:
            self.received.append(received)
            self._changed.notify_all()
        self._may_answer.wait()
        return self.answer(received) if callable(self.answer) else self.answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        received = Received(self.headers["webhook-id"], body)
        answer = self.server.application.receive(received)
        content = answer.body.encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass
