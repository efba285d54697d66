// Chromium on a page of one origin, with streams of another. Arguments: URL of the page, origin of the streams, a token.
// Prints {"tickets":{...}}: how each stream opened with a ticket for /users/1, and "failed" where it did not.
"use strict";
const { open, run, say } = require("./chromium.cjs");

const [url, streams, token] = process.argv.slice(2);

run(async () => {
  const { browser, page } = await open(url);
  const seen = await page.evaluate(async ([streams, token]) => {
    const ask = (path) => fetch(`${streams}/.well-known/sidestream/tickets?path=${path}`, {
      method: "POST",
      headers: { Authorization: `Bearer ${token}` },
    });
    const opened = (peer) => new Promise((done) => {
      peer.onopen = () => { peer.close(); done("open"); };
      peer.onerror = () => { peer.close(); done("failed"); };
    });
    const { ticket } = await (await ask("/users/1")).json();
    const query = `?ticket=${ticket}`;
    const sockets = streams.replace("http", "ws");
    return {
      eventSource: await opened(new EventSource(`${streams}/users/1${query}`)),
      webSocket: await opened(new WebSocket(`${sockets}/users/1${query}`)),
      fetch: await fetch(`${streams}/users/1${query}&framing=ndjson`).then((answer) => answer.status),
      elsewhere: await opened(new EventSource(`${streams}/users/2${query}`)),
      none: await opened(new WebSocket(`${sockets}/users/1`)),
      refused: await ask("/none").then((answer) => answer.status, () => "failed"),
    };
  }, [streams, token]);
  await browser.close();
  say({ tickets: seen });
});
