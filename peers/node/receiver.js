// An HTTP server that receives webhooks with the official OpenAI SDK for Node.
//
// The environment variable OPENAI_WEBHOOK_SECRET has the secret. The first line on stdout is
// {"listening": "http://127.0.0.1:PORT/"}. One JSON line follows for each POST, before its answer
// of 200 or 400:
//
//     {"ok": true, "webhook_id": str, "type": str, "id": str, "payload_base64": str}
//     {"ok": false, "webhook_id": str or null, "error": "<class name>"}

'use strict';

// The SDK requires the global `crypto`, which Node has from version 20 on.
globalThis.crypto ??= require('node:crypto').webcrypto;

const http = require('node:http');
const { OpenAI } = require('openai');

const client = new OpenAI({ apiKey: 'unused' });

function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function receive(request) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const payload = Buffer.concat(pieces);
  const webhook_id = request.headers['webhook-id'] ?? null;
  try {
    const { type, id } = await client.webhooks.unwrap(payload.toString('utf8'), request.headers);
    say({ ok: true, webhook_id, type, id, payload_base64: payload.toString('base64') });
    return 200;
  } catch (error) {
    say({ ok: false, webhook_id, error: error?.constructor?.name ?? String(error) });
    return 400;
  }
}

const server = http.createServer(async (request, response) => {
  response.statusCode = request.method === 'POST' ? await receive(request) : 405;
  response.end();
});
server.listen(0, '127.0.0.1', () => {
  say({ listening: `http://127.0.0.1:${server.address().port}/` });
});
