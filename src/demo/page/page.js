// The demo's page: what it shows of each stream, and the buttons that break them. The package reads the streams.

import { subscribe } from './client/index.js';

const ROWS_MAX = 12;        // a panel's list
const LOG_MAX = 20;         // a panel's notes
const LATENCIES_MAX = 60;   // live events behind the median and the curve
const PLACED_MAX = 50;      // orders of ours that are marked
const QUIET_MS = 1_500;     // the demo's topics never rest so long: Kafka was away
const SETTLE_MS = 1_200;    // after which a catch-up is summed up
const STALL_MS = 5_000;
const STALL_BURST = 10_000; // events that fill the buffers of browser and kernel, and then the server's queue
const LIT_MS = 700;

const placed = []; // ids of the orders this page placed
const panels = [];

const number = (n) => n.toLocaleString('en');
const events = (n) => `${number(n)} event${n === 1 ? '' : 's'}`;
const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
const duration = (ms) => ms < 1_000 ? `${Math.max(0, Math.round(ms))} ms` : seconds(ms);
const clock = () => new Date().toTimeString().slice(0, 8);

// Checks a stream that carries whole topics: in each partition every offset must arrive once, or be in a gap.
class Audit {
  next = new Map(); // the offset expected, by `topic:partition`
  missing = 0;
  twice = 0;

  event(id) {
    const end = id.lastIndexOf(':');
    const offset = Number(id.slice(end + 1));
    if (offset < this.next.get(id.slice(0, end))) this.twice++;
    else this.advance(id.slice(0, end), offset, offset);
  }

  gap(ranges = []) {
    for (const { topic, partition, from, to } of ranges) this.advance(`${topic}:${partition}`, from, to);
  }

  advance(partition, from, to) {
    const next = this.next.get(partition) ?? from;
    this.missing += Math.max(0, from - next);
    this.next.set(partition, Math.max(next, to + 1));
  }
}

// A panel shows one stream. `describe()` gives its URL and options.
class Panel {
  constructor(id, describe, { whole = true } = {}) {
    Object.assign(this, { describe, whole, section: document.getElementById(id) });
    this.section.append(document.getElementById('panel').content.cloneNode(true));
    this.part('h2').textContent = this.section.dataset.name;
    this.part('.path').textContent = this.section.dataset.path;
    this.part('.cut').onclick = () => this.stream.reconnect();
    this.part('.stop').onclick = () => this.running() ? this.stream.close() : this.start(this.stream.cursor);
    this.part('.stall').onclick = () => this.stall();
    this.part('.stall').hidden = id !== 'ndjson';
    this.reset();
    panels.push(this);
  }

  part(selector) {
    return this.section.querySelector(selector);
  }

  running() {
    return this.stream && !['closed', 'refused'].includes(this.stream.state);
  }

  reset() {
    Object.assign(this, { audit: new Audit(), count: 0, reported: 0, latencies: [], rows: [], downSince: null, lastAt: null });
    this.part('.events').replaceChildren();
    this.draw();
  }

  start(since = null) {
    const [path, options] = this.describe();
    this.stream = subscribe(path, {
      ...options,
      since,
      share: true, // a browser opens six connections to a host over HTTP/1.1, all tabs together
      onEvent: (event) => this.event(event),
      onGap: (gap) => this.gap(gap),
      onSnapshot: (border) => this.border(border),
      onState: (state, detail) => this.state(state, detail),
    });
  }

  // --- what the client calls ---

  state(name, detail) {
    const now = Date.now();
    if (name === 'live' && this.downSince) this.catchUp('resumed', now - this.downSince, 'replayed');
    if (name === 'live') this.downSince = null;
    else if (name !== 'expiring' && this.count > 0) this.downSince ??= now;
    if (name === 'stale') this.note('stale: heartbeats did not come', 'warn');
    this.lastAt = now;
    const texts = { refused: () => `refused (${detail?.status ?? detail})`, waiting: () => `waiting, back in ${seconds(detail)}` };
    this.chip(name, texts[name]?.() ?? name);
    this.part('.stop').textContent = this.running() ? 'Stop' : 'Start';
    this.part('.cut').disabled = this.part('.stall').disabled = name !== 'live';
  }

