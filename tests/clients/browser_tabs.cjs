// Chromium with three tabs on the demo's page, which share six connections: each has to be live, and a button has to work.
// Argument: URL of the page. Prints {"live":tab} for each, {"lit":tab} where an order placed in the last one shows, and
// {"closed":tab} where it goes on after the first tab is closed; then {"end":true}.
"use strict";
const { open, run, say } = require("./chromium.cjs");

const PANELS = ["sse", "ndjson", "ws", "notifications"];
const TABS = 3;

async function live(page, more = 0) {
  for (const panel of PANELS) {
    await page.waitForSelector(`#${panel} .state[data-state=live]`);
    await page.waitForFunction(([panel, more]) => Number(document.querySelector(`#${panel} .count`).textContent.replace(/\D/g, "")) > more,
      [panel, more]);
  }
}

run(async () => {
  const { browser, page } = await open(process.argv[2], {});
  const pages = [page];
  while (pages.length < TABS) {
    const tab = await page.context().newPage();
    await tab.goto(process.argv[2], { waitUntil: "domcontentloaded" });
    pages.push(tab);
  }
  for (const [tab, page] of pages.entries()) {
    await live(page);
    say({ live: tab });
  }
  await pages.at(-1).click("#order button");
  for (const [tab, page] of pages.entries()) {
    await page.waitForSelector(tab === TABS - 1 ? "#ws li.mine" : "#ws li");
    say({ lit: tab });
  }
  await pages[0].close({ runBeforeUnload: true });
  for (const [tab, page] of pages.entries()) {
    if (tab === 0) continue;
    const count = await page.evaluate(() => Number(document.querySelector("#sse .count").textContent.replace(/\D/g, "")));
    await page.waitForFunction((count) => Number(document.querySelector("#sse .count").textContent.replace(/\D/g, "")) > count, count);
    say({ closed: tab });
  }
  await browser.close();
  say({ end: true });
});
