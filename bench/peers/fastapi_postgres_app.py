"""A typical application with FastAPI, OpenAI's SDK and asyncpg.

It stores each event in PostgreSQL before it answers.
"""

import sys
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI, Request, Response
from openai import OpenAI

from serving import serve


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


serve(app)
