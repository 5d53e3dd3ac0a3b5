// Axes as scales.py makes them: about five round values, in the unit of the largest one.
function timeUnit(seconds) {
  const units = [[1e-3, 1e6], [1, 1e3], [600, 1], [36000, 1 / 60], [Infinity, 1 / 3600]];
  return units.find(([below]) => Math.abs(seconds) < below)[1];
}

function roundStep(rough, largest, unit) {
  const factor = unit === "s" ? timeUnit(largest) : 1;
  const power = 10 ** Math.floor(Math.log10(rough * factor));
  return (power * [1, 2, 5, 10].find((digit) => digit * power >= rough * factor * 0.999)) / factor;
}

// An axis that holds some values: logarithmic where the largest is many times the smallest.
function axisOf(values, unit) {
  const known = values.filter((value) => value !== null);
  const low = known.reduce((a, b) => Math.min(a, b), Infinity);
  const high = known.reduce((a, b) => Math.max(a, b), 0);
  if (high <= 0) return { low: 0, high: 1, unit };
  if (low > 0 && high > 8 * low) return { low: low / 1.1, high: high * 1.1, log: true, unit };
  const step = roundStep(high / 4, high, unit);
  return { low: 0, high: Math.ceil(high / step - 1e-9) * step, unit };
}

function ticks(axis) {
  const values = axis.log ? roundRatios(axis.low, axis.high) : roundSteps(axis);
  return values.map((value) => [value, written(value, axis.unit === "$" || axis.unit === "QPS" ? "" : axis.unit, 3)]);
}

function roundSteps(axis) {
  const step = roundStep((axis.high - axis.low) / 4, axis.high, axis.unit);
  const count = Math.floor((axis.high - axis.low) / step + 1e-9) + 1;
  return Array.from({ length: count }, (_, i) => axis.low + i * step);
}

function roundRatios(low, high) {
  const ratio = high / low;
  const between = ratio < 150 ? [1, 2, 5] : ratio < 3000 ? [1, 3] : [1];
  const powers = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) powers.push(10 ** power);
  const found = powers.flatMap((power) => between.map((digit) => digit * power));
  return found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
}

// The axes of a picture, and where values lie in it.
function drawAxes(svg, x, y, names) {
  const { width, height } = svg.viewBox.baseVal;
  const [left, top, right, bottom] = [58, 22, width - 14, height - 40];
  const toX = (value) => left + part(x, value) * (right - left);
  const toY = (value) => bottom - part(y, value) * (bottom - top);
  for (const [value, label] of ticks(y)) {
    make("line", { class: "grid", x1: left, x2: right, y1: toY(value), y2: toY(value) }, svg);
    make("text", { x: left - 6, y: toY(value) + 4, "text-anchor": "end" }, svg, label);
  }
  for (const [value, label] of ticks(x)) {
    make("line", { class: "grid", x1: toX(value), x2: toX(value), y1: bottom, y2: bottom + 4 }, svg);
    const anchor = toX(value) > right - 12 ? "end" : "middle";
    make("text", { x: anchor === "end" ? Math.min(toX(value) + 12, width - 2) : toX(value), y: bottom + 16, "text-anchor": anchor }, svg, label);
  }
  make("text", { class: "of-axis", x: 4, y: 12 }, svg, names[1]);
  make("text", { class: "of-axis", x: right, y: height - 5, "text-anchor": "end" }, svg, names[0]);
  return { toX, toY, top, bottom, left, right };
}

// A choice among measures.
function chooseMeasure(label, choices, chosen, change) {
  const options = choices.map((i) => node("option", measures[i].label, { value: i }));
  const select = node("select", options);
  select.value = chosen;
  select.addEventListener("change", () => change(Number(select.value)));
  return node("label", [`${label} `, select]);
}
