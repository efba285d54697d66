// A stateless server of the Model Context Protocol with one tool, whose result waits for a request to `/release`.
// Prints {"port":N}.
"use strict";
const http = require("node:http");
const { McpServer } = require("@modelcontextprotocol/sdk/server/mcp.js");
const { StreamableHTTPServerTransport } = require("@modelcontextprotocol/sdk/server/streamableHttp.js");

let release;
const released = new Promise((resolve) => { release = resolve; });

function server() {
  const server = new McpServer({ name: "slow", version: "1.0.0" });
  server.registerTool("slow", { description: "waits" }, async ({ _meta, sendNotification }) => {
    const progress = { progressToken: _meta.progressToken, progress: 1, total: 2 };
    await sendNotification({ method: "notifications/progress", params: progress });
    await released;
    return { content: [{ type: "text", text: "finished" }] };
  });
  return server;
}

const listener = http.createServer(async (request, response) => {
  if (request.url === "/release") {
    release();
    response.end();
    return;
  }
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  await server().connect(transport);
  await transport.handleRequest(request, response);
});
listener.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: listener.address().port })));
