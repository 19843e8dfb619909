"""Applications that receive webhooks with FastAPI and the official OpenAI SDK for Python.

    applications.py naive|careful

The environment variable OPENAI_WEBHOOK_SECRET has the secret. The first line on stdout is
{"listening": "http://127.0.0.1:PORT/webhook"}. GET /effects?webhook-id=ID answers how often the
application has processed the event of this webhook.
"""

import json
import socket
import sqlite3
import sys
from collections import Counter

import uvicorn
from fastapi import FastAPI, Query, Request, Response
from openai import OpenAI

client = OpenAI(api_key="unused")


def naive():
    """What is written first: it works with every sample that Python has written."""
    app = FastAPI()
    effects = Counter()

    @app.post("/webhook")
    async def webhook(request: Request):
        body = await request.json()
        client.webhooks.unwrap(json.dumps(body), request.headers)
        effects[request.headers["webhook-id"]] += 1
        return {"received": True}

    @app.get("/effects")
    async def count(webhook_id: str = Query(alias="webhook-id")):
        return effects[webhook_id]

    return app


def careful():
    """Verifies the raw body, and records the webhook and its effect in one transaction."""
    app = FastAPI()
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute("CREATE TABLE effect (webhook_id TEXT PRIMARY KEY)")

    @app.post("/webhook")
    async def webhook(request: Request):
        payload = await request.body()
        try:
            client.webhooks.unwrap(payload, request.headers)
        except ValueError:  # also InvalidWebhookSignatureError
            return Response(status_code=400)
        with database:
            database.execute(
                "INSERT INTO effect VALUES (?) ON CONFLICT DO NOTHING",
                (request.headers["webhook-id"],),
            )
        return Response(status_code=200)

    @app.get("/effects")
    async def count(webhook_id: str = Query(alias="webhook-id")):
        query = "SELECT count(*) FROM effect WHERE webhook_id = ?"
        return database.execute(query, (webhook_id,)).fetchone()[0]

    return app


app = {"naive": naive, "careful": careful}[sys.argv[1]]()
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
print(json.dumps({"listening": f"http://127.0.0.1:{port}/webhook"}), flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listener])
