// The admin page: polls /status and /metrics every two seconds, keeps ten minutes, and draws them. Only its button
// changes anything. It shows all values as text.
"use strict";

const EVERY_MS = 2000;
const TIMEOUT_MS = 5000;
const SAMPLES_MAX = 300; // ten minutes
const SAMPLES_SHOWN_MIN = 30; // a minute, for a page that was just opened
// After this many seconds without progress, a partition is shown as stalled.
const STALLED_S = 10;
const RATE_SAMPLES = 5; // rates and quantiles are over ten seconds
const NONE = "none";

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const samples = [];
let before = [];

// Prometheus' text format: [{ name, labels, value }].
function parse(text) {
  const series = [];
  for (const line of text.split("\n")) {
    const found = /^([\w:]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name] = value.replace(/\\(.)/g, (_, escaped) => (escaped === "n" ? "\n" : escaped));
    }
    series.push({ name: found[1], labels, value: Number(found[3].replace("Inf", "Infinity")) });
  }
  return series;
}

const named = (series, name) => series.filter((one) => one.name === name);
const sum = (series, name) => named(series, name).reduce((total, one) => total + one.value, 0);

// The counts of all transports by their upper bound, the smallest first.
function buckets(series, name) {
  const byBound = new Map();
  for (const { labels, value } of named(series, `${name}_bucket`)) {
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    byBound.set(bound, (byBound.get(bound) ?? 0) + value);
  }
  return [...byBound].sort(([a], [b]) => a - b);
}

// What this share of what came in between took at most, in seconds; between two bounds it is taken for even.
function quantile(share, old, now) {
  const counts = now.map(([bound, count], n) => [bound, count - (old[n]?.[1] ?? 0)]);
  const all = counts.at(-1)?.[1] ?? 0;
  if (all <= 0) return null;
  let [low, below] = [0, 0];
  for (const [bound, count] of counts) {
    if (count >= share * all) {
      return bound === Infinity ? low : low + (bound - low) * ((share * all - below) / (count - below || 1));
    }
    [low, below] = [bound, count];
  }
  return low;
}

function take(status, series) {
  const latency = buckets(series, `${status.prefix}_receive_to_flush_seconds`);
  const sent = ["sse", "stream", "ws"].reduce((all, name) => all + sum(series, `${status.prefix}_${name}_events_sent_total`), 0);
  const routes = new Map(status.routes.map((route) => [route.path, route.events]));
  const now = { at: performance.now(), sent, latency, routes };
  // Counters that fell are another process's.
  if (before.length && before.at(-1).sent > sent) before = [];
  const old = before[0];
  before.push(now);
  if (before.length > RATE_SAMPLES) before.shift();
  const rate = (from, to) => (old && from != null ? ((to - from) * 1000) / (now.at - old.at) : null);
  keep({
    streams: status.streams,
    events: rate(old?.sent, sent),
    routes: new Map([...routes].map(([path, events]) => [path, rate(old?.routes.get(path), events)])),
    p50: old ? quantile(0.5, old.latency, latency) : null,
    p99: old ? quantile(0.99, old.latency, latency) : null,
    lag: sum(series, "kafka_consumer_lag"),
    held: sum(series, `${status.prefix}_kafka_uncommitted_offsets`),
    stalled: named(series, `${status.prefix}_kafka_stalled_seconds`).filter((one) => one.value >= STALLED_S).length,
  });
}

function keep(sample) {
  samples.push(sample);
  if (samples.length > SAMPLES_MAX) samples.shift();
}

function milliseconds(seconds) {
  if (seconds == null) return "–";
  return seconds < 1 ? `${number.format(seconds * 1000)} ms` : `${number.format(seconds)} s`;
}

function draw() {
  const last = samples.at(-1) ?? {};
  const plain = (value) => (value == null ? "–" : number.format(value));
  plot("streams", ["streams"], plain, [[plain(last.streams)]]);
  plot("events", ["events"], plain, [[plain(last.events)]]);
  plot("latency", ["p50", "p99"], milliseconds,
    [["p50 ", "small"], [milliseconds(last.p50), "first"], [" p99 ", "small"], [milliseconds(last.p99), "second"]]);
  const beside = [[last.held, "not committed"], [last.stalled, "partitions stalled"]].filter(([value]) => value > 0);
  plot("lag", ["lag"], plain,
    [[plain(last.lag)], ...beside.map(([value, what]) => [` ${plain(value)} ${what}`, "small"])]);
}

