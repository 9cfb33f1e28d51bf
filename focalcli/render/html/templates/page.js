"use strict";
// Sorting, folding and the theme. The page says everything without it.

const number = (cell) => {
  const text = cell.textContent.trim().replace(/[,%<>]/g, "");
  return text === "" || Number.isNaN(Number(text)) ? -Infinity : Number(text);
};

const sortBy = (table, column, header) => {
  const numeric = header.dataset.kind === "n";
  const descending = header.getAttribute("aria-sort") ? header.getAttribute("aria-sort") === "ascending" : numeric;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const compare = numeric
    ? (a, b) => number(a.cells[column]) - number(b.cells[column])
    : (a, b) => a.cells[column].textContent.localeCompare(b.cells[column].textContent);
  const body = table.tBodies[0];
  const rows = Array.from(body.rows).sort((a, b) => (descending ? compare(b, a) : compare(a, b)));
  body.append(...rows);
};

for (const header of document.querySelectorAll("th[data-kind]")) {
  const table = header.closest("table");
  header.querySelector("button").addEventListener("click", () => sortBy(table, header.cellIndex, header));
}

for (const table of document.querySelectorAll("table[data-most]")) {
  const rows = table.tBodies[0].rows.length;
  const button = document.createElement("button");
  const show = (all) => {
    table.classList.toggle("folded", !all);
    button.textContent = all ? `Show ${table.dataset.most} rows` : `Show all ${rows.toLocaleString("en")} rows`;
    button.setAttribute("aria-expanded", String(all));
  };
  button.type = "button";
  button.className = "more";
  button.addEventListener("click", () => show(table.classList.contains("folded")));
  table.closest(".scroll").after(button);
  show(false);
}

const theme = document.getElementById("theme");
const root = document.documentElement;
const wished = window.matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : wished.matches);
const name = () => {
  theme.textContent = isDark() ? "Light" : "Dark";
};
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  name();
});
wished.addEventListener("change", name);
name();
theme.hidden = false;
