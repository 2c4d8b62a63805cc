// The controls: theme, threshold, colours, search, filters and pages.

const PER_PAGE = 10;

const state = { mode: "role", query: "", chosen: samples, page: 0, current: -1 };

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
    if (role !== ROLE.CONTEXT) byId("target").append(new Option(name, `role-${role}`));
  });
}

function updateTotals() {
  byId("legend").setAttribute("aria-busy", "true");
  countAll(drawTotals);
}

function drawTotals({ counts, verdicts, differing }) {
  const all = lossTokens(counts);
  byId("legend").removeAttribute("aria-busy");
  [...byId("legend").tBodies[0].rows].forEach((row, role) => {
    row.hidden = counts[role] === 0;
    row.cells[1].textContent = counts[role].toLocaleString("en");
    row.cells[2].textContent = role === ROLE.CONTEXT || !all ? "" : percent(counts[role] / all);
  });
  byId("differing").hidden = !page.names.length;
  byId("differing").replaceChildren(
    element("strong", "", all ? percent(differing / all) : "–"),
    " differ between A and B",
    element("span", "", `${differing.toLocaleString("en")} of ${all.toLocaleString("en")} tokens`),
  );
  const { wrong, judged, share } = errorShare(verdicts);
  byId("error").hidden = !has("truth");
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
    ld: { classes: ["dn4", "dn3", "dn2", "dn1", "d0", "dp1", "dp2", "dp3", "dp4"], ends: [`≤ ${nats(-page.scales.ld)}`, "0", `≥ ${nats(page.scales.ld, true)}`] },
    base: { classes: ["s0", "s1", "s2", "s3", "s4", "s5"], ends: ["0", `≥ ${nats(page.scales.base)} nats`] },
    weight: { classes: ["s0", "s1", "s2", "s3", "s4", "s5"], ends: ["0", `≥ ${Number(page.scales.weight.toPrecision(3))}`] },
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
  if (!page.histogram) {
    byId("threshold-field").hidden = true;
    return;
  }
  const { start, end, counts } = page.histogram;
  Object.assign(byId("threshold"), { min: start, max: end, step: 0.01 });
  // Heights by square root: the tokens affected by a threshold are few compared with those near zero.
  const highest = Math.sqrt(Math.max(...counts));
  const width = 240 / counts.length;
  counts.forEach((count, bin) => {
    const height = count ? Math.max(1, (Math.sqrt(count) / highest) * 42) : 0;
    const bar = svgElement("rect", { x: bin * width, y: 44 - height, width: 0.8 * width, height });
    bar.dataset.middle = start + ((bin + 0.5) / counts.length) * (end - start);
    byId("histogram").append(bar);
  });
  showThreshold();
}

function showThreshold() {
  byId("threshold").value = labelling.threshold;
  const box = byId("threshold-box");
  // A box that says this number stays as it is, or the page would rewrite what is being typed: 0. is 0 already.
  if (typedNumber(box) !== labelling.threshold) box.value = labelling.threshold;
  box.removeAttribute("aria-invalid");
  byId("reset").disabled = labelling.threshold === page.threshold;
  for (const bar of byId("histogram").querySelectorAll("rect")) bar.setAttribute("class", Number(bar.dataset.middle) > labelling.threshold ? "above" : "below");
}

function setThreshold(value) {
  if (!Number.isFinite(value)) return;
  setLabelling(value);
  showThreshold();
  repaintCards();
  updateTotals();
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
  const least = (byId("min-reasoning").value === "" ? 0 : typedNumber(byId("min-reasoning"))) / 100;
  if (state.query && !sample.hits.length && !fold(sample.source).includes(fold(state.query))) return false;
  if (!filtersAreOn()) return true; // without counting the roles of every sample
  const [{ counts }] = settle(sample).sides;
  if (role !== "" && !counts[Number(role)]) return false;
  if (least > 0 && !(counts[ROLE.REASONING] > least * lossTokens(counts))) return false;
  if (byId("only-differing").checked && !sample.differing) return false;
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
  byId("cards").replaceChildren(...visible.map(sampleCard));
  if (!visible.length) byId("cards").append(element("p", "notice", "No sample matches. Loosen the filters or the search."));
  const range = visible.length ? `${from + 1}–${from + visible.length} of ` : "";
  const all = state.chosen.length < samples.length ? ` (${samples.length.toLocaleString("en")} in all)` : "";
  byId("shown").textContent = `${range}${state.chosen.length.toLocaleString("en")} ${state.chosen.length === 1 ? "sample" : "samples"}${all}`;
  for (const id of ["previous", "previous-bottom"]) byId(id).disabled = state.page === 0;
  for (const id of ["next", "next-bottom"]) byId(id).disabled = state.page === pages - 1;
  const [first] = allCards();
  if (first) drawCard(first);
  drawNearCards();
}

function turnPage(step) {
  state.current = -1;
  showPage(state.page + step);
  byId("tokens").scrollIntoView();
}

// Only these filters depend on the threshold.
function filtersAreOn() {
  return byId("has-role").value !== "" || byId("min-reasoning").value !== "" || byId("only-wrong").checked || byId("only-differing").checked;
}
