// The clients that the page had before it used the package, on top of the package. `classic.rs` puts the modules of the
// package in front of this file.

class Classic {
  constructor(transport, path, on, { since = null, headers = {} } = {}) {
    this.stream = new Stream(new URL(path, globalThis.location?.href), {
      transport,
      since,
      headers,
      onEvent: (event, cursor) => on.event?.(event, cursor),
      onGap: (gap, cursor) => on.gap?.(gap, cursor),
      onState: (state, detail) => on.state?.(state === 'closed' ? 'stopped' : state, detail?.status ?? detail),
    });
  }

  get cursor() {
    return this.stream.cursor;
  }

  open() {
    this.stream.open();
  }

  close() {
    this.stream.close();
  }

  reconnect() {
    this.stream.reconnect();
  }
}

const of = (transport) => class extends Classic {
  constructor(...settings) {
    super(transport, ...settings);
  }
};

return { SseStream: of('sse'), NdjsonStream: of('ndjson'), WebSocketStream: of('websocket') };
