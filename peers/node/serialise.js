// Writes an event as programs in JavaScript write JSON.
//
// Reads one JSON text from stdin, and prints for each way a JSON line with its name and the text:
//
//     ["JSON.stringify(event)", "{\"id\":..."]

'use strict';

const event = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));

for (const [name, text] of [
  ['JSON.stringify(event)', JSON.stringify(event)],
  ['JSON.stringify(event, null, 2)', JSON.stringify(event, null, 2)],
  ['JSON.stringify(event, null, 4)', JSON.stringify(event, null, 4)],
  ['JSON.stringify(event, null, "\\t")', JSON.stringify(event, null, '\t')],
]) {
  process.stdout.write(`${JSON.stringify([name, text])}\n`);
}
