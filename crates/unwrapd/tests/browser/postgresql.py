"""A PostgreSQL server in a temporary folder, reached by a socket in it."""

import glob
import os
import shutil
import subprocess
import tempfile
import urllib.parse
from pathlib import Path

import patience


class PostgreSQL:
    def __enter__(self):
        self._folder = Path(tempfile.mkdtemp(prefix="unwrapd-browser-pg-"))
        if os.getuid() == 0:
            shutil.chown(self._folder, "postgres", "postgres")
        self._folder.chmod(0o711)
        data = self._folder / "data"
        made = [_program("initdb"), "--username=postgres", "--auth=trust", "--encoding=UTF8"]
        made += ["--locale=C", "--no-sync", "--pgdata", data]
        subprocess.run(_as_owner(*made), cwd="/", check=True, stdout=subprocess.DEVNULL)
        command = [_program("postgres"), "-D", data, "-k", self._folder]
        for setting in ["listen_addresses=", "shared_buffers=64MB"]:
            command += ["-c", setting]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(_as_owner(*command), cwd="/", stdout=log, stderr=log)
        patience.until("PostgreSQL is ready", self._is_ready)
        return self

    def _is_ready(self):
        log = self._folder / "log"
        assert self._process.poll() is None, log.read_text()
        asked = [_program("pg_isready"), "--quiet", "--host", self._folder]
        return subprocess.run(asked, check=False).returncode == 0

    def __exit__(self, *_):
        # SIGINT is the fast shutdown: it waits for no client.
        self._process.send_signal(2)
        self._process.wait(patience.SECONDS)
        shutil.rmtree(self._folder)

    def store(self):
        """The `url` of a store on this server."""
        host = urllib.parse.quote(str(self._folder), safe="")
        return f"postgres://postgres@{host}/postgres?schema=unwrapd"


def _program(name):
    # The newest version: its number is a part of the path.
    found = glob.glob(f"/usr/lib/postgresql/*/bin/{name}")
    assert found, f"{name} is missing: install postgresql"
    return max(found, key=lambda path: int(path.split("/")[4]))


def _as_owner(*command):
    """PostgreSQL refuses to run as root. The process ends with the tests, however they end."""
    owner = []
    if os.getuid() == 0:
        owner = ["--reuid=postgres", "--regid=postgres", "--init-groups"]
    return ["setpriv", *owner, "--pdeathsig", "INT", "--", *map(str, command)]
