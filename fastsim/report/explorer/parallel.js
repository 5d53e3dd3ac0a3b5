// Parallel coordinates: a line for each configuration, through the values of what is varied and its numbers.
function parallel(figure, others) {
  const svg = figure.querySelector("svg");
  const view = { x: undefined, y: undefined, places: [], draw, mark };
  const { width, height } = svg.viewBox.baseVal;
  const [left, right, top, bottom] = [90, width - 60, 50, height - 16];
  const MOST_LABELS = 12;
  let cursor = null;
  let columns = [];

  function columnsNow() {
    const points = state.entries.flatMap(({ row }) => row.served);
    const ordinal = search.axes.map(({ label, values }, axis) => ({
      label,
      at: ({ row }) => (row.axes[axis] + 0.5) / values.length,
      labels: values.map((value, i) => [(i + 0.5) / values.length, value]),
    }));
    const wanted = [...new Set([PRICE, RATE, ...others.flatMap((other) => [other.x, other.y]).filter((i) => i !== gain), gain])];
    const continuous = wanted.map((i) => {
      const axis = axisOf(points.map((point) => point.values[i]), measures[i].unit);
      const labels = ticks(axis).map(([value, label]) => [part(axis, value), label]);
      return { label: measures[i].label, at: ({ point }) => (point.values[i] === null ? null : part(axis, point.values[i])), labels };
    });
    const all = [...ordinal, ...continuous];
    return all.map((column, i) => ({ ...column, x: left + (i * (right - left)) / Math.max(all.length - 1, 1) }));
  }

  function draw() {
    svg.replaceChildren();
    columns = columnsNow();
    const lines = make("g", {}, svg);
    view.places = [];
    for (const entry of [...state.entries].sort((a, b) => a.shown - b.shown)) {
      const points = pointsOf(entry);
      make("polyline", { class: entry.shown ? `across ${colourOf(entry.row)}` : "ghost", points: points.join(" ") }, lines);
      if (entry.shown) view.places.push({ entry, points, x: points[points.length - 1][0], y: points[points.length - 1][1] });
    }
    view.places.sort((a, b) => b.y - a.y);
    columns.forEach(drawColumn);
    const own = view.places.find(({ entry }) => isOwn(entry));
    if (own) make("polyline", { class: `own ${colourOf(own.entry.row)}`, points: own.points.join(" ") }, svg);
    cursor = make("g", { class: "cursor" }, svg);
  }

  function pointsOf(entry) {
    const toY = (value) => Number((bottom - value * (bottom - top)).toFixed(1));
    return columns.map((column) => [column, column.at(entry)]).filter(([, value]) => value !== null)
      .map(([column, value]) => [Number(column.x.toFixed(1)), toY(value)]);
  }

  function drawColumn({ label, labels, x }, i) {
    make("line", { class: "axis", x1: x, x2: x, y1: top, y2: bottom }, svg);
    // Names of neighbours would run into each other on one height.
    make("text", { class: "of-axis", x, y: i % 2 ? 34 : 16, "text-anchor": "middle" }, svg, label);
    const every = Math.ceil(labels.length / MOST_LABELS);
    labels.filter((_, k) => k % every === 0).forEach(([at, text]) => {
      const short = text.length > 14 ? `${text.slice(0, 13)}…` : text;
      make("text", { class: "value", x: x - 5, y: bottom - at * (bottom - top) + 4, "text-anchor": "end" }, svg, short);
    });
  }

  function mark(entry) {
    cursor.replaceChildren();
    const place = view.places.find((one) => one.entry.row === entry?.row);
    if (place) make("polyline", { class: `over ${colourOf(entry.row)}`, points: place.points.join(" ") }, cursor);
  }

  function nearest(x, y) {
    let [best, least] = [null, 12];
    for (const place of view.places) {
      for (let i = 1; i < place.points.length; i++) {
        const [[ax, ay], [bx, by]] = [place.points[i - 1], place.points[i]];
        if (x < ax || x > bx) continue;
        const away = Math.abs(ay + ((by - ay) * (x - ax)) / (bx - ax) - y);
        if (away < least) [best, least] = [{ entry: place.entry, x, y }, away];
      }
    }
    return best;
  }

  pointed(figure.querySelector(".plot"), svg, view, nearest);
  return view;
}
