"use strict";
// Theme: the system's, until somebody chooses.
(() => {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const show = () => { root.dataset.theme = chosen ?? (dark.matches ? "dark" : "light"); };
  dark.addEventListener("change", show);
  document.getElementById("theme").addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    show();
  });
  show();
})();

// Figures: at the width of the page, or at their own.
for (const button of document.querySelectorAll(".zoom"))
  button.addEventListener("click", () => button.setAttribute("aria-expanded", button.getAttribute("aria-expanded") !== "true"));

// Leaderboard: filters hide rows, headings sort them.
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const body = document.querySelector("#board tbody"), rows = [...body.rows], count = document.getElementById("count");
  const filter = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const { point, search, ...others } = wanted;
    let shown = 0;
    for (const row of rows) {
      const ok = (point === "headline" ? "headline" in row.dataset : !point || row.dataset.point === point)
        && Object.entries(others).every(([name, value]) => !value || row.dataset[name] === value)
        && row.cells[0].textContent.toLowerCase().includes(search.trim().toLowerCase());
      row.hidden = !ok;
      shown += ok;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  filter();

  const value = (row, column, numeric) => {
    const text = row.cells[column].textContent.trim();
    return numeric ? (text === "" ? NaN : Number(text)) : text.toLowerCase();
  };
  const headings = [...document.querySelectorAll("#board thead th")];
  headings.forEach((heading, column) => {
    heading.querySelector("button")?.addEventListener("click", () => {
      const numeric = heading.dataset.kind === "number", was = heading.getAttribute("aria-sort");
      // What is better first: large Dice, small distances, small ranks.
      const lowFirst = !numeric || /[↓]|Rank|Masks|Labels/.test(heading.textContent);
      const ascending = was ? was === "descending" : lowFirst;
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const keyed = rows.map((row) => [value(row, column, numeric), row]);
      keyed.sort(([a], [b]) => {
        if (numeric) return isNaN(a) || isNaN(b) ? isNaN(a) - isNaN(b) : ascending ? a - b : b - a;
        return ascending ? a.localeCompare(b) : b.localeCompare(a);
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });
})();
