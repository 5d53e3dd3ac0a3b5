// Cards: the best configurations under the limits, and the one that is selected.
const MOST_CARDS = 3;

function drawCards(place) {
  const best = state.ranked;
  const own = state.own;
  const cards = best.slice(0, MOST_CARDS).map((entry, i) => card(entry, i ? `${ordinal(i + 1)} best` : "Best", best[0]));
  if (own && !best.slice(0, MOST_CARDS).includes(own)) cards.push(card(own, "Selected", best[0]));
  const none = node("p", "Nothing that was tried meets these limits. Move one of them.", { class: "load" });
  place.replaceChildren(...(best.length ? [] : [none]), ...cards);
}

function ordinal(number) {
  return number === 2 ? "Second" : "Third";
}

function card(entry, title, best) {
  const { row, point } = entry;
  const fields = search.axes.map(({ label, values }, axis) => [label, values[row.axes[axis]]]);
  const numbers = measures.map(({ label, unit }, i) => [label, written(point.values[i], unit, 4), i]);
  const told = numbers.filter(([, , i]) => point.values[i] !== null && point.values[i] !== undefined);
  const own = isOwn(entry);
  const button = node("button", own ? "Selected" : "Select", { type: "button", "aria-pressed": own, "data-id": row.id });
  button.addEventListener("click", () => select(row.id));
  return node("article", [
    node("h3", [node("span", title, { class: `name ${colourOf(row)}` }), " ", button]),
    node("p", row.name, { class: "what" }),
    node("p", sentences(entry, best).join(" "), { class: "why" }),
    list(told.map(([label, text]) => [label, text])),
    node("details", [node("summary", "What it is"), list([...fields, ["id", row.id]])]),
  ], { class: own ? "card own" : "card" });
}

function list(pairs) {
  return node("dl", pairs.map(([label, text]) => node("div", [node("dt", label), node("dd", text)])));
}

// What is to be known beside the numbers: what binds, how it stands to the best, and how sure that is.
function sentences(entry, best) {
  const { row, point } = entry;
  const found = [];
  if (!entry.shown) found.push("Meets these limits at no rate that was tried; shown at its capacity.");
  else if (isLower(entry)) {
    const next = row.points[row.points.indexOf(point) + 1];
    found.push(`Meets these limits at ${written(point.qps, "QPS", 4)}, and not at ${written(next.qps, "QPS", 4)}, the next rate tried.`);
  } else {
    if (row.high === Infinity) found.push(`Its capacity is at least ${written(row.low, "QPS", 4)}: nothing that was tried broke it.`);
    else if (row.high > row.low) found.push(`Its capacity lies between ${written(row.low, "", 4)} and ${written(row.high, "QPS", 4)}.`);
    if (row.binding) found.push(`What binds: ${row.binding}.`.replace(/\.\.$/, "."));
  }
  if (!row.long) found.push("The workload is too short to tell whether this rate lasts.");
  if (entry === best) {
    const tied = ties(best).length;
    if (tied) found.push(`${tied} more cannot be told from it: their intervals overlap.`);
  } else if (best && entry.shown) {
    const less = 1 - point.values[gain] / best.point.values[gain];
    const same = interval(entry)[1] >= interval(best)[0];
    const far = less < 5e-4 ? "As good as" : `${digits(100 * less, 2)}% less than`;
    found.push(`${far} the best${same ? ", which its interval reaches: a tie" : ""}.`);
  }
  return found;
}
