// A chart of configurations, a point each, with the front of those that no other one beats.
function scatter(figure) {
  const svg = figure.querySelector("svg");
  const choices = measures.map((_, i) => i).filter((i) => measures[i].column !== "gpus");
  const view = {
    x: measureOf(figure.dataset.x),
    y: figure.dataset.y === "qps_per_dollar" ? gain : measureOf(figure.dataset.y),
    places: [],
    draw,
    mark,
  };
  let cursor = null;
  const choose = (axis) => (measure) => {
    view[axis] = measure;
    update();
  };
  const caption = figure.querySelector("figcaption");
  caption.append(node("div", [
    chooseMeasure("Up:", choices, view.y, choose("y")),
    chooseMeasure("Right:", choices, view.x, choose("x")),
  ], { class: "choices" }));
  const title = caption.querySelector("b");

  function draw() {
    svg.replaceChildren();
    const all = state.entries.filter(({ point }) => point.values[view.x] !== null && point.values[view.y] !== null);
    // The axes hold every rate that serves, so that points move under limits but axes do not.
    const points = state.entries.flatMap(({ row }) => row.served);
    const [x, y] = [view.x, view.y].map((i) => axisOf(points.map((point) => point.values[i]), measures[i].unit));
    const names = [view.x, view.y].map((i) => measures[i].label);
    title.textContent = `${names[1]} against ${names[0]}`;
    const { toX, toY } = drawAxes(svg, x, y, names);
    const at = ({ point }) => [toX(point.values[view.x]), toY(point.values[view.y])];
    const best = front(state.ranked, view.x, view.y);
    if (best.length > 1) make("path", { class: "front", d: steps(best.map(at)) }, svg);
    const drawn = [...all].sort((a, b) => a.shown - b.shown);
    view.places = [];
    for (const entry of drawn) {
      const [cx, cy] = at(entry);
      if (!entry.shown) {
        make("circle", { class: "ghost", cx, cy, r: 2 }, svg);
        continue;
      }
      const [lower, leads] = [isLower(entry) ? " lower" : "", best.includes(entry) ? " leads" : ""];
      const kind = `dot ${colourOf(entry.row)}${lower}${leads}`;
      make("circle", { class: kind, cx, cy, r: leads ? 5.5 : 4, "data-id": entry.row.id }, svg);
      view.places.push({ entry, x: cx, y: cy });
    }
    view.places.sort((a, b) => a.x - b.x);
    const own = view.places.find(({ entry }) => isOwn(entry));
    if (own) make("circle", { class: "selected", cx: own.x, cy: own.y, r: 9 }, svg);
    cursor = make("g", { class: "cursor" }, svg);
  }

  function mark(entry) {
    cursor.replaceChildren();
    const place = view.places.find((one) => one.entry.row === entry?.row);
    if (place) make("circle", { class: `ring ${colourOf(entry.row)}`, cx: place.x, cy: place.y, r: 7 }, cursor);
    return place;
  }

  function nearest(x, y) {
    let [best, least] = [null, 20];
    for (const place of view.places) {
      const away = Math.hypot(place.x - x, place.y - y);
      if (away < least) [best, least] = [place, away];
    }
    return best;
  }

  pointed(figure.querySelector(".plot"), svg, view, nearest);
  return view;
}

// Through the corners between points: between two of them a reader gets no more than the one before.
function steps(points) {
  return points.map(([x, y], i) => (i ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)},${y.toFixed(1)}`)).join("");
}

// Pointer and keys on a view whose places hold entries: what they are at is told, and marked in every view.
function pointed(plot, svg, view, nearest) {
  let at = null;
  const go = (place) => {
    at = place;
    markAll(place?.entry ?? null);
    if (place) tell(svg, place.x, place.y, telling(place.entry, [view.x, view.y]));
    else tellNothing();
  };
  plot.addEventListener("pointermove", (event) => go(nearest(...placeIn(svg, event))));
  plot.addEventListener("pointerleave", () => go(null));
  plot.addEventListener("blur", () => go(null));
  plot.addEventListener("click", (event) => {
    const place = nearest(...placeIn(svg, event));
    if (place) select(place.entry.row.id);
  });
  plot.addEventListener("keydown", (event) => {
    const last = view.places.length - 1;
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    const now = view.places.findIndex((place) => place.entry.row === at?.entry.row);
    if (event.key === "Escape") return go(null);
    if (last < 0) return;
    if (event.key === "Home") go(view.places[0]);
    else if (event.key === "End") go(view.places[last]);
    else if (step) go(view.places[Math.min(Math.max(now + step, 0), last)]);
    else if ((event.key === "Enter" || event.key === " ") && at) {
      select(at.entry.row.id);
      go(view.places[now]);
    } else return;
    event.preventDefault();
  });
}

// What is told of a configuration: its name, and what it does at its rate.
function telling(entry, of) {
  const { row, point } = entry;
  const wanted = [...new Set([gain, RATE, PRICE, ...of])].filter((i) => i !== undefined && point.values[i] !== null);
  const values = wanted.map((i) => {
    const { label, unit } = measures[i];
    return node("div", [node("span", label), node("b", written(point.values[i], unit, 4))]);
  });
  const below = !isLower(entry) ? [] : [node("div", `below its capacity of ${written(row.capacity.qps, "QPS", 4)}`)];
  return [node("div", [node("span", row.name, { class: `name ${colourOf(row)}` })]), ...values, ...below];
}
