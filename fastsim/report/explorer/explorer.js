// Puts the parts together: whatever changes, all of them are drawn again.
let views = [];
let probed = [];

function update() {
  compute();
  tellNothing();
  const number = shown().length;
  document.getElementById("count").textContent =
    `${number} of ${state.entries.length} configurations meet these limits at some rate that was tried.`;
  drawLegend(document.getElementById("legend"));
  views.forEach((view) => view.draw());
  drawCards(document.getElementById("cards"));
  drawProbes(probed);
  drawTable(document.getElementById("all"));
}

function select(id) {
  state.selected = id;
  update();
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
