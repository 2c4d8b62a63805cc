// Manual corrections of roles: a selection of tokens in one sample, the role given to it, undo, and the patch file.

const PATCH_VERSION = 1;

const editor = { on: false, selection: null, history: [], unsaved: false };

function toggleEditor() {
  editor.on = !editor.on;
  document.body.classList.toggle("editing", editor.on);
  byId("edit").setAttribute("aria-pressed", String(editor.on));
  byId("editor").hidden = !editor.on;
  clearSelection();
  if (!editor.on) return announce("");
  const focused = document.activeElement;
  if (focused.matches(".body .tok")) select(focused, false);
}

function isSelected(sample, i) {
  const { selection } = editor;
  if (!selection || selection.sample !== sample) return false;
  return i >= Math.min(selection.anchor, selection.head) && i <= Math.max(selection.anchor, selection.head);
}

// Selects a token of the first labelling, or everything from the selection's start to it.
function select(span, extend) {
  const { sample, side } = placeOf(span);
  if (side !== sample.sides[0]) return announce("Only labelling A can be edited.");
  const i = Number(span.dataset.i);
  const before = editor.selection?.sample;
  const anchor = extend && before === sample ? editor.selection.anchor : i;
  editor.selection = { sample, anchor, head: i };
  repaintSamples([before, sample]);
  showEditor();
}

function clearSelection() {
  const before = editor.selection?.sample;
  editor.selection = null;
  repaintSamples([before]);
  showEditor();
}

function repaintSamples(wanted) {
  for (const card of allCards()) if (card.drawn && wanted.includes(card.sample)) repaint(card);
}

// Gives the selected tokens a role, or with AS_LABELLED removes given roles. Context carries no loss and keeps its
// role.
function give(role) {
  if (!editor.selection) return announce("Select tokens first: click, shift-click, or arrow keys with shift.");
  const { sample, anchor, head } = editor.selection;
  const { given } = sample.sides[0];
  const before = sample.edits;
  sample.edits = before ? before.slice() : new Uint8Array(given.length).fill(AS_LABELLED);
  for (let i = Math.min(anchor, head); i <= Math.max(anchor, head); i++) if (given[i] !== ROLE.CONTEXT) sample.edits[i] = role;
  editor.history.push({ sample, edits: before });
  afterEdit(sample);
}

function undo() {
  const last = editor.history.pop();
  if (!last) return announce("Nothing to undo.");
  last.sample.edits = last.edits;
  afterEdit(last.sample);
}

function afterEdit(sample) {
  editor.unsaved = editsOfAll().length > 0;
  labelling.version++;
  repaintSamples([sample]);
  updateTotals();
  showEditor();
}

// Runs of tokens that were given the same role, in the order of rows: half-open ranges of token indices.
function editsOfAll() {
  const found = [];
  for (const { index, edits } of samples) {
    if (!edits) continue;
    for (let i = 0; i < edits.length; i++) {
      if (edits[i] === AS_LABELLED) continue;
      const start = i;
      while (i + 1 < edits.length && edits[i + 1] === edits[start]) i++;
      found.push({ row: index, start, end: i + 1, role: page.roles[edits[start]] });
    }
  }
  return found;
}

function savePatch() {
  const edits = editsOfAll();
  if (!edits.length) return announce("Nothing to save: no token was given a role.");
  const patch = { rolewise_patch: PATCH_VERSION, data: page.fingerprint, edits };
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(patch, null, 1) + "\n"], { type: "application/json" }));
  link.download = "rolewise-patch.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  editor.unsaved = false;
  announce(`Saved ${edits.length.toLocaleString("en")} ${edits.length === 1 ? "edit" : "edits"} as ${link.download}; apply it with rolewise relabel --patch.`);
}

function showEditor() {
  const { selection } = editor;
  const count = selection ? Math.abs(selection.head - selection.anchor) + 1 : 0;
  const what = `${count.toLocaleString("en")} ${count === 1 ? "token" : "tokens"} of sample ${selection ? selection.sample.index + 1 : ""}`;
  announce(count ? `${what} selected` : "Click a token, or walk to one with n, p and the arrow keys; shift extends.");
  for (const button of byId("give").children) button.disabled = !count;
  byId("undo").disabled = !editor.history.length;
  const edits = editsOfAll().length;
  byId("save").disabled = !edits;
  byId("save").textContent = edits ? `Save patch (${edits.toLocaleString("en")})` : "Save patch";
}

function editorActions() {
  const actions = { u: undo, s: savePatch, 0: () => give(AS_LABELLED) };
  page.roles.forEach((_, role) => {
    if (role !== ROLE.CONTEXT) actions[role] = () => give(role);
  });
  return actions;
}

function roleButton(name, key, role) {
  const button = element("button");
  button.type = "button";
  if (role !== AS_LABELLED) button.append(element("span", `swatch tok r${role}`, "ab"));
  button.append(name, " ", element("kbd", "", key));
  button.addEventListener("click", () => give(role));
  return button;
}

function buildEditor() {
  if (!page.fingerprint) return;
  page.roles.forEach((name, role) => {
    if (role !== ROLE.CONTEXT) byId("give").append(roleButton(name, String(role), role));
  });
  byId("give").append(roleButton("as labelled", "0", AS_LABELLED));
  byId("edit").addEventListener("click", toggleEditor);
  byId("undo").addEventListener("click", undo);
  byId("save").addEventListener("click", savePatch);
  byId("cards").addEventListener("click", (event) => {
    const span = event.target.closest(".body .tok");
    if (!editor.on || !span) return;
    focusToken(span);
    select(span, event.shiftKey);
  });
  // Shift-click would select text as well.
  byId("cards").addEventListener("mousedown", (event) => {
    if (editor.on && event.shiftKey) event.preventDefault();
  });
  window.addEventListener("beforeunload", (event) => {
    if (editor.unsaved) event.preventDefault();
  });
}
