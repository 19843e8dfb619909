// Prints the verdict of the official OpenAI SDK for Node on webhooks.
//
// Reads JSON lines from stdin, and answers each with one JSON line on stdout:
//
//     {"secret": str, "headers": [[name, value], ...], "payload_base64": str, "tolerance": int?, "now": int?, "op": str?}
//     {"verdict": "ok"}
//     {"verdict": "refused", "error": "<class name>"}
//
// `op` is "unwrap" or "verify". The default is "verify" with a tolerance, else "unwrap". `now`
// freezes the clock, in Unix seconds. Header values reach the SDK unchanged. The SDK joins repeated
// headers with ", ", as Node's HTTP server does.

'use strict';

// The SDK requires the global `crypto`, which Node has from version 20 on.
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
