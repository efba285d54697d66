// The entry of the package: one function, and the error that a refused stream ends with.

import { Stream } from './stream.js';
import { SharedStream, canShare } from './shared.js';

export { Refused } from './refused.js';

/**
 * Opens a stream and keeps it open: after a cut it goes on where it was.
 *
 * @param {string | URL} url of a stream route; relative to the page in browsers
 * @param {import('../index.d.ts').Options} options
 * @returns {import('../index.d.ts').Subscription}
 */
export function subscribe(url, options = {}) {
  const absolute = new URL(url, globalThis.location?.href);
  const stream = options.share && canShare() ? new SharedStream(absolute, options) : new Stream(absolute, options);
  stream.open();
  return stream;
}
