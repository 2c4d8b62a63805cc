// Unpacks the trees and answers queries about them. Nodes are numbers; parents have smaller ones than their children.

const ROOT = 0;
const OPEN_AT_FIRST = 60; // a tree of at most this many nodes starts open

const trees = (page.trees || []).map(openTree);

function openTree(packed, index) {
  const tree = { index, ...packed, size: packed.parent.length, matches: [] };
  tree.cut = new Set(packed.cut);
  lazily(tree, "children", () => childrenOf(packed.parent));
  lazily(tree, "depth", () => depthsOf(packed.parent));
  lazily(tree, "searchable", () => packed.text.map((text, node) => fold(text) + "\n" + fold(packed.leaves[node]?.answer || "")));
  lazily(tree, "place", () => placesOf(tree));
  lazily(tree, "opened", () => openedAtFirst(tree));
  tree.answer = packed.votes.find((vote) => vote.answer !== null)?.node ?? -1; // leaf of the path that is marked
  tree.chosen = ROOT;
  return tree;
}

function childrenOf(parents) {
  const children = parents.map(() => []);
  parents.forEach((parent, node) => parent >= 0 && children[parent].push(node));
  return children;
}

function depthsOf(parents) {
  const depths = new Int32Array(parents.length);
  parents.forEach((parent, node) => (depths[node] = parent < 0 ? 0 : depths[parent] + 1));
  return depths;
}

// The nodes from the root to this one.
function pathTo(tree, node) {
  const path = [];
  for (let at = node; at >= 0; at = tree.parent[at]) path.unshift(at);
  return path;
}

function openedAtFirst(tree) {
  const opened = new Uint8Array(tree.size);
  if (tree.size <= OPEN_AT_FIRST) return opened.fill(1);
  opened[ROOT] = 1;
  if (tree.answer >= 0) for (const node of pathTo(tree, tree.answer)) opened[node] = 1;
  return opened;
}

// Nodes whose ancestors are all open, in the order in which they are read.
function rowsOf(tree, isOpen) {
  const rows = [];
  const waiting = [ROOT];
  while (waiting.length) {
    const node = waiting.pop();
    rows.push(node);
    const children = isOpen(node) ? tree.children[node] : [];
    for (let i = children.length - 1; i >= 0; i--) waiting.push(children[i]);
  }
  return rows;
}

// Opens the nodes that hide a node.
function reveal(tree, node) {
  for (const above of pathTo(tree, tree.parent[node])) tree.opened[above] = 1;
}

// Sets `matches`, the nodes in the order of reading that have the text or an answer with it, in every tree.
function searchTrees(query) {
  const needle = fold(query);
  for (const tree of trees) {
    tree.matches = query ? tree.searchable.flatMap((text, node) => (node !== ROOT && text.includes(needle) ? [node] : [])) : [];
    tree.named = Boolean(query) && fold(`${tree.id}\n${tree.question}`).includes(needle);
    if (tree.matches.length > 1) tree.matches.sort((a, b) => tree.place[a] - tree.place[b]);
  }
}

// Position of each node when all are open.
function placesOf(tree) {
  const places = new Int32Array(tree.size);
  rowsOf(tree, () => true).forEach((node, i) => (places[node] = i));
  return places;
}

function hitsIn(text, query) {
  const hits = [];
  if (!query) return hits;
  const needle = fold(query);
  const searched = fold(text);
  for (let at = searched.indexOf(needle); at >= 0; at = searched.indexOf(needle, at + needle.length)) hits.push([at, at + needle.length]);
  return hits;
}

// Step of the color scale, 0 to 5; -1 for a node without rollouts.
function valueStep(mean) {
  if (mean === null) return -1;
  const [low, high] = page.scale;
  return Math.min(5, Math.max(0, Math.round((5 * (mean - low)) / (high - low))));
}

// The verdict on a leaf or a vote as a class and a sign.
function verdictOf(right) {
  if (right === null) return { name: "open", sign: "·", word: "not known" };
  return right ? { name: "right", sign: "✓", word: "right" } : { name: "wrong", sign: "✗", word: "wrong" };
}

function decimal(value, digits = 2) {
  return value === null ? "–" : value.toFixed(digits).replace("-", "−");
}
