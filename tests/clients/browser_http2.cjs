// Chromium with many streams of one page, which share a connection of HTTP/2; a request beside them has to work.
// Arguments: URL of a page, number of streams, number of events. Prints {"open":true} once all streams are open, {"ids":[...]} for
// each, and {"protocol":...} of the request.
"use strict";
const { open, run, say } = require("./chromium.cjs");

run(async () => {
  const [url, streams, events] = process.argv.slice(2);
  // The certificate is that of a test.
  const { browser, page } = await open(url, { ignoreHTTPSErrors: true });
  const ids = page.evaluate(async ([streams, events]) => {
    const sources = Array.from({ length: streams }, () => new EventSource("/events"));
    const read = sources.map((source) => new Promise((done) => {
      const ids = [];
      source.onmessage = ({ data }) => {
        if (ids.length < events) ids.push(JSON.parse(data).id);
        if (ids.length === events) done(ids);
      };
    }));
    await Promise.all(sources.map((source) => new Promise((done) => { source.onopen = done; })));
    say({ open: true });
    return Promise.all(read);
  }, [Number(streams), Number(events)]);
  for (const of_one of await ids) {
    say({ ids: of_one });
  }
  const protocol = await page.evaluate(async () => {
    await (await fetch("/echo")).text();
    return performance.getEntriesByType("resource").find(({ name }) => name.endsWith("/echo")).nextHopProtocol;
  });
  say({ protocol });
  await browser.close();
});
