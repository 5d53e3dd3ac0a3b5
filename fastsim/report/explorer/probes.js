// The rates at which the selected configuration was tried, as charts and as a table.
function probeCharts() {
  const choices = measures.map((_, i) => i).filter((i) => i > GPUS);
  return [...document.querySelectorAll(".probed figure")].slice(0, choices.length).map((figure, i) => {
    const named = measureOf(figure.dataset.y);
    const chart = { svg: figure.querySelector("svg"), y: named < 0 ? choices[i] : named };
    const choose = (measure) => {
      chart.y = measure;
      update();
    };
    figure.querySelector("figcaption").append(chooseMeasure("Up:", choices, chart.y, choose));
    return chart;
  });
}

function drawProbes(charts) {
  const entry = state.own;
  const said = "Filled: held the objectives of the search. Cross: did not. Shaded: where its capacity lies.";
  document.getElementById("probed").replaceChildren(...(entry ? [node("b", entry.row.name), ` ${said}`] : []));
  charts.forEach((chart) => (entry ? drawRates(chart, entry) : chart.svg.replaceChildren()));
  document.getElementById("probes-table").replaceChildren(...(entry ? [probeTable(entry.row)] : []));
}

function drawRates({ svg, y: measure }, { row, point }) {
  svg.replaceChildren();
  const { label, unit } = measures[measure];
  const y = axisOf(row.points.map((one) => one.values[measure]), unit);
  const x = axisOf(row.points.map((one) => one.qps), "QPS");
  const { toX, toY, top, bottom } = drawAxes(svg, x, y, ["Rate [QPS]", label]);
  const [from, to] = [toX(row.low), toX(row.high)];
  make("rect", { class: "bracket", x: from, y: top, width: Math.max(to - from, 1), height: bottom - top }, svg);
  const limit = state.limits[measure];
  if (limit !== null && limit >= y.low && limit <= y.high) {
    make("line", { class: "limit", x1: toX(x.low), x2: toX(x.high), y1: toY(limit), y2: toY(limit) }, svg);
  }
  for (const one of row.points) {
    if (one.values[measure] === null) continue;
    const [cx, cy] = [toX(one.qps), toY(one.values[measure])];
    if (one.holds) make("circle", { class: `held ${colourOf(row)}`, cx, cy, r: 4 }, svg);
    else make("path", { class: "broke", d: `M${cx - 4},${cy - 4}l8,8m0,-8l-8,8` }, svg);
    if (one === point) make("circle", { class: "selected", cx, cy, r: 8 }, svg);
  }
}

function probeTable(row) {
  const numbers = measures.map((_, i) => i).filter((i) => i > GPUS);
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
