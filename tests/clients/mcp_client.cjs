// The Streamable HTTP client of the MCP SDK: calls the tool of `mcp_server.cjs`. Argument: the URL. Prints JSON lines:
// {"progress":1}, {"text":...}.
"use strict";
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");

const say = (line) => console.log(JSON.stringify(line));

(async () => {
  const client = new Client({ name: "test", version: "1.0.0" });
  await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2])));
  const onprogress = ({ progress }) => say({ progress });
  const result = await client.callTool({ name: "slow", arguments: {} }, undefined, { onprogress });
  say({ text: result.content[0].text });
  await client.close();
})().catch((error) => say({ error: error.message }));
