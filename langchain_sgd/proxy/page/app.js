// The page: asks, follows runs, shows them again. What a run is, is in run.js.

import { Graph } from "./graph.js";
import { Legend } from "./legend.js";
import { Growing } from "./markdown.js";
import { Run, eventsOf, seconds, verdict } from "./run.js";
import { Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const PLAIN = "plain";
let config, colors, graph, legend, timeline;
let lanes = [];
let stopping = null;
let frame = 0;
let again = 0;
let pictured = 0;

// -- talking to the server

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  if (response.status === 401) $("key").focus();
  const body = await response.json().catch(() => null);
  throw new Error(body?.error?.message ?? `The server answered with status ${response.status}.`);
}

function body(model) {
  const messages = [{ role: "user", content: $("question").value }];
  if ($("system").value.trim()) messages.unshift({ role: "system", content: $("system").value });
  const asked = { model, messages };
  if ($("max-tokens").value) asked.max_tokens = Number($("max-tokens").value);
  if ($("temperature").value) asked.temperature = Number($("temperature").value);
  return JSON.stringify(asked);
}

async function follow(lane, signal) {
  const { run } = lane;
  lane.began = performance.now();
  try {
    const response = await ask(`api/runs${run.race ? `?race=${run.race}` : ""}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: body(run.model), signal,
    });
    run.id = response.headers.get("X-SGD-Run");
    for await (const event of eventsOf(response)) {
      run.add(event);
      draw();
    }
    if (!run.over) run.stop("The connection ended before the answer did.");
  } catch (error) {
    run.stop(signal.aborted ? "Stopped." : error.message);
  }
  draw();
}

// -- showing

class Lane {
  constructor(run) {
    this.run = run;
    this.began = null;
    const [section, head, name, state, clock, problem, answer, warnings] =
      ["section", "h2", "span", "span", "span", "p", "div", "ul"].map((tag) => document.createElement(tag));
    section.className = "lane";
    section.setAttribute("aria-label", `Answer of ${run.model}`);
    name.textContent = run.model;
    state.className = "state";
    clock.className = "clock";
    problem.className = "problem";
    problem.hidden = true;
    answer.className = "answer";
    answer.tabIndex = 0;
    answer.setAttribute("role", "region");
    answer.setAttribute("aria-label", `Text of ${run.model}`);
    head.append(name, state, clock);
    warnings.className = "warnings";
    warnings.setAttribute("aria-label", "Warnings");
    section.append(head, problem, answer, warnings);
    Object.assign(this, { section, state, clock, problem, answer, warnings, growing: new Growing(answer), text: null, followed: false });
  }

  /** Seconds the run has taken so far. */
  get now() {
    const { run } = this;
    if (this.playing !== undefined) return run.over ? run.at : this.playing;
    if (run.over || this.began === null) return run.at;
    return Math.max(run.at, (performance.now() - this.began) / 1000);
  }

  show() {
    const { run } = this;
    set(this.state, this.began === null && !run.events.length ? "waits for its turn" : run.state);
    set(this.clock, seconds(this.now));
    this.section.classList.toggle("over", run.over);
    this.problem.hidden = run.error === null;
    set(this.problem, run.error ?? "");
    const warned = run.report?.warnings ?? [];
    if (this.warnings.childElementCount !== warned.length) {
      this.warnings.replaceChildren(...warned.map((text) => {
        const item = document.createElement("li");
        item.textContent = text;
        return item;
      }));
    }
    const changed = this.text !== run.text;
    if (!changed && !(this.followed && run.over)) return;
    const { answer } = this;
    const atEnd = answer.scrollHeight - answer.scrollTop - answer.clientHeight < 60;
    if (changed) {
      this.text = run.text;
      this.growing.show(run.text);
    }
    // Whoever scrolls stays there. All others see the text grow, and then where it begins.
    if (!run.over && atEnd) answer.scrollTop = answer.scrollHeight;
    else if (this.followed && atEnd && run.error === null) answer.scrollTop = 0;
    this.followed = !run.over && atEnd;
  }

  /** Back to the beginning. */
  rewind() {
    this.run.reset();
    this.text = null;
    this.followed = false;
    this.playing = 0;
  }
}

function set(element, text) { if (element.textContent !== text) element.textContent = text; }

function show(runs) {
  lanes = runs.map((run) => new Lane(run));
  $("answers").replaceChildren(...lanes.map((lane) => lane.section));
  $("show").hidden = false;
  $("samples").hidden = $("intro").hidden = true;
  $("show").classList.toggle("race", runs.length > 1);
  $("show").classList.toggle("one", runs.length === 1 && runs[0].model === PLAIN);
  graph.clear();
  legend.clear();
  draw();
}

/** Draw soon, once for all that happens until then. */
function draw() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    for (const lane of lanes) lane.show();
    const begun = lanes.filter((lane) => lane.began !== null || lane.run.events.length);
    const goesOn = begun.some((lane) => !lane.run.over);
    // Text comes with every frame; for pictures ten a second are enough.
    if (!goesOn || performance.now() - pictured > 95) {
      pictured = performance.now();
      graph.show(lanes[0].run);
      legend.show(timeline.show(begun.map((lane) => ({ run: lane.run, now: lane.now }))), lanes[0].run);
    }
    if (goesOn) draw();
  });
}

function pick(node) {
  const { answer } = lanes[0];
  const found = [...answer.querySelectorAll("h3, h4, h5")].find((each) => each.textContent === node.heading);
  answer.querySelector(".found")?.classList.remove("found");
  if (!found) return;
  found.classList.add("found");
  answer.scrollTo({ top: found.offsetTop - answer.offsetTop - 8 });
}

function say(text, bad = false) {
  $("result").textContent = text;
  $("result").classList.toggle("bad", bad);
}

function conclude() {
  const [first, second] = lanes.map((lane) => lane.run);
  const saved = lanes.every(({ run }) => run.id && !run.error);
  $("save").hidden = !first.id;
  $("replay").hidden = !saved;
  if (second) say(verdict(first, second), Boolean(first.error || second.error));
  else if (first.error) say(first.error, first.error !== "Stopped.");
  else if (!first.report) say("An answer without a report: it was ended at a stop text, or SGD had no part in it.");
  else if (first.report.status === "plain") say(`Answered in one piece in ${seconds(first.report.wall_s)}.`);
  else {
    const parts = first.report.nodes;
    const ended = parts.filter((node) => node.status === "complete").length;
    const inRow = first.report.decode_s / first.report.wall_s;
    const took = seconds(first.report.wall_s);
    if (ended < parts.length) say(`${ended} of ${parts.length} parts were written, in ${took}.`, true);
    else say(`${parts.length} parts in ${took}, ${inRow.toFixed(1)} written at a time on average.`);
  }
}

// -- asking

async function go() {
  const model = $("model").value;
  const names = $("race").checked ? [model === PLAIN ? config.models[0] : model, PLAIN] : [model];
  stopping?.abort();
  const mine = stopping = new AbortController();
  busy(true);
  const inTurn = names.length > 1 && !$("together").checked;
  if (inTurn) say(`First ${names[0]}, then ${PLAIN}, so that neither slows the other down.`);
  else say(model === PLAIN ? "Written in one piece, from top to bottom …" : "Planned, and written part by part …");
  $("save").hidden = $("replay").hidden = true;
  const race = names.length > 1 ? fresh() : null;
  show(names.map((name) => new Run(name, race)));
  const work = lanes.map((lane) => () => follow(lane, mine.signal));
  if ($("together").checked) await Promise.all(work.map((start) => start()));
  else for (const start of work) if (!mine.signal.aborted) await start();
  if (stopping !== mine) return;
  for (const { run } of lanes) if (!run.over) run.stop("Stopped.");
  stopping = null;
  busy(false);
  draw();
  conclude();
  await list();
}

/** A name that no other race has. */
function fresh() {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function busy(is) {
  $("go").hidden = is;
  $("stop").hidden = !is;
}

/** Play what has happened again, all runs from the same moment. */
function replay() {
  say("");
  $("replay").disabled = true;
  const began = performance.now();
  const next = lanes.map(() => 0);
  const mine = lanes;
  for (const lane of lanes) lane.rewind();
  graph.clear();
  const play = () => {
    if (lanes !== mine) return end();
    const now = (performance.now() - began) / 1000;
    lanes.forEach((lane, index) => {
      const { events } = lane.run;
      lane.playing = now;
      while (next[index] < events.length && moment(events[next[index]], lane.run) <= now) lane.run.feed(events[next[index]++]);
    });
    draw();
    if (lanes.every((lane, index) => next[index] >= lane.run.events.length)) {
      conclude();
      end();
    } else requestAnimationFrame(play);
  };
  const end = () => { $("replay").disabled = false; };
  play();
}

function moment(event, run) { return event.at ?? event.report?.wall_s ?? run.at; }

// -- history

async function list() {
  clearTimeout(again);
  const { runs } = await (await ask("api/runs")).json();
  if (runs.some((each) => each.status === "running")) again = setTimeout(() => list().catch(fail), 1000);
  const shown = together(runs);
  $("history").hidden = !shown.length;
  $("runs").replaceChildren(...shown.map((each) => {
    const item = document.createElement("li");
    const button = item.appendChild(document.createElement("button"));
    button.type = "button";
    button.dataset.run = each[0].id;
    for (const [name, text] of [["which", each.map((run) => run.model).join(" · ")], ["asked", each[0].question], ["facts", facts(each)]]) {
      const part = button.appendChild(document.createElement("span"));
      part.className = name;
      part.textContent = text;
    }
    button.addEventListener("click", () => open(each).catch((error) => say(error.message, true)));
    return item;
  }));
  mark();
}

/** Each run alone, or with the one that it raced; the plain one last, as in the race. */
function together(runs) {
  const races = new Map();
  for (const run of runs) {
    const key = run.race ?? run.id;
    races.set(key, [...(races.get(key) ?? []), run]);
  }
  return [...races.values()].map((each) => each.sort((a, b) => (a.model === PLAIN) - (b.model === PLAIN)));
}

function facts(runs) {
  const [{ nodes }] = runs;
  const times = runs.map(({ wall_s: wall }) => (wall === null ? "" : seconds(wall))).filter(Boolean).join(" against ");
  // That a plain run is plain stands there already; of a race, only what went wrong is told.
  const ends = runs.filter(({ model, status }) => status !== model && (runs.length === 1 || status !== "complete")).map(({ status }) => status);
  return [nodes ? `${nodes} parts` : "", times, ...ends].filter(Boolean).join(" · ");
}

function mark() {
  const shown = new Set(lanes.map((lane) => lane.run.id));
  for (const button of $("runs").querySelectorAll("button")) button.setAttribute("aria-current", shown.has(button.dataset.run));
}

async function past({ id, model, race }) {
  const response = await ask(`api/runs/${id}`);
  const run = new Run(model, race);
  run.id = id;
  for await (const event of eventsOf(response)) {
    if (event.type === "asked") run.question = event.question;
    else run.add(event);
  }
  if (!run.over) run.stop("This run was stopped, or is not over yet.");
  return run;
}

async function open(each) {
  const runs = await Promise.all(each.map(past));
  stopping?.abort();
  stopping = null;
  busy(false);
  $("question").value = runs[0].question;
  show(runs);
  conclude();
  mark();
  $("show").scrollIntoView({ block: "start" });
}

async function save() {
  const ids = lanes.map((lane) => lane.run.id).filter(Boolean);
  const query = ids.length > 1 ? `?with=${ids[1]}` : "";
  const file = await (await ask(`api/runs/${ids[0]}/page${query}`)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = `sgd-${ids[0]}.html`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// -- start

async function start() {
  config = await (await ask("api/config")).json();
  colors = config.tiers;
  graph = new Graph($("graph"), colors, pick);
  timeline = new Timeline($("timeline"), colors);
  legend = new Legend($("legend"), colors);
  $("model").replaceChildren(...config.models.map((name) => new Option(name)));
  $("key-form").hidden = !config.needs_key;
  $("key").value = sessionStorage.getItem("sgd-key") ?? "";
  $("samples").hidden = !config.samples.length;
  $("samples").replaceChildren(...config.samples.map((text) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = button.title = text;
    button.addEventListener("click", () => { $("question").value = text; $("question").focus(); });
    return button;
  }));
  const given = new URLSearchParams(location.hash.slice(1)).get("q");
  if (given) $("question").value = given;
  $("question").focus();
  if (!config.needs_key || $("key").value) await list();
}

const fail = (error) => { busy(false); say(error.message, true); };
$("ask").addEventListener("submit", (event) => { event.preventDefault(); go().catch(fail); });
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); $("ask").requestSubmit(); }
});
$("key-form").addEventListener("submit", (event) => event.preventDefault());
$("key").addEventListener("change", () => { sessionStorage.setItem("sgd-key", $("key").value); list().then(() => say(""), fail); });
$("stop").addEventListener("click", () => stopping?.abort());
$("replay").addEventListener("click", replay);
$("save").addEventListener("click", () => save().catch(fail));
$("forget").addEventListener("click", () => ask("api/runs", { method: "DELETE" }).then(list).catch(fail));
document.addEventListener("keydown", (event) => { if (event.key === "Escape") stopping?.abort(); });
start().catch(fail);
