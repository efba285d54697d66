// Independent node readers of the framings: `json-text-sequence` and `length-prefixed-json-stream`. Each reconnects when it
// is cut and resumes with ?since=.
// Arguments: json-seq or length; URL, number of events. Prints JSON lines: {"open":true}, {"id":...}, {"gap":...}.
import http from "node:http";
import { createRequire } from "node:module";

const require = createRequire(`${process.env.NODE_PATH}/`);
const [framing, url, count] = process.argv.slice(2);
const accept = { "json-seq": "application/json-seq", length: "application/x-length-prefixed-json" }[framing];
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const RECONNECT_MS = 50;

let seen = 0;
let cursor;

// Calls `found` with each record, and ends when the response does.
const readers = {
  "json-seq": async (response, found) => {
    const { Parser } = require("json-text-sequence");
    const parser = new Parser();
    parser.on("data", found);
    parser.on("truncated", () => {});
    parser.on("invalid", (text) => say({ invalid: String(text) }));
    response.pipe(parser);
    await new Promise((done) => response.once("close", done));
  },
  length: async (response, found) => {
    const Records = require("length-prefixed-json-stream").default ?? require("length-prefixed-json-stream");
    const records = new Records(response);
    for (let record; (record = await records.readNextValue()) !== undefined; ) found(record);
  },
};

function take(record) {
  cursor = record.cursor ?? record.id ?? cursor;
  if (record.type === "gap") return say({ gap: record });
  if (record.id === undefined || seen === Number(count)) return;
  say({ id: record.id });
  if (++seen === Number(count)) process.exit(0);
}

function connect() {
  const target = cursor ? `${url}?since=${encodeURIComponent(cursor)}` : url;
  const request = http.get(target, { headers: { Accept: accept } }, async (response) => {
    if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}`);
    say({ open: true });
    response.on("error", (error) => process.stderr.write(`http: ${error.message}\n`));
    await readers[framing](response, take).catch((error) => process.stderr.write(`read: ${error.message}\n`));
    setTimeout(connect, RECONNECT_MS);
  });
  request.on("error", (error) => {
    process.stderr.write(`http: ${error.message}\n`);
    if (!request.res) setTimeout(connect, RECONNECT_MS);
  });
}

connect();
