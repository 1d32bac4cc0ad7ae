// Fetching: one JSON document, again and again, while the page is seen.

const KEY = "headstart-admin-key";
const PATIENCE = 15_000;
const RETRY = 5_000;

/** The admin key; it lives as long as the browser's tab. */
export const session = {
  get key() {
    return sessionStorage.getItem(KEY);
  },
  set key(value) {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  },
};

/** What went wrong. `status` is null where no server answered. */
export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether a key is wanted, or another one. */
  get locked() {
    return this.status === 401 || this.status === 403;
  }
}

async function fetchJson(address, signal) {
  const headers = session.key ? { authorization: `Bearer ${session.key}` } : {};
  let answer;
  try {
    answer = await fetch(address, { headers, signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]) });
    if (answer.ok) return await answer.json();
  } catch (error) {
    throw answer ? new Failure(answer.status, "Its answer was cut off or is no JSON.") : new Failure(null, error.message);
  }
  const body = await answer.json().catch(() => null);
  throw new Failure(answer.status, body?.error?.message ?? answer.statusText);
}

/**
 * A document that is polled from the first `refresh()` on. `address()` is asked every time; `show(document)` or
 * `fail(failure)` is told. It rests while the page is hidden.
 */
export class Feed {
  #period;
  #address;
  #show;
  #fail;
  #timer = null;
  #fetching = null;
  #stopped = true;

  constructor(period, address, show, fail) {
    this.#period = period;
    this.#address = address;
    this.#show = show;
    this.#fail = fail;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#rest();
      else if (!this.#stopped) this.refresh();
    });
  }

  /** Fetch now; what is under way is dropped. */
  async refresh() {
    this.#rest();
    this.#stopped = false;
    const fetching = new AbortController();
    this.#fetching = fetching;
    let wait = this.#period;
    let told;
    try {
      const received = await fetchJson(this.#address(), fetching.signal);
      told = () => this.#show(received);
    } catch (failure) {
      if (fetching.signal.aborted) return;
      wait = Math.min(wait, RETRY);
      told = () => this.#fail(failure);
    }
    if (fetching.signal.aborted) return;
    this.#fetching = null;
    if (!this.#stopped && !document.hidden) this.#timer = setTimeout(() => this.refresh(), wait);
    told();
  }

  /** Fetch no more until `refresh()`. */
  stop() {
    this.#stopped = true;
    this.#rest();
  }

  #rest() {
    clearTimeout(this.#timer);
    this.#fetching?.abort();
    this.#fetching = null;
  }
}
