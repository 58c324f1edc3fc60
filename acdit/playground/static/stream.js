// Requests to the server: JSON up, one JSON object a line down.

/** Error with a message for a person, from the server or about the connection to it. */
export class Failure extends Error {}

const PATIENCE = 2000; // milliseconds to wait for the answer to a request to stop
const UNREACHABLE = "The server does not answer. It may have been stopped: start `acdit demo` again and reload the page.";

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (["AbortError", "TimeoutError"].includes(error.name)) throw error;
    throw new Failure(UNREACHABLE);
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  throw new Failure(answer?.error ?? `The server answered ${response.status} ${response.statusText}.`);
}

/** Return the JSON that the server has at `path`. */
export async function get(path) {
  return (await request(path)).json();
}

/** Send JSON and return the response. Raises `Failure` with the server's message if it refuses. */
export async function send(path, body, signal) {
  const headers = { "content-type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

/** Send JSON and return the JSON of the answer. */
export async function ask(path, body, signal) {
  return (await send(path, body, signal)).json();
}

/** Yield the events of a response, one for each line, as they arrive. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      let piece;
      try {
        piece = await reader.read();
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Failure("The connection to the server broke off.");
      }
      if (piece.done) break;
      const lines = (rest + piece.value).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line) yield JSON.parse(line);
    }
    if (rest.trim()) yield JSON.parse(rest);
  } finally {
    reader.cancel().catch(() => null); // a connection that broke off cannot be cancelled, and need not be
  }
}

/** A piece of work on the server: its place in the queue, its events, and a way to stop it. */
export class Job {
  constructor(path, body) {
    this.path = path;
    this.body = body;
    this.id = null;
    this.connection = new AbortController();
  }

  /** Send the request and call `handlers[event]` for each event, in order; return the last one. */
  async run(handlers) {
    const response = await send(this.path, this.body, this.connection.signal);
    let last = { event: "error", message: "The server ended the answer too early." };
    for await (const event of events(response)) {
      if (event.job) this.id = event.job;
      await handlers[event.event]?.(event);
      if (["done", "stopped", "error"].includes(event.event)) last = event;
    }
    if (last.event === "error") throw new Failure(last.message);
    return last;
  }

  /**
   * Ask the server to stop before the next block. Without an id yet, or without an answer in time, close the connection,
   * which stops the work too: a browser has few connections to a server, and other pages may hold all of them.
   */
  async stop() {
    try {
      if (this.id === null) this.connection.abort();
      else await ask("/api/stop", { job: this.id }, AbortSignal.timeout(PATIENCE));
    } catch (error) {
      if (error.name !== "TimeoutError") throw error;
      this.connection.abort();
    }
  }
}
