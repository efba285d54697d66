// Streams over fetch: NDJSON and Server-Sent Events. Unlike `EventSource` it sees the status and sends headers.

import { lines, records } from './text.js';
import { Refused } from './refused.js';

// The types of sidestream's own objects on an NDJSON stream. An event of such a type has an id, or, where the route sends
// payloads alone, its line begins with a space.
const OWN = new Set(['gap', 'heartbeat', 'probe', 'auth', 'snapshot']);

export async function ndjson(peer) {
  const body = await open(peer, 'application/x-ndjson', 'since');
  if (typeof body === 'number') return body;
  for await (const line of lines(body, peer)) {
    if (!line.trim()) continue;
    const value = JSON.parse(line);
    const isOwn = OWN.has(value?.type) && !('id' in value) && !line.startsWith(' ');
    if (isOwn) await own(peer, value.type, value, value.cursor);
    else await peer.event(value, value?.cursor ?? value?.id);
  }
  return 0;
}

export async function sse(peer) {
  const body = await open(peer, 'text/event-stream', 'last_event_id');
  if (typeof body === 'number') return body;
  let wait = 0;
  for await (const record of records(body, peer)) {
    if (record.retry !== undefined) wait = record.retry;
    if (record.data === undefined) {
      // The position alone: where the client stands before its first event, or moved to without one.
      if (record.id) peer.heartbeat({}, record.id);
    } else if (OWN.has(record.event)) {
      await own(peer, record.event, JSON.parse(record.data), record.id);
    } else {
      await peer.event(JSON.parse(record.data), record.id);
    }
  }
  return wait;
}

function own(peer, type, value, cursor) {
  if (type === 'gap') return peer.gap(value, cursor);
  if (type === 'heartbeat') return peer.heartbeat(value, cursor);
  if (type === 'snapshot') return peer.snapshot(value, cursor);
  if (type === 'auth') return peer.expiring();
  return undefined;
}

// The body of the answer, or how long to wait before another attempt.
async function open(peer, type, parameter) {
  const { headers = {}, credentials, fetch = globalThis.fetch } = peer.options;
  const token = await peer.token();
  const response = await fetch(peer.url(parameter), {
    headers: { Accept: type, ...headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) },
    credentials,
    signal: peer.signal,
    cache: 'no-store',
  });
  if (response.status === 410) {
    // What came after the cursor is no longer there: load the whole state from `refresh`, and go on from now.
    const { cause, ranges, refresh } = await response.json();
    await peer.gone({ type: 'gap', cause, ranges, missed: null, refresh });
    return 0;
  }
  if (response.status === 429 || response.status >= 500) {
    await response.body?.cancel();
    return 1_000 * (Number(response.headers.get('Retry-After')) || 0);
  }
  if (!response.ok) throw new Refused(response.status, await response.json().catch(() => null));
  // 204 is how a server says that a stream is over for good (WHATWG HTML section 9.2.3).
  if (response.status === 204) throw new Refused(204);
  peer.opened();
  return response.body;
}
