// How long to wait before an attempt, in milliseconds: from 1 to 30 seconds, doubling.

const FIRST_MS = 1_000;
const LAST_MS = 20_000;

// Up to half more at random, so that clients that were cut together do not come back together.
export function backoff(attempt, random = Math.random) {
  return Math.min(LAST_MS, FIRST_MS * 2 ** attempt) * (1 + random() / 2);
}