  event(event) {
    const now = Date.now();
    if (this.lastAt && now - this.lastAt > QUIET_MS && !this.stalled && !this.catching) {
      this.catchUp('Kafka is back', now - this.lastAt, 'caught up');
    }
    this.lastAt = now;
    this.count++;
    if (this.whole) this.audit.event(event.id);
    const late = this.catching && event.ts < this.catching.moment;
    if (late) this.catching.count++;
    else this.latencies = [...this.latencies.slice(1 - LATENCIES_MAX), now - event.ts];
    const { type, orderId, userId, data } = event;
    this.row({ type, id: orderId ?? userId, text: data?.title ?? type, end: late ? 'replay' : duration(now - event.ts) });
    if (placed.includes(orderId)) this.light();
    return this.stalled; // a promise while the reader stalls: the NDJSON client reads no further
  }

  gap(gap) {
    this.audit.gap(gap.ranges);
    const missed = gap.missed ?? 0; // null where it can't be known
    this.reported += missed;
    this.row({ type: 'gap', id: 'gap', text: missed ? `${events(missed)} missed` : 'events missed', end: gap.cause });
    // Gaps come in company: one note, and one look at the whole state, for all of them.
    this.gaps = { missed: (this.gaps?.missed ?? 0) + missed, cause: gap.cause, refresh: gap.refresh };
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.settle(), SETTLE_MS);
  }

  border({ phase, count }) {
    if (phase === 'end') this.note(`${number(count)} current orders; changes follow`, 'good');
  }

  async settle() {
    const { missed, cause, refresh } = this.gaps;
    this.gaps = null;
    const loaded = refresh && (await fetch(refresh)).ok ? `; ${refresh} loaded again` : '';
    this.note(`gap (${cause}): ${missed ? events(missed) : 'events'} missed${loaded}`, 'warn');
  }

  // --- what it shows ---

  // Counts what comes late from now on, and sums it up a little later.
  catchUp(what, away, verb) {
    this.catching = { moment: Date.now(), count: 0, ...this.tally() };
    setTimeout(() => {
      const { count, missing, twice } = this.catching;
      const now = this.tally();
      this.catching = null;
      const found = this.whole ? `, ${now.missing - missing} missing, ${now.twice - twice} twice` : '';
      this.note(`${what} after ${seconds(away)}: ${events(count)} ${verb}${found}`,
        now.missing > missing || now.twice > twice ? 'bad' : 'good');
    }, SETTLE_MS);
  }

  tally() {
    return { missing: this.audit.missing, twice: this.audit.twice };
  }

  async stall() {
    let readOn;
    this.stalled = new Promise((resolve) => { readOn = resolve; });
    this.chip('stalled', 'not reading');
    for (const name of ['.cut', '.stall']) this.part(name).disabled = true;
    await post(`/demo/burst?events=${STALL_BURST}`).catch(() => {});
    setTimeout(() => {
      this.note(`read nothing for ${seconds(STALL_MS)} during a burst`, 'warn');
      this.stalled = null;
      if (this.stream.state === 'live') this.state('live');
      readOn();
    }, STALL_MS);
  }

  chip(state, text) {
    const chip = this.part('.state');
    chip.textContent = text;
    chip.dataset.state = state;
  }

  light() {
    this.section.classList.add('lit');
    clearTimeout(this.dim);
    this.dim = setTimeout(() => this.section.classList.remove('lit'), LIT_MS);
  }

  note(text, kind) {
    const item = Object.assign(document.createElement('li'), { textContent: `${clock()} ${text}`, className: kind });
    this.part('.log').prepend(item);
    while (this.part('.log').childElementCount > LOG_MAX) this.part('.log').lastElementChild.remove();
  }

  // A burst is one row that counts. Drawn once a frame, however many events came.
  row(row) {
    const last = this.rows[0];
    if (row.type === 'burst' && last?.type === 'burst') {
      last.count++;
      Object.assign(last, { text: events(last.count), end: row.end });
    } else {
      this.rows.unshift(row.type === 'burst' ? { ...row, id: 'burst', text: events(1), count: 1 } : row);
      this.rows.length = Math.min(this.rows.length, ROWS_MAX);
    }
    this.drawing ??= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.drawing = null;
    this.part('.events').replaceChildren(...this.rows.map(drawRow));
    this.part('.count').textContent = number(this.count);
    this.part('.reported').textContent = number(this.reported);
    for (const name of ['missing', 'twice']) {
      this.part(`.${name}`).textContent = number(this.audit[name]);
      this.part(`.${name}`).classList.toggle('wrong', this.audit[name] > 0);
    }
    const sorted = [...this.latencies].sort((a, b) => a - b);
    this.part('.latency').textContent = sorted.length ? duration(sorted[sorted.length >> 1]) : '–';
    const highest = Math.max(20, sorted.at(-1) ?? 0);
    const point = (ms, at) => `${(100 * at / (LATENCIES_MAX - 1)).toFixed(1)},${(23 - 22 * ms / highest).toFixed(1)}`;
    this.part('.spark polyline').setAttribute('points', this.latencies.map(point).join(' '));
    this.part('.cursor').textContent = this.part('.cursor').title = `cursor ${this.stream?.cursor ?? '–'}`;
  }
}

