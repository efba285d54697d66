// Debian's Chromium with a profile of its own. It ends with this process: playwright talks to it through a pipe.
"use strict";
const { chromium } = require("playwright-core");

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

// Opens a page; whatever it writes to the console, or does not catch, is said as {"console":...}.
async function open(url, options) {
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", headless: true, args: FLAGS });
  const page = await (await browser.newContext(options)).newPage();
  page.on("console", (message) => say({ console: `${message.type()}: ${message.text()} (${message.location().url})` }));
  page.on("pageerror", (error) => say({ console: `uncaught: ${error.message}` }));
  await page.exposeFunction("say", say);
  await page.goto(url, { waitUntil: "domcontentloaded" });
  return { browser, page };
}

// Fails with a reason and an exit status, which the test sees as a missing line.
function run(main) {
  main().catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exit(1);
  });
}

module.exports = { open, run, say };
