// Validates an AsyncAPI document with the official parser. Argument: its URL. Prints {"channels":[...],"errors":[...]}.
"use strict";
const { Parser } = require("@asyncapi/parser");

(async () => {
  const text = await (await fetch(process.argv[2])).text();
  const { document, diagnostics } = await new Parser().parse(text);
  const errors = diagnostics.filter(({ severity }) => severity === 0).map(({ message, path }) => `${path}: ${message}`);
  const channels = document?.channels().all().map((channel) => channel.address()) ?? [];
  console.log(JSON.stringify({ channels, errors }));
})();
