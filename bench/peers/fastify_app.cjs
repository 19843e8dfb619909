// A typical application with Fastify and OpenAI's SDK. It stores nothing.
const fastify = require('fastify');
const { OpenAI } = require('openai');

const app = fastify();
const client = new OpenAI();

// The signature covers the exact text.
app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => done(null, body));

app.post('/webhook', async (request, reply) => {
  await client.webhooks.unwrap(request.body, request.headers);
  return reply.code(200).send();
});

app.listen({ port: 0, host: '127.0.0.1' }).then((address) => {
  console.log(`${address}/webhook`);
});
