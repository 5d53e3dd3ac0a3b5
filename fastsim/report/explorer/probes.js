// The rates at which the selected configuration was tried, as a chart and as a table.
let probed = Math.max(measureOf("ttft_p90_s"), RATE); // the measure that is drawn

function drawProbes() {
  const figure = document.getElementById("probes-chart");
  const table = document.getElementById("probes-table");
  const entry = selected();
  if (!entry) return void [figure.querySelector("svg"), table].forEach((one) => one.replaceChildren());
  const { row } = entry;
  const choices = measures.map((_, i) => i).filter((i) => i > 3);
  const choose = (measure) => {
    probed = measure;
    drawProbes();
  };
  const name = node("b", row.name);
  const note = node("span", "filled: held the objectives of the search; cross: did not; shaded: where its capacity lies");
  const caption = [name, " ", note, ...(choices.length ? [chooseMeasure("Up:", choices, probed, choose)] : [])];
  document.getElementById("probes-caption").replaceChildren(...caption);
  drawRates(figure.querySelector("svg"), entry);
  table.replaceChildren(probeTable(row));
}

function drawRates(svg, { row, point }) {
  svg.replaceChildren();
  const { label, unit } = measures[probed];
  const y = axisOf(row.points.map((one) => one.values[probed]), unit);
  const x = axisOf(row.points.map((one) => one.qps), "QPS");
  const { toX, toY, top, bottom } = drawAxes(svg, x, y, ["Rate [QPS]", label]);
  const [from, to] = [toX(row.low), toX(row.high)];
  make("rect", { class: "bracket", x: from, y: top, width: Math.max(to - from, 1), height: bottom - top }, svg);
  const limit = state.limits[probed];
  if (limit !== null && limit >= y.low && limit <= y.high) {
    make("line", { class: "limit", x1: toX(x.low), x2: toX(x.high), y1: toY(limit), y2: toY(limit) }, svg);
  }
  for (const one of row.points) {
    if (one.values[probed] === null) continue;
    const [cx, cy] = [toX(one.qps), toY(one.values[probed])];
    if (one.holds) make("circle", { class: `held ${colourOf(row)}`, cx, cy, r: 4 }, svg);
    else make("path", { class: "broke", d: `M${cx - 4},${cy - 4}l8,8m0,-8l-8,8` }, svg);
    if (one === point) make("circle", { class: "selected", cx, cy, r: 8 }, svg);
  }
}

function probeTable(row) {
  const numbers = measures.map((_, i) => i).filter((i) => i > 3);
  const why = row.points.some((point) => point.binding);
  const head = ["QPS", "Verdict", ...numbers.map((i) => measures[i].label), ...(why ? ["What binds"] : [])];
  const body = row.points.map((point) => node("tr", [
    node("th", digits(point.qps, 4), { scope: "row" }),
    node("td", point.holds ? "holds" : "does not hold", { class: point.holds ? "better" : "worse" }),
    ...numbers.map((i) => node("td", written(point.values[i], measures[i].unit, 4))),
    ...(why ? [node("td", point.binding, { class: "text" })] : []),
  ]));
  const table = node("table", [
    node("thead", [node("tr", head.map((text) => node("th", text, { scope: "col" })))]),
    node("tbody", body),
  ]);
  return node("div", [table], { class: "wide", tabindex: "0", role: "region", "aria-label": "Rates that were tried" });
}
