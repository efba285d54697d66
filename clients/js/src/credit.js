// Credit of a WebSocket: room for a number of events, given back as the user takes them.

// A route allows 20 commands a second by default.
const COMMAND_MS = 100;

export class Credit {
  /** `give` sends the command for this many further events. */
  constructor(events, give) {
    Object.assign(this, { events, give, taken: 0, given: 0, timer: null });
  }

  /** The user has taken an event. Half of the credit is given back at once. */
  take() {
    this.taken += 1;
    if (this.timer !== null || 2 * this.taken < this.events) return;
    const wait = Math.max(0, this.given + COMMAND_MS - Date.now());
    this.timer = setTimeout(() => {
      this.give(this.taken);
      Object.assign(this, { taken: 0, given: Date.now(), timer: null });
    }, wait);
  }

  end() {
    clearTimeout(this.timer);
  }
}
