// Who waited and who wrote when: a row for the planner and for each part, all runs over one scale of seconds.

import { seconds } from "./run.js";

/** Of a timeline's width: a shorter wait is too short to be seen, and is not drawn. */
const SHORTEST = 0.006;
const WAITS = new Set(["wait", "place", "first"]);

export class Timeline {
  #rows = [];

  constructor(parent, colors) {
    this.parent = parent;
    this.colors = colors;
    this.axis = row("axis");
    parent.append(this.axis.element);
  }

  /** @param runs each with the seconds it has taken so far
   *  @returns the kinds of bars and the tiers that are there to be seen */
  show(runs) {
    const span = Math.max(0.5, ...runs.map(({ now }) => now)) * 1.02;
    this.#ticks(span);
    const wanted = runs.flatMap(({ run, now }, index) => rowsOf(run, now, index > 0, Object.keys(this.colors).at(-1)));
    // In a race: where the first one was done.
    const goal = runs.length > 1 && runs[0].run.report ? runs[0].now : null;
    if (goal !== null) for (const { bars } of wanted) bars.push({ kind: "goal", from: goal });
    for (const each of wanted) each.bars = each.bars.filter(({ kind, from, to }) => !WAITS.has(kind) || to - from > SHORTEST * span);
    while (this.#rows.length > wanted.length) this.#rows.pop().element.remove();
    wanted.forEach((each, index) => {
      if (!this.#rows[index]) {
        this.#rows[index] = row("row");
        this.parent.append(this.#rows[index].element);
      }
      this.#fill(this.#rows[index], each, span);
    });
    const bars = wanted.flatMap((each) => each.bars);
    return { kinds: new Set(bars.map(({ kind }) => kind)), tiers: new Set(bars.map(({ tier }) => tier)) };
  }

  #fill(shown, { label, bars, note, bad, lead }, span) {
    shown.element.className = lead ? "row lead" : "row";
    set(shown.label, label);
    shown.label.title = label;
    set(shown.note, note);
    shown.note.className = bad ? "note bad" : "note";
    while (shown.track.children.length > bars.length) shown.track.lastChild.remove();
    bars.forEach(({ kind, tier, from, to }, index) => {
      const bar = shown.track.children[index] ?? shown.track.appendChild(document.createElement("div"));
      bar.className = `bar ${kind}`;
      bar.style.left = `${(100 * from) / span}%`;
      bar.style.width = to === undefined ? "" : `${(100 * Math.max(0, to - from)) / span}%`;
      bar.style.setProperty("--tier", this.colors[tier] ?? "#808890");
    });
  }

  #ticks(span) {
    const step = nice(span / 5);
    const count = Math.floor(span / step) + 1;
    const { track } = this.axis;
    while (track.children.length > count) track.lastChild.remove();
    for (let index = 0; index < count; index++) {
      const mark = track.children[index] ?? track.appendChild(document.createElement("span"));
      mark.className = "mark";
      mark.style.left = `${(100 * index * step) / span}%`;
      set(mark, index ? `${Number((index * step).toPrecision(6))} s` : "0");
    }
  }
}

function row(kind) {
  const element = document.createElement("div");
  element.className = kind;
  const [label, track, note] = ["label", "track", "note"].map((name) => {
    const part = document.createElement("div");
    part.className = name;
    return part;
  });
  element.append(label, track, note);
  return { element, label, track, note };
}

function set(element, text) { if (element.textContent !== text) element.textContent = text; }

function rowsOf(run, now, isSecond, largest) {
  const rows = [];
  const nodes = [...run.nodes.values()];
  if (run.plain === null || run.plannerAsked) {
    const end = run.planEnded ?? now;
    const bars = [{ kind: "", tier: "planner", from: 0, to: end }];
    for (const node of nodes) if (run.plain === null) bars.push({ kind: "tick", from: node.planned });
    rows.push({ label: "planner", bars, note: run.planEnded === null ? "" : seconds(end), lead: isSecond });
  }
  if (run.opening && run.plain === null) {
    const { from, to } = run.opening;
    rows.push({ label: "opening", bars: [{ kind: "", tier: largest, from, to: to ?? now }], note: to === null ? "" : seconds(to - from) });
  }
  for (const node of nodes) rows.push(nodeRow(run, node, now, isSecond && !rows.length));
  return rows;
}

const ENDS = { failed: "✕ failed", skipped: "∅ skipped", truncated: "✂ cut short" };

function nodeRow(run, node, now, lead) {
  const bars = [];
  const start = node.attempts[0]?.start ?? node.ended ?? now;
  if (run.plain === null) {
    const needed = node.dependencies.map((id) => run.nodes.get(id)?.ended ?? start);
    // A part that is never begun waits for no place: what it waited for did not come.
    const begun = node.attempts.length || node.ended === null;
    const ready = begun ? Math.min(start, Math.max(node.planned, ...needed)) : start;
    if (ready > node.planned) bars.push({ kind: "wait", from: node.planned, to: ready });
    if (start > ready) bars.push({ kind: "place", tier: node.attempts[0]?.tier, from: ready, to: start });
  }
  for (const { tier, start, first, end, lost } of node.attempts) {
    const to = end ?? now;
    if (lost) bars.push({ kind: "lost", tier, from: start, to });
    else {
      bars.push({ kind: "first", tier, from: start, to: first ?? to });
      if (first !== null) bars.push({ kind: "", tier, from: first, to });
    }
  }
  const bad = node.status in ENDS;
  // An answer in one piece takes the time that stands above its text.
  const took = node.ended === null ? "" : seconds(run.model === "plain" && run.over ? run.at : node.ended - start);
  const note = bad ? ENDS[node.status] : took;
  const label = run.plain === null ? `${node.id} ${node.heading}` : `${run.model === "plain" ? "plain" : node.heading}`;
  return { label, bars, note, bad, lead };
}

/** The next larger of 1, 2, 5, 10, 20, ... */
function nice(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= step * (1 - 1e-9));
}
