// When silence is taken for a dead connection.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import test from 'node:test';

import { subscribe } from '../src/index.js';

// The server's default interval of heartbeats.
const DEFAULT_MS = 15_000;

// A stream that sends this and then nothing.
async function serve(text) {
  const server = createServer((request, response) => {
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
    response.write(text);
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const stop = () => { server.closeAllConnections(); server.close(); };
  return { url: `http://127.0.0.1:${server.address().port}/stream`, stop };
}

async function until(holds) {
  while (!holds()) await new Promise(setImmediate);
}

async function start(t, text) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const server = await serve(text);
  const stream = subscribe(server.url);
  t.after(() => { stream.close(); server.stop(); });
  await until(() => stream.state === 'live');
  return stream;
}

test('a quiet stream with the default interval is kept, a dead one is not', { timeout: 60_000 }, async (t) => {
  const stream = await start(t, '\n');
  t.mock.timers.tick(2 * DEFAULT_MS);
  assert.equal(stream.state, 'live');
  t.mock.timers.tick(DEFAULT_MS);
  await until(() => stream.state !== 'live');
});

test('a heartbeat says the interval', { timeout: 60_000 }, async (t) => {
  const stream = await start(t, '{"type":"heartbeat","ts":1,"interval":60000}\n');
  await until(() => stream.interval === 60_000);
  await new Promise(setImmediate);
  t.mock.timers.tick(2 * 60_000);
  assert.equal(stream.state, 'live');
});
