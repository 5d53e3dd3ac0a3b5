"use strict";
// Sorts the table of scenarios by a column, and shows those whose name has some text in it.
(() => {
  const body = document.querySelector(".results tbody");
  const heads = [...document.querySelectorAll(".results thead th")];
  const count = document.getElementById("shown");
  const rows = [...body.rows];

  // What has no number comes last, whichever way.
  function compare(column, sign) {
    return (a, b) => {
      const [x, y] = [a, b].map((row) => row.cells[column].dataset.value);
      if (column === 0) return sign * x.localeCompare(y);
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (x - y);
    };
  }

  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way);
      body.replaceChildren(...[...rows].sort(compare(column, way === "ascending" ? 1 : -1)));
    });
  });

  document.querySelector(".filter input").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every((word) => row.cells[0].dataset.value.includes(word));
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} scenarios`;
  });
})();
