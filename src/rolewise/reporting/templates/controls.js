// The controls: theme, threshold, colours, search, filters, pages and keys.

const PER_PAGE = 10;

const byId = (id) => document.getElementById(id);
const state = { mode: "role", threshold: page.threshold, query: "", chosen: samples, page: 0, current: -1 };

function toggleTheme() {
  const root = document.documentElement;
  const systemDark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : systemDark;
  root.dataset.theme = dark ? "light" : "dark";
}

function toggleHelp() {
  const dialog = byId("keys");
  if (dialog.open) dialog.close();
  else dialog.showModal();
}

// Legend and error

function buildLegend() {
  const body = byId("legend").tBodies[0];
  page.roles.forEach((name, role) => {
    const row = element("tr");
    const head = element("th");
    head.scope = "row";
    head.append(element("span", `swatch tok r${role}`, "ab"), name);
    row.append(head, element("td"), element("td"));
    row.dataset.role = name;
    body.append(row);
    byId("has-role").append(new Option(name, role));
  });
}

function drawLegend() {
  const counts = total("counts");
  const all = lossTokens(counts);
  [...byId("legend").tBodies[0].rows].forEach((row, role) => {
    row.hidden = counts[role] === 0;
    row.cells[1].textContent = counts[role].toLocaleString("en");
    row.cells[2].textContent = role === ROLE.CONTEXT || !all ? "" : percent(counts[role] / all);
  });
  const verdicts = total("verdicts");
  const { wrong, judged, share } = errorShare(verdicts);
  byId("error").hidden = !samples.some((sample) => sample.truth);
  byId("error").replaceChildren(
    element("strong", "", judged ? percent(share) : "–"),
    " misjudged against the truth",
    element("span", "", `${wrong.toLocaleString("en")} of ${judged.toLocaleString("en")} tokens`),
    element("span", "", `${verdicts[VERDICT.MISSED].toLocaleString("en")} reasoning missed`),
    element("span", "", `${verdicts[VERDICT.FALSE_ALARM].toLocaleString("en")} boilerplate missed`),
  );
}

function drawScale() {
  const modes = {
    ld: { classes: ["dn4", "dn3", "dn2", "dn1", "d0", "dp1", "dp2", "dp3", "dp4"], ends: [`≤ ${nats(-scales.ld)}`, "0", `≥ ${nats(scales.ld, true)}`] },
    base: { classes: ["s0", "s1", "s2", "s3", "s4", "s5"], ends: ["0", `≥ ${nats(scales.base)} nats`] },
    weight: { classes: ["s0", "s1", "s2", "s3", "s4", "s5"], ends: ["0", `≥ ${Number(scales.weight.toPrecision(3))}`] },
    truth: { classes: ["v1", "v2", "v3"], ends: ["agrees", "reasoning missed", "boilerplate missed"] },
  };
  const scale = byId("scale");
  const chosen = modes[state.mode];
  scale.hidden = !chosen;
  if (!chosen) return;
  const steps = element("div", "steps");
  steps.append(...chosen.classes.map((name) => element("span", `tok ${name}`)));
  const ends = element("div", "ends");
  ends.append(...chosen.ends.map((text) => element("span", "", text)));
  scale.replaceChildren(steps, ends);
}

// Threshold

function buildThreshold() {
  const differences = sortedValues("ld", (value) => value / 1000);
  if (!differences.length) {
    byId("threshold-field").hidden = true;
    return;
  }
  const widest = Math.max(Math.abs(quantile(differences, 0.01)), Math.abs(quantile(differences, 0.99)), Math.abs(page.threshold), 0.1);
  const range = Math.ceil(widest * 10) / 10;
  Object.assign(byId("threshold"), { min: -range, max: range, step: 0.01 });
  drawHistogram(differences, range);
  showThreshold();
}

