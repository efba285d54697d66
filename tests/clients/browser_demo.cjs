// Chromium on the demo's page: waits until all panels are live, places an order, and takes pictures.
// Arguments: URL of the page, folder for the pictures. Prints {"live":...}, {"lit":...}, {"screen":...,"overflow":...}
// and {"end":true}.
"use strict";
const path = require("node:path");
const { open, run, say } = require("./chromium.cjs");

const [url, folder] = process.argv.slice(2);
const PANELS = ["sse", "ndjson", "ws"];
const SIZES = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };

run(async () => {
  const { browser, page } = await open(url, { viewport: SIZES.desktop });
  for (const panel of PANELS) {
    await page.waitForSelector(`#${panel} .state[data-state=live]`);
    await page.waitForFunction((panel) => document.querySelector(`#${panel} .count`).textContent !== "0", panel);
    say({ live: panel });
  }
  await page.click("#order button");
  for (const panel of PANELS) {
    await page.waitForSelector(`#${panel} li.mine`);
    say({ lit: panel });
  }
  for (const [size, viewport] of Object.entries(SIZES)) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      const screen = `${size}-${colorScheme}.png`;
      await page.screenshot({ path: path.join(folder, screen), fullPage: true });
      say({ screen, overflow });
    }
  }
  await browser.close();
  say({ end: true });
});
