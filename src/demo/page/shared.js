// One connection for all tabs that show the same stream. A browser opens six HTTP/1.1 connections to a host, all tabs
// together, and every EventSource and every fetch that streams keeps one: without this, the third tab of the demo's page
// would wait for ever. Needs clients.js. The page and its worker load this same file.
//
//   const stream = shared(NdjsonStream, '/stream', { event(event, cursor) { ... } }, { since: cursor });
//   stream.open();                  // as the classes of clients.js, which it is where there are no shared workers
'use strict';

const WORKER = 'shared.js';

function shared(Class, path, on, options = {}) {
  return 'SharedWorker' in globalThis ? new SharedStream(Class, path, on, options) : new Class(path, on, options);
}

// The page's side: passes calls to the worker, and what it says to `on`.
class SharedStream {
  constructor(Class, path, on, { since = null, headers = {} } = {}) {
    Object.assign(this, { on, cursor: since, name: '', what: { kind: Class.name, path: `${new URL(path, location)}`, headers } });
    // The worker is not notified of closed tabs.
    addEventListener('pagehide', () => this.leave());
  }

  open() {
    this.leave();
    this.port = new SharedWorker(WORKER).port;
    this.port.onmessage = ({ data: { call, args, cursor } }) => this.take(call, args, cursor);
    this.port.postMessage({ open: { ...this.what, since: this.cursor } });
  }

  take(call, args, cursor) {
    this.cursor = cursor;
    if (call === 'state') [this.name] = args;
    const busy = this.on[call]?.(...args);
    if (call !== 'event' || !busy?.then || this.holding) return;
    // A reader that is busy holds up the stream, as it would without a worker: the others that share it, too.
    const { port } = this;
    this.holding = true;
    port.postMessage({ hold: true });
    busy.finally(() => {
      this.holding = false;
      port.postMessage({ hold: false });
    });
  }

  reconnect() {
    this.port?.postMessage({ reconnect: true });
  }

  close() {
    this.leave();
    this.take('state', ['stopped'], this.cursor);
  }

  leave() {
    this.port?.postMessage({ leave: true });
    this.port?.close();
    this.port = null;
  }
}

// The worker's side: a stream and the tabs that listen to it.
class Shared {
  static all = new Map();

  // The stream of this description; where it is open and has gone on from `since`, one more of them, from there.
  static of({ since, ...what }) {
    const key = JSON.stringify(what);
    const known = Shared.all.get(key);
    if (known && (!since || since === known.stream.cursor)) return known;
    return new Shared(known ? `${key} ${crypto.randomUUID()}` : key, { since, ...what });
  }

  constructor(key, { kind, path, since, headers }) {
    Object.assign(this, { key, ports: new Set(), holders: new Set() });
    const pass = (call) => (...args) => this.say(call, args);
    const event = (...args) => {
      this.say('event', args);
      return this.held;
    };
    const on = { event, gap: pass('gap'), state: pass('state') };
    this.stream = new { SseStream, NdjsonStream, WebSocketStream }[kind](path, on, { since, headers });
    Shared.all.set(key, this);
  }

  say(call, args) {
    for (const port of this.ports) port.postMessage({ call, args, cursor: this.stream.cursor });
  }

  join(port) {
    this.ports.add(port);
    if (this.ports.size === 1) this.stream.open();
    else port.postMessage({ call: 'state', args: [this.stream.name], cursor: this.stream.cursor });
  }

  leave(port) {
    this.hold(port, false);
    this.ports.delete(port);
    if (this.ports.size > 0) return;
    Shared.all.delete(this.key);
    this.stream.close();
  }

  // As long as one of the tabs is busy, no further event is read.
  hold(port, busy) {
    if (busy) this.holders.add(port);
    else this.holders.delete(port);
    if (this.holders.size > 0) this.held ??= new Promise((resolve) => { this.go = resolve; });
    else {
      this.go?.();
      this.held = undefined;
    }
  }
}

if ('SharedWorkerGlobalScope' in globalThis) {
  importScripts('clients.js');
  globalThis.onconnect = ({ ports: [port] }) => {
    let stream;
    port.onmessage = ({ data }) => {
      if (data.open) (stream = Shared.of(data.open)).join(port);
      else if (data.leave) stream.leave(port);
      else if (data.reconnect) stream.stream.reconnect();
      else stream.hold(port, data.hold);
    };
  };
}
