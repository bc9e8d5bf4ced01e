// The plan as boxes and lines. Places come from the server, the same as in a report's picture.

const SVG = "http://www.w3.org/2000/svg";
const DIFFICULTIES = 5;
const [LEAST_SCALE, SCROLLED_SCALE] = [0.75, 0.85];
const SIGNS = { complete: "✓ ", truncated: "✂ cut short, ", failed: "✕ failed", skipped: "∅ skipped" };
const measure = document.createElement("canvas").getContext("2d");

export function make(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export class Graph {
  #boxes = new Map();
  #lines = [];
  #drawn = null;

  /** @param onPick called with a node when its box is chosen */
  constructor(parent, colors, onPick) {
    this.parent = parent;
    this.colors = colors;
    this.onPick = onPick;
    parent.addEventListener("scroll", () => this.#edges(), { passive: true });
    new ResizeObserver(() => this.#edges()).observe(parent);
  }

  /** Fade out where there is more to be scrolled to. */
  #edges() {
    const { scrollLeft, clientWidth, scrollWidth, classList } = this.parent;
    classList.toggle("before", scrollLeft > 8);
    classList.toggle("beyond", scrollLeft + clientWidth < scrollWidth - 8);
  }

  clear() {
    this.#boxes.clear();
    this.#drawn = null;
    this.parent.replaceChildren();
  }

  show(run) {
    if (!run.graph) {
      if (this.#drawn !== null || !this.parent.firstChild) this.clear();
      this.#say(run);
      return;
    }
    if (this.#drawn !== run.graph) this.#arrange(run);
    for (const node of run.nodes.values()) this.#update(node);
    for (const { line, from } of this.#lines) line.classList.toggle("given", run.nodes.get(from)?.status === "complete");
  }

  #say(run) {
    const why = run.model === "plain" ? "this is plain decoding" : run.plain;
    const text = why !== null ? `No plan: ${why}.` : run.over ? "No plan." : "The planner is thinking …";
    const note = this.parent.firstChild ?? document.createElement("p");
    note.className = "none";
    if (note.textContent !== text) note.textContent = text;
    this.parent.append(note);
  }

  #arrange(run) {
    const { width, height, boxes, lines } = run.graph;
    if (this.#drawn === null) {
      this.svg = make("svg", { role: "group", "aria-label": "Plan" });
      this.under = make("g");
      this.svg.append(this.under);
      this.parent.replaceChildren(this.svg);
    }
    this.#drawn = run.graph;
    this.svg.setAttribute("viewBox", `-2 -2 ${width + 4} ${height + 4}`);
    // Whole if its words can be read then; otherwise larger than that, to be scrolled.
    const fitting = (this.parent.clientWidth - 8) / (width + 4);
    const scale = fitting < LEAST_SCALE ? SCROLLED_SCALE : Math.min(1.15, fitting);
    this.svg.setAttribute("width", (width + 4) * scale);
    this.svg.setAttribute("height", (height + 4) * scale);
    for (const [id, box] of Object.entries(boxes)) {
      if (!this.#boxes.has(id)) this.#add(run.nodes.get(id), box);
      this.#boxes.get(id).group.style.transform = `translate(${box[0]}px, ${box[1]}px)`;
    }
    this.#lines = lines.map(({ from, d }) => ({ from, line: make("path", { d, class: "line" }) }));
    const ends = new Set(lines.map(({ to }) => to));
    const heads = [...ends].map((id) => {
      const [x, y, , h] = boxes[id];
      return make("path", { class: "head", d: `M${x - 7} ${y + h / 2 - 4}L${x - 1} ${y + h / 2}L${x - 7} ${y + h / 2 + 4}` });
    });
    this.under.replaceChildren(...this.#lines.map(({ line }) => line), ...heads);
    this.#edges();
  }

  #add(node, [, , width, height]) {
    const title = make("title");
    const foot = make("text", { class: "foot", x: width - 12, y: height - 8.5, "aria-hidden": true });
    const texts = wrapped(`${node.id} ${node.heading}`, width - 34).map((line, index) =>
      make("text", { class: "heading", x: 20, y: 24 + 16 * index, "aria-hidden": true }, line));
    const group = make(
      "g", { class: "node waiting", tabindex: 0, role: "button" }, title,
      make("rect", { class: "frame", width, height, rx: 10 }),
      make("rect", { class: "stripe", x: 8, y: 11, width: 3.5, height: height - 22, rx: 1.75 }),
      ...texts, ...dots(23, height - 12, node.difficulty), foot);
    const pick = () => this.onPick(node);
    group.addEventListener("click", pick);
    group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      pick();
    });
    this.svg.append(group);
    this.#boxes.set(node.id, { group, title, foot, told: "" });
  }

  #update(node) {
    const box = this.#boxes.get(node.id);
    const size = words(node.text);
    const state = SIGNS[node.status] ?? (node.status === "running" ? "writing" : "waiting");
    const foot = node.status === "waiting" || node.status === "failed" || node.status === "skipped"
      ? state : `${node.tier} · ${node.status === "running" ? "" : SIGNS[node.status]}${size} words`;
    const key = `${node.status} ${foot}`;
    if (box.told === key) return;
    box.told = key;
    box.foot.textContent = foot;
    box.group.setAttribute("class", `node ${node.status}`);
    box.group.style.setProperty("--tier", this.colors[node.tier] ?? "#808890");
    const needs = node.dependencies.length ? `needs ${node.dependencies.join(", ")}` : "needs nothing";
    const said = [`${node.id}. ${node.heading}`, node.scope, `difficulty ${node.difficulty} of ${DIFFICULTIES}`, needs, foot];
    box.title.textContent = said.filter(Boolean).join("\n");
  }
}

/** A difficulty, from its first dot's middle on. */
export function dots(x, y, difficulty) {
  return Array.from({ length: DIFFICULTIES }, (_, level) =>
    make("circle", { cx: x + 8 * level, cy: y, r: 2.5, "fill-opacity": level < difficulty ? 0.75 : 0.2 }));
}

function words(text) { return text.match(/\S+/g)?.length ?? 0; }

/** At most two lines, cut with an ellipsis. */
function wrapped(text, width) {
  measure.font = "600 12.5px system-ui, sans-serif";
  const fits = (line) => measure.measureText(line).width <= width;
  const lines = [""];
  for (const word of text.split(/\s+/)) {
    const line = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (fits(line) || !lines.at(-1)) lines[lines.length - 1] = line;
    else lines.push(word);
  }
  const kept = lines.slice(0, 2);
  const cut = (line) => {
    let short = line;
    while (short && !fits(`${short}…`)) short = short.slice(0, -1);
    return `${short.trimEnd()}…`;
  };
  return kept.map((line, index) => (!fits(line) || (index === 1 && lines.length > 2) ? cut(line) : line));
}
