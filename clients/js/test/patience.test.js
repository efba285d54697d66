// When silence is taken for a dead connection: by this package, and by the clients of the demo's page, which users copy.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import test from 'node:test';

import { subscribe } from '../src/index.js';

const source = readFileSync(new URL('../../../src/demo/page/clients.js', import.meta.url), 'utf8');
const { NdjsonStream } = new Function(`${source}\nreturn { NdjsonStream };`)();

// The server's default interval of heartbeats.
const DEFAULT_MS = 15_000;

const clients = {
  package(url) {
    const stream = subscribe(url);
    return { state: () => stream.state, interval: () => stream.interval, close: () => stream.close() };
  },
  page(url) {
    let state;
    const stream = new NdjsonStream(url, { state: (name) => { state = name; } });
    stream.open();
    return { state: () => state, interval: () => stream.heartbeat, close: () => stream.close() };
  },
};

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

for (const [name, open] of Object.entries(clients)) {
  const start = async (t, text) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const server = await serve(text);
    const client = open(server.url);
    t.after(() => { client.close(); server.stop(); });
    await until(() => client.state() === 'live');
    return client;
  };

  test(`${name}: a quiet stream with the default interval is kept, a dead one is not`, { timeout: 60_000 }, async (t) => {
    const client = await start(t, '\n');
    t.mock.timers.tick(2 * DEFAULT_MS);
    assert.equal(client.state(), 'live');
    t.mock.timers.tick(DEFAULT_MS);
    await until(() => client.state() !== 'live');
  });

  test(`${name}: a heartbeat says the interval`, { timeout: 60_000 }, async (t) => {
    const client = await start(t, '{"type":"heartbeat","ts":1,"interval":60000}\n');
    await until(() => client.interval() === 60_000);
    await new Promise(setImmediate);
    t.mock.timers.tick(2 * 60_000);
    assert.equal(client.state(), 'live');
  });
}