function plot(id, names, format, parts) {
  const card = $(id);
  card.querySelector(".value").replaceChildren(...parts.map(([text, kind]) => element(kind === "small" ? "small" : "span", text, kind)));
  const svg = card.querySelector("svg") ?? card.appendChild(picture());
  const top = curves(svg, names.map((name) => (sample) => sample[name]));
  svg.setAttribute("aria-label", `${card.querySelector("h2").textContent}: at most ${format(top)}`);
  const axis = card.querySelector(".axis") ?? card.appendChild(element("div", "", "axis"));
  axis.replaceChildren(element("span", `${Math.round((shown() * EVERY_MS) / 60000)} min ago`), element("span", top == null ? "" : `at most ${format(top)}`), element("span", "now"));
}

function picture() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  return svg;
}

// Draws what each of these functions finds in the samples. Gives the highest of all values, if there are any.
function curves(svg, found) {
  const values = found.flatMap((of) => samples.map(of)).filter((value) => value != null);
  const top = Math.max(...values, 0);
  svg.setAttribute("viewBox", `0 0 ${shown() - 1} 100`);
  svg.replaceChildren(...found.flatMap((of, n) => lines(of, top, n ? "second" : "first")));
  return values.length ? top : null;
}

// How many samples there is room for.
const shown = () => Math.max(samples.length, SAMPLES_SHOWN_MIN);

// One line for each stretch without a missing sample.
function lines(of, top, kind) {
  const stretches = [[]];
  samples.forEach((sample, n) => {
    const value = of(sample);
    if (value == null) return stretches.push([]);
    const x = shown() - samples.length + n;
    return stretches.at(-1).push(`${x},${top ? 96 - (value / top) * 90 : 96}`);
  });
  return stretches.filter((points) => points.length > 1).map((points) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("points", points.join(" "));
    line.setAttribute("class", kind);
    return line;
  });
}

function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function rows(table, cells, empty) {
  const made = cells.map((row) => {
    const tr = document.createElement("tr");
    tr.append(...row.map((cell) => (cell instanceof Node ? cell : element("td", cell))));
    return tr;
  });
  if (!made.length) {
    const none = element("td", empty, "none");
    none.colSpan = 9;
    made.push(document.createElement("tr"));
    made[0].append(none);
  }
  $(table).tBodies[0].replaceChildren(...made);
}

// The command by which a person follows a route themselves: past this page, and by the route's own rules.
function command(status, route) {
  const token = route.public ? "" : ' -H "Authorization: Bearer $TOKEN"';
  const url = `http://localhost:${status.listen_port}${route.path}`;
  if (route.transport === "ws") return `websocat${token} 'ws${url.slice(4)}'`;
  return `curl -gN${token} '${url}'`;
}

function copyButton(text) {
  const button = element("button", "Copy");
  button.title = `The command that follows it: ${text}`;
  button.onclick = async () => {
    await navigator.clipboard.writeText(text).then(() => (button.textContent = "Copied"), () => prompt("To follow it:", text));
    setTimeout(() => (button.textContent = "Copy"), EVERY_MS);
  };
  return button;
}

let shownRoutes = "";
let moving = [];
function showRoutes(status) {
  // Anew only where the routes changed: a button that is being pressed stays.
  const now = JSON.stringify([status.listen_port, status.routes.map(({ open, events, ...rest }) => rest)]);
  if (now !== shownRoutes) {
    shownRoutes = now;
    moving = status.routes.map(() => ({ open: element("td", "", "number open"), rate: element("td", "", "number rate"),
      drawn: element("td", "", "drawn") }));
    moving.forEach(({ drawn }) => drawn.append(picture()));
    rows("routes", status.routes.map((route, n) => {
      const follow = document.createElement("td");
      follow.append(copyButton(command(status, route)));
      return [element("td", route.path, "path"), route.stream, route.transport, route.public ? "public" : "by token",
        ...Object.values(moving[n]), follow];
    }), NONE);
  }
  status.routes.forEach((route, n) => showMoving(route, moving[n]));
}

// What changes of a route: its streams, and what they are sent a second.
function showMoving(route, { open, rate, drawn }) {
  const of = (sample) => sample.routes?.get(route.path);
  const last = of(samples.at(-1));
  open.textContent = number.format(route.open) + (route.max == null ? "" : ` of ${number.format(route.max)}`);
  rate.textContent = last == null ? "–" : number.format(last);
  const top = curves(drawn.firstChild, [of]);
  drawn.firstChild.setAttribute("aria-label", `Events a second on ${route.path}: at most ${number.format(top ?? 0)}`);
}

const sight = (one) => [element("td", `${one.route} (${one.transport}${one.is_behind ? ", catching up" : ""})`, "path"),
  one.keys.join(", ") || "everything", element("td", number.format(one.events), "number"),
  element("td", number.format(one.bytes), "number")];

