// Tables that sort, search and can be downloaded; the page is complete without this.
"use strict";
const Tables = (() => {
  const SEARCHED = 8; // rows from which a table can be searched and downloaded
  const order = new Intl.Collator(undefined, { numeric: true });

  // What a cell says as a number: "1,234", a proper minus sign, and "-" where there is none.
  function number(text) {
    const plain = text.trim().replace(/,/g, "").replace("\u2212", "-").replace(/ %$/, "");
    return plain === "" || isNaN(plain) ? NaN : Number(plain);
  }

  function sort(table, column, down) {
    const body = table.tBodies[0];
    const keys = new Map([...body.rows].map((row) => {
      const text = row.cells[column].textContent;
      return [row, [number(text), text]];
    }));
    const numeric = [...keys.values()].some(([value]) => !isNaN(value));
    const sorted = [...keys.keys()].sort((a, b) => {
      const [x, s] = keys.get(a), [y, t] = keys.get(b);
      if (numeric && isNaN(x) !== isNaN(y)) return isNaN(x) ? 1 : -1; // what is missing comes last
      const sign = down ? -1 : 1;
      return sign * (numeric && !isNaN(x) ? x - y : order.compare(s, t));
    });
    body.append(...sorted);
    [...table.tHead.rows[0].cells].forEach((head, i) => {
      if (i === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }

  function csv(table) {
    const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
    const shown = (cell) => {
      const value = number(cell.textContent);
      return quoted(isNaN(value) ? cell.textContent.trim() : String(value));
    };
    const rows = [table.tHead.rows[0], ...[...table.tBodies[0].rows].filter((row) => !row.hidden)];
    return rows.map((row) => [...row.cells].map(shown).join(",") + "\r\n").join("");
  }

  function download(text, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function tools(box, table) {
    const bar = document.createElement("div");
    bar.className = "tools";
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.type = "search";
    label.append("Search ", input);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Download CSV";
    const said = document.createElement("span");
    said.setAttribute("role", "status");
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let found = 0;
      for (const row of table.tBodies[0].rows) {
        const text = [...row.cells].map((cell) => cell.textContent).join("\n").toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        found += !row.hidden;
      }
      said.textContent = words.length ? `${found} of ${table.tBodies[0].rows.length} rows` : "";
    });
    button.addEventListener("click", () => {
      const heading = box.closest("section").querySelector("h2").textContent;
      download(csv(table), `${heading.toLowerCase().replace(/\W+/g, "-")}.csv`);
    });
    bar.append(label, button, said);
    const whole = document.createElement("div");
    box.replaceWith(whole);
    whole.append(bar, box);
  }

  // Make the headings of a table in its box buttons, and give a long table a search.
  function enhance(box) {
    const table = box.querySelector("table");
    if (table.tBodies[0].rows.length < 2) return;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const first = head.classList.contains("number"); // the largest are what one looks for
        const now = head.getAttribute("aria-sort");
        sort(table, column, now ? now === "ascending" : first);
      });
    });
    if (table.tBodies[0].rows.length >= SEARCHED) tools(box, table);
  }

  // Return a table of rows of texts, numbers and elements; numbers with their digits.
  function made(heads, rows, caption, digits) {
    const box = document.createElement("div");
    box.className = rows.length > 20 ? "table tall" : "table";
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", caption);
    const table = document.createElement("table");
    table.createCaption().textContent = caption;
    const head = table.createTHead().insertRow();
    const numeric = heads.map((_, i) => rows.some((row) => typeof row[i] === "number"));
    heads.forEach((text, i) => {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = text;
      if (numeric[i]) cell.className = "number";
      head.append(cell);
    });
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      row.forEach((value, i) => {
        const cell = line.insertCell();
        if (numeric[i]) cell.className = "number";
        cell.append(typeof value === "number" ? shown(value, digits[i]) : value);
      });
    }
    box.append(table);
    return box;
  }

  function shown(value, digits) {
    const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    const text = value.toLocaleString("en", options);
    return /[1-9]/.test(text) ? text.replace("-", "\u2212") : text.replace("-", "");
  }

  document.querySelectorAll("main .table").forEach(enhance);
  return { csv, enhance, made, shown };
})();
