// The part of a tab that runs jobs: start and stop buttons, the line of what is going on, and errors.
import { Failure, Job } from "./stream.js";
import { alertIn, announce, el, plural } from "./ui.js";

/** Words for a place in the queue: how many requests come first, with the one that is at work. */
function waiting(position) {
  return position === 0 ? "You are next." : `${plural(position, "request")} before you.`;
}

/** Words for the end of a job that was stopped. */
export function stopped(last, whole) {
  const reason = last.reason ? `Stopped, because ${last.reason}.` : "Stopped.";
  return last.python && last.whole ? `${reason} The code makes ${whole}.` : reason;
}

/** Buttons, status line and error box of a tab. */
export class Runner {
  /** `start` is the name of the button; `begin()` is called when it is pressed and returns when all is done. */
  constructor(start, begin) {
    this.jobs = new Set();
    this.start = el("button", { type: "submit", className: "main", textContent: start });
    this.halt = el("button", { type: "button", textContent: "Stop", disabled: true, className: "stop" });
    this.state = el("p", { className: "state" });
    this.trouble = el("div", { className: "trouble" });
    this.buttons = el("div", { className: "row" }, this.start, this.halt);
    this.begin = begin;
    this.halt.addEventListener("click", () => this.stop());
  }

  /** Run what the tab does, once at a time, with its errors shown. */
  async press() {
    if (this.running) return;
    this.running = true;
    this.stopping = false;
    this.halt.disabled = false;
    if (this.start === document.activeElement) this.halt.focus(); // a button that is disabled loses the focus
    this.start.disabled = true;
    alertIn(this.trouble, "");
    try {
      const message = await this.begin();
      if (message) this.say(message, true);
    } catch (error) {
      this.say("");
      if (error.name === "AbortError") this.say("Stopped.", true);
      else if (error instanceof Failure) alertIn(this.trouble, error.message);
      else throw error;
    } finally {
      for (const job of this.jobs) job.connection.abort(); // the others, if one of several has failed
      this.running = false;
      this.start.disabled = false;
      const lost = this.refocus && document.activeElement === document.body; // not if it went elsewhere meanwhile
      if (this.halt === document.activeElement || lost) this.start.focus({ preventScroll: true });
      this.refocus = false;
      this.halt.disabled = true;
    }
  }

  /** Run one job; `name` tells it from others of the same tab. The handlers of queued and started get the job too. */
  async job(path, body, handlers, name = "") {
    const job = new Job(path, body);
    const prefix = name ? `${name}: ` : "";
    this.jobs.add(job);
    this.say("Sent.");
    try {
      return await job.run({
        ...handlers,
        queued: (event) => {
          this.say(prefix + waiting(event.position), event.position > 0);
          handlers.queued?.(event, job);
        },
        loading: () => this.say(`${prefix}The model is being loaded.`),
        loaded: () => this.say(`${prefix}The model is at work.`),
        started: (event) => {
          this.say(prefix + "The model is at work.");
          handlers.started?.(event, job);
        },
      });
    } finally {
      this.jobs.delete(job);
    }
  }

  /** Stop every job of the tab. */
  async stop() {
    this.refocus = this.halt === document.activeElement;
    this.stopping = true;
    this.halt.disabled = true;
    this.say("Stopping.");
    try {
      await Promise.all([...this.jobs].map((job) => job.stop()));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      alertIn(this.trouble, error.message);
      this.halt.disabled = !this.running;
      if (this.running && this.refocus) this.halt.focus();
      this.stopping = this.refocus = false;
    }
  }

  say(message, aloud = false) {
    this.state.textContent = message;
    if (aloud) announce(message);
  }
}
