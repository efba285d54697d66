// Chromium on a page of one origin, with a WebSocket of another. Arguments: URL of the page, origin of the streams, the
// subprotocol that carries the token. Prints {"tokens":{...}}: for each way, the subprotocol agreed on, or "failed".
"use strict";
const { open, run, say } = require("./chromium.cjs");

const [url, streams, entry] = process.argv.slice(2);

run(async () => {
  const { browser, page } = await open(url);
  const seen = await page.evaluate(async ([streams, entry]) => {
    const opened = (path, protocols) => new Promise((done) => {
      const socket = new WebSocket(streams + path, protocols);
      socket.onopen = () => { done(socket.protocol); socket.close(); };
      socket.onerror = () => done("failed");
    });
    return {
      subprotocol: await opened("/mine", ["sidestream", entry]),
      alone: await opened("/mine", [entry]),
      none: await opened("/mine", ["sidestream"]),
      elsewhere: await opened("/headers", ["sidestream", entry]),
    };
  }, [streams, entry]);
  await browser.close();
  say({ tokens: seen });
});
