// The items of a stream for `for await`: bounded, and the stream waits for whoever reads it.

export class Items {
  constructor() {
    Object.assign(this, { isRead: false, waiting: null, ready: null, over: null });
  }

  /** Hands an item on; resolves once it was taken. Without an iterator items go to the handlers alone. */
  push(item) {
    if (!this.isRead || this.over) return undefined;
    if (this.waiting) {
      const take = this.waiting;
      this.waiting = null;
      take({ value: item, done: false });
      return undefined;
    }
    return new Promise((taken) => { this.ready = { item, taken }; });
  }

  end() {
    this.finish({ value: undefined, done: true });
  }

  fail(error) {
    this.finish(error);
  }

  finish(over) {
    this.over = over;
    this.ready?.taken();
    if (this.waiting) {
      const take = this.waiting;
      this.waiting = null;
      take(over instanceof Error ? Promise.reject(over) : over);
    }
  }

  iterate(close) {
    this.isRead = true;
    const next = () => {
      if (this.ready) {
        const { item, taken } = this.ready;
        this.ready = null;
        taken();
        return Promise.resolve({ value: item, done: false });
      }
      if (this.over instanceof Error) return Promise.reject(this.over);
      if (this.over) return Promise.resolve(this.over);
      return new Promise((take) => { this.waiting = take; });
    };
    return {
      next,
      return: () => { close(); return Promise.resolve({ value: undefined, done: true }); },
      [Symbol.asyncIterator]() { return this; },
    };
  }
}