// Text only, never HTML: any producer can write to the topic.
function drawRow({ type, id, text, end }) {
  const item = document.createElement('li');
  for (const part of [id, text, end]) item.append(Object.assign(document.createElement('span'), { textContent: part }));
  item.classList.toggle('gap', type === 'gap');
  item.classList.toggle('mine', placed.includes(id));
  return item;
}

// --- the streams ---

new Panel('sse', () => ['/events', { transport: 'sse' }]).start();
new Panel('ndjson', () => ['/stream', { transport: 'ndjson' }]).start();
new Panel('ws', () => ['/ws', { transport: 'websocket' }]).start();

new Panel('states', () => ['/order-states?from=state', { transport: 'ndjson' }], { whole: false }).start();

// Each user has their own notifications, by their token. A real page gets its token by logging in.
async function signIn() {
  const tokens = await (await fetch('/demo/tokens')).json();
  const panel = new Panel('notifications', () => {
    const { value } = document.querySelector('#user :checked');
    panel.note(`signed in as ${value}`, 'good');
    return ['/notifications/stream', { token: tokens[value], shareKey: value }];
  }, { whole: false });
  for (const [at, name] of Object.keys(tokens).entries()) {
    const label = document.createElement('label');
    const choice = Object.assign(document.createElement('input'), { type: 'radio', name: 'user', value: name, checked: at === 0 });
    choice.onchange = () => {
      panel.stream.close();
      panel.reset(); // another user's cursor is nothing to resume from
      panel.start();
    };
    label.append(choice, name);
    document.getElementById('user').append(label);
  }
  panel.start();
}
signIn();

// --- the actions ---

// Runs `act` when a form is sent; meanwhile its button rests, and its text says what happens.
function action(id, act) {
  const form = document.getElementById(id);
  const [status, button] = [form.querySelector('[role=status]'), form.querySelector('button')];
  form.onsubmit = async (submission) => {
    submission.preventDefault();
    button.disabled = true;
    try {
      await act((text) => { status.textContent = text; });
    } catch (error) {
      status.textContent = `That did not work: ${error.message}`;
    }
    button.disabled = false;
  };
}

async function post(path, body) {
  const response = await fetch(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error((await response.json()).detail ?? `status ${response.status}`);
  return response;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Orders are placed asynchronously: 202 with the operation's address, which is asked until it is done.
const POLL_MS = 150;
const POLLS_MAX = 60;

action('order', async (say) => {
  say('Placing…');
  const total = document.getElementById('total').valueAsNumber;
  const operation = (await post('/orders', { total })).headers.get('Location');
  for (let poll = 0; poll < POLLS_MAX; poll++) {
    const { status, result } = await (await fetch(operation)).json();
    if (status === 'COMPLETED') return mark(result.orderId, say);
    await pause(POLL_MS);
  }
  throw new Error(`${operation} takes too long`);
});

function mark(orderId, say) {
  placed.push(orderId);
  if (placed.length > PLACED_MAX) placed.shift();
  for (const panel of panels) { // its first event may have come before its id
    if (panel.rows.some(({ id }) => id === orderId)) panel.light();
    panel.draw();
  }
  say(`${orderId} is placed: watch it being made, shipped and delivered.`);
}

action('kafka', async (say) => {
  const { downMs } = await (await post('/demo/kafka/restart')).json();
  say(`Kafka is gone, for ${seconds(downMs)}. Place an order meanwhile: it arrives when Kafka is back.`);
  await pause(downMs);
  say('Kafka is back. What was produced meanwhile follows, in order.');
});

action('burst', async (say) => {
  const { events: sent } = await (await post('/demo/burst?events=4000')).json();
  say(`${events(sent)} are on their way.`);
  await pause(2_000);
});
