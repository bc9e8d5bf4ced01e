// What the signs mean: those that are there to be seen, and no others. The same words as in a report's pictures.

import { dots, make } from "./graph.js";

const LINES = [
  ["tick", "a part is planned"], ["wait", "waits for other parts"], ["place", "waits for a free place"],
  ["first", "waits for a token"], ["", "writes"], ["lost", "not taken"], ["goal", "first one done"],
];

export class Legend {
  #told = null;

  constructor(parent, colors) {
    this.parent = parent;
    this.colors = colors;
  }

  clear() {
    this.#told = null;
    this.parent.replaceChildren();
  }

  /** @param seen the kinds of bars and the tiers that a timeline shows
   *  @param run whose plan is drawn */
  show(seen, run) {
    const nodes = run.graph ? [...run.nodes.values()] : [];
    const tiers = Object.keys(this.colors).filter((tier) => seen.tiers.has(tier));
    const needed = nodes.some((node) => node.dependencies.length);
    const kinds = LINES.filter(([kind]) => seen.kinds.has(kind));
    const told = JSON.stringify([tiers, nodes.length > 0, needed, kinds]);
    if (told === this.#told) return;
    this.#told = told;
    this.parent.replaceChildren(
      ...tiers.map((tier) => item(mark("tier", this.colors[tier]), tier)),
      ...(nodes.length ? [item(make("svg", { width: 42, height: 8, viewBox: "0 -4 42 8" }, ...dots(3.5, 0, 3)), "difficulty, 1 to 5")] : []),
      ...(needed ? [item(make("svg", { class: "arrow", width: 20, height: 10, viewBox: "-1 -5 20 10" },
        make("path", { d: "M0 0H17M12 -4L17 0L12 4" })), "its text is needed")] : []),
      ...kinds.map(([kind, meaning]) => item(mark(kind || "writes"), meaning)));
  }
}

function mark(kind, color) {
  const made = document.createElement("span");
  made.className = `sign ${kind}`;
  if (color) made.style.setProperty("--tier", color);
  return made;
}

function item(sign, meaning) {
  const made = document.createElement("li");
  sign.setAttribute("aria-hidden", "true");
  made.append(sign, meaning);
  return made;
}
