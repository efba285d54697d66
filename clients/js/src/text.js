// Bytes to lines and to SSE records. A character may be split between two reads, and so may a line.

async function* texts(body, peer) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      peer.heard();
      const { value, done } = await reader.read();
      if (done || peer.signal.aborted) return;
      peer.busy();
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Whole lines, ended by LF alone: U+2028 is text. An unfinished last line is dropped: the cursor stands before it. */
export async function* lines(body, peer) {
  let rest = '';
  for await (const text of texts(body, peer)) {
    const parts = text.split('\n');
    if (parts.length === 1) {
      rest += text;
      continue;
    }
    parts[0] = rest + parts[0];
    rest = parts.pop();
    yield* parts;
  }
}

/** Whole records of an event stream (WHATWG HTML section 9.2.6), those without data too. */
export async function* records(body, peer) {
  let record = {};
  for await (let line of lines(body, peer)) {
    if (line.endsWith('\r')) line = line.slice(0, -1);
    if (line === '') {
      if (Object.keys(record).length) yield record;
      record = {};
      continue;
    }
    const colon = line.indexOf(':');
    if (colon === 0) continue;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1));
    if (name === 'data') record.data = record.data === undefined ? value : `${record.data}\n${value}`;
    else if (name === 'id' && !value.includes('\0')) record.id = value;
    else if (name === 'event') record.event = value;
    else if (name === 'retry' && /^\d+$/.test(value)) record.retry = Number(value);
  }
}
