// Times `client.webhooks.unwrap` of OpenAI's Node SDK. Reads rounds as JSON lines, and prints
// nanoseconds per call.
const readline = require('node:readline');
const { OpenAI } = require('openai');

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { secret, body, headers, calls } = JSON.parse(line);
    const { webhooks } = new OpenAI({ apiKey: 'unused', webhookSecret: secret });
    const start = process.hrtime.bigint();
    for (let call = 0; call < calls; call++) {
      await webhooks.unwrap(body, headers);
    }
    console.log(Number(process.hrtime.bigint() - start) / calls);
  }
}

main();
