"use strict";
// Unpacks the page's data and answers questions about it. Losses are kept in thousandths of a nat, as they travel.

const ROLE = { CONTEXT: 0, PLAIN: 1, REASONING: 2, BOILERPLATE: 3, FORMAT: 4, TEMPLATE: 5 };
const VERDICT = { UNJUDGED: 0, RIGHT: 1, MISSED: 2, FALSE_ALARM: 3 };
const FOLD_FROM = 40; // Context runs longer than this start collapsed.

const page = JSON.parse(document.getElementById("data").textContent);
const samples = page.samples.map(unpackSample);

function unpackSample(packed, index) {
  const base = numbers(packed.base);
  const tuned = numbers(packed.tuned);
  const given = Uint8Array.from(packed.roles);
  return {
    index,
    source: packed.source,
    tokens: Int32Array.from(packed.tokens),
    given,
    roles: given.slice(),
    base,
    tuned,
    ld: tuned.map((value, i) => value - base[i]),
    weights: packed.weights ? numbers(packed.weights) : null,
    truth: packed.truth ? Uint8Array.from(packed.truth) : null,
    counts: new Array(page.roles.length).fill(0),
    verdicts: [0, 0, 0, 0],
    opened: new Set(),
    hits: [],
    searchable: null,
  };
}

function numbers(values) {
  return Float64Array.from(values, (value) => (value === null ? NaN : value));
}

function tokenText(sample, i) {
  return page.vocabulary[sample.tokens[i]];
}

function isBoilerplate(role) {
  return role >= ROLE.BOILERPLATE;
}

function hasSide(role) {
  return role >= ROLE.REASONING;
}

// A threshold in the unit of the packed losses; rounding removes what multiplying adds to values such as 1.001.
function inThousandths(threshold) {
  return Math.round(threshold * 1e9) / 1e6;
}

function roleAt(given, ld, limit) {
  if (!hasSide(given) || Number.isNaN(ld)) return given;
  if (ld > limit) return ROLE.REASONING;
  return isBoilerplate(given) ? given : ROLE.BOILERPLATE;
}

function verdict(role, truth) {
  if (!hasSide(role) || !hasSide(truth)) return VERDICT.UNJUDGED;
  if (isBoilerplate(role) === isBoilerplate(truth)) return VERDICT.RIGHT;
  return isBoilerplate(role) ? VERDICT.MISSED : VERDICT.FALSE_ALARM;
}

// Gives every token its role at `threshold` and counts anew. At the threshold of the labelling the roles stand as
// they were given, whatever made them.
function relabel(threshold) {
  const limit = inThousandths(threshold);
  const asGiven = threshold === page.threshold;
  for (const sample of samples) {
    sample.counts.fill(0);
    sample.verdicts.fill(0);
    for (let i = 0; i < sample.roles.length; i++) {
      const role = asGiven ? sample.given[i] : roleAt(sample.given[i], sample.ld[i], limit);
      sample.roles[i] = role;
      sample.counts[role]++;
      if (sample.truth) sample.verdicts[verdict(role, sample.truth[i])]++;
    }
  }
}

function total(field) {
  const sums = samples[0][field].map(() => 0);
  for (const sample of samples) sample[field].forEach((count, i) => (sums[i] += count));
  return sums;
}

function lossTokens(counts) {
  return counts.reduce((sum, count, role) => sum + (role === ROLE.CONTEXT ? 0 : count), 0);
}

function errorShare(verdicts) {
  const wrong = verdicts[VERDICT.MISSED] + verdicts[VERDICT.FALSE_ALARM];
  const judged = wrong + verdicts[VERDICT.RIGHT];
  return { wrong, judged, share: judged ? wrong / judged : 0 };
}

// All finite values of a field in ascending order, of tokens that carry loss.
function sortedValues(field, change = (value) => value) {
  const parts = [];
  for (const sample of samples) {
    if (!sample[field]) continue;
    for (let i = 0; i < sample.roles.length; i++) {
      const value = sample[field][i];
      if (sample.given[i] !== ROLE.CONTEXT && !Number.isNaN(value)) parts.push(change(value));
    }
  }
  return Float64Array.from(parts).sort();
}

function quantile(sorted, q) {
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] : NaN;
}

// Lower case where that keeps every offset; a few letters change length, and such a text is searched as it is.
function fold(text) {
  const lower = text.toLowerCase();
  return lower.length === text.length ? lower : text;
}

// Sets `hits` of every sample: half-open ranges of characters in its text. Returns the number of hits in all.
function searchSamples(query) {
  let found = 0;
  for (const sample of samples) {
    sample.hits = [];
    if (!query) continue;
    sample.searchable ??= fold(Array.from(sample.tokens, (id) => page.vocabulary[id]).join(""));
    const needle = fold(query);
    let at = sample.searchable.indexOf(needle);
    while (at >= 0) {
      sample.hits.push([at, at + needle.length]);
      at = sample.searchable.indexOf(needle, at + needle.length);
    }
    found += sample.hits.length;
  }
  return found;
}
