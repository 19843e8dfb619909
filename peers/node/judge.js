// Says what the official OpenAI SDK for Node answers to a webhook.
//
// Reads JSON lines on stdin and answers each with one JSON line on stdout:
//
//     {"secret": str, "headers": [[name, value], ...], "payload_base64": str, "tolerance": int?, "now": int?, "op": str?}
//     {"verdict": "ok"}
//     {"verdict": "refused", "error": "<class name>"}
//
// `op` is "unwrap" or "verify"; without it, "verify" where a tolerance is given, else "unwrap". `now` freezes the clock, in Unix
// seconds. Values of headers reach the SDK letter for letter; it joins repeated ones with ", ", as Node's HTTP server does.

'use strict';

// Global only from Node 20 on; the SDK wants it there.
globalThis.crypto ??= require('node:crypto').webcrypto;

const readline = require('node:readline');
const { OpenAI } = require('openai');

const client = new OpenAI({ apiKey: 'unused' });
const realClock = Date.now;

async function judge({ secret, headers, payload_base64, tolerance, now, op }) {
  const payload = Buffer.from(payload_base64, 'base64').toString('utf8');
  op ??= tolerance == null ? 'unwrap' : 'verify';
  Date.now = now == null ? realClock : () => now * 1000;
  try {
    const call = op === 'unwrap' ? 'unwrap' : 'verifySignature';
    await client.webhooks[call](payload, headers, secret, tolerance ?? undefined);
    return { verdict: 'ok' };
  } catch (error) {
    return { verdict: 'refused', error: error?.constructor?.name ?? String(error) };
  } finally {
    Date.now = realClock;
  }
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await judge(JSON.parse(line)))}\n`);
  }
}

main();