function showLosses(status, series) {
  const counted = (name, title, ...labels) => named(series, `${status.prefix}_${name}`).filter((one) => one.value > 0)
    .map((one) => [title, labels.map((label) => one.labels[label] ?? "").join(", "), element("td", number.format(one.value), "number")]);
  rows("losses", [...counted("gaps_total", "gaps", "cause"), ...counted("events_dropped_total", "events dropped", "policy"),
    ...counted("streams_rejected_total", "streams refused", "reason"), ...counted("kafka_undecodable_total", "records that are no events", "topic"),
    ...counted("kafka_unreadable_batches_total", "batches that cannot be read", "topic"),
    ...counted("kafka_missing_keys_total", "events that lack a key", "topic", "key"),
    ...counted("kafka_errors_total", "errors of the Kafka client", "kind")], NONE);
}

function showReload({ reload, follows_file }) {
  const text = $("reloaded");
  $("reload").hidden = !follows_file;
  const isGood = !reload || ["applied", "unchanged"].includes(reload.result);
  text.className = isGood ? "" : "bad";
  if (!follows_file) text.textContent = "It was given on the command line; there is no file to follow.";
  else if (!reload) text.textContent = "As it was at the start.";
  else {
    const what = reload.changed ? `: ${reload.changed}` : "";
    text.textContent = `${new Date(reload.at).toLocaleTimeString()}, ${reload.result}${what}${isGood ? "" : "; the one before stays"}`;
  }
  $("mistakes").replaceChildren(...(reload?.diagnostics ?? []).map((one) =>
    element("li", `${one.file}:${one.line}:${one.column}: ${one.message}${one.expected ? `; expected ${one.expected}` : ""}`)));
}

function showState(status) {
  const state = $("state");
  state.dataset.state = status.not_ready.length ? "waiting" : "ready";
  state.textContent = status.not_ready.length ? `not ready: ${status.not_ready.join(", ")}` : "ready";
  const minutes = Math.floor(status.uptime_seconds / 60);
  const up = minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  $("about").textContent = `${status.version}, up ${up}, ${number.format(status.streams)} of ${number.format(status.streams_max)} streams`;
}

async function ask(path, options) {
  return fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store", ...options });
}

async function look() {
  const [status, metrics] = await Promise.all([ask("status").then((answer) => answer.json()), ask("metrics").then((answer) => answer.text())]);
  const series = parse(metrics);
  take(status, series);
  showState(status);
  showRoutes(status);
  rows("slow", status.slow.map(sight), NONE);
  showLosses(status, series);
  showReload(status);
}

async function watch() {
  try {
    await look();
  } catch {
    $("state").dataset.state = "away";
    $("state").textContent = "does not answer";
    keep({});
  }
  draw();
  setTimeout(watch, EVERY_MS);
}

$("find").onsubmit = async (event) => {
  event.preventDefault();
  const value = $("value").value;
  const said = await ask(`-/streams?value=${encodeURIComponent(value)}`).then((answer) => answer.json()).catch(() => ({}));
  $("found").hidden = !said.streams?.length;
  if (!said.streams) $("finding").textContent = said.detail ?? said.title ?? "There was no answer.";
  else $("finding").textContent = `${said.streams.length || "No"} open ${said.streams.length === 1 ? "stream is" : "streams are"} bound to ${value}.`;
  if (said.streams?.length) rows("found", said.streams.map(sight), NONE);
};

// The token leaves the page in the body of this request only, and the field is emptied.
$("explain").onsubmit = async (event) => {
  event.preventDefault();
  const given = (id) => $(id).value.trim() || null;
  const question = { path: given("path"), token: given("token"), event: given("event") };
  $("token").value = "";
  const said = await ask("-/explain", { method: "POST", body: JSON.stringify(question) }).then((answer) => answer.json()).catch(() => ({}));
  $("steps").hidden = !said.steps;
  if (!said.steps) $("explained").textContent = said.detail ?? said.title ?? "There was no answer.";
  else if (said.receives) $("explained").textContent = question.event ? "The user receives the event." : "The stream opens.";
  else if (said.receives === false) $("explained").textContent = `Not received: ${said.decided_by} decides.`;
  else $("explained").textContent = "This cannot be decided now.";
  if (said.steps) rows("steps", said.steps.map((one) => [one.step, one.passes == null ? "?" : one.passes ? "yes" : "no", one.detail]), NONE);
};

$("reload").onclick = async () => {
  $("reload").disabled = true;
  await ask("-/reload", { method: "POST" }).catch(() => {});
  await look().catch(() => {});
  $("reload").disabled = false;
};

watch();
