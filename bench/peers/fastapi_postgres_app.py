"""The application people write with FastAPI, OpenAI's SDK and asyncpg: it stores each event in PostgreSQL before it answers."""

import socket
import sys
from contextlib import asynccontextmanager

import asyncpg
import uvicorn
from fastapi import FastAPI, Request, Response
from openai import OpenAI


@asynccontextmanager
async def connected(app):
    async with asyncpg.create_pool(sys.argv[1]) as pool:
        await pool.execute("CREATE TABLE event (webhook_id text PRIMARY KEY, type text NOT NULL, payload bytea NOT NULL)")
        app.state.pool = pool
        yield


app = FastAPI(lifespan=connected)
client = OpenAI()


@app.post("/webhook")
async def webhook(request: Request):
    body = await request.body()
    event = client.webhooks.unwrap(body, request.headers)
    await app.state.pool.execute(
        "INSERT INTO event VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", request.headers["webhook-id"], event.type, body
    )
    return Response(status_code=200)


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()  # who connects before uvicorn is up waits
print(f"http://127.0.0.1:{listener.getsockname()[1]}/webhook", flush=True)
server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
server.run(sockets=[listener])
