// The controls: case, colours, a slider for each number that may be limited, and the values of each axis.
const ROUND = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8];
const MOST_CHOICES = 12;
const COLOURS = 8;

function drawLimits(place) {
  const numbers = measures.map((_, i) => i).filter((i) => limited(i));
  const clear = node("button", "Clear all", { type: "button", id: "clear" });
  clear.addEventListener("click", () => {
    state.limits.fill(null);
    state.left.forEach((places) => places.clear());
    place.querySelectorAll("input[type=checkbox]").forEach((box) => (box.checked = true));
    place.querySelectorAll("input[type=range]").forEach((slider) => slider.reset());
    update();
  });
  place.replaceChildren(
    node("div", [...chooseCase(), ...chooseColour(), clear], { class: "choices" }),
    node("p", [], { id: "count", role: "status" }),
    node("div", numbers.map(slider), { class: "sliders" }),
    node("div", search.axes.map(facet), { class: "facets" }),
  );
}

// Whether configurations differ in a number, so that a limit on it tells them apart.
function limited(i) {
  return new Set(valuesOf(i)).size > 1 && (i !== GAIN || gain === GAIN);
}

function valuesOf(i) {
  return rows.flatMap((row) => row.served).map((point) => point.values[i]).filter((value) => value > 0);
}

// Round values from below the least to above the most of a number.
function roundValues(i) {
  const known = valuesOf(i).sort((a, b) => a - b);
  const [low, high] = [known[0], known[known.length - 1]];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    found.push(...ROUND.map((digit) => Number((digit * 10 ** power).toPrecision(3))));
  }
  const [first, last] = [found.findLastIndex((value) => value <= low), found.findIndex((value) => value >= high)];
  return found.slice(Math.max(first, 0), last < 0 ? undefined : last + 1);
}

// At its end where everything is let through a slider limits nothing.
function slider(i) {
  const { label, unit, better: sign } = measures[i];
  const values = roundValues(i);
  const any = sign > 0 ? 0 : values.length;
  const input = node("input", [], { type: "range", min: 0, max: values.length, step: 1, "data-column": measures[i].column });
  const output = node("output", "any");
  input.reset = () => {
    input.value = any;
    say();
  };
  function say() {
    const at = Number(input.value);
    state.limits[i] = at === any ? null : values[sign > 0 ? at - 1 : at];
    const text = state.limits[i] === null ? "any" : `${sign > 0 ? "≥" : "≤"} ${written(state.limits[i], unit, 3)}`;
    output.textContent = text;
    output.className = state.limits[i] === null ? "" : "set";
    input.setAttribute("aria-valuetext", text.replace("≥", "at least").replace("≤", "at most"));
  }
  input.addEventListener("input", () => {
    say();
    update();
  });
  input.reset();
  return node("label", [node("span", label), output, input]);
}

function facet({ label, values }, axis) {
  if (values.length > MOST_CHOICES) return "";
  const boxes = values.map((value, i) => {
    const box = node("input", [], { type: "checkbox" });
    box.checked = true;
    box.addEventListener("change", () => {
      state.left[axis][box.checked ? "delete" : "add"](i);
      update();
    });
    return node("label", [box, ` ${value}`]);
  });
  return node("fieldset", [node("legend", label), ...boxes]);
}

function chooseCase() {
  if (search.cases.length < 2) return [];
  const select = node("select", search.cases.map((name, i) => node("option", name, { value: i })), { id: "case" });
  select.addEventListener("change", () => {
    state.case = Number(select.value);
    update();
  });
  return [node("label", ["Workload: ", select])];
}

function chooseColour() {
  const few = search.axes.map((_, i) => i).filter((i) => search.axes[i].values.length <= COLOURS);
  if (few.length < 2) return [];
  const select = node("select", few.map((i) => node("option", search.axes[i].label, { value: i })), { id: "colour" });
  state.colour = few[0];
  select.addEventListener("change", () => {
    state.colour = Number(select.value);
    update();
  });
  return [node("label", ["Colour: ", select])];
}