function drawHistogram(differences, range) {
  const bins = 60;
  const counts = new Array(bins).fill(0);
  for (const value of differences) counts[Math.min(bins - 1, Math.max(0, Math.floor(((value + range) / (2 * range)) * bins)))]++;
  // Heights by square root: the tokens that a threshold decides about are few beside those near zero.
  const highest = Math.sqrt(Math.max(...counts));
  const svg = byId("histogram");
  counts.forEach((count, bin) => {
    const height = count ? Math.max(1, (Math.sqrt(count) / highest) * 42) : 0;
    const bar = svgElement("rect", { x: bin * 4, y: 44 - height, width: 3.2, height });
    bar.dataset.middle = ((bin + 0.5) / bins) * 2 * range - range;
    svg.append(bar);
  });
}

function showThreshold() {
  byId("threshold").value = state.threshold;
  byId("threshold-box").value = Number(state.threshold.toFixed(4));
  byId("reset").disabled = state.threshold === page.threshold;
  for (const bar of byId("histogram").querySelectorAll("rect")) bar.setAttribute("class", Number(bar.dataset.middle) > state.threshold ? "above" : "below");
}

function setThreshold(value) {
  if (!Number.isFinite(value)) return;
  state.threshold = value;
  relabel(value);
  showThreshold();
  drawLegend();
  repaintCards();
}

function repaintCards() {
  for (const card of byId("cards").children) if (card.sample) repaint(card, state.mode);
}

// Search, filters and pages

function search(query) {
  state.query = query;
  const found = searchSamples(query);
  const sources = query ? samples.filter((sample) => fold(sample.source).includes(fold(query))).length : 0;
  const inSamples = samples.filter((sample) => sample.hits.length).length;
  const parts = [`${found.toLocaleString("en")} ${found === 1 ? "match" : "matches"} in ${inSamples.toLocaleString("en")} ${inSamples === 1 ? "sample" : "samples"}`];
  if (sources) parts.push(`${sources.toLocaleString("en")} by source`);
  byId("search-count").textContent = query ? parts.join(", ") : "";
  choose();
}

function isChosen(sample) {
  const role = byId("has-role").value;
  const least = Number(byId("min-reasoning").value || 0) / 100;
  const all = lossTokens(sample.counts);
  if (state.query && !sample.hits.length && !fold(sample.source).includes(fold(state.query))) return false;
  if (role !== "" && !sample.counts[Number(role)]) return false;
  if (least > 0 && !(all && sample.counts[ROLE.REASONING] / all > least)) return false;
  return !byId("only-wrong").checked || errorShare(sample.verdicts).wrong > 0;
}

function choose() {
  state.chosen = samples.filter(isChosen);
  state.current = -1;
  showPage(0);
}

function showPage(number) {
  const pages = Math.max(1, Math.ceil(state.chosen.length / PER_PAGE));
  state.page = Math.min(pages - 1, Math.max(0, number));
  const from = state.page * PER_PAGE;
  const visible = state.chosen.slice(from, from + PER_PAGE);
  hideTip();
  byId("cards").replaceChildren(...visible.map((sample) => sampleCard(sample, state)));
  if (!visible.length) byId("cards").append(element("p", "notice", "No sample matches. Loosen the filters or the search."));
  const range = visible.length ? `${from + 1}–${from + visible.length} of ` : "";
  const all = state.chosen.length < samples.length ? ` (${samples.length.toLocaleString("en")} in all)` : "";
  byId("shown").textContent = `${range}${state.chosen.length.toLocaleString("en")} ${state.chosen.length === 1 ? "sample" : "samples"}${all}`;
  for (const id of ["previous", "previous-bottom"]) byId(id).disabled = state.page === 0;
  for (const id of ["next", "next-bottom"]) byId(id).disabled = state.page === pages - 1;
}

function turnPage(step) {
  state.current = -1;
  showPage(state.page + step);
  byId("tokens").scrollIntoView();
}

