// Cards: a sample with its facts and the tokens of each labelling. A card's tokens are added to the page when it comes
// near the screen, and a card out of sight is recolored when it comes back.

const FOLD_FROM = 40; // Context runs longer than this start collapsed.

// Runs of consecutive tokens, alternately context and not: half-open [from, to).
function tokenRuns(sample) {
  const roles = sample.sides[0].given;
  const runs = [];
  for (let i = 0; i < roles.length; i++) {
    const isContext = roles[i] === ROLE.CONTEXT;
    const last = runs[runs.length - 1];
    if (last && last.isContext === isContext) last.to = i + 1;
    else runs.push({ from: i, to: i + 1, isContext });
  }
  for (const run of runs) run.folds = run.isContext && run.to - run.from > FOLD_FROM;
  return runs;
}

function appendTokens(parent, sample, side, run, mode) {
  const { starts, hits } = sample;
  const spans = [];
  let first = 0; // of the hits that end after the token's start
  for (let i = run.from; i < run.to; i++) {
    while (first < hits.length && hits[first][1] <= starts[i]) first++;
    let last = first;
    while (last < hits.length && hits[last][0] < starts[i + 1]) last++;
    spans.push(tokenSpan(sample, side, i, mode, hits.slice(first, last)));
  }
  parent.append(...spans);
}

function foldButton(sample, side, run) {
  const holder = element("span", "context");
  const button = element("button", "fold");
  button.type = "button";
  const draw = () => {
    const open = sample.opened.has(run.from);
    const count = (run.to - run.from).toLocaleString("en");
    button.textContent = `${open ? "hide" : "show"} ${count} context tokens`;
    button.setAttribute("aria-expanded", String(open));
    holder.replaceChildren();
    if (open) appendTokens(holder, sample, side, run, state.mode);
  };
  button.addEventListener("click", () => {
    if (!sample.opened.delete(run.from)) sample.opened.add(run.from);
    draw();
  });
  const [start, end] = [sample.starts[run.from], sample.starts[run.to]];
  if (sample.hits.some(([from, to]) => from < end && to > start)) sample.opened.add(run.from);
  draw();
  return [button, holder];
}

function shareBar(counts) {
  const bar = svgElement("svg", { class: "shares", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" });
  const all = lossTokens(counts);
  let x = 0;
  for (const role of [ROLE.REASONING, ROLE.BOILERPLATE, ROLE.FORMAT, ROLE.TEMPLATE, ROLE.PLAIN]) {
    const width = all ? (100 * counts[role]) / all : 0;
    if (width) bar.append(svgElement("rect", { class: "f" + role, x, y: 0, width, height: 6 }));
    x += width;
  }
  return bar;
}

function fillFacts(facts, sample) {
  const [{ counts }] = sample.sides;
  const all = lossTokens(counts);
  const parts = [`${all.toLocaleString("en")} tokens with loss`];
  if (all) parts.push(`${percent(counts[ROLE.REASONING] / all)} reasoning`);
  const error = errorShare(sample.verdicts);
  if (sample.sides.length > 1) parts.push(`${sample.differing.toLocaleString("en")} differ`);
  if (error.judged) parts.push(`${percent(error.share)} misjudged`);
  facts.replaceChildren(parts.join(" · "), shareBar(counts));
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0 && share < 0.1 ? 2 : 1)}%`;
}

function sampleCard(sample) {
  const card = element("article", "card");
  card.id = `sample-${sample.index + 1}`;
  card.tabIndex = -1;
  card.setAttribute("aria-labelledby", `${card.id}-title`);
  const head = element("header");
  const title = element("h3");
  title.id = `${card.id}-title`;
  title.append(element("span", "ordinal", `${sample.index + 1}`));
  const source = element("span", "source");
  const at = state.query ? fold(sample.source).indexOf(fold(state.query)) : -1;
  fillText(source, sample.source, 0, at < 0 ? [] : [[at, at + state.query.length]]);
  title.append(source);
  head.append(title, element("span", "facts"));
  card.append(head, element("div", "sides waiting"));
  card.sample = sample;
  return card;
}

function drawCard(card) {
  if (card.drawn) return;
  card.drawn = true;
  const sample = settle(card.sample);
  const holder = card.querySelector(".sides");
  holder.classList.remove("waiting");
  sample.sides.forEach((side, number) => holder.append(sideColumn(sample, side, number)));
  fillFacts(card.querySelector(".facts"), sample);
}

function sideColumn(sample, side, number) {
  const column = element("div", "side");
  const name = page.names.length ? `${"AB"[number]}: ${page.names[number]}` : "";
  if (name) column.append(element("h4", "", name));
  const body = element("div", "body");
  body.side = side;
  body.setAttribute("role", "group");
  body.setAttribute("aria-label", `Tokens of sample ${sample.index + 1}${name && ", " + name}; arrow keys walk along them`);
  for (const run of tokenRuns(sample)) {
    if (run.folds) body.append(...foldButton(sample, side, run));
    else appendTokens(body, sample, side, run, state.mode);
  }
  const first = body.querySelector(".tok:not(.r0)") || body.querySelector(".tok");
  if (first) first.tabIndex = 0;
  column.append(body);
  return column;
}

function placeOf(span) {
  return { sample: span.closest(".card").sample, side: span.closest(".body").side };
}

function repaint(card) {
  card.stale = false;
  const sample = settle(card.sample);
  for (const body of card.querySelectorAll(".body")) {
    for (const span of body.querySelectorAll(".tok")) span.className = tokenClass(sample, body.side, Number(span.dataset.i), state.mode);
  }
  fillFacts(card.querySelector(".facts"), sample);
}

function isNear(card, screens) {
  const { top, bottom } = card.getBoundingClientRect();
  return bottom > -screens * window.innerHeight && top < (1 + screens) * window.innerHeight;
}

// Draws cards within half a screen and updates their colors. In the order of the page: a drawn card pushes the rest
// down.
function drawNearCards() {
  for (const card of allCards()) {
    if (card.drawn && !card.stale) continue;
    if (!isNear(card, 0.5)) continue;
    if (card.drawn) repaint(card);
    else drawCard(card);
  }
}

function repaintCards() {
  for (const card of allCards()) {
    if (!card.drawn) continue;
    if (isNear(card, 0)) repaint(card);
    else card.stale = true;
  }
}

function allCards() {
  return [...document.querySelectorAll("#cards > .card")];
}
