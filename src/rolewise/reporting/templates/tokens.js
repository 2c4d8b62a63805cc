// Tokens as spans: their text, their colors, and the tip with the known facts of one.

const DIVERGING_STEPS = 4;
const SEQUENTIAL_STEPS = 5;
const DIRECTION_CONTROLS = /[\u202a-\u202e\u2066-\u2069]/;

function colourClass(sample, side, i, mode) {
  const role = side.roles[i];
  if (role === ROLE.CONTEXT) return "r0";
  if (mode === "role") return "r" + role;
  if (mode === "difference") return differs(sample, i) ? "r" + role : "unknown";
  if (mode === "truth") return "v" + (sample.truth ? verdict(role, sample.truth[i]) : VERDICT.UNJUDGED);
  if (mode === "ld") return divergingClass(side.ld[i], page.scales.ld);
  const values = mode === "weight" ? side.weights : side.base;
  return sequentialClass(values ? values[i] : NaN, page.scales[mode]);
}

function differs(sample, i) {
  return sample.sides.length > 1 && sample.sides[0].roles[i] !== sample.sides[1].roles[i];
}

function tokenClass(sample, side, i, mode) {
  const marks = [];
  if (sample.starts[i] === sample.starts[i + 1]) marks.push("empty");
  if (differs(sample, i)) marks.push("differs");
  if (side === sample.sides[0]) {
    if (sample.edits && sample.edits[i] !== AS_LABELLED) marks.push("edited");
    if (isSelected(sample, i)) marks.push("selected");
  }
  return ["tok", colourClass(sample, side, i, mode), ...marks].join(" ");
}

function divergingClass(value, scale) {
  if (Number.isNaN(value)) return "unknown";
  const size = Math.min(DIVERGING_STEPS, Math.ceil((Math.abs(value) / scale) * DIVERGING_STEPS));
  return size === 0 ? "d0" : (value < 0 ? "dn" : "dp") + size;
}

function sequentialClass(value, scale) {
  if (Number.isNaN(value)) return "unknown";
  return "s" + Math.min(SEQUENTIAL_STEPS, Math.max(0, Math.round((value / scale) * SEQUENTIAL_STEPS)));
}

// `hits` are those of the sample from this token on; earlier ones do no harm but cost time.
function tokenSpan(sample, side, i, mode, hits) {
  const start = sample.starts[i];
  const text = tokenText(sample, i);
  const span = element("span", tokenClass(sample, side, i, mode));
  span.dataset.i = i;
  span.tabIndex = -1;
  // A direction control must not reorder the tokens after it; `dir` isolates the span.
  if (DIRECTION_CONTROLS.test(text)) span.dir = "auto";
  if (hits.length || text.includes("\n")) fillText(span, text, start, hits);
  else span.textContent = text;
  return span;
}

// Spaces, control, invisible and direction characters in readable form.
function visibleText(text) {
  return Array.from(text, (char) => {
    if (char === " ") return "·";
    if (char === "\n") return "\\n";
    if (char === "\t") return "\\t";
    if (char === "\r") return "\\r";
    if (!/[\p{C}\p{Z}]/u.test(char)) return char;
    return `\\u{${char.codePointAt(0).toString(16)}}`;
  }).join("");
}

function nats(thousandths, signed) {
  if (Number.isNaN(thousandths)) return "–";
  const text = Math.abs(thousandths / 1000).toFixed(3);
  if (thousandths < 0) return "−" + text;
  return signed && thousandths > 0 ? "+" + text : text;
}

const tip = document.getElementById("tip");

function showTip(rows, heading, box) {
  const list = element("dl");
  for (const [name, value] of rows) {
    const row = element("div");
    row.append(element("dt", "", name), element("dd", "", value));
    list.append(row);
  }
  tip.replaceChildren(element("code", "", heading), list);
  tip.hidden = false;
  const left = Math.min(Math.max(8, box.left), document.documentElement.clientWidth - tip.offsetWidth - 8);
  const below = box.bottom + 8 + tip.offsetHeight < window.innerHeight;
  tip.style.left = `${left}px`;
  tip.style.top = `${below ? box.bottom + 8 : Math.max(8, box.top - tip.offsetHeight - 8)}px`;
}

function hideTip() {
  tip.hidden = true;
}

function showTokenTip(span) {
  const { sample, side } = placeOf(span);
  const i = Number(span.dataset.i);
  const rows = [["role", page.roles[side.roles[i]]]];
  const other = sample.sides.find((candidate) => candidate !== side);
  if (other) rows.push([`role in ${side === sample.sides[0] ? "B" : "A"}`, page.roles[other.roles[i]]]);
  if (side.roles[i] !== side.given[i]) rows.push(["role as labelled", page.roles[side.given[i]]]);
  if (sample.truth) rows.push(["true role", page.roles[sample.truth[i]]]);
  rows.push(["base loss", nats(side.base[i])], [page.evidence === "score" ? "loss without its input" : "tuned loss", nats(side.tuned[i])], [page.evidence, nats(side.ld[i], true)]);
  if (side.weights) rows.push(["weight", Number.isNaN(side.weights[i]) ? "–" : String(Number(side.weights[i].toPrecision(3)))]);
  rows.push(["token", `${i + 1} of ${side.roles.length}`]);
  showTip(rows, visibleText(tokenText(sample, i)) || "(empty)", span.getClientRects()[0] || span.getBoundingClientRect());
}
