// The npm package (clients/js), packed as for publication. Arguments: URL, number of events, token (optional), how a WebSocket sends it (optional),
// credit (optional).
// Prints JSON lines: {"open":true}, {"id":...}, {"gap":...}.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const source = fileURLToPath(new URL("../../clients/js/", import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), "sidestream-client-"));
const [{ filename }] = JSON.parse(execFileSync("npm", ["pack", "--json", "--pack-destination", folder], { cwd: source }));
execFileSync("tar", ["-xzf", path.join(folder, filename), "-C", folder]);
const packed = path.join(folder, "package");
const manifest = JSON.parse(readFileSync(path.join(packed, "package.json")));
const { subscribe } = await import(pathToFileURL(path.join(packed, manifest.exports["."].default)));
rmSync(folder, { recursive: true });

const { WebSocket } = createRequire(`${process.env.NODE_PATH}/`)("ws");
const [url, count, token, authenticate, credit] = process.argv.slice(2);
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const { pathname } = new URL(url);
const transport = pathname.endsWith("/ws") ? "websocket" : pathname.endsWith("/stream") ? "ndjson" : "sse";

let seen = 0;
const stream = subscribe(url.replace(/^ws/, "http"), {
  transport,
  token,
  authenticate,
  credit: Number(credit) || undefined,
  WebSocket,
  onState: (state) => state === "live" && say({ open: true }),
  onGap: (gap) => say({ gap }),
  onEvent: ({ id }) => {
    say({ id });
    if (++seen === Number(count)) stream.close();
  },
});
