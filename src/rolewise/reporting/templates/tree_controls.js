// Questions, search and keys; puts the parts together.

function buildQuestions() {
  const entries = trees.map((tree) => {
    const entry = element("li");
    const button = element("button", "question");
    button.type = "button";
    const [best] = tree.votes;
    const { name, sign, word } = verdictOf(best && best.answer !== null ? best.right : null);
    const mark = element("b", name, sign);
    mark.setAttribute("aria-label", `majority answer: ${word}`);
    button.append(mark, element("span", "", tree.question.slice(0, 160)));
    button.title = tree.id;
    button.addEventListener("click", () => showTree(tree));
    entry.append(button);
    return entry;
  });
  byId("questions").replaceChildren(...entries);
}

function showTree(tree) {
  const buttons = byId("questions").querySelectorAll("button");
  for (const current of byId("questions").querySelectorAll("[aria-current]")) current.removeAttribute("aria-current");
  buttons[tree.index].setAttribute("aria-current", "true");
  buttons[tree.index].scrollIntoView({ block: "nearest" });
  byId("to-answer").disabled = tree.answer < 0;
  byId("rows").scrollTop = 0;
  showQuestion(tree);
  showRows(tree);
  choose(tree.chosen);
}

function buildScale() {
  const steps = element("div", "steps");
  for (let step = 0; step <= 5; step++) steps.append(element("span", `tok s${step}`));
  const ends = element("div", "ends");
  ends.append(...page.scale.map((end) => element("span", "", decimal(end))));
  byId("scale").replaceChildren(steps, ends);
}

function search(query) {
  view.query = query;
  searchTrees(query);
  const entries = byId("questions").children;
  for (const tree of trees) entries[tree.index].hidden = Boolean(query) && !found(tree);
  const steps = trees.reduce((sum, tree) => sum + tree.matches.length, 0);
  const where = trees.filter(found).length;
  byId("search-count").textContent = query ? `${count(steps, "step")} in ${count(where, "question")}` : "";
  if (query && !found(view.tree) && where) showTree(trees.find(found));
  else showQuestion(view.tree);
  choose(view.tree.matches[0] ?? view.tree.chosen);
}

function found(tree) {
  return tree.matches.length > 0 || tree.named;
}

function goToMatch(step) {
  const { matches, chosen } = view.tree;
  if (!matches.length) return;
  const at = matches.indexOf(chosen);
  choose(matches[at < 0 ? 0 : (at + step + matches.length) % matches.length]);
}

function goToQuestion(step) {
  const open = trees.filter((tree) => !view.query || found(tree));
  const next = open[open.indexOf(view.tree) + step];
  if (next) showTree(next);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return document.activeElement === byId("search") && document.activeElement.blur();
  if (event.target.matches?.("input")) return;
  const inTree = event.target === byId("rows");
  if (inTree && walk(event.key)) return event.preventDefault();
  const action = actionOf(event.key);
  if (!action) return;
  event.preventDefault();
  action();
}

function actionOf(key) {
  const actions = { t: toggleTheme, "?": toggleHelp };
  if (trees.length && !byId("keys").open) {
    Object.assign(actions, {
      j: () => goToQuestion(1),
      k: () => goToQuestion(-1),
      n: () => goToMatch(1),
      p: () => goToMatch(-1),
      a: () => goToAnswer(view.tree, view.tree.answer),
      x: () => setAll(true),
      c: () => setAll(false),
      "/": () => byId("search").focus(),
    });
  }
  return actions[key];
}

function listen() {
  let pause;
  byId("search").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => search(byId("search").value), 120);
  });
  byId("rows").addEventListener("scroll", drawRows, { passive: true });
  window.addEventListener("resize", drawRows);
  byId("canvas").addEventListener("click", (event) => {
    const row = event.target.closest(".node");
    if (!row) return;
    const node = Number(row.dataset.node);
    if (event.target.matches(".twisty") || node === view.tree.chosen) toggle(node);
    choose(node);
  });
  byId("to-answer").addEventListener("click", () => goToAnswer(view.tree, view.tree.answer));
  byId("expand").addEventListener("click", () => setAll(true));
  byId("collapse").addEventListener("click", () => setAll(false));
}

byId("theme").addEventListener("click", toggleTheme);
byId("help").addEventListener("click", toggleHelp);
document.addEventListener("keydown", onKey);
if (trees.length) {
  buildScale();
  buildQuestions();
  listen();
  showTree(trees[0]);
}
