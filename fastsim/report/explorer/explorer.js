// Puts the parts together: whatever changes, all of them are drawn again.
let views = [];
let probed = [];

function update() {
  compute();
  tellNothing();
  const lower = state.ranked.filter(isLower).length;
  document.getElementById("count").textContent =
    `${state.ranked.length} of ${state.entries.length} configurations meet these limits, ${lower} of them below capacity.`;
  drawLegend(document.getElementById("legend"));
  views.forEach((view) => view.draw());
  drawCards(document.getElementById("cards"));
  drawProbes(probed);
  drawTable(document.getElementById("all"));
}

// The button that was pressed is drawn again, and keeps the focus.
function select(id) {
  const place = document.activeElement?.closest("#all, #cards");
  state.selected = id;
  update();
  place?.querySelector(`[data-id="${CSS.escape(id)}"]`)?.focus();
}

function markAll(entry) {
  views.forEach((view) => view.mark(entry));
}

function drawLegend(place) {
  const axis = search.axes[state.colour];
  const names = axis ? axis.values.map((value, i) => node("span", value, { class: `name run${i % 8}` })) : [];
  place.replaceChildren(...(axis ? [node("span", `${axis.label}:`), ...names] : []));
}

if (rows.length) {
  drawLimits(document.getElementById("controls"));
  compute();
  const scatters = [...document.querySelectorAll("figure.scatter")].map(scatter);
  probed = probeCharts();
  views = [...scatters, parallel(document.getElementById("lines-across"), scatters)];
  update();
}
