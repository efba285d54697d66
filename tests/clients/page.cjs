// The demo page's own clients (src/demo/page/clients.js), outside of a browser.
// Arguments: URL, number of events, token (optional). Prints JSON lines: {"open":true}, {"id":...}, {"gap":...}.
"use strict";
const fs = require("fs");
const path = require("path");
globalThis.WebSocket = require("ws");
globalThis.EventSource = require("eventsource").EventSource;

const source = fs.readFileSync(path.join(__dirname, "../../src/demo/page/clients.js"), "utf8");
const [SseStream, NdjsonStream, WebSocketStream] =
  new Function(`${source}\nreturn [SseStream, NdjsonStream, WebSocketStream];`)();

const [url, count, token] = process.argv.slice(2);
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const { pathname } = new URL(url);
const Client = pathname.endsWith("/ws") ? WebSocketStream : pathname.endsWith("/stream") ? NdjsonStream : SseStream;
// The page's URLs are relative to it, and so begin with http.
const address = url.replace(/^ws/, "http");

let seen = 0;
const stream = new Client(address, {
  state: (name) => name === "live" && say({ open: true }),
  gap: (gap) => say({ gap }),
  event(event) {
    say({ id: event.id });
    if (++seen === Number(count)) stream.close();
  },
}, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
stream.open();
