// Applications that receive webhooks with Express and the official OpenAI SDK for Node.
//
//     applications.js naive|careful
//
// The environment variable OPENAI_WEBHOOK_SECRET has the secret. The first line on stdout is
// {"listening": "http://127.0.0.1:PORT/webhook"}. GET /effects?webhook-id=ID answers how often the
// application has processed the event of this webhook.

'use strict';

// The SDK requires the global `crypto`, which Node has from version 20 on.
globalThis.crypto ??= require('node:crypto').webcrypto;

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const express = require('express');
const { OpenAI } = require('openai');

const client = new OpenAI({ apiKey: 'unused' });

// What is written first: it works with every sample that JavaScript has written.
function naive(app) {
  const effects = new Map();
  app.use(express.json());
  app.post('/webhook', async (request, response) => {
    await client.webhooks.unwrap(JSON.stringify(request.body), request.headers);
    const id = request.get('webhook-id');
    effects.set(id, (effects.get(id) ?? 0) + 1);
    response.json({ received: true });
  });
  return (id) => effects.get(id) ?? 0;
}

// Verifies the raw body. The file of a webhook is its record and its effect, made in one step by
// the first copy.
function careful(app) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unwrapd-peer-'));
  const file = (id) => path.join(folder, encodeURIComponent(id));
  process.once('SIGTERM', () => {
    fs.rmSync(folder, { recursive: true });
    process.exit(0);
  });
  const body = express.text({ type: 'application/json', limit: '1mb' });
  app.post('/webhook', body, async (request, response) => {
    try {
      await client.webhooks.unwrap(request.body, request.headers);
    } catch {
      return response.sendStatus(400);
    }
    try {
      await fs.promises.writeFile(file(request.get('webhook-id')), '', { flag: 'wx' });
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    return response.sendStatus(200);
  });
  return (id) => (fs.existsSync(file(id)) ? 1 : 0);
}

const app = express();
const count = { naive, careful }[process.argv[2]](app);
app.get('/effects', (request, response) => {
  response.json(count(request.query['webhook-id']));
});
const server = app.listen(0, '127.0.0.1', () => {
  const listening = `http://127.0.0.1:${server.address().port}/webhook`;
  process.stdout.write(`${JSON.stringify({ listening })}\n`);
});
