"""A gateway as users run it: the process `unwrapd serve` in a folder of its own."""

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import patience
from webhooks import APP_SECRET, OPENAI_SECRET

ENDPOINT = "production"


def destination(name, url, **keys):
    """The table of a destination. `keys` are its other keys."""
    lines = ["[[destination]]", f'name = "{name}"', f'url = "{url}"']
    lines.append('secret = { file = "app.secret" }')
    # Of the types used here, JSON is TOML.
    lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


class Gateway:
    """`destinations` are tables, `server` are lines of `[server]`, `files` are secrets by their
    file name. Without `store` it has an SQLite file."""

    def __init__(self, *destinations, server="", store="sqlite:unwrapd.db", files=()):
        self._folder = tempfile.TemporaryDirectory(prefix="unwrapd-browser-")
        self.folder = Path(self._folder.name)
        self._process = None
        self._ports = _free_ports(2)
        public, admin = self._ports
        self.public = f"http://127.0.0.1:{public}"
        self.admin = f"http://127.0.0.1:{admin}"
        self.write_secret("openai.secret", OPENAI_SECRET)
        self.write_secret("app.secret", APP_SECRET)
        for name, text in dict(files).items():
            self.write_secret(name, text)
        config = f"""
            [server]
            listen = "127.0.0.1:{public}"
            admin = "127.0.0.1:{admin}"
            {server}
            [store]
            url = "{store}"
            [[endpoint]]
            name = "{ENDPOINT}"
            secrets = [{{ file = "openai.secret" }}]
        """
        self._config = self.folder / "unwrapd.toml"
        self._config.write_text(config + "\n" + "\n".join(destinations))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self._folder.cleanup()

    def write_secret(self, name, text):
        file = self.folder / name
        file.write_text(text)
        file.chmod(0o600)

    def start(self):
        """Starts the process, and waits until it is ready."""
        environment = {"PATH": os.environ["PATH"], "NO_COLOR": "1", "UNWRAPD_LOG": "info"}
        # The process ends with the tests, however they end.
        command = ["setpriv", "--pdeathsig", "KILL", "--", os.environ["UNWRAPD"], "serve"]
        command += ["--config", self._config]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log
            )
        patience.until("the gateway is ready", self._is_ready)

    def _is_ready(self):
        assert self._process.poll() is None, f"the gateway has ended:\n{self.log()}"
        try:
            return self._ask("GET", "/readyz").status == 200
        except ConnectionError:
            return False

    def stop(self):
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(patience.SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None

    def restart(self):
        self.stop()
        self.start()

    def reload(self):
        """Has the gateway read its configuration again."""
        told = self.log().count("was reloaded")
        self._process.send_signal(signal.SIGHUP)
        patience.until("the configuration is in use", lambda: self.log().count("was reloaded") > told)

    @property
    def _log(self):
        return self.folder / "log"

    def log(self):
        return self._log.read_text(errors="replace")

    def receive(self, *webhooks):
        """Sends these webhooks as OpenAI does. The gateway must accept each."""
        for webhook in webhooks:
            assert self.post(webhook) == 200

    def receive_many(self, webhooks, at_once=32):
        """The same, with several connections. The order of arrival is arbitrary."""
        parts = [webhooks[place::at_once] for place in range(at_once)]
        with ThreadPoolExecutor(at_once) as pool:
            for statuses in pool.map(self._post_all, parts):
                assert set(statuses) <= {200}

    def post(self, webhook, secret=OPENAI_SECRET):
        """Sends a webhook, and returns the status of the answer."""
        [status] = self._post_all([webhook], secret)
        return status

    def _post_all(self, webhooks, secret=OPENAI_SECRET):
        statuses = []
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[0], patience.SECONDS)
        for webhook in webhooks:
            headers = webhook.headers(secret)
            connection.request("POST", f"/webhooks/{ENDPOINT}", webhook.body, headers)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        connection.close()
        return statuses

    def api(self, path, token=None):
        """The answer of the admin API to a program. Tests look at pages; this is for what no page
        shows."""
        response = self._ask("GET", f"/api/v1{path}", token)
        assert response.status == 200, response.content
        return json.loads(response.content)

    def destination(self, name, token=None):
        """The state of a destination, from the admin API."""
        all_of_them = self.api("/destinations", token)["destinations"]
        return next(one for one in all_of_them if one["name"] == name)

    def _ask(self, method, path, token=None):
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[1], patience.SECONDS)
        try:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            response.content = response.read()
            return response
        finally:
            connection.close()


def _free_ports(count):
    """Ports below the range of ephemeral ports, so that a gateway finds them free again after a
    restart."""
    ports = set()
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                ports.add(port)
    return list(ports)
