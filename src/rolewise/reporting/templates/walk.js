// Keys: from sample to sample, from token to token, and to the next token of the chosen kind.

function goToSample(step) {
  if (!state.chosen.length) return;
  const start = state.current < 0 ? state.page * PER_PAGE - (step > 0 ? 1 : 0) : state.current;
  const card = showSample(Math.min(state.chosen.length - 1, Math.max(0, start + step)));
  card.scrollIntoView({ block: "start" });
  card.focus({ preventScroll: true });
}

// Makes a chosen sample the current one and returns its card.
function showSample(position) {
  state.current = position;
  const wanted = Math.floor(position / PER_PAGE);
  if (wanted !== state.page) showPage(wanted);
  const cards = allCards();
  const card = cards[position % PER_PAGE];
  for (const other of cards) other.classList.toggle("current", other === card);
  drawCard(card);
  return card;
}

function focusToken(span) {
  for (const other of span.closest(".body").querySelectorAll('[tabindex="0"].tok')) other.tabIndex = -1;
  span.tabIndex = 0;
  span.focus();
}

function walkTokens(span, step, extend) {
  const all = [...span.closest(".body").querySelectorAll(".tok")];
  const target = all[all.indexOf(span) + step];
  if (!target) return;
  focusToken(target);
  if (editor.on) select(target, extend);
}

// Target of n and p: a test of one token of a sample.
function targetTest() {
  const chosen = byId("target").value;
  if (chosen === "differing") return differs;
  if (chosen === "wrong") return (sample, i) => isWrong(sample, i);
  if (chosen === "match") return startsHit;
  if (chosen === "edited") return (sample, i) => sample.edits !== null && sample.edits[i] !== AS_LABELLED;
  const role = Number(chosen.slice("role-".length));
  return (sample, i) => sample.sides[0].roles[i] === role;
}

function isWrong(sample, i) {
  return sample.truth !== null && verdict(sample.sides[0].roles[i], sample.truth[i]) > VERDICT.RIGHT;
}

function startsHit(sample, i) {
  return sample.hits.some(([from]) => from >= sample.starts[i] && from < sample.starts[i + 1]);
}

// Start of walking: the token with the focus, or the edge of the current or first shown sample.
function presentPlace(step) {
  const focused = document.activeElement.closest?.(".body .tok");
  if (focused) {
    const { sample } = placeOf(focused);
    return { position: state.chosen.indexOf(sample), i: Number(focused.dataset.i) };
  }
  const position = state.current < 0 ? state.page * PER_PAGE : state.current;
  return { position, i: step > 0 ? -1 : state.chosen[position].sides[0].roles.length };
}

function goToTarget(step) {
  if (!state.chosen.length) return;
  const test = targetTest();
  let { position, i } = presentPlace(step);
  for (i += step; position >= 0 && position < state.chosen.length; ) {
    const sample = settle(state.chosen[position]);
    const length = sample.sides[0].roles.length;
    while (i >= 0 && i < length && !test(sample, i)) i += step;
    if (i >= 0 && i < length) return showToken(position, i);
    position += step;
    if (position >= 0 && position < state.chosen.length) i = step > 0 ? 0 : state.chosen[position].sides[0].roles.length - 1;
  }
  announce(`No ${step > 0 ? "later" : "earlier"} token of this kind.`);
}

function showToken(position, i) {
  const card = showSample(position);
  const span = card.querySelector(`.body .tok[data-i="${i}"]`);
  if (!span) return announce(`Token ${i + 1} is in folded context.`);
  announce("");
  focusToken(span);
  span.scrollIntoView({ block: "center" });
  if (editor.on) select(span, false);
}

function announce(text) {
  byId("news").textContent = text;
}

function onKey(event) {
  const target = event.target;
  const typing = target.matches?.("input:not([type=range], [type=checkbox]), select");
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && editor.on && !typing) {
    event.preventDefault();
    return undo();
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return onEscape();
  if (typing) return;
  const walk = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (walk && target.matches?.(".body .tok")) {
    event.preventDefault();
    return walkTokens(target, walk, event.shiftKey);
  }
  const action = actionOf(event.key);
  if (!action) return;
  event.preventDefault();
  action();
}

function actionOf(key) {
  const actions = { t: toggleTheme, "?": toggleHelp };
  if (samples.length && !byId("keys").open) {
    Object.assign(actions, {
      j: () => goToSample(1),
      k: () => goToSample(-1),
      n: () => goToTarget(1),
      p: () => goToTarget(-1),
      "/": () => byId("search").focus(),
    });
    if (page.fingerprint) actions.e = toggleEditor;
    if (editor.on) Object.assign(actions, editorActions());
  }
  return actions[key];
}

function onEscape() {
  if (document.activeElement === byId("search")) document.activeElement.blur();
  if (tip.hidden && editor.on) clearSelection();
  hideTip();
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
  window.addEventListener("resize", drawNearCards);
}

// Moving the focus may scroll the page; the tip then goes along with its token.
function followScroll() {
  drawNearCards();
  if (tip.hidden) return;
  const focused = document.activeElement;
  if (focused.matches(".body .tok")) showTokenTip(focused);
  else hideTip();
}
