// Chromium on resume.html until each of its three streams has seen so many events.
// Arguments: URL of the page, number of events. Prints what the page says, and {"end":true}.
"use strict";
const { open, run, say } = require("./chromium.cjs");

const [url, count] = process.argv.slice(2);

run(async () => {
  const { browser, page } = await open(url);
  await page.waitForFunction((count) => Object.values(seen).every((n) => n >= count), Number(count), { timeout: 0 });
  await browser.close();
  say({ end: true });
});
