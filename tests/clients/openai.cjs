// The `openai` package: streams one chat completion. Argument: the base URL. Prints JSON lines: {"text":...}, {"done":true}.
"use strict";
const OpenAI = require("openai");

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0 });
const say = (line) => console.log(JSON.stringify(line));

(async () => {
  const messages = [{ role: "user", content: "hello" }];
  const stream = await client.chat.completions.create({ model: "any", messages, stream: true });
  for await (const chunk of stream) say({ text: chunk.choices[0].delta.content });
  say({ done: true });
})().catch((error) => say({ error: error.message, status: error.status ?? null }));
