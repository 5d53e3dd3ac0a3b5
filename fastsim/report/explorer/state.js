// What is shown: of each configuration the highest rate tried at which it holds and meets the reader's limits.
const search = JSON.parse(document.getElementById("found").textContent);
const measures = search.measures;
const GAIN = 0;
const RATE = 1;
const PRICE = 2;
const GPUS = 3;

const rows = search.rows.map((row) => ({
  ...row,
  points: row.points.map(([qps, holds, binding, ...simulated]) => ({
    qps,
    holds: holds === 1,
    binding,
    values: [row.price > 0 ? (qps * 3600) / row.price : null, qps, row.price, row.gpus, ...simulated],
  })),
}));
for (const row of rows) {
  row.served = row.points.filter((point) => point.holds && point.qps <= row.rate);
  row.high ??= Infinity; // every rate that was tried holds
  row.capacity = row.served[row.served.length - 1];
}
// Where nothing has a price, more of the rate is all that can be asked for.
const gain = rows.some((row) => row.price > 0) ? GAIN : RATE;

const state = {
  case: 0,
  limits: measures.map(() => null),
  left: search.axes.map(() => new Set()), // places of the values that are not chosen
  colour: 0, // number of the axis that gives the colours
  selected: null, // a configuration's id
  // What follows from these:
  entries: [], // {row, point, shown} of the case, whose point is at capacity where none meets the limits
  ranked: [], // those that are shown, the best first
  own: undefined, // the selected one, else the best
};

function measureOf(column) {
  return measures.findIndex((measure) => measure.column === column);
}

function better(measure, a, b) {
  return measures[measure].better > 0 ? a > b : a < b;
}

function meets(point) {
  return state.limits.every((limit, i) => {
    const value = point.values[i];
    return limit === null || (value !== null && !better(i, limit, value));
  });
}

function entryOf(row) {
  const point = row.served.findLast(meets);
  const chosen = row.axes.every((place, axis) => !state.left[axis].has(place));
  return { row, point: point ?? row.capacity, shown: chosen && point !== undefined };
}

function compute() {
  state.entries = rows.filter((row) => row.case === state.case).map(entryOf);
  const value = (entry) => entry.point.values[gain] ?? -Infinity;
  state.ranked = state.entries.filter((entry) => entry.shown).sort((a, b) => value(b) - value(a));
  state.own = state.entries.find((entry) => entry.row.id === state.selected) ?? state.ranked[0];
}

// Whether a configuration is shown below its capacity.
function isLower({ row, point }) {
  return point !== row.capacity;
}

function isOwn({ row }) {
  return row === state.own?.row;
}

// Those that no other one beats in one measure without losing in the other, by the first measure.
function front(entries, x, y) {
  const known = entries.filter(({ point }) => point.values[x] !== null && point.values[y] !== null);
  known.sort((a, b) => {
    const [ax, bx, ay, by] = [a.point.values[x], b.point.values[x], a.point.values[y], b.point.values[y]];
    if (ax !== bx) return better(x, ax, bx) ? -1 : 1;
    return ay === by ? 0 : better(y, ay, by) ? -1 : 1;
  });
  const found = [];
  for (const entry of known) {
    const last = found[found.length - 1];
    if (!last || better(y, entry.point.values[y], last.point.values[y])) found.push(entry);
  }
  return found;
}

// Gain at both ends of the interval in which a capacity lies; at a lower rate the next one that was tried is the end.
function interval(entry) {
  const { row, point } = entry;
  if (!isLower(entry)) return [row.low, row.high].map((qps) => (point.values[gain] * qps) / point.qps);
  const next = row.points[row.points.indexOf(point) + 1];
  return [point.values[gain], (point.values[gain] * next.qps) / point.qps];
}

// Those whose interval reaches that of the best one.
function ties(best) {
  const [least] = interval(best);
  return state.ranked.filter((entry) => entry !== best && interval(entry)[1] >= least);
}

// Colour of a configuration: there are eight.
function colourOf(row) {
  return search.axes.length ? `run${row.axes[state.colour] % 8}` : "run0";
}
