"use strict";
/* Sorts the tables marked data-sortable by their heads and filters their rows by text.

The state lives in the address, #sort=COLUMN&order=descending&filter=TEXT, so that it can be
shared. Without this script the tables show every row in the order in which they were written. */
(() => {
  const tables = [...document.querySelectorAll("table[data-sortable]")];
  const rowsOf = (table) => [...table.tBodies[0].rows];
  const written = new Map(tables.map((table) => [table, rowsOf(table)]));
  const heads = tables.flatMap((table) => [...table.tHead.rows[0].cells]);
  const columnName = new Map(heads.map((head) => [head, head.textContent]));

  const bar = document.createElement("section");
  bar.className = "card wide filter";
  bar.innerHTML = '<label for="filter">Filter rows</label><input id="filter" type="search" ' +
    'autocomplete="off" spellcheck="false"><output for="filter"></output>';
  const input = bar.querySelector("input");
  const count = bar.querySelector("output");

  const read = () => new URLSearchParams(location.hash.slice(1));

  const write = (changes) => {
    const state = read();
    for (const [key, value] of Object.entries(changes)) {
      if (value) state.set(key, value); else state.delete(key);
    }
    history.replaceState(null, "", "#" + state);
    show();
  };

  /* A cell's first number; what holds none, such as a dash, is no number. */
  const numberIn = (text) => parseFloat(text.replaceAll(",", ""));

  const comparison = (index, isNumeric, sign) => (row, other) => {
    const [text, otherText] = [row, other].map((each) => each.cells[index].textContent);
    const [isEmpty, isOtherEmpty] = [text, otherText].map((each) => /^-?$/.test(each));
    if (isEmpty || isOtherEmpty) return isEmpty - isOtherEmpty; /* last in both orders */
    return sign * (isNumeric ? numberIn(text) - numberIn(otherText)
      : text.localeCompare(otherText, "en", { numeric: true }));
  };

  const sort = (table, column, order) => {
    const cells = [...table.tHead.rows[0].cells];
    const index = cells.findIndex((cell) => columnName.get(cell) === column);
    cells.forEach((cell, at) => {
      if (at === index) cell.setAttribute("aria-sort", order);
      else cell.removeAttribute("aria-sort");
    });
    const rows = [...written.get(table)];
    if (index >= 0) {
      const isNumeric = cells[index].classList.contains("number");
      rows.sort(comparison(index, isNumeric, order === "descending" ? -1 : 1));
    }
    table.tBodies[0].append(...rows);
  };

  const filter = (text) => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = tables.flatMap(rowsOf);
    for (const row of rows) {
      const content = [...row.cells].map((cell) => cell.textContent.toLowerCase()).join(" ");
      row.hidden = !words.every((word) => content.includes(word));
    }
    const nShown = rows.filter((row) => !row.hidden).length;
    count.textContent = words.length ? `${nShown} of ${rows.length} rows` : `${rows.length} rows`;
  };

  const show = () => {
    const state = read();
    const order = state.get("order") === "descending" ? "descending" : "ascending";
    tables.forEach((table) => sort(table, state.get("sort"), order));
    const text = state.get("filter") || "";
    if (input.value !== text) input.value = text;
    filter(text);
  };

  const sortBy = (column) => {
    const state = read();
    const isAgain = state.get("sort") === column && state.get("order") !== "descending";
    write({ sort: column, order: isAgain ? "descending" : "" });
  };

  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(columnName.get(head)));
    head.append(button);
  }
  input.addEventListener("input", () => write({ filter: input.value }));
  addEventListener("hashchange", show);
  tables[0].closest(".card").before(bar);
  show();
})();
