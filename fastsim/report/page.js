"use strict";
// Tells the values of a chart of lines under the pointer, or at a place that the arrow keys move. Charts are drawn
// already: without this script the page lacks nothing else.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const told = document.getElementById("told");
  const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };

  function digits(value) {
    return value.toLocaleString("en", { maximumSignificantDigits: 6 });
  }

  function written(value, unit) {
    if (unit === "share") return `${digits(100 * value)}%`;
    if (unit !== "s") return `${digits(value)} ${unit}`.trim();
    const size = Math.abs(value);
    if (size === 0) return "0 s";
    if (size < 1e-3) return `${digits(value * 1e6)} µs`;
    if (size < 1) return `${digits(value * 1e3)} ms`;
    if (size < 600) return `${digits(value)} s`;
    return size < 36000 ? `${digits(value / 60)} min` : `${digits(value / 3600)} h`;
  }

  function part(axis, value) {
    const at = axis.log
      ? Math.log(Math.max(value, axis.low) / axis.low) / Math.log(axis.high / axis.low)
      : (value - axis.low) / (axis.high - axis.low);
    return Math.min(Math.max(at, 0), 1);
  }

  function nearest(values, value) {
    let best = 0;
    for (let i = 1; i < values.length; i++) {
      if (Math.abs(values[i] - value) < Math.abs(values[best] - value)) best = i;
    }
    return best;
  }

  function make(name, attributes, parent) {
    const made = parent.appendChild(document.createElementNS(SVG, name));
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
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
      const shown = document.createElement("div");
      const name = shown.appendChild(document.createElement("span"));
      name.className = `name run${line.run}`;
      name.textContent = line.name;
      shown.appendChild(document.createElement("b")).textContent = value + spread;
      return shown;
    }

    function show() {
      cursor.replaceChildren();
      const [x, y] = [toX(lead.x[at]), toY(lead.y[at])];
      make("line", chart.byLevel ? { x1: left, x2: right, y1: y, y2: y } : { x1: x, x2: x, y1: top, y2: bottom }, cursor);
      const head = document.createElement("div");
      head.textContent = heading();
      told.replaceChildren(head, ...chart.lines.map(row).filter(Boolean));
      const box = svg.getBoundingClientRect();
      const scale = box.width / (right + 14);
      const [px, py] = [box.left + x * scale, box.top + y * scale];
      const size = told.getBoundingClientRect();
      const besides = px + 18 + size.width < document.documentElement.clientWidth ? px + 18 : px - 18 - size.width;
      told.style.left = `${Math.max(besides, 4) + window.scrollX}px`;
      told.style.top = `${Math.max(py - size.height - 12, 4) + window.scrollY}px`;
    }

    function hide() {
      at = null;
      cursor.replaceChildren();
      told.replaceChildren();
    }

    plot.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const scale = (right + 14) / box.width;
      at = placeOf((event.clientX - box.left) * scale, (event.clientY - box.top) * scale);
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
  // On paper nothing can be opened.
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
})();
