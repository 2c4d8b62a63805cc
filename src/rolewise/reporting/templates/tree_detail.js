// The chosen step in full, and the question with its answers.

function showDetail(tree, node) {
  const head = element("header");
  const title = element("h3");
  title.append(badge(tree, node), element("span", "ordinal", node === ROOT ? "" : `step ${tree.depth[node]}`));
  head.append(title);
  const body = element("div", "text detail-text");
  const text = node === ROOT ? tree.question : tree.text[node];
  fillText(body, text, 0, hitsIn(text, view.query));
  if (!text.trim()) body.append(element("i", "", "(empty)"));
  byId("detail").replaceChildren(head, body, facts(tree, node), ...before(tree, node));
  byId("detail").scrollTop = 0;
}

function facts(tree, node) {
  const list = element("dl", "node-facts");
  for (const [name, value] of factsOf(tree, node)) {
    const row = element("div");
    row.append(element("dt", "", name), element("dd", "", value));
    list.append(row);
  }
  return list;
}

function factsOf(tree, node) {
  const leaf = tree.leaves[node];
  const known = [["mean value", decimal(tree.mean[node], 4)], ["visits", tree.visits[node].toLocaleString("en")]];
  if (node === ROOT) return known;
  if (leaf) {
    known.push(["answer", leaf.answer === null ? "none" : leaf.answer]);
    if (leaf.right !== null) known.push(["the answer is", verdictOf(leaf.right).word]);
    known.push(["value of the leaf", decimal(leaf.outcome, 4)]);
  }
  if (tree.process[node] !== null) known.push(["process reward", decimal(tree.process[node], 4)]);
  if (tree.prior[node] !== null) known.push(["prior of the behaviour", `${decimal(Math.exp(tree.prior[node]), 3)} (${decimal(tree.prior[node])} nats)`]);
  if (tree.logprob[node] !== null) {
    const each = tree.length[node] ? ` (${decimal(tree.logprob[node] / tree.length[node], 3)} a token)` : "";
    known.push(["log-probability", `${decimal(tree.logprob[node])} nats${each}`]);
  }
  known.push(["tokens", tree.length[node].toLocaleString("en")]);
  if (tree.cut.has(node)) known.push(["ended", "cut off at its limit of tokens"]);
  return known;
}

// The steps before it, folded.
function before(tree, node) {
  const steps = pathTo(tree, node).slice(1, -1);
  if (!steps.length) return [];
  const fold = element("details", "before");
  fold.append(element("summary", "", `${count(steps.length, "step")} before it`));
  fold.addEventListener(
    "toggle",
    () => {
      for (const step of steps) {
        const piece = element("div", "text");
        fillText(piece, tree.text[step], 0, hitsIn(tree.text[step], view.query));
        fold.append(badge(tree, step), piece);
      }
    },
    { once: true },
  );
  return [fold];
}

function showQuestion(tree) {
  byId("question-id").textContent = tree.id;
  byId("question-facts").textContent = [
    count(tree.rollouts, "rollout"),
    count(tree.size - 1, "step"),
    count(tree.tokens, "token"),
    tree.policy === "tokens" ? "by functional tokens" : "by prompts",
    tree.ended === null ? "under way" : `ended: ${tree.ended}`,
  ].join(" · ");
  const text = byId("question-text");
  text.replaceChildren();
  fillText(text, tree.question, 0, hitsIn(tree.question, view.query));
  byId("reference").replaceChildren(element("span", "hint", "reference "), tree.reference === null ? "not known" : tree.reference);
  showVotes(tree);
}

function showVotes(tree) {
  byId("votes").hidden = !tree.votes.length;
  const rows = tree.votes.map((vote) => {
    const row = element("tr", vote.node === tree.answer ? "chosen" : "");
    const cell = element("td");
    const button = element("button", "vote");
    button.type = "button";
    button.title = "Mark the path to this answer";
    const { name, sign, word } = verdictOf(vote.answer === null ? null : vote.right);
    const mark = element("b", name, sign);
    mark.setAttribute("aria-label", word);
    button.append(mark, element("span", "", vote.answer === null ? "no answer" : vote.answer));
    button.addEventListener("click", () => goToAnswer(tree, vote.node));
    cell.append(button);
    row.append(cell, element("td", "number", vote.count.toLocaleString("en")), element("td", "number", decimal(vote.value)));
    return row;
  });
  byId("votes").tBodies[0].replaceChildren(...rows);
}

function goToAnswer(tree, leaf) {
  if (leaf < 0) return;
  tree.answer = leaf;
  reveal(tree, leaf);
  showRows(tree);
  showVotes(tree);
  choose(leaf);
}
