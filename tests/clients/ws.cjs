// npm `ws`: reconnects when it is cut and resumes with ?since=.
// Arguments: URL, number of events, token (optional). Prints JSON lines: {"open":true}, {"id":...}, {"gap":...}.
"use strict";
const WebSocket = require("ws");

const [url, count, token] = process.argv.slice(2);
const headers = token ? { Authorization: `Bearer ${token}` } : {};
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const RECONNECT_MS = 50;

let seen = 0;
let cursor;

function connect() {
  const socket = new WebSocket(cursor ? `${url}?since=${encodeURIComponent(cursor)}` : url, { headers });
  socket.on("open", () => say({ open: true }));
  socket.on("error", (error) => process.stderr.write(`ws: ${error.message}\n`));
  socket.on("close", () => seen < Number(count) && setTimeout(connect, RECONNECT_MS));
  socket.on("message", (text) => {
    const message = JSON.parse(text);
    if (message.type !== "event") return;
    cursor = message.cursor ?? message.id;
    if (message.data.type === "gap") return say({ gap: message.data });
    say({ id: message.data.id });
    if (++seen === Number(count)) socket.close(1000);
  });
}

connect();
