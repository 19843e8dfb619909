// Serves a sample of the README of the official OpenAI SDK for Node, which is taken from the
// installed package. The sample is a handler for Next.js in TypeScript. Three lines are changed, so
// that it runs without both: its imports, and the type of its argument.
//
//     readme-sample.js unwrap|verifySignature
//
// The environment variable OPENAI_WEBHOOK_SECRET has the secret. The first line on stdout is
// {"listening": "http://127.0.0.1:PORT/webhook"}. What the sample logs goes to stderr.

'use strict';

// The SDK requires the global `crypto`, which Node has from version 20 on.
globalThis.crypto ??= require('node:crypto').webcrypto;
process.env.OPENAI_API_KEY ??= 'unused';

const { AsyncLocalStorage } = require('node:async_hooks');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { OpenAI } = require('openai');

const readme = path.join(path.dirname(require.resolve('openai')), 'README.md');
const blocks = [...fs.readFileSync(readme, 'utf8').matchAll(/^```ts\n(.*?)^```/gms)];
const sample = blocks.map(([, code]) => code).find((code) => code.includes(`webhooks.${process.argv[2]}(`));

function change(code, line, into) {
  if (!code.includes(line)) throw new Error(`the sample has no ${line}`);
  return code.replace(line, into);
}

let code = change(sample, "import { headers } from 'next/headers';", '');
code = change(code, "import OpenAI from 'openai';", '');
code = change(code, 'export async function webhook(request: Request)', 'async function webhook(request)');
const current = new AsyncLocalStorage();
const stderr = new console.Console(process.stderr);
const webhook = new Function('OpenAI', 'headers', 'console', `${code}\nreturn webhook;`)(
  OpenAI,
  async () => current.getStore(),
  stderr,
);

const server = http.createServer(async (incoming, outgoing) => {
  const pieces = [];
  for await (const piece of incoming) pieces.push(piece);
  const headers = new Headers(incoming.headers);
  const request = new Request('http://127.0.0.1/webhook', {
    method: incoming.method,
    headers,
    body: Buffer.concat(pieces),
  });
  const response = await current.run(headers, () => webhook(request));
  outgoing.writeHead(response.status).end(await response.text());
});
server.listen(0, '127.0.0.1', () => {
  const listening = `http://127.0.0.1:${server.address().port}/webhook`;
  process.stdout.write(`${JSON.stringify({ listening })}\n`);
});
