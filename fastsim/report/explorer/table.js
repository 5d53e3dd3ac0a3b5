// Every configuration that is shown, by any of its numbers.
const FEW = 25;
const order = { by: null, down: true, whole: false };

function drawTable(place) {
  const by = order.by ?? gain;
  const numbers = measures.map((_, i) => i).filter((i) => i >= gain);
  const value = (entry) => entry.point.values[by] ?? Infinity;
  const entries = [...state.ranked].sort((a, b) => (order.down ? value(b) - value(a) : value(a) - value(b)));
  const drawn = order.whole ? entries : entries.slice(0, FEW);
  const head = [node("th", "Configuration", { scope: "col" }), ...numbers.map((i) => sortHead(i, i === by))];
  const body = drawn.map((entry) => {
    const { row, point } = entry;
    const own = isOwn(entry);
    const button = node("button", row.name, { type: "button", class: "plain", "aria-pressed": own, "data-id": row.id });
    button.addEventListener("click", () => select(row.id));
    const cells = numbers.map((i) => node("td", written(point.values[i] ?? null, measures[i].unit, 4)));
    return node("tr", [node("th", [button], { scope: "row" }), ...cells], own ? { class: "own" } : {});
  });
  const table = node("table", [node("thead", [node("tr", head)]), node("tbody", body)]);
  const wide = node("div", [table], { class: "wide", tabindex: "0", role: "region", "aria-label": "Configurations" });
  const more = node("button", order.whole ? `Show ${FEW}` : `Show all ${entries.length}`, { type: "button" });
  more.addEventListener("click", () => {
    order.whole = !order.whole;
    drawTable(place);
  });
  place.replaceChildren(wide, ...(entries.length > FEW ? [more] : []));
}

function sortHead(measure, sorted) {
  const button = node("button", `${measures[measure].label}${sorted ? (order.down ? " ↓" : " ↑") : ""}`, {
    type: "button", class: "plain",
  });
  button.addEventListener("click", () => {
    // At first the best on top.
    order.down = sorted ? !order.down : measures[measure].better > 0;
    order.by = measure;
    drawTable(document.getElementById("all"));
    document.querySelectorAll("#all thead button")[measure - gain].focus();
  });
  const sort = sorted ? { "aria-sort": order.down ? "descending" : "ascending" } : {};
  return node("th", [button], { scope: "col", ...sort });
}
