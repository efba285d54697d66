// The npm package (clients/js). Arguments: URL, number of events, token (optional), how a WebSocket sends it (optional),
// credit (optional).
// Prints JSON lines: {"open":true}, {"id":...}, {"gap":...}.
import { createRequire } from "node:module";
import { subscribe } from "../../clients/js/src/index.js";

const { WebSocket } = createRequire(`${process.env.NODE_PATH}/`)("ws");
const [url, count, token, authenticate, credit] = process.argv.slice(2);
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const { pathname } = new URL(url);
const transport = pathname.endsWith("/ws") ? "websocket" : pathname.endsWith("/stream") ? "ndjson" : "sse";

let seen = 0;
const stream = subscribe(url.replace(/^ws/, "http"), {
  transport,
  token,
  authenticate,
  credit: Number(credit) || undefined,
  WebSocket,
  onState: (state) => state === "live" && say({ open: true }),
  onGap: (gap) => say({ gap }),
  onEvent: ({ id }) => {
    say({ id });
    if (++seen === Number(count)) stream.close();
  },
});
