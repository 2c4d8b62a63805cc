// Puts the parts together.

function startViewer() {
  const modes = [["weight", has("weights")], ["truth", has("truth")], ["difference", page.names.length > 0]];
  for (const [value, present] of modes) if (!present) byId("colour").querySelector(`[value=${value}]`).remove();
  for (const [value, present] of [["differing", page.names.length > 0], ["wrong", has("truth")], ["edited", page.fingerprint]]) {
    if (!present) byId("target").querySelector(`[value=${value}]`).remove();
  }
  byId("wrong-label").hidden = !has("truth");
  byId("differing-label").hidden = !page.names.length;
  buildLegend();
  byId("target").value = page.names.length ? "differing" : `role-${ROLE.REASONING}`;
  buildThreshold();
  buildEditor();
  listenToTokens();
  listenToControls();
  choose();
  // After the first samples are on the screen: counting unpacks them all.
  if (samples.length > PER_PAGE * 10) requestAnimationFrame(() => setTimeout(updateTotals));
  else updateTotals();
}

function listenToControls() {
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
  const [slider, box, least] = ["threshold", "threshold-box", "min-reasoning"].map(byId);
  slider.addEventListener("input", () => setThreshold(slider.valueAsNumber));
  box.addEventListener("input", () => {
    const value = typedNumber(box);
    setThreshold(value);
    box.setAttribute("aria-invalid", !Number.isFinite(value)); // "", "-" and "1e-" on the way to a number
  });
  box.addEventListener("change", showThreshold); // replaces text that is not a number
  for (const control of [slider, box]) control.addEventListener("change", () => filtersAreOn() && choose());
  stepWithArrows(box, 0.001, -Infinity, Infinity);
  stepWithArrows(least, 1, 0, 100);
  least.addEventListener("change", () => {
    const value = typedNumber(least);
    if (!(value >= 0 && value <= 100)) least.value = "";
  }); // before it filters the samples
  byId("reset").addEventListener("click", () => {
    setThreshold(page.threshold);
    if (filtersAreOn()) choose();
  });
  for (const id of ["has-role", "min-reasoning", "only-wrong", "only-differing"]) byId(id).addEventListener("change", choose);
  for (const id of ["previous", "previous-bottom"]) byId(id).addEventListener("click", () => turnPage(-1));
  for (const id of ["next", "next-bottom"]) byId(id).addEventListener("click", () => turnPage(1));
}

byId("theme").addEventListener("click", toggleTheme);
byId("help").addEventListener("click", toggleHelp);
document.addEventListener("keydown", onKey);
if (samples.length) startViewer();
