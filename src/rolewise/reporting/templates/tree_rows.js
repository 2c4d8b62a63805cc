// The rows of a tree. Only the visible ones are on the page: each is positioned by its number, so that a tree of many
// thousand open nodes scrolls like a small one.

const ROW = 34; // pixels, as in the style sheet
const SPARE = 8; // rows above and below the screen
const PREVIEW = 240; // characters of a step's text
const BEFORE_HIT = 24; // characters shown before a match

const view = { tree: null, rows: [], place: new Map(), query: "", onPath: new Set() };

function showRows(tree) {
  view.tree = tree;
  view.onPath = new Set(tree.answer >= 0 ? pathTo(tree, tree.answer) : []);
  arrange();
}

// After nodes were opened or closed.
function arrange() {
  view.rows = rowsOf(view.tree, (node) => view.tree.opened[node]);
  view.place = new Map(view.rows.map((node, i) => [node, i]));
  byId("canvas").style.height = `${view.rows.length * ROW}px`;
  byId("shown").textContent = `${count(view.rows.length - 1, "step")} shown of ${(view.tree.size - 1).toLocaleString("en")}`;
  drawRows();
}

function drawRows() {
  const holder = byId("rows");
  const from = Math.max(0, Math.floor(holder.scrollTop / ROW) - SPARE);
  const to = Math.min(view.rows.length, Math.ceil((holder.scrollTop + holder.clientHeight) / ROW) + SPARE);
  const drawn = [];
  for (let i = from; i < to; i++) drawn.push(rowOf(view.rows[i], i));
  byId("canvas").replaceChildren(...drawn);
  const chosen = byId(`node-${view.tree.chosen}`);
  if (chosen) holder.setAttribute("aria-activedescendant", chosen.id);
  else holder.removeAttribute("aria-activedescendant");
}

function rowOf(node, place) {
  const tree = view.tree;
  const row = element("div", rowClass(tree, node));
  row.id = `node-${node}`;
  row.dataset.node = node;
  row.style.top = `${place * ROW}px`;
  row.style.setProperty("--depth", tree.depth[node]);
  row.setAttribute("role", "treeitem");
  row.setAttribute("aria-level", tree.depth[node] + 1);
  row.setAttribute("aria-selected", String(node === tree.chosen));
  const siblings = node === ROOT ? [ROOT] : tree.children[tree.parent[node]];
  row.setAttribute("aria-setsize", siblings.length);
  row.setAttribute("aria-posinset", siblings.indexOf(node) + 1);
  const inner = tree.children[node].length > 0;
  if (inner) row.setAttribute("aria-expanded", String(Boolean(tree.opened[node])));
  const twisty = element("span", "twisty", inner ? (tree.opened[node] ? "▾" : "▸") : "");
  twisty.setAttribute("aria-hidden", "true");
  row.append(twisty, badge(tree, node), preview(tree, node));
  const leaf = tree.leaves[node];
  if (leaf) row.append(leafMark(leaf));
  row.append(element("span", "visits", `${tree.visits[node].toLocaleString("en")}×`), element("span", "mean", decimal(tree.mean[node])));
  return row;
}

function rowClass(tree, node) {
  const step = valueStep(tree.mean[node]);
  const names = ["node", step < 0 ? "unvisited" : `v${step}`];
  if (view.onPath.has(node)) names.push("on-path");
  if (node === tree.chosen) names.push("chosen");
  return names.join(" ");
}

function badge(tree, node) {
  if (node === ROOT) return element("span", "badge", "question");
  const kind = tree.behaviour[node];
  return element("span", `badge b${kind % 8}`, page.behaviours[kind]);
}

function leafMark(leaf) {
  const { name, sign, word } = verdictOf(leaf.answer === null && !leaf.right ? null : leaf.right);
  const mark = element("span", `answer ${name}`);
  mark.append(element("b", "", sign), element("span", "", leaf.answer === null ? "no answer" : leaf.answer));
  mark.title = leaf.answer === null ? "no answer" : `${word}: ${leaf.answer}`;
  return mark;
}

// The text on one line, from a little before its first match on.
function preview(tree, node) {
  const text = node === ROOT ? tree.question : tree.text[node];
  const [first] = hitsIn(text, view.query);
  const start = first && first[0] > BEFORE_HIT ? first[0] - BEFORE_HIT : 0;
  const piece = text.slice(start, start + PREVIEW);
  const span = element("span", "preview");
  if (start) span.append("…");
  let at = 0;
  for (const [from, to] of hitsIn(piece, view.query)) {
    span.append(piece.slice(at, from).replace(/\s+/g, " "), element("mark", "", piece.slice(from, to)));
    at = to;
  }
  span.append(piece.slice(at).replace(/\s+/g, " "));
  if (!text.trim()) span.append(element("i", "", "(empty)"));
  return span;
}

function toggle(node, open = !view.tree.opened[node]) {
  if (!view.tree.children[node].length) return;
  view.tree.opened[node] = open ? 1 : 0;
  arrange();
}

// Makes a node the chosen one, on the screen.
function choose(node) {
  view.tree.chosen = node;
  if (!view.place.has(node)) {
    reveal(view.tree, node);
    arrange();
  }
  const holder = byId("rows");
  const top = view.place.get(node) * ROW;
  if (top < holder.scrollTop) holder.scrollTop = Math.max(0, top - ROW);
  else if (top + ROW > holder.scrollTop + holder.clientHeight) holder.scrollTop = top + 2 * ROW - holder.clientHeight;
  drawRows();
  showDetail(view.tree, node);
}

function setAll(open) {
  const tree = view.tree;
  tree.opened.fill(open ? 1 : 0);
  arrange();
  choose(open ? tree.chosen : ROOT);
}

// Arrow keys, following the pattern for trees.
function walk(key) {
  const { tree, rows, place } = view;
  const node = tree.chosen;
  const at = place.get(node) ?? 0;
  const children = tree.children[node];
  const moves = {
    ArrowDown: () => choose(rows[Math.min(rows.length - 1, at + 1)]),
    ArrowUp: () => choose(rows[Math.max(0, at - 1)]),
    Home: () => choose(rows[0]),
    End: () => choose(rows[rows.length - 1]),
    ArrowRight: () => (children.length && !tree.opened[node] ? toggle(node, true) : children.length && choose(children[0])),
    ArrowLeft: () => (children.length && tree.opened[node] ? toggle(node, false) : node !== ROOT && choose(tree.parent[node])),
    Enter: () => toggle(node),
    " ": () => toggle(node),
  };
  if (!moves[key]) return false;
  moves[key]();
  return true;
}

function count(number, one) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : one + "s"}`;
}
