/** Where a client stands in a stream: keep it, and give it as `since` to go on after it. */
export type Cursor = string;

/** An event in sidestream's envelope; where a route sends `data: payload`, the payload alone. */
export interface Event<Data = unknown> {
  /** `topic:partition:offset` */
  id: string;
  /** Milliseconds since the Unix epoch. */
  ts: number;
  type: string;
  cursor?: Cursor;
  data: Data;
  [key: string]: unknown;
}

export interface Range {
  topic: string;
  partition: number;
  /** The first and the last offset; `to` is null where nobody knows how far the log went. */
  from: number;
  to: number | null;
}

/** Events that this client does not get. */
export interface Gap {
  type: 'gap';
  cause: string;
  ranges: Range[];
  /** How many of this client's own events are missing, or null where that cannot be known. */
  missed: number | null;
  /** The URL of a full snapshot, where the route names one. */
  refresh?: string;
}

/** A border of the state that `?from=state` asks for. At `begin`, forget the state that you have. */
export interface Snapshot {
  type: 'snapshot';
  phase: 'begin' | 'end';
  stream: string;
  /** Of `begin`: why the state comes again. */
  reason?: string;
  /** Of `end`: the events of this connection, and the records whose keys are unknown. */
  count?: number;
  unreadable?: number;
}

/**
 * connecting: the first attempt. live: events arrive. waiting: the next attempt starts in `detail` milliseconds.
 * stale: nothing came for two and a half heartbeat intervals of `detail` milliseconds. expiring: the token ends soon. A
 * function in `token` is asked for the next one; otherwise call `renew`. refused: another attempt would change nothing, `detail` is a `Refused`. closed: by `close`.
 */
export type State = 'connecting' | 'live' | 'waiting' | 'stale' | 'expiring' | 'refused' | 'closed';

export interface Options<E = Event> {
  /** Default: ndjson. */
  transport?: 'ndjson' | 'sse' | 'websocket';
  /** A cursor, an event id, a time (RFC 3339), or how long ago (`-15m`). */
  since?: Cursor | null;
  /** A bearer token, or a function that gives a fresh one for each connection, and before one expires. */
  token?: string | (() => string | null | undefined | Promise<string | null | undefined>);
  /**
   * How a WebSocket sends the token: as a subprotocol (default), or as its first message. The route's `token_from` must
   * allow it. Other transports send it in `Authorization`.
   */
  authenticate?: 'subprotocol' | 'message';
  /** The most events a second. The server holds what is beyond it. */
  maxRate?: number;
  /**
   * The most events of a WebSocket that are on their way to the handler or iterator. The server holds what is beyond it,
   * so that a slow handler does not fill the memory of the page. Other transports do without: they are read no faster.
   */
  credit?: number;
  /** More request headers. A browser's WebSocket sends none. */
  headers?: Record<string, string>;
  /** Whether cookies are sent to another origin, as for `fetch`. */
  credentials?: 'omit' | 'same-origin' | 'include';
  /** The next event waits for a promise. Where it rejects, the event comes again after a reconnect. */
  onEvent?: (event: E, cursor: Cursor | null) => unknown;
  onGap?: (gap: Gap, cursor: Cursor | null) => unknown;
  /** The borders of the state, in order with its events, of which each has `snapshot: true`. */
  onSnapshot?: (border: Snapshot, cursor: Cursor | null) => unknown;
  onState?: (state: State, detail?: number | Refused | string) => void;
  /** One connection for all tabs that open the same URL with `share` and the same `shareKey`. */
  share?: boolean;
  /** Set it to the user's id where tabs may belong to different users. */
  shareKey?: string;
  /** In place of the globals, for Node and tests. */
  fetch?: typeof fetch;
  WebSocket?: unknown;
}

export type Item<E = Event> =
  | { kind: 'event'; event: E; cursor: Cursor | null }
  | { kind: 'gap'; gap: Gap; cursor: Cursor | null }
  | { kind: 'snapshot'; snapshot: Snapshot; cursor: Cursor | null };

export interface Subscription<E = Event> extends AsyncIterable<Item<E>> {
  readonly cursor: Cursor | null;
  readonly state: State;
  close(): void;
  /** Opens a closed stream again, at `cursor`. */
  open(): void;
  /** Gives up the connection and comes back at once: `addEventListener('online', () => stream.reconnect())`. */
  reconnect(): void;
  /** Uses this token from now on. An open WebSocket goes on without a cut. */
  renew(token: string): void;
}

/** Ends an iteration, and is the detail of the state `refused`. */
export class Refused extends Error {
  /** The HTTP status, or a WebSocket's close code. */
  readonly status: number;
  /** The problem document (RFC 9457), where the answer has one. */
  readonly problem: { title?: string; status?: number; detail?: string; [member: string]: unknown } | null;
}

export function subscribe<E = Event>(url: string | URL, options?: Options<E>): Subscription<E>;
