// A stream over a WebSocket: events come as {"id","type":"event","timestamp","cursor"?,"data":{...}}.

import { Credit } from './credit.js';
import { Refused } from './refused.js';

// Protocol names must be HTTP tokens: base64url without padding.
const TOKEN_PROTOCOL = 'base64url.bearer.authorization.sidestream.';
const PROTOCOL = 'sidestream';
const POLICY_VIOLATION = 1008;

/** Scripts do not see the status of a refused handshake: routes say `on_gap: continue`. */
export async function websocket(peer) {
  const { WebSocket = globalThis.WebSocket } = peer.options;
  const token = await peer.token();
  if (peer.signal.aborted) return 0;
  const url = peer.url('since');
  url.protocol = url.protocol.replace('http', 'ws');
  const { credit: room } = peer.options;
  if (room) url.searchParams.set('credit', room);
  const isFirstMessage = token && peer.options.authenticate === 'message';
  const protocols = token && !isFirstMessage ? [PROTOCOL, TOKEN_PROTOCOL + base64url(token)] : [];
  const socket = new WebSocket(url, protocols);
  const command = (data, id = null) => socket.send(JSON.stringify({ id, type: 'command', data }));
  const credit = room && new Credit(room, (events) => {
    if (socket.readyState === socket.OPEN) command({ command: 'credit', events });
  });
  // One after another: a handler may be asynchronous.
  let last = Promise.resolve();
  const code = await new Promise((closed) => {
    const stop = () => { socket.close(); closed(0); };
    peer.signal.addEventListener('abort', stop, { once: true });
    socket.onopen = () => {
      let sent = 0;
      const authenticate = (token) => command({ command: 'authenticate', token }, `auth-${sent += 1}`);
      peer.authenticates(authenticate);
      // The stream starts with the response to the first message.
      if (isFirstMessage) authenticate(token);
      else peer.opened();
    };
    socket.onmessage = ({ data }) => {
      peer.heard();
      last = last.then(() => (peer.signal.aborted ? undefined : take(peer, credit, JSON.parse(data)))).catch(() => stop());
    };
    socket.onclose = (event) => { peer.signal.removeEventListener('abort', stop); closed(event.code); };
    socket.onerror = () => {};
  });
  await last;
  credit?.end();
  if (code === POLICY_VIOLATION) throw new Refused(code);
  return 0;
}

// The id of an event is its place in Kafka, `topic:partition:offset`; others are the connection's own.
async function take(peer, credit, message) {
  const { type, data = {} } = message;
  // To the first message, or to a renewal.
  if (type === 'response' && data.command === 'authenticate' && data.status === 'ok') return peer.opened();
  if (type !== 'event') return undefined;
  if (message.id.includes(':')) {
    await peer.event(message.data, message.cursor ?? message.id);
    return credit?.take();
  }
  const own = message.data ?? {};
  if (own.type === 'gap') return peer.gap(own, own.cursor);
  if (own.type === 'heartbeat') return peer.heartbeat(own, own.cursor);
  if (own.type === 'snapshot') return peer.snapshot(own, own.cursor);
  if (own.type === 'auth') return peer.expiring();
  return undefined;
}

function base64url(text) {
  const bytes = new TextEncoder().encode(text);
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}
