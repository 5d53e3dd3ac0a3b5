// Tells the values of a chart of lines under the pointer, or at a place that the arrow keys move. Charts are drawn
// already: without this script the page lacks nothing else.
(() => {
  const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

  function nearest(values, value) {
    let best = 0;
    for (let i = 1; i < values.length; i++) {
      if (Math.abs(values[i] - value) < Math.abs(values[best] - value)) best = i;
    }
    return best;
  }

  function attach(figure) {
    const chart = JSON.parse(figure.querySelector("script").textContent);
    const plot = figure.querySelector(".plot");
    const svg = plot.querySelector("svg");
    const [left, top, right, bottom] = chart.box;
    const lead = chart.lines.reduce((a, b) => (b.x.length > a.x.length ? b : a));
    const cursor = make("g", { class: "cursor" }, svg);
    let at = null; // place in the lead line, which stands for the same level or time in the others

    const toX = (value) => left + part(chart.x, value) * (right - left);
    const toY = (value) => bottom - part(chart.y, value) * (bottom - top);

    // The place nearest to a point of the picture: of distributions on any line, else in time.
    function placeOf(x, y) {
      let best = 0;
      let least = Infinity;
      for (const line of chart.byLevel ? chart.lines : [lead]) {
        line.x.forEach((value, i) => {
          const away = chart.byLevel ? Math.hypot(toX(value) - x, toY(line.y[i]) - y) : Math.abs(toX(value) - x);
          if (away < least) [best, least] = [i, away];
        });
      }
      return best;
    }

    function heading() {
      if (chart.byLevel) return `${written(lead.y[at], "share")} of the requests within`;
      const half = lead.x.length > 1 ? (lead.x[Math.max(at, 1)] - lead.x[Math.max(at, 1) - 1]) / 2 : 0;
      const [from, to] = [lead.x[at] - half, lead.x[at] + half].map((s) => written(Math.max(s, 0), "s"));
      return half > 0 ? `${from} to ${to}` : written(lead.x[at], "s");
    }

    function row(line) {
      const i = chart.byLevel ? at : nearest(line.x, lead.x[at]);
      const last = line.x[line.x.length - 1];
      const step = line.x.length > 1 ? last - line.x[line.x.length - 2] : Infinity;
      if (!chart.byLevel && lead.x[at] > last + step) return null; // this run had ended
      const value = chart.byLevel ? written(line.x[i], chart.x.unit) : written(line.y[i], chart.y.unit);
      const spread = line.low ? ` (${written(line.low[i], chart.y.unit)} to ${written(line.high[i], chart.y.unit)})` : "";
      make("circle", { class: `run${line.run}`, cx: toX(line.x[i]), cy: toY(line.y[i]), r: 4 }, cursor);
      const name = node("span", line.name, { class: `name run${line.run}` });
      return node("div", [name, node("b", value + spread)]);
    }

    function show() {
      cursor.replaceChildren();
      const [x, y] = [toX(lead.x[at]), toY(lead.y[at])];
      make("line", chart.byLevel ? { x1: left, x2: right, y1: y, y2: y } : { x1: x, x2: x, y1: top, y2: bottom }, cursor);
      tell(svg, x, y, [node("div", heading()), ...chart.lines.map(row).filter(Boolean)]);
    }

    function hide() {
      at = null;
      cursor.replaceChildren();
      tellNothing();
    }

    plot.addEventListener("pointermove", (event) => {
      at = placeOf(...placeIn(svg, event));
      show();
    });
    plot.addEventListener("pointerleave", hide);
    plot.addEventListener("blur", hide);
    plot.addEventListener("keydown", (event) => {
      const last = lead.x.length - 1;
      if (event.key === "Escape") return hide();
      if (event.key === "Home") at = 0;
      else if (event.key === "End") at = last;
      else if (event.key in STEPS) {
        at = at === null ? Math.floor(last / 2) : Math.min(Math.max(at + STEPS[event.key], 0), last);
      } else return;
      event.preventDefault();
      show();
    });
  }

  document.querySelectorAll("figure.lines").forEach(attach);
})();
