// The client against a small server that sends what it is told, and cuts where it is told.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import test from 'node:test';

import { Refused, subscribe } from '../src/index.js';
import { backoff } from '../src/backoff.js';
import { Items } from '../src/items.js';

// Answers requests one after another with the functions of `script`; the last one answers all that follow.
async function serve(script) {
  const requests = [];
  const server = createServer((request, response) => {
    requests.push({ url: new URL(request.url, 'http://x'), headers: request.headers });
    script[Math.min(requests.length, script.length) - 1](response, request);
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const url = `http://127.0.0.1:${server.address().port}/stream`;
  const stop = () => { server.closeAllConnections(); server.close(); };
  return { url, requests, stop };
}

const lines = (...objects) => objects.map((object) => `${JSON.stringify(object)}\n`).join('');
const event = (n) => ({ id: `t:0:${n}`, ts: n, type: 'x', data: n });
const stream = (type, ...parts) => (response) => {
  response.writeHead(200, { 'Content-Type': type });
  parts.forEach((part) => response.write(part));
};

// Reads so many items, with waits cut short: the clock of the tests is the order of things.
async function read(subscription, count) {
  const items = [];
  for await (const item of subscription) {
    items.push(item);
    if (items.length === count) break;
  }
  return items;
}

test('it goes on after a cut at the cursor, and drops an unfinished line', async (t) => {
  const first = (response) => {
    stream('application/x-ndjson', lines(event(1), event(2)), '{"id":"t:0:3",')(response);
    setImmediate(() => response.destroy());
  };
  const server = await serve([first, stream('application/x-ndjson', lines(event(3)))]);
  t.after(server.stop);
  const items = await read(subscribe(server.url), 3);
  assert.deepEqual(items.map((item) => item.event.data), [1, 2, 3]);
  assert.equal(server.requests[1].url.searchParams.get('since'), 't:0:2');
  assert.equal(server.requests[0].url.searchParams.get('heartbeat'), 'immediate');
});

test('an event that looks like one of the server\'s own is an event', async (t) => {
  const text = `${lines({ ...event(1), type: 'gap' })} ${lines({ type: 'gap' })}${lines({ type: 'gap', cause: 'overflow', cursor: 't:0:9' })}`;
  const server = await serve([stream('application/x-ndjson', text)]);
  t.after(server.stop);
  const items = await read(subscribe(server.url), 3);
  assert.deepEqual(items.map((item) => item.kind), ['event', 'event', 'gap']);
  assert.equal(items[2].cursor, 't:0:9');
});

test('the borders of a snapshot are items, and it goes on within the snapshot', async (t) => {
  const border = (phase, cursor) => ({ type: 'snapshot', phase, cursor });
  const first = (response) => {
    stream('application/x-ndjson', lines(border('begin', 't:0:-1~.AQ'), { ...event(1), cursor: 't:0:1~.AQ.YQ', snapshot: true }))(response);
    setImmediate(() => response.destroy());
  };
  const server = await serve([first, stream('application/x-ndjson', lines(border('end', 't:0:1')))]);
  t.after(server.stop);
  const begun = [];
  const items = await read(subscribe(`${server.url}?from=state`, { onSnapshot: ({ phase }) => begun.push(phase) }), 3);
  assert.deepEqual(items.map((item) => item.kind), ['snapshot', 'event', 'snapshot']);
  assert.deepEqual(begun, ['begin', 'end']);
  assert.equal(server.requests[1].url.searchParams.get('since'), 't:0:1~.AQ.YQ');
  assert.equal(items[2].cursor, 't:0:1');
});

test('characters and lines may be split between reads, and U+2028 ends no line', async (t) => {
  const bytes = Buffer.from(lines({ ...event(1), data: 'é\u2028x' }));
  const server = await serve([(response) => {
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
    const send = (n) => (n < bytes.length ? response.write(bytes.subarray(n, n + 1), () => send(n + 1)) : undefined);
    send(0);
  }]);
  t.after(server.stop);
  const [item] = await read(subscribe(server.url), 1);
  assert.equal(item.event.data, 'é\u2028x');
});

test('SSE: fields, positions without data, gaps', async (t) => {
  const text = 'retry: 5\nid: t:0:0\n\n: hello\n\nid: t:0:1\ndata: {"id":"t:0:1",\ndata: "data":1}\n\nid: t:0:4\nevent: gap\ndata: {"type":"gap","cause":"overflow"}\n\n';
  const first = (response) => { stream('text/event-stream', text)(response); response.end(); };
  const server = await serve([first, stream('text/event-stream', 'id: t:0:5\ndata: {"data":5}\n\n')]);
  t.after(server.stop);
  const subscription = subscribe(server.url, { transport: 'sse' });
  const items = await read(subscription, 3);
  assert.deepEqual(items.map((item) => item.kind), ['event', 'gap', 'event']);
  assert.deepEqual(items.map((item) => item.cursor), ['t:0:1', 't:0:4', 't:0:5']);
  assert.equal(server.requests[1].url.searchParams.get('last_event_id'), 't:0:4');
});

test('what is gone is a gap, and the stream goes on from now', async (t) => {
  const gone = (response) => {
    response.writeHead(410, { 'Content-Type': 'application/problem+json' });
    response.end(JSON.stringify({ status: 410, cause: 'retention', ranges: [], refresh: '/orders' }));
  };
  const server = await serve([gone, stream('application/x-ndjson', lines(event(7)))]);
  t.after(server.stop);
  const items = await read(subscribe(server.url, { since: 't:0:1' }), 2);
  assert.deepEqual([items[0].gap.refresh, items[1].event.data], ['/orders', 7]);
  assert.equal(server.requests[1].url.searchParams.get('since'), null);
});

test('a refusal ends the stream with the problem', async (t) => {
  const refuse = (response) => {
    response.writeHead(401, { 'Content-Type': 'application/problem+json' });
    response.end(JSON.stringify({ status: 401, detail: 'a token is required' }));
  };
  const server = await serve([refuse]);
  t.after(server.stop);
  const states = [];
  const subscription = subscribe(server.url, { onState: (state) => states.push(state) });
  await assert.rejects(read(subscription, 1), (error) => error instanceof Refused && error.status === 401 && error.message === 'a token is required');
  assert.equal(states.at(-1), 'refused');
  assert.equal(server.requests.length, 1);
});

test('a handler that fails gets its event again', async (t) => {
  const server = await serve([stream('application/x-ndjson', lines(event(1), event(2)))]);
  t.after(server.stop);
  const taken = [];
  let fails = 1;
  await new Promise((done) => {
    const subscription = subscribe(server.url, {
      onEvent: ({ data }) => {
        if (fails-- > 0) throw new Error('not now');
        taken.push(data);
        if (data === 2) { subscription.close(); done(); }
      },
    });
  });
  assert.deepEqual(taken, [1, 2]);
});

test('a token is asked for before each connection, and no URL holds it', async (t) => {
  const first = (response) => { stream('application/x-ndjson', lines(event(1)))(response); response.end(); };
  const server = await serve([first, stream('application/x-ndjson', lines(event(2)))]);
  t.after(server.stop);
  let asked = 0;
  await read(subscribe(server.url, { token: async () => `secret-${asked += 1}` }), 2);
  assert.deepEqual(server.requests.map((request) => request.headers.authorization), ['Bearer secret-1', 'Bearer secret-2']);
  assert.ok(server.requests.every((request) => !request.url.href.includes('secret')));
});

// A WebSocket whose server answers each message that the client sends with the next part of `script`.
function scripted(script, sent) {
  return class {
    constructor(url, protocols) {
      sent.push({ protocols });
      queueMicrotask(() => this.onopen());
    }

    send(text) {
      sent.push(JSON.parse(text).data);
      for (const message of script.shift()) queueMicrotask(() => this.onmessage({ data: JSON.stringify(message) }));
    }

    close() { queueMicrotask(() => this.onclose({ code: 1005 })); }
  };
}

test('a WebSocket sends its token as its first message, and renews it in place', async () => {
  const ok = { id: 'msg-1', type: 'response', data: { command: 'authenticate', status: 'ok' } };
  const own = (data) => ({ id: 'msg-2', type: 'event', data });
  const carried = (n) => ({ id: `t:0:${n}`, type: 'event', data: event(n) });
  const sent = [];
  const states = [];
  const seen = [];
  await new Promise((done) => {
    const subscription = subscribe('http://x/ws', {
      transport: 'websocket',
      authenticate: 'message',
      token: 'first',
      WebSocket: scripted([[ok, carried(1), own({ type: 'auth', expires: 9 })], [ok, carried(2)]], sent),
      onState: (state) => { states.push(state); if (state === 'expiring') subscription.renew('second'); },
      onEvent: ({ data }) => { seen.push(data); if (data === 2) { subscription.close(); done(); } },
    });
  });
  assert.deepEqual(sent, [
    { protocols: [] },
    { command: 'authenticate', token: 'first' },
    { command: 'authenticate', token: 'second' },
  ]);
  assert.deepEqual(seen, [1, 2]);
  assert.deepEqual(states, ['connecting', 'live', 'expiring', 'live', 'closed']);
});

test('the server says when to come back', async (t) => {
  const full = (response) => { response.writeHead(503, { 'Retry-After': '2' }); response.end(); };
  const server = await serve([full]);
  t.after(server.stop);
  const delay = await new Promise((told) => {
    const subscription = subscribe(server.url, {
      onState: (state, detail) => { if (state === 'waiting') { subscription.close(); told(detail); } },
    });
  });
  assert.ok(delay >= 2_000, `${delay}`);
});

test('delays grow and are bounded', () => {
  assert.deepEqual([0, 1, 4, 9].map((attempt) => backoff(attempt, () => 0)), [1_000, 2_000, 16_000, 20_000]);
  assert.equal(backoff(30, () => 1), 30_000);
});

test('an item waits for its reader', async () => {
  const items = new Items();
  const reader = items.iterate(() => {});
  let taken = false;
  const pushed = items.push('a').then(() => { taken = true; });
  await Promise.resolve();
  assert.equal(taken, false);
  assert.deepEqual(await reader.next(), { value: 'a', done: false });
  await pushed;
  items.end();
  assert.equal((await reader.next()).done, true);
});

// A WebSocket of the tests: what was sent to it, and a server that the test plays.
class Socket {
  static OPEN = 1;
  static all = [];

  constructor(url, protocols) {
    Object.assign(this, { url, protocols, sent: [], readyState: 1, OPEN: 1 });
    Socket.all.push(this);
    setImmediate(() => this.onopen());
  }

  send(text) { this.sent.push(JSON.parse(text).data); }

  say(message) { this.onmessage({ data: JSON.stringify(message) }); }

  close() { this.onclose({ code: 1000 }); }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const notice = { id: '1', type: 'event', data: { type: 'auth', expires: 1 } };
const accepted = { id: 'auth-1', type: 'response', data: { command: 'authenticate', status: 'ok' } };

async function expiring(options) {
  const states = [];
  const subscription = subscribe('http://127.0.0.1:1/ws', {
    transport: 'websocket', WebSocket: Socket, onState: (state) => states.push(state), ...options,
  });
  await turn(); await turn();
  const socket = Socket.all.at(-1);
  socket.say(notice);
  await turn(); await turn();
  return { subscription, states, socket };
}

test('a token function is asked again before the token expires, and the socket goes on', async () => {
  const tokens = ['first', 'second'];
  const { subscription, states, socket } = await expiring({ token: async () => tokens.shift() });
  assert.deepEqual(socket.sent, [{ command: 'authenticate', token: 'second' }]);
  socket.say(accepted);
  await turn();
  assert.deepEqual(states, ['connecting', 'live', 'expiring', 'live']);
  assert.equal(Socket.all.filter((other) => other === socket).length, 1);
  subscription.close();
});

test('a fixed token is not sent again; renew replaces it', async () => {
  const { subscription, socket } = await expiring({ token: 'first' });
  assert.deepEqual(socket.sent, []);
  subscription.renew('second');
  assert.deepEqual(socket.sent, [{ command: 'authenticate', token: 'second' }]);
  subscription.close();
});

test('a token function that fails leaves the socket open', async () => {
  let asked = 0;
  const token = () => { if (asked++) throw new Error('no login'); return 'first'; };
  const { subscription, states, socket } = await expiring({ token });
  assert.deepEqual([socket.sent, states.at(-1), asked], [[], 'expiring', 2]);
  subscription.close();
});

test('SSE and NDJSON ask for the next token when they come back', async (t) => {
  const ends = (response) => {
    stream('application/x-ndjson', lines(event(1), { type: 'auth', expires: 1, cursor: 't:0:1' }))(response);
    response.end();
  };
  const server = await serve([ends, stream('application/x-ndjson', lines(event(2)))]);
  t.after(server.stop);
  const tokens = ['first', 'second'];
  const items = await read(subscribe(server.url, { token: () => tokens.shift() }), 2);
  assert.deepEqual(items.map((item) => item.event.data), [1, 2]);
  assert.deepEqual(server.requests.map(({ headers }) => headers.authorization), ['Bearer first', 'Bearer second']);
});
