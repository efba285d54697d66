// One connection for all tabs of an origin: a browser opens six to a host over HTTP/1.1, and each stream takes one.
//
// The tab that holds a Web Lock reads the stream and posts its items to a BroadcastChannel. When it closes, or freezes and
// is discarded, the browser gives the lock to another tab, which goes on at the cursor that it saw last. An item that
// comes twice then, by the new connection and from the channel, is handed on once.

import { Items } from './items.js';
import { Stream } from './stream.js';

// Items in whose place another would be taken for new. Two readers overlap by what a channel holds at a hand-over.
const SEEN_MAX = 4096;

export function canShare() {
  return typeof BroadcastChannel === 'function' && typeof navigator === 'object' && Boolean(navigator.locks);
}

export class SharedStream {
  constructor(url, options) {
    const name = `sidestream ${options.transport ?? 'ndjson'} ${url.href} ${options.shareKey ?? ''}`;
    Object.assign(this, { name, url, options, cursor: options.since ?? null, state: 'closed', seen: new Set() });
    // Items are handed on one after another: a handler may be asynchronous.
    this.last = Promise.resolve();
    this.items = new Items();
  }

  open() {
    if (this.abort && !this.abort.signal.aborted) return;
    this.abort = new AbortController();
    const { signal } = this.abort;
    this.channel = new BroadcastChannel(this.name);
    // Only the reading tab can ask for an item again; a handler that fails elsewhere is the page's error.
    this.channel.onmessage = ({ data }) => { this.receive(data)?.catch(globalThis.reportError); };
    this.enter('connecting');
    this.post({ ask: true });
    navigator.locks.request(this.name, { signal }, () => this.lead(signal)).catch(() => {});
  }

  close() {
    this.abort?.abort();
    this.leader?.close();
    this.leader = null;
    this.channel?.close();
    this.items.end();
    this.enter('closed');
  }

  // The connection is another tab's, unless this one reads.
  reconnect() {
    if (this.leader) this.leader.reconnect();
    else this.post({ reconnect: true });
  }

  renew(token) {
    this.options = { ...this.options, token };
    this.leader?.renew(token);
  }

  [Symbol.asyncIterator]() {
    return this.items.iterate(() => this.close());
  }

  // Reads the stream for all tabs, as long as this one has the lock.
  lead(signal) {
    return new Promise((released) => {
      signal.addEventListener('abort', released, { once: true });
      this.leader = new Stream(this.url, {
        ...this.options,
        since: this.cursor,
        onEvent: (event, cursor) => this.hand({ kind: 'event', value: event, cursor }),
        onGap: (gap, cursor) => this.hand({ kind: 'gap', value: gap, cursor }),
        onSnapshot: (border, cursor) => this.hand({ kind: 'snapshot', value: border, cursor }),
        onState: (state, detail) => {
          const told = { state, detail: detail instanceof Error ? String(detail) : detail };
          this.post(told);
          this.receive(told);
        },
      });
      this.leader.open();
    });
  }

  hand(item) {
    this.post(item);
    return this.receive(item);
  }

  receive(message) {
    if (message.ask) {
      if (this.leader) this.post({ state: this.leader.state });
      return undefined;
    }
    if (message.reconnect) {
      this.leader?.reconnect();
      return undefined;
    }
    if (message.state) {
      if (message.state !== 'closed') this.enter(message.state, message.detail);
      return undefined;
    }
    const key = message.value?.id ?? message.cursor ?? JSON.stringify(message.value);
    if (this.seen.has(key)) return undefined;
    this.seen.add(key);
    if (this.seen.size > SEEN_MAX) this.seen.delete(this.seen.values().next().value);
    const taken = this.last.then(() => this.take(message)).catch((error) => {
      this.seen.delete(key);
      throw error;
    });
    this.last = taken.catch(() => {});
    return taken;
  }

  async take({ kind, value, cursor }) {
    const { onEvent, onGap, onSnapshot } = this.options;
    const handler = { event: onEvent, gap: onGap, snapshot: onSnapshot }[kind];
    await handler?.(value, cursor ?? this.cursor);
    this.cursor = cursor ?? this.cursor;
    await this.items.push({ kind, [kind]: value, cursor: this.cursor });
  }

  post(message) {
    // The channel is closed once the stream is.
    if (!this.abort.signal.aborted) this.channel.postMessage(message);
  }

  enter(state, detail) {
    if (state === this.state && detail === undefined) return;
    this.state = state;
    this.options.onState?.(state, detail);
  }
}
