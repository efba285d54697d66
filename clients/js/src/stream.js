// One stream over one connection at a time: where it is, when it tries again, and when it takes silence for an end.

import { backoff } from './backoff.js';
import { Items } from './items.js';
import { Refused } from './refused.js';
import { ndjson, sse } from './fetched.js';
import { websocket } from './websocket.js';

const TRANSPORTS = { ndjson, sse, websocket };

// The server's default. The first heartbeat, which comes at once, says the route's own interval.
const HEARTBEAT_MS = 15_000;
// So many intervals without a byte, and the connection is taken for dead: TCP may not find out for many minutes.
const HEARTBEATS_MISSED = 2.5;

export class Stream {
  constructor(url, options) {
    const { transport = 'ndjson', since = null } = options;
    if (!(transport in TRANSPORTS)) throw new TypeError(`transport is ndjson, sse or websocket, not ${transport}`);
    Object.assign(this, { url, options, cursor: since, state: 'closed', attempt: 0, interval: HEARTBEAT_MS });
    this.connect = TRANSPORTS[transport];
    this.items = new Items();
  }

  /** Opens the stream; after `close` it goes on at `cursor`. */
  open() {
    if (this.abort && !this.abort.signal.aborted) return;
    this.abort = new AbortController();
    this.run(this.abort.signal);
  }

  /** Ends the stream. `cursor` says where it stands. */
  close() {
    this.abort?.abort();
    this.items.end();
    this.enter('closed');
  }

  /** Gives up the connection and comes back at once; for `online` events. */
  reconnect() {
    if (this.state === 'closed' || this.state === 'refused') return;
    this.abort.abort();
    this.abort = new AbortController();
    this.attempt = 0;
    this.run(this.abort.signal);
  }

  /** Uses this token from now on. An open WebSocket goes on; others take it with their next connection. */
  renew(token) {
    this.options = { ...this.options, token };
    this.authenticate?.(token);
  }

  // A function that gives tokens is asked for the next one; a WebSocket goes on with it. Others ask when they come back.
  async expiring(signal) {
    this.enter('expiring');
    const { token } = this.options;
    if (typeof token !== 'function' || !this.authenticate) return;
    const next = await Promise.resolve().then(token).catch(() => null);
    if (next && !signal.aborted) this.authenticate?.(next);
  }

  [Symbol.asyncIterator]() {
    return this.items.iterate(() => this.close());
  }

  async run(signal) {
    this.enter('connecting');
    while (!signal.aborted) {
      const connection = new AbortController();
      const stop = () => connection.abort();
      signal.addEventListener('abort', stop, { once: true });
      const peer = this.peer(connection);
      let wait = 0;
      try {
        wait = await this.connect(peer) ?? 0;
      } catch (error) {
        if (error instanceof Refused && !signal.aborted) return this.refuse(error);
        // A cut or refused connection: there is nothing to do but to come back.
      } finally {
        clearTimeout(this.silence);
        signal.removeEventListener('abort', stop);
        this.authenticate = null;
      }
      if (signal.aborted) return;
      const delay = Math.max(backoff(this.attempt++), wait);
      this.enter('waiting', delay);
      await sleep(delay, signal);
    }
  }

  // What a transport needs of the stream, for the life of one connection.
  peer(connection) {
    const signal = connection.signal;
    const listen = () => {
      clearTimeout(this.silence);
      this.silence = setTimeout(() => {
        this.enter('stale', this.interval);
        connection.abort();
      }, HEARTBEATS_MISSED * this.interval);
    };
    listen();
    return {
      signal,
      options: this.options,
      token: () => (typeof this.options.token === 'function' ? this.options.token() : this.options.token),
      url: (parameter) => this.urlWith(parameter),
      opened: () => this.enter('live'),
      heard: () => { this.attempt = 0; listen(); },
      // Our own slowness is no silence of the server's.
      busy: () => clearTimeout(this.silence),
      event: (event, cursor) => this.take('event', event, cursor),
      gap: (gap, cursor) => this.take('gap', gap, cursor),
      snapshot: (border, cursor) => this.take('snapshot', border, cursor),
      gone: (gap) => { this.cursor = null; return this.take('gap', gap, null); },
      heartbeat: ({ interval }, cursor) => {
        this.cursor = cursor ?? this.cursor;
        if (interval > 0) this.interval = interval;
      },
      expiring: () => this.expiring(signal),
      authenticates: (send) => { this.authenticate = send; },
    };
  }

  urlWith(parameter) {
    const url = new URL(this.url);
    url.searchParams.set('heartbeat', 'immediate');
    if (this.options.maxRate) url.searchParams.set('maxRate', this.options.maxRate);
    if (this.cursor) url.searchParams.set(parameter, this.cursor);
    return url;
  }

  // The cursor moves once the user has the item: a handler that fails gets it again after a reconnect.
  async take(kind, value, cursor) {
    const { onEvent, onGap, onSnapshot } = this.options;
    const handler = { event: onEvent, gap: onGap, snapshot: onSnapshot }[kind];
    await handler?.(value, cursor ?? this.cursor);
    this.cursor = cursor ?? this.cursor;
    await this.items.push({ kind, [kind]: value, cursor: this.cursor });
  }

  refuse(error) {
    this.abort.abort();
    this.items.fail(error);
    this.enter('refused', error);
  }

  enter(state, detail) {
    if (state === this.state && detail === undefined) return;
    this.state = state;
    this.options.onState?.(state, detail);
  }
}

function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
