// A typical application with Express and OpenAI's SDK. With a database path as argument it stores
// each event before it answers.
const express = require('express');
const { OpenAI } = require('openai');

const app = express();
const client = new OpenAI();
const insert = process.argv[2] && prepare(process.argv[2]);

app.post('/webhook', express.text({ type: 'application/json' }), async (request, response) => {
  const event = await client.webhooks.unwrap(request.body, request.headers);
  insert?.run(request.headers['webhook-id'], event.type, request.body);
  response.status(200).end();
});

const server = app.listen(0, '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}/webhook`);
});

// Outside a transaction, each statement is a commit.
function prepare(path) {
  const database = require('better-sqlite3')(path);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.exec('CREATE TABLE event (webhook_id TEXT PRIMARY KEY, type TEXT NOT NULL, payload BLOB NOT NULL)');
  return database.prepare('INSERT OR IGNORE INTO event VALUES (?, ?, ?)');
}
