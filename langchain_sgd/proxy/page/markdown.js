// Markdown to DOM nodes. Model text is never markup: nothing here parses HTML, no link can be followed and
// no picture is loaded, so an answer cannot reach out of its box.

const BLOCK = /^(#{1,6}\s|```|~~~|[-*+]\s|\d{1,9}[.)]\s|>|\||(?:[-*_]\s*){3,}$)/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const RULE = /^(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,})$/;
const INLINE =
  /(`+)(.+?)\1(?!`)|\*\*(?=\S)(.+?\S?)\*\*|__(?=\S)(.+?\S?)__(?!\w)|\*(?=[^\s*])(.+?)\*|(?<!\w)_(?=[^\s_])(.+?)_(?!\w)|!?\[([^\]]*)\]\(([^)\s]*)[^)]*\)/s;

/** Cut a text into blocks of source; a block that is followed by another never changes again. */
export function blocks(text) {
  const found = [];
  let lines = [], fence = "";
  const close = () => { if (lines.length) found.push(lines.join("\n")); lines = []; };
  for (const line of text.split("\n")) {
    const mark = /^\s{0,3}(```+|~~~+)/.exec(line)?.[1];
    if (fence) {
      lines.push(line);
      if (mark && mark.startsWith(fence) && line.trim() === mark) { fence = ""; close(); }
    } else if (mark) {
      close();
      fence = mark;
      lines.push(line);
    } else if (!line.trim()) {
      close();
    } else if (/^#{1,6}\s/.test(line)) {
      close();
      found.push(line);
    } else {
      lines.push(line);
    }
  }
  close();
  return found;
}

/** One block of source as an element. */
export function render(block) {
  const lines = block.split("\n");
  const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(block);
  if (heading) return inline(make(`h${Math.min(heading[1].length + 1, 5)}`), heading[2]);
  if (/^\s{0,3}(```|~~~)/.test(block)) return code(lines);
  if (RULE.test(block.trim())) return make("hr");
  if (lines.every((line) => line.startsWith(">"))) return quote(lines);
  if (lines.length > 1 && lines[0].includes("|") && /^\s*\|?[\s:|-]+\|[\s:|-]*$/.test(lines[1])) return table(lines);
  if (ITEM.test(lines[0])) return list(lines);
  // A list may follow a line of text without a blank one.
  const start = lines.findIndex((line, index) => index && ITEM.test(line) && BLOCK.test(line.trim()));
  if (start > 0) {
    const both = make("div");
    both.append(inline(make("p"), lines.slice(0, start).join("\n")), list(lines.slice(start)));
    return both;
  }
  return inline(make("p"), block);
}

function make(tag, text) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  return made;
}

function code(lines) {
  const closed = lines.length > 1 && /^\s*(```+|~~~+)\s*$/.test(lines[lines.length - 1]);
  const pre = make("pre");
  pre.tabIndex = 0;
  pre.append(make("code", lines.slice(1, closed ? -1 : undefined).join("\n")));
  return pre;
}

function quote(lines) {
  const made = make("blockquote");
  for (const block of blocks(lines.map((line) => line.replace(/^>\s?/, "")).join("\n"))) made.append(render(block));
  return made;
}

function table(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const made = make("table");
  lines.forEach((line, index) => {
    if (index === 1) return;
    const row = make("tr");
    for (const cell of cells(line)) row.append(inline(make(index ? "td" : "th"), cell));
    made.append(row);
  });
  return made;
}

function list(lines) {
  const first = ITEM.exec(lines[0]);
  const numbered = /\d/.test(first[2]);
  const made = make(numbered ? "ol" : "ul");
  if (numbered) made.start = parseInt(first[2], 10);
  let item = null, nested = [];
  const close = () => {
    if (item && nested.length) item.append(list(nested));
    nested = [];
  };
  for (const line of lines) {
    const found = ITEM.exec(line);
    if (found && found[1].length <= first[1].length) {
      close();
      item = inline(make("li"), found[3]);
      made.append(item);
    } else if (found) {
      nested.push(line);
    } else if (nested.length) {
      nested[nested.length - 1] += ` ${line.trim()}`;
    } else {
      inline(item, ` ${line.trim()}`);
    }
  }
  close();
  return made;
}

/** Append a text's inline marks as nodes. */
function inline(parent, text) {
  let rest = text;
  while (rest) {
    const found = INLINE.exec(rest);
    if (!found) break;
    if (found.index) parent.append(rest.slice(0, found.index));
    const [whole, , literal, strong, strong2, soft, soft2, label, target] = found;
    if (literal !== undefined) parent.append(make("code", literal.trim()));
    else if (strong ?? strong2) parent.append(inline(make("strong"), strong ?? strong2));
    else if (soft ?? soft2) parent.append(inline(make("em"), soft ?? soft2));
    else {
      if (label) parent.append(label, " ");
      const shown = make("span", `(${target})`);
      shown.className = "target";
      parent.append(shown);
    }
    rest = rest.slice(found.index + whole.length);
  }
  if (rest) parent.append(rest);
  return parent;
}

/** A growing text in an element: only what has changed is made anew. */
export class Growing {
  #shown = [];
  constructor(parent) { this.parent = parent; }

  show(text) {
    const wanted = blocks(text);
    let same = 0;
    while (same < wanted.length && this.#shown[same] === wanted[same]) same++;
    while (this.parent.childNodes.length > same) this.parent.lastChild.remove();
    for (const block of wanted.slice(same)) this.parent.append(render(block));
    this.#shown = wanted;
  }
}
