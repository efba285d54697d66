// Three clients for sidestream's streams, to copy: `Stream` and the one of `SseStream`, `NdjsonStream`,
// `WebSocketStream` that you need. No dependencies; browsers, and whatever else has the same three APIs.
//
//   const stream = new NdjsonStream('/stream', {
//     event(event, cursor) { ... },   // keep the cursor to resume after this event; NDJSON waits for a promise
//     gap(gap, cursor) { ... },       // events are missing: see gap.cause, gap.missed; load gap.refresh again
//     state(name, detail) { ... },    // connecting, live, waiting (ms), stale (ms), refused (status), stopped
//   }, { since: cursor });
//   stream.open();
//   addEventListener('online', () => stream.reconnect());
//   stream.close();
'use strict';

// The server sends something at least every `heartbeat_interval`. A connection that is silent for two and a half times
// that is taken for dead: TCP alone may not find out for many minutes. Heartbeats say the interval, and the first one
// comes at once, since `?heartbeat=immediate` asks for it. Until then the default of the server is assumed.
const HEARTBEAT_MS = 15_000;
const HEARTBEATS_MISSED = 2.5;

// From 1 to 30 seconds, doubling. The random part keeps clients that were cut together from coming back together.
function backoff(attempt) {
  return Math.min(20_000, 1_000 * 2 ** attempt) * (1 + Math.random() / 2);
}

// What the three have in common: where the client is, when it tries again, and when it takes silence for an end.
class Stream {
  constructor(path, on, { since = null, headers = {} } = {}) {
    Object.assign(this, { path, on, cursor: since, headers, attempt: 0, name: '', heartbeat: HEARTBEAT_MS });
  }

  open() {
    if (!this.name || this.name === 'stopped') this.setState('connecting');
    this.listen();
    this.connect();
  }

  // Ends the stream. `cursor` says where a new one would go on.
  close(name = 'stopped', detail) {
    this.disconnect();
    clearTimeout(this.silence);
    clearTimeout(this.retry);
    this.setState(name, detail);
  }

  // Gives up this connection and comes back, after a while, where it was.
  reconnect(name = 'waiting', atLeast = 0) {
    const delay = Math.max(backoff(this.attempt++), atLeast);
    this.close(name, delay);
    this.retry = setTimeout(() => this.open(), delay);
  }

  // Something came: the connection lives.
  heard() {
    this.attempt = 0;
    this.listen();
    this.setState('live');
  }

  listen() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.reconnect('stale'), HEARTBEATS_MISSED * this.heartbeat);
  }

  setState(name, detail) {
    if (name === this.name && detail === undefined) return;
    this.name = name;
    this.on.state?.(name, detail);
  }

  url(parameter) {
    const url = new URL(this.path, globalThis.location?.href);
    url.searchParams.set('heartbeat', 'immediate');
    if (this.cursor) url.searchParams.set(parameter, this.cursor);
    return url;
  }

  // An event, with the position after it. Its type may be anything: it is the producer's.
  event(event, cursor) {
    this.cursor = cursor ?? this.cursor;
    return this.on.event?.(event, this.cursor);
  }

  // A gap or a heartbeat: a control record, which each transport distinguishes from events in its own way.
  own(message, cursor) {
    this.cursor = cursor ?? this.cursor;
    if (message.type === 'heartbeat' && message.interval > 0) this.heartbeat = message.interval;
    if (message.type === 'gap') return this.on.gap?.(message, this.cursor);
  }
}

// Server-Sent Events. The browser reconnects by itself, with Last-Event-ID, until a response is not a stream; then
// this class resumes from the cursor. For routes without `event: type`: their events are those without an `event`
// field, and control records have one.
class SseStream extends Stream {
  connect() {
    const source = this.source = new EventSource(this.url('last_event_id'));
    const to = (take) => (message) => {
      take.call(this, JSON.parse(message.data), message.lastEventId || null);
      this.heard();
    };
    source.onopen = () => this.setState('live');
    source.onmessage = to(this.event);
    source.addEventListener('gap', to(this.own));
    source.addEventListener('heartbeat', to(this.own));
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) this.reconnect();
      else this.setState('waiting'); // the browser comes back after the server's `retry`
    };
  }

  disconnect() {
    this.source?.close();
  }
}

// The types of sidestream's own lines. An event of such a type has an id, or where the route sends payloads alone its line
// begins with a space.
const OWN = ['gap', 'heartbeat', 'probe'];

// NDJSON over fetch: one JSON value a line; an empty line means nothing. Takes headers, for a token.
class NdjsonStream extends Stream {
  connect() {
    const { signal } = this.abort = new AbortController();
    // A refused, broken or finished stream: reconnects. After an abort the caller does that.
    this.read(signal).catch(() => {}).then((wait = 0) => signal.aborted || this.reconnect('waiting', wait));
  }

  disconnect() {
    this.abort?.abort();
  }

  async read(signal) {
    const response = await fetch(this.url('since'), { headers: this.headers, signal });
    if (response.status === 410) {
      // What came after the cursor is no longer there: load the whole state from `refresh`, and go on from now.
      const { cause, ranges, refresh } = await response.json();
      this.cursor = null;
      this.on.gap?.({ type: 'gap', cause, ranges, missed: null, refresh }, null);
      return 0;
    }
    // No token, or one that may not: another attempt with the same one would change nothing.
    if (response.status === 401 || response.status === 403) return this.close('refused', response.status);
    if (!response.ok) return 1_000 * (Number(response.headers.get('Retry-After')) || 0);

    this.setState('live');
    // A character may be split between two reads, and so may a line.
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ''; ;) {
      const { value, done } = await reader.read();
      if (done) return; // an unfinished last line is no event: the cursor stands before it
      clearTimeout(this.silence); // our own slowness is no silence of the server's
      const lines = (rest + value).split('\n');
      rest = lines.pop();
      for (const line of lines) {
        if (signal.aborted) return;
        if (!line.trim()) continue;
        const message = JSON.parse(line);
        const isOwn = OWN.includes(message?.type) && !('id' in message) && !line.startsWith(' ');
        await (isOwn ? this.own(message, message.cursor) : this.event(message, message?.cursor ?? message?.id));
      }
      if (!signal.aborted) this.heard();
    }
  }
}

// WebSocket: events come as {"id","type":"event","timestamp","cursor"?,"data":{...}}. Scripts do not see the status of
// a refused handshake, so the route says `on_gap: continue`: events that cannot be replayed are reported in a gap instead of a 410.
class WebSocketStream extends Stream {
  connect() {
    const url = this.url('since');
    url.protocol = url.protocol.replace('http', 'ws');
    const socket = this.socket = new WebSocket(url);
    socket.onopen = () => this.setState('live');
    socket.onmessage = (frame) => {
      const message = JSON.parse(frame.data);
      // The id of an event is its place in Kafka, `topic:partition:offset`. Others are the connection's own.
      if (message.type !== 'event') return this.heard(); // a response to a command
      if (message.id.includes(':')) this.event(message.data, message.cursor ?? message.id);
      else this.own(message.data, message.data.cursor);
      this.heard();
    };
    // 1008: the server does not want us back: a token expired, or a limit was passed.
    socket.onclose = ({ code }) => code === 1008 ? this.close('refused', code) : this.reconnect();
  }

  // A dead peer never answers the closing handshake: stop listening rather than wait for it.
  disconnect() {
    if (!this.socket) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
  }
}
