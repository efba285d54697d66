// npm `eventsource`: the browser's EventSource outside of a browser. It reconnects and resumes by itself.
// Arguments: URL, number of events, token (optional). Prints JSON lines: {"open":true}, {"id":...}, {"gap":...}.
"use strict";
const { EventSource } = require("eventsource");

const [url, count, token] = process.argv.slice(2);
const authorized = (input, init) =>
  fetch(input, { ...init, headers: { ...init.headers, ...(token && { Authorization: `Bearer ${token}` }) } });
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

let seen = 0;
const source = new EventSource(url, { fetch: authorized });
source.onopen = () => say({ open: true });
source.onmessage = (event) => {
  say({ id: JSON.parse(event.data).id });
  if (++seen === Number(count)) source.close();
};
source.addEventListener("gap", (event) => say({ gap: JSON.parse(event.data) }));
