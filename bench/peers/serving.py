"""Serves an application on a free port of the loopback interface, and prints its webhook URL."""

import socket

import uvicorn


def serve(app):
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # connections wait until uvicorn is ready
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/webhook", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    server.run(sockets=[listener])
