// An application with the official OpenAI SDK for Node, against a mock.
//
// OPENAI_BASE_URL and OPENAI_API_KEY lead the SDK to the mock, MOCK is the URL of its control
// routes.

'use strict';

// The SDK requires the global `crypto` and `File`, which Node has from version 20 on.
globalThis.crypto ??= require('node:crypto').webcrypto;
globalThis.File ??= require('node:buffer').File;

const assert = require('node:assert/strict');
const http = require('node:http');
const { OpenAI, toFile } = require('openai');

const client = new OpenAI();
const webhooks = [];
let arrived = () => {};

const server = http.createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  webhooks.push([Buffer.concat(pieces).toString('utf8'), request.headers]);
  response.end();
  arrived();
});

async function nextWebhook() {
  while (webhooks.length === 0) await new Promise((resolve) => (arrived = resolve));
  return webhooks.shift();
}

async function nextEvent(type, secret) {
  const [payload, headers] = await nextWebhook();
  const event = await client.webhooks.unwrap(payload, headers, secret);
  assert.equal(event.type, type);
  return event;
}

async function control(path, body) {
  const answer = await fetch(`${process.env.MOCK}/${path}`, { method: 'POST', body: JSON.stringify(body) });
  assert.equal(answer.status, 200, await answer.text());
}

async function main() {
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${server.address().port}/`;

  // A webhook endpoint, and its secret.
  const { data: event_types } = await client.webhooks.eventTypes.list();
  const endpoint = await client.webhooks.create({ name: 'app', url, event_types });
  client.webhookSecret = endpoint.signing_secret;
  for await (const one of client.webhooks.list()) assert.equal(one.id, endpoint.id);
  const tested = await client.webhooks.test(endpoint.id, { event_type: 'batch.failed' });
  assert.equal(tested.status_code, 200);
  await nextEvent('batch.failed');

  // A background response, whose result vanishes. The SDK tries again after the 429.
  await control('rules', { rule: 'POST /v1/responses 429 retry_after=1 times=1' });
  const queued = await client.responses.create({
    model: 'gpt-6-astra',
    input: 'Hi',
    background: true,
    store: false,
  });
  assert.equal(queued.status, 'queued');
  const completed = await nextEvent('response.completed');
  const response = await client.responses.retrieve(completed.data.id);
  assert.equal(response.status, 'completed');
  assert.match(response.output_text, /Hi$/);
  await control('clock', { advance: '11m' });
  await assert.rejects(client.responses.retrieve(response.id), OpenAI.NotFoundError);

  // A batch, from its input file to its output file and its error file.
  const line = (custom_id, body) => JSON.stringify({ custom_id, method: 'POST', url: '/v1/responses', body });
  const lines = [line('a', { model: 'gpt-6-astra', input: 'Hi' }), line('b', { input: 'no model' })];
  const content = Buffer.from(lines.join('\n'));
  const file = await client.files.create({ file: await toFile(content, 'input.jsonl'), purpose: 'batch' });
  assert.equal(file.bytes, content.length);
  await client.batches.create({
    input_file_id: file.id,
    endpoint: '/v1/responses',
    completion_window: '24h',
  });
  const batch = await client.batches.retrieve((await nextEvent('batch.completed')).data.id);
  assert.deepEqual(batch.request_counts, { total: 2, completed: 1, failed: 1 });
  const text = async (id) => JSON.parse(await (await client.files.content(id)).text());
  assert.equal((await text(batch.output_file_id)).response.body.status, 'completed');
  assert.equal((await text(batch.error_file_id)).response.status_code, 400);

  // A call.
  await control('calls', { ring_seconds: 3600 });
  const { data } = await nextEvent('realtime.call.incoming');
  assert.equal(data.sip_headers[0].name, 'From');
  await client.realtime.calls.accept(data.call_id, { type: 'realtime', model: 'gpt-realtime' });
  await client.realtime.calls.hangup(data.call_id);
  await control('calls', { ring_seconds: 3600 });
  const second = await nextEvent('realtime.call.incoming');
  await client.realtime.calls.reject(second.data.call_id);

  // An agent session.
  const session = await client.beta.agents.sessions.create({
    environment: { type: 'none' },
    agent: { model: 'gpt-6-astra' },
    input: 'Hi',
  });
  // The order of webhooks is not promised.
  const types = [];
  for (let count = 0; count < 3; count += 1) {
    types.push((await client.webhooks.unwrap(...(await nextWebhook()))).type);
  }
  assert.deepEqual(types.sort(), ['agent.session.created', 'agent.session.idle', 'agent.session.in_progress']);
  assert.equal((await client.beta.agents.sessions.retrieve(session.id)).status, 'idle');

  // A rotation: while both secrets are active, either unwraps.
  const old = endpoint.signing_secret;
  const rotated = await client.webhooks.rotateSecret(endpoint.id, {
    keep_old_secret_active_for_24_hours: true,
  });
  for (const secret of [old, rotated.signing_secret]) {
    await control('events', { type: 'safety.alert.created' });
    await nextEvent('safety.alert.created', secret);
  }
  await control('clock', { advance: '25h' });
  await control('events', { type: 'safety.alert.created' });
  await assert.rejects(nextEvent('safety.alert.created', old), OpenAI.InvalidWebhookSignatureError);
  const updated = await client.webhooks.update(endpoint.id, { event_types: ['batch.failed'] });
  assert.deepEqual(updated.event_types, ['batch.failed']);
  assert.equal((await client.webhooks.delete(endpoint.id)).deleted, true);
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
