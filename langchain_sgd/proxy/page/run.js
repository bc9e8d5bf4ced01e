// One run, gathered from its events: the same for a live run, a replay and a run from the history.

export class Run {
  constructor(model, race = null) {
    this.model = model;
    this.race = race;
    this.id = null;
    this.events = [];
    this.reset();
  }

  /** Forget what happened, but not the events: for a replay. */
  reset() {
    this.nodes = new Map();
    this.text = "";
    this.firstText = null;
    this.planEnded = null;
    this.plain = null;
    this.plannerAsked = false;
    this.opening = null;
    this.graph = null;
    this.report = null;
    this.error = null;
    this.over = false;
    this.at = 0;
  }

  /** Keep an event and take note of it. */
  add(event) {
    this.events.push(event);
    this.feed(event);
  }

  feed(event) {
    if (typeof event.at === "number") this.at = Math.max(this.at, event.at);
    const node = this.nodes.get(event.node);
    switch (event.type) {
      case "opened":
        this.opening ??= { from: event.at, to: null };
        if (event.last) this.opening.to = event.at;
        break;
      case "hedge_dropped":
        if (this.opening) this.opening.to ??= event.at;
        break;
      case "planned":
        this.nodes.set(event.node.id, { ...BLANK, ...event.node, attempts: [], planned: event.at });
        break;
      case "graph":
        this.graph = event.graph;
        break;
      case "voided": // what was planned was a part of a thought
        this.nodes = new Map();
        this.graph = null;
        break;
      case "planner_called":
        this.plannerAsked = true;
        break;
      case "plan_ended":
        this.planEnded = event.at;
        break;
      case "plain_chosen":
        this.plain = event.reason;
        this.planEnded = event.at;
        this.nodes = new Map([[PLAIN, { ...BLANK, id: PLAIN, heading: "in one piece", dependencies: [], attempts: [], planned: event.at }]]);
        this.graph = null;
        break;
      case "started":
        node.status = "running";
        node.tier = event.tier;
        node.text = "";
        node.attempts.push({ tier: event.tier, start: event.at, first: null, end: null, lost: false });
        break;
      case "token":
        node.attempts.at(-1).first ??= event.at;
        node.text += event.text;
        break;
      case "discarded":
        Object.assign(node.attempts.at(-1) ?? {}, { end: event.at, lost: true });
        node.text = "";
        node.status = "waiting";
        break;
      case "ended": {
        const last = node.attempts.at(-1);
        if (last) {
          last.end ??= event.at;
          last.lost ||= event.status === "failed";
        }
        node.status = event.status;
        node.text = event.text || node.text;
        node.ended = event.at;
        break;
      }
      case "text":
        this.firstText ??= event.at;
        this.text += event.text;
        break;
      case "done":
        this.text = event.text;
        this.report = event.report;
        this.at = event.report?.wall_s ?? this.at;
        this.over = true;
        break;
      case "error":
        this.stop(event.error.message);
        break;
    }
  }

  /** The run ends here, without a report. */
  stop(why) {
    this.error = why;
    this.over = true;
    for (const node of this.nodes.values()) {
      if (node.ended === null && node.status === "running") node.status = "skipped";
    }
  }

  get words() { return words(this.text); }

  /** What the run is doing, in words. */
  get state() {
    if (this.error !== null) return "no answer";
    if (this.over) {
      const status = this.report?.status;
      return `${status === "partial" ? "parts are missing · " : ""}first text ${seconds(this.report?.ttft_s ?? this.firstText ?? 0)} · ${this.words} words`;
    }
    const nodes = [...this.nodes.values()];
    const writing = nodes.filter((node) => node.status === "running").length;
    if (this.plain !== null) return `one piece · ${this.words} words`;
    if (this.planEnded === null && !writing) return nodes.length ? "planning" : "asking the planner";
    return `${writing} of ${nodes.length} parts being written`;
  }
}

const PLAIN = "@plain";
const BLANK = { scope: "", difficulty: 0, status: "waiting", tier: "", text: "", ended: null };

export function words(text) { return text.match(/\S+/g)?.length ?? 0; }

export function seconds(value) { return `${value.toFixed(value < 99.95 ? 2 : 0)} s`; }

/** A race's outcome in one sentence. */
export function verdict(sgd, plain) {
  for (const run of [sgd, plain]) {
    if (run.error !== null || !run.report) return `No result: ${run.model} gave no answer.`;
  }
  const [mine, theirs] = [sgd.report.wall_s, plain.report.wall_s];
  const ratio = theirs / mine;
  const facts = `${seconds(mine)} against ${seconds(theirs)}, ${sgd.words} words against ${plain.words}`;
  if (sgd.report.status === "plain") return `This question was answered in one piece, so there was nothing to win: ${facts}.`;
  const missing = sgd.report.status === "partial" ? " But parts of it are missing." : "";
  if (ratio >= 1.05) return `SGD: whole answer ${ratio.toFixed(1)}× sooner, ${facts}.${missing}`;
  if (ratio <= 0.95) return `Plain decoding was ${(1 / ratio).toFixed(1)}× sooner here: SGD ${facts}.${missing}`;
  return `A draw: SGD ${facts}.${missing}`;
}

/** The events of a response, as they come. */
export async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (pending + value).split("\n");
    pending = lines.pop();
    for (const line of lines) if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
  }
}
