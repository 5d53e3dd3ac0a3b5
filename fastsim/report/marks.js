"use strict";
// What every page's script uses: numbers as text, places on axes, elements, and the box beside what is pointed at.
const SVG = "http://www.w3.org/2000/svg";
const told = document.getElementById("told");

const formats = new Map(); // by digits: to make one takes longer than to use it

function digits(value, figures = 6) {
  if (!formats.has(figures)) formats.set(figures, new Intl.NumberFormat("en", { maximumSignificantDigits: figures }));
  return formats.get(figures).format(value);
}

// A value with its unit, as quantities.py writes it; of null a dash.
function written(value, unit, figures = 6) {
  if (value === null) return "–";
  if (unit === "share") return `${digits(100 * value, figures)}%`;
  if (unit === "$") return `$${value.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  if (unit !== "s") return `${digits(value, figures)} ${unit}`.trim();
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${digits(value * 1e6, figures)} µs`;
  if (size < 1) return `${digits(value * 1e3, figures)} ms`;
  if (size < 600) return `${digits(value, figures)} s`;
  return size < 36000 ? `${digits(value / 60, figures)} min` : `${digits(value / 3600, figures)} h`;
}

// Where a value lies on an axis, 0 at its beginning and 1 at its end, which nothing passes.
function part(axis, value) {
  const at = axis.log
    ? Math.log(Math.max(value, axis.low) / axis.low) / Math.log(axis.high / axis.low)
    : (value - axis.low) / (axis.high - axis.low);
  return Math.min(Math.max(at, 0), 1);
}

function fill(made, content, attributes) {
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...(Array.isArray(content) ? content : [content]));
  return made;
}

// An element of HTML around a text or other elements; texts stay texts.
function node(name, content = [], attributes = {}) {
  return fill(document.createElement(name), content, attributes);
}

// An element of a picture, at the end of its parent.
function make(name, attributes, parent, content = []) {
  return parent.appendChild(fill(document.createElementNS(SVG, name), content, attributes));
}

// Where the pointer is, in the units of a picture.
function placeIn(svg, event) {
  const box = svg.getBoundingClientRect();
  const scale = svg.viewBox.baseVal.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
}

// Tells something beside a place of a picture.
function tell(svg, x, y, content) {
  told.replaceChildren(...content);
  const box = svg.getBoundingClientRect();
  const scale = box.width / svg.viewBox.baseVal.width;
  const [px, py] = [box.left + x * scale, box.top + y * scale];
  const size = told.getBoundingClientRect();
  const besides = px + 18 + size.width < document.documentElement.clientWidth ? px + 18 : px - 18 - size.width;
  told.style.left = `${Math.max(besides, 4) + window.scrollX}px`;
  told.style.top = `${Math.max(py - size.height - 12, 4) + window.scrollY}px`;
}

function tellNothing() {
  told.replaceChildren();
}

// On paper nothing can be opened.
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
