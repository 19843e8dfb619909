"""Webhooks as OpenAI sends them, signed as https://www.standardwebhooks.com describes."""

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field

OPENAI_SECRET = "whsec_" + base64.b64encode(b"secret of the endpoint at OpenAI").decode()
APP_SECRET = "whsec_" + base64.b64encode(b"secret of the application, 32 B.").decode()

# Beginnings of the ids that events are about.
RESOURCES = {
    "agent.session": "sess_",
    "batch": "batch_",
    "eval.run": "evalrun_",
    "fine_tuning.job": "ftjob-",
    "response": "resp_",
    "video": "video_",
}


@dataclass(frozen=True)
class Webhook:
    body: bytes
    id: str = field(default_factory=lambda: "wh_" + secrets.token_hex(16))
    sent_at: int = field(default_factory=lambda: int(time.time()))

    def headers(self, secret=OPENAI_SECRET):
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.id}.{self.sent_at}.".encode() + self.body
        signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        return {
            "content-type": "application/json",
            "user-agent": "OpenAI/1.0",
            "webhook-id": self.id,
            "webhook-timestamp": str(self.sent_at),
            "webhook-signature": f"v1,{signature}",
        }


def event(event_type, resource=None, **more):
    """A webhook with an event of this type. `more` are other arguments of `Webhook`."""
    if resource is None:
        resource = RESOURCES[event_type.rpartition(".")[0]] + secrets.token_hex(12)
    return of_data(event_type, {"id": resource}, **more)


def incoming_call(sip_headers, **more):
    """A webhook with an incoming call that has these SIP headers."""
    data = {
        "call_id": "rtc_" + secrets.token_hex(12),
        "sip_headers": [{"name": name, "value": value} for name, value in sip_headers],
    }
    return of_data("realtime.call.incoming", data, **more)


def of_data(event_type, data, **more):
    body = {
        "object": "event",
        "id": "evt_" + secrets.token_hex(12),
        "type": event_type,
        "created_at": int(time.time()),
        "data": data,
    }
    return Webhook(json.dumps(body).encode(), **more)


def resource(webhook):
    """The id that the event of a webhook is about."""
    data = json.loads(webhook.body)["data"]
    return data.get("id") or data["call_id"]
