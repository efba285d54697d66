// Chromium on a page of one origin, with streams of another. Arguments: URL of the page, origin of the streams, a token, the
// id of the first event. Prints {"cors":{...}}: for each way in, what the page saw, or "failed".
"use strict";
const { open, run, say } = require("./chromium.cjs");

const [url, streams, token, first] = process.argv.slice(2);
const FRAMINGS = ["ndjson", "json-seq", "length", "json-array"];

run(async () => {
  const { browser, page } = await open(url);
  const seen = await page.evaluate(async ([streams, token, first, framings]) => {
    const ask = async (path, options, read = (answer) => answer.status) => {
      const abort = new AbortController();
      try {
        return await read(await fetch(streams + path, { ...options, signal: abort.signal }));
      } catch {
        return "failed";
      } finally {
        abort.abort();
      }
    };
    const opened = (peer) => new Promise((done) => {
      peer.onopen = () => { peer.close(); done("open"); };
      peer.onerror = () => { peer.close(); done("failed"); };
    });
    // The media type and the first event of a framing.
    const framed = async (answer) => {
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const event = /"id":"([^"]+)"/;
      let text = "";
      while (!event.test(text)) text += (await reader.read()).value;
      return [answer.headers.get("Content-Type"), event.exec(text)[1]];
    };
    const bearer = { headers: { Authorization: `Bearer ${token}`, "Last-Event-ID": "notices:0:0" } };
    return {
      fetch: await ask("/stream"),
      eventSource: await opened(new EventSource(`${streams}/events`)),
      webSocket: await opened(new WebSocket(`${streams.replace("http", "ws")}/ws`)),
      bearer: await ask("/mine", bearer),
      refused: await ask("/mine"),
      gone: await ask("/stream?since=orders:0:900000000", {},
        (answer) => [answer.status, answer.headers.get("X-Replay-Not-Possible")]),
      credentials: await ask("/stream", { credentials: "include" }),
      closed: await ask("/closed"),
      open: await ask("/open"),
      framings: await Promise.all(framings.map((name) => ask(`/framed?framing=${name}&since=${first}`, {}, framed))),
    };
  }, [streams, token, first, FRAMINGS]);
  await browser.close();
  say({ cors: seen });
});
