"""A typical application with FastAPI and OpenAI's SDK.

With a database path as argument it stores each event before it answers.
"""

import sqlite3
import sys

from fastapi import FastAPI, Request, Response
from openai import OpenAI

from serving import serve

app = FastAPI()
client = OpenAI()
database = None
if len(sys.argv) > 1:
    database = sqlite3.connect(sys.argv[1], isolation_level=None)  # each statement is a commit
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE event (webhook_id TEXT PRIMARY KEY, type TEXT NOT NULL, payload BLOB NOT NULL)")


@app.post("/webhook")
async def webhook(request: Request):
    body = await request.body()
    event = client.webhooks.unwrap(body, request.headers)
    if database is not None:
        database.execute(
            "INSERT OR IGNORE INTO event VALUES (?, ?, ?)", (request.headers["webhook-id"], event.type, body)
        )
    return Response(status_code=200)


serve(app)