function goToSample(step) {
  if (!state.chosen.length) return;
  const start = state.current < 0 ? state.page * PER_PAGE - (step > 0 ? 1 : 0) : state.current;
  state.current = Math.min(state.chosen.length - 1, Math.max(0, start + step));
  const wanted = Math.floor(state.current / PER_PAGE);
  if (wanted !== state.page) showPage(wanted);
  const card = byId("cards").children[state.current % PER_PAGE];
  for (const other of byId("cards").children) other.classList.toggle("current", other === card);
  card.scrollIntoView({ block: "start" });
  card.focus({ preventScroll: true });
}

// Keys

function walkTokens(span, step) {
  const all = [...span.closest(".body").querySelectorAll(".tok")];
  const target = all[all.indexOf(span) + step];
  if (!target) return;
  span.tabIndex = -1;
  target.tabIndex = 0;
  target.focus();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return hideTip();
  const target = event.target;
  if (target.matches?.("input:not([type=range], [type=checkbox]), select")) return;
  const walk = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (walk && target.matches?.(".body .tok")) {
    event.preventDefault();
    return walkTokens(target, walk);
  }
  const actions = { t: toggleTheme, "?": toggleHelp };
  if (samples.length && !byId("keys").open) {
    actions.j = () => goToSample(1);
    actions.k = () => goToSample(-1);
    actions["/"] = () => byId("search").focus();
  }
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}

function listenToTokens() {
  const cards = byId("cards");
  const onToken = (event) => {
    const span = event.target.closest?.(".tok");
    if (!span) return hideTip();
    showTokenTip(span);
  };
  for (const kind of ["pointerover", "focusin", "click"]) cards.addEventListener(kind, onToken);
  cards.addEventListener("pointerleave", hideTip);
  cards.addEventListener("focusin", (event) => {
    if (event.target.matches(".tok")) event.target.setAttribute("aria-describedby", "tip");
  });
  cards.addEventListener("focusout", hideTip);
  window.addEventListener("scroll", followScroll, { passive: true });
}

// Moving the focus may scroll the page; the tip then goes along with its token.
function followScroll() {
  if (tip.hidden) return;
  const focused = document.activeElement;
  if (focused.matches(".body .tok")) showTokenTip(focused);
  else hideTip();
}

function startViewer() {
  const has = (field) => samples.some((sample) => sample[field]);
  for (const [value, missing] of [["weight", !has("weights")], ["truth", !has("truth")]]) {
    if (missing) byId("colour").querySelector(`[value=${value}]`).remove();
  }
  byId("wrong-label").hidden = !has("truth");
  buildLegend();
  relabel(state.threshold);
  buildThreshold();
  drawLegend();
  listenToTokens();
  let pause;
  byId("search").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => search(byId("search").value), 120);
  });
  byId("colour").addEventListener("change", () => {
    state.mode = byId("colour").value;
    drawScale();
    repaintCards();
  });
  for (const id of ["threshold", "threshold-box"]) {
    byId(id).addEventListener("input", () => setThreshold(byId(id).valueAsNumber));
    byId(id).addEventListener("change", () => filtersAreOn() && choose());
  }
  byId("reset").addEventListener("click", () => {
    setThreshold(page.threshold);
    if (filtersAreOn()) choose();
  });
  for (const id of ["has-role", "min-reasoning", "only-wrong"]) byId(id).addEventListener("change", choose);
  for (const id of ["previous", "previous-bottom"]) byId(id).addEventListener("click", () => turnPage(-1));
  for (const id of ["next", "next-bottom"]) byId(id).addEventListener("click", () => turnPage(1));
  choose();
}

// Only filters by role depend on the threshold.
function filtersAreOn() {
  return byId("has-role").value !== "" || byId("min-reasoning").value !== "" || byId("only-wrong").checked;
}

byId("theme").addEventListener("click", toggleTheme);
byId("help").addEventListener("click", toggleHelp);
document.addEventListener("keydown", onKey);
if (samples.length) startViewer();
