// Chromium on the admin page: waits until it shows what is open, draws, finds a user's stream and reloads, and takes
// pictures. Arguments: URL of the page, folder for the pictures, the value to find.
// Prints {"drawn":...} after each look, {"route":...} and {"rated":...} of each route, {"follow":...}, {"slow":...},
// {"losses":...}, {"found":...}, {"reloaded":...}, {"applied":...}, {"mistakes":...}, {"screen":...,"overflow":...} and
// {"end":true}. A file with one route more is expected after {"reloaded":...}, a broken one after {"applied":...}.
"use strict";
const path = require("node:path");
const { open, run, say } = require("./chromium.cjs");

const [url, folder, value] = process.argv.slice(2);
const LOOKS = 6;
const SIZES = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };

run(async () => {
  const { browser, page } = await open(url, { viewport: SIZES.desktop });
  await page.waitForSelector("#state[data-state=ready]");
  for (let n = 1; n <= LOOKS; n++) {
    await page.waitForFunction((n) => samples.length >= n, n);
    say({ drawn: n });
  }
  await page.waitForSelector("#latency polyline.second");
  say({ value: await page.textContent("#events .value") });
  for (const row of await page.$$("#routes tbody tr")) {
    say({ route: (await row.$$eval("td", (cells) => cells.slice(0, 5).map((cell) => cell.textContent))).join("|") });
    const rate = await row.$eval("td.rate", (cell) => cell.textContent);
    const drawn = await row.$eval("td.drawn", (cell) => cell.querySelectorAll("polyline").length);
    say({ rated: (await row.$eval("td.path", (cell) => cell.textContent)), rate, lines: drawn });
  }
  say({ follow: await page.$$eval("#routes button", (buttons) => buttons.map((button) => button.title)) });
  await page.waitForSelector("#slow tbody td.path");
  say({ slow: await page.textContent("#slow tbody") });
  say({ losses: await page.textContent("#losses tbody") });
  await page.fill("#value", value);
  await page.click("#find button");
  await page.waitForSelector("#found:not([hidden]) tbody td.path");
  say({ found: await page.textContent("#found tbody") });
  await page.click("#reload");
  await page.waitForFunction(() => document.querySelector("#reloaded").textContent.includes("unchanged"));
  say({ reloaded: true });
  await page.waitForFunction(() => document.querySelector("#reloaded").textContent.includes("applied"));
  say({ applied: await page.textContent("#reloaded") });
  await page.waitForSelector("#mistakes li");
  say({ mistakes: await page.textContent("#mistakes") });
  for (const [size, viewport] of Object.entries(SIZES)) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      const screen = `admin-${size}-${colorScheme}.png`;
      await page.screenshot({ path: path.join(folder, screen), fullPage: true });
      say({ screen, overflow });
    }
  }
  await browser.close();
  say({ end: true });
});
