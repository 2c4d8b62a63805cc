// Unpacks the page's data and answers queries about it. Losses stay in thousandths of a nat, as stored.

const ROLE = { CONTEXT: 0, PLAIN: 1, REASONING: 2, BOILERPLATE: 3, FORMAT: 4, TEMPLATE: 5 };
const VERDICT = { UNJUDGED: 0, RIGHT: 1, MISSED: 2, FALSE_ALARM: 3 };
const AS_LABELLED = 255; // in `edits`: a token without a role given by the reader
const TOKENS_PER_SLICE = 100_000; // counted at a time, between which the page stays responsive

const samples = page.samples.map(openSample);
const labelling = { threshold: page.threshold, version: 0 };

function openSample(packed, index) {
  const sample = { index, source: packed.source, text: packed.text, version: -1, verdicts: [0, 0, 0, 0], differing: 0, edits: null, opened: new Set(), hits: [] };
  lazily(sample, "starts", () => startsOf(numbers(packed.lengths)));
  lazily(sample, "truth", () => (packed.truth ? numbers(packed.truth) : null));
  lazily(sample, "searchable", () => fold(sample.text));
  sample.sides = packed.labels.map(openSide);
  return sample;
}

function openSide(packed) {
  const side = { counts: new Array(page.roles.length).fill(0) };
  lazily(side, "given", () => numbers(packed.roles));
  lazily(side, "roles", () => side.given.slice());
  lazily(side, "base", () => losses(packed.base, side.given.length));
  lazily(side, "tuned", () => losses(packed.tuned, side.given.length));
  // What the threshold decides on: the method's own score, else LD.
  lazily(side, "ld", () => (packed.score ? losses(packed.score, side.given.length) : side.tuned.map((value, i) => value - side.base[i])));
  lazily(side, "weights", () => (packed.weights ? numbers(packed.weights).map((share) => share * packed.largest_weight) : null));
  return side;
}

function numbers(packed) {
  const raw = atob(packed.slice(1));
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const kinds = { B: () => bytes, h: () => new Int16Array(bytes.buffer), i: () => new Int32Array(bytes.buffer), e: () => Float32Array.from(new Uint16Array(bytes.buffer), halfFloat) };
  return kinds[packed[0]]();
}

function halfFloat(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : (sign * 2 ** -14 * fraction) / 1024;
}

// Whole thousandths of a nat are exact in 32 bits; the lowest value of the packed type stands for a missing one.
function losses(packed, length) {
  if (!packed) return new Float32Array(length).fill(NaN);
  const missing = { h: -(2 ** 15), i: -(2 ** 31) }[packed[0]];
  return Float32Array.from(numbers(packed), (value) => (value === missing ? NaN : value));
}

function startsOf(lengths) {
  const starts = new Int32Array(lengths.length + 1);
  for (let i = 0; i < lengths.length; i++) starts[i + 1] = starts[i] + lengths[i];
  return starts;
}

function has(field) {
  return page.samples.some((packed) => packed[field] || packed.labels[0][field]);
}

function tokenText(sample, i) {
  return sample.text.slice(sample.starts[i], sample.starts[i + 1]);
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

// Gives the sample's tokens their roles at the present threshold, unless they have them, and counts them. The threshold
// and the edits belong to the first labelling. At the threshold of the labelling its roles are shown as given; manually
// given roles apply at every threshold.
function settle(sample) {
  if (sample.version === labelling.version) return sample;
  sample.version = labelling.version;
  // Locals: a property that was computed lazily is slow to read a million times.
  const { given, roles, ld, counts } = sample.sides[0];
  const second = sample.sides[1]?.given;
  const { edits, truth, verdicts } = sample;
  const limit = inThousandths(labelling.threshold);
  const asGiven = labelling.threshold === page.threshold;
  let differing = 0;
  counts.fill(0);
  verdicts.fill(0);
  for (let i = 0; i < given.length; i++) {
    let role = asGiven ? given[i] : roleAt(given[i], ld[i], limit);
    if (edits && edits[i] !== AS_LABELLED) role = edits[i];
    roles[i] = role;
    counts[role]++;
    if (truth) verdicts[verdict(role, truth[i])]++;
    if (second && role !== second[i]) differing++;
  }
  sample.differing = differing;
  return sample;
}

function setLabelling(threshold) {
  labelling.threshold = threshold;
  labelling.version++;
}

// Adds up all samples in slices and passes the sums to `show`; stops if the labelling has changed meanwhile. A small
// page is counted at once.
function countAll(show) {
  const version = labelling.version;
  const sums = { counts: new Array(page.roles.length).fill(0), verdicts: [0, 0, 0, 0], differing: 0 };
  let at = 0;
  const countSlice = () => {
    if (version !== labelling.version) return;
    for (let left = TOKENS_PER_SLICE; at < samples.length && left > 0; at++) {
      const { sides, verdicts, differing } = settle(samples[at]);
      sides[0].counts.forEach((count, role) => (sums.counts[role] += count));
      verdicts.forEach((count, kind) => (sums.verdicts[kind] += count));
      sums.differing += differing;
      left -= sides[0].roles.length;
    }
    if (at < samples.length) setTimeout(countSlice);
    else show(sums);
  };
  countSlice();
}

function lossTokens(counts) {
  return counts.reduce((sum, count, role) => sum + (role === ROLE.CONTEXT ? 0 : count), 0);
}

function errorShare(verdicts) {
  const wrong = verdicts[VERDICT.MISSED] + verdicts[VERDICT.FALSE_ALARM];
  const judged = wrong + verdicts[VERDICT.RIGHT];
  return { wrong, judged, share: judged ? wrong / judged : 0 };
}

// Sets `hits` of every sample: half-open ranges of characters in its text. Returns the number of hits in all.
function searchSamples(query) {
  let found = 0;
  for (const sample of samples) {
    sample.hits = [];
    if (!query) continue;
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
