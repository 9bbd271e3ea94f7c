// The explorer: one large picture, small ones of all latents, and tables of the selected cells.
"use strict";
(() => {
  const at = (id) => document.getElementById(`x-${id}`);
  const GLYPHS = { circle: "\u25cf", "triangle-up": "\u25b2", square: "\u25a0", diamond: "\u25c6",
    "triangle-down": "\u25bc", cross: "\u271a", star: "\u2605", x: "\u2716" };
  const webgl = Boolean(document.createElement("canvas").getContext("webgl"));
  const config = { displaylogo: false, responsive: true, typesetMath: false, displayModeBar: true,
    modeBarButtonsToRemove: ["autoScale2d", "toggleSpikelines", "hoverClosestCartesian",
      "hoverCompareCartesian"] };
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "lasso"; // a finger scrolls
  const font = { family: "system-ui, sans-serif", size: 13, color: "#1c2127" };
  const jitter = Float32Array.from({ length: Cells.n }, (_, i) => ((i * 0.618034) % 1) * 0.6 - 0.3);
  const state = { view: Cells.views[0], colour: null, levels: new Set(), chosen: new Uint8Array(Cells.n) };

  // Plotly reads some HTML in names: they are shown as they are.
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (text) => (text.length > 22 ? `${text.slice(0, 13)}\u2026${text.slice(-8)}` : text);
  const count = () => state.chosen.reduce((sum, one) => sum + one, 0);
  // What the rows of a single dimension are: the labels in colours, or the first that tell its cells.
  const rowsBy = (view) => [state.colour, ...Cells.columns].find((column) =>
    column.levels && view.cells.some((cell) => column.codes[cell] !== column.codes[view.cells[0]]))
    ?? Cells.columns.find((column) => column.levels);

  function options(select, groups) {
    for (const [name, pairs] of groups.filter(([, list]) => list.length)) {
      const group = document.createElement("optgroup");
      group.label = name;
      for (const [value, text] of pairs) group.append(new Option(text, value));
      select.append(group);
    }
  }

  function describe(cell) {
    const lines = Cells.columns.map((column) => {
      const value = column.levels ? column.levels[column.codes[cell]] ?? "missing"
        : column.values[cell].toPrecision(3);
      return `${column.name}: ${value}`;
    });
    if (!state.colour.levels) {
      const value = state.colour.values[cell];
      lines.push(`${state.colour.name}: ${isNaN(value) ? "none here" : value.toPrecision(3)}`);
    }
    return lines.map(plain).join("<br>");
  }

  // A trace of some cells; what is not selected is faint.
  function trace(cells, x, y, open = null) {
    const pick = (list) => Array.from(cells, (cell) => list[cell]);
    const chosen = [];
    cells.forEach((cell, i) => { if (state.chosen[cell]) chosen.push(i); });
    return {
      type: webgl ? "scattergl" : "scatter", mode: "markers", x, y, hoverinfo: "text",
      text: Array.from(cells, describe),
      marker: { size: cells.length > 5000 ? 4 : 6, opacity: 0.8, color: pick(state.colour.colour),
        symbol: open ? Array.from(open, (one) => (one ? "circle-open" : "circle"))
          : state.colour.symbol ? pick(state.colour.symbol) : "circle" },
      selectedpoints: count() ? chosen : null,
      selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: cells.length > 1000 ? 0.08 : 0.2 } },
    };
  }

  // Where cells are in a picture: along one dimension, with a row for each label, or in the plane.
  function places(view) {
    if (view.at.length === 2) return { y: view.at[1], rows: null };
    const { codes, levels } = rowsBy(view);
    const there = [...new Set(Array.from(view.cells, (cell) => codes[cell]))].sort((a, b) => b - a);
    const row = new Map(there.map((code, i) => [code, i]));
    const y = Float32Array.from(view.cells, (cell) => row.get(codes[cell]) + jitter[cell]);
    return { y, rows: there.map((code) => (code === 255 ? "missing" : levels[code])) };
  }

  function drawMain() {
    const { view } = state, { y, rows } = places(view), blank = { showticklabels: false, zeroline: false };
    const height = rows ? Math.max(420, 60 + 22 * rows.length) : 480;
    const axis = (text, more) => ({ title: { text: plain(text) }, zeroline: false, ...more });
    const layout = {
      font, dragmode, height, hovermode: "closest", uirevision: view.key, selections: [],
      margin: { l: rows ? 10 : 36, r: 12, t: 34, b: 44 },
      xaxis: axis(view.axes[0], rows ? {} : blank),
      yaxis: rows ? { zeroline: false, automargin: true, tickvals: rows.map((_, i) => i),
        ticktext: rows.map((name) => plain(short(name))) } : axis(view.axes[1], blank),
    };
    at("plot").style.height = `${height + 2}px`; // with its border; a window that changes asks for it
    Plotly.react(at("plot"), [trace(view.cells, view.at[0], y)], layout, config);
    at("title").textContent = `${view.key}: ${view.cells.length.toLocaleString("en")} cells of ${view.owners}, by ${state.colour.name}`;
  }

  function drawSmall(canvas, view) {
    const side = 300, pen = canvas.getContext("2d"), { y } = places(view), x = view.at[0];
    canvas.width = canvas.height = side;
    const unit = (list) => {
      const [low, high] = minmax(list);
      return (value) => 8 + (side - 16) * (high > low ? (value - low) / (high - low) : 0.5);
    };
    const px = unit(x), py = unit(y), dot = view.cells.length > 3000 ? 3 : 5, some = count() > 0;
    for (const pass of some ? [0, 1] : [1]) {
      view.cells.forEach((cell, i) => {
        if (some && state.chosen[cell] !== pass) return;
        pen.fillStyle = pass ? state.colour.colour[cell] : "#d3d9df";
        pen.fillRect(px(x[i]) - dot / 2, side - py(y[i]) - dot / 2, dot, dot);
      });
    }
  }

  function minmax(list) {
    let low = Infinity, high = -Infinity;
    for (const value of list) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    return [low, high];
  }

  function drawKey() {
    const box = at("key"), { colour } = state;
    at("key-title").textContent = colour.levels ? `Labels of ${colour.name}` : colour.name;
    if (colour.levels === null) {
      const scale = document.createElement("div"), bar = document.createElement("i");
      const ends = document.createElement("span");
      scale.className = "scale";
      bar.style.background = `linear-gradient(to right, ${Cells.ramp.join(",")})`;
      for (const value of [colour.low, colour.high]) {
        const end = document.createElement("b");
        end.textContent = isFinite(value) ? Number(value.toPrecision(3)) : "none";
        ends.append(end);
      }
      scale.append(bar, ends);
      box.replaceChildren(scale);
      return;
    }
    box.replaceChildren(...colour.levels.map((name, code) => {
      const button = document.createElement("button"), dot = document.createElement("span");
      const size = document.createElement("span");
      button.type = "button";
      dot.textContent = GLYPHS[colour.symbols[code]];
      dot.style.color = colour.colours[code];
      dot.setAttribute("aria-hidden", "true");
      size.className = "count";
      size.textContent = colour.codes.reduce((sum, one) => sum + (one === code), 0).toLocaleString("en");
      button.append(dot, name, size);
      button.setAttribute("aria-pressed", state.levels.has(code));
      button.addEventListener("click", () => {
        if (!state.levels.delete(code)) state.levels.add(code);
        state.chosen = Uint8Array.from(colour.codes, (one) => state.levels.has(one));
        selected();
      });
      return button;
    }));
  }

  function drawCounts(n) {
    if (!n) {
      at("counts").replaceChildren("Select some cells, and they are counted here.");
      return;
    }
    at("counts").replaceChildren(...Cells.columns.filter((column) => column.levels).map((column) => {
      const all = new Array(column.levels.length).fill(0), mine = all.slice();
      column.codes.forEach((code, cell) => {
        if (code === 255) return;
        all[code] += 1;
        mine[code] += state.chosen[cell];
      });
      const rows = column.levels.map((name, i) => [name, mine[i], all[i], (100 * mine[i]) / (all[i] || 1)])
        .filter((row) => row[1] > 0);
      const heads = [column.name, "selected", "all", "% of all"];
      const box = Tables.made(heads, rows, `Drawn cells by ${column.name}.`, [0, 0, 0, 0]);
      const holder = document.createElement("div");
      holder.append(box);
      Tables.enhance(box);
      return holder;
    }));
  }

  function drawGenes(n) {
    if (!Cells.genes.length) return;
    const rest = Cells.n - n, holder = at("genes");
    if (!n || !rest) {
      holder.replaceChildren(n ? "All cells are selected: there are no others to compare with."
        : "Select some cells, and the genes are listed here.");
      return;
    }
    const rows = Cells.genes.map((name, gene) => {
      const sum = [0, 0], cells = [0, 0]; // outside, inside: of the cells that have the gene
      Cells.expression(gene).forEach((value, cell) => {
        if (isNaN(value)) return;
        sum[state.chosen[cell]] += value;
        cells[state.chosen[cell]] += 1;
      });
      const [outside, inside] = sum.map((total, i) => (cells[i] ? total / cells[i] : NaN));
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => setColour(`g${gene}`));
      return [button, inside, outside, inside - outside];
    }).sort((a, b) => (isNaN(a[3]) || isNaN(b[3]) ? isNaN(a[3]) - isNaN(b[3]) : b[3] - a[3]));
    const heads = ["gene", "selected", "others", "difference"];
    const caption = `Mean log expression in ${n.toLocaleString("en")} selected cells and in ${rest.toLocaleString("en")} others.`;
    const box = Tables.made(heads, rows, caption, [0, 2, 2, 2]);
    holder.replaceChildren(box);
    Tables.enhance(box);
  }

  function drawCompared() {
    if (!Cells.compared) return;
    const gene = Number(at("gene").value), { cells } = Cells.compared;
    const x = Cells.compared.shared(gene), y = Cells.compared.all(gene);
    const [low, high] = minmax([...minmax(x), ...minmax(y)]);
    const name = plain(short(Cells.genes[gene])), note = Cells.notes[gene];
    const seen = note ? Cells.expression(gene) : null; // missing where it is predicted
    const open = note ? Array.from(cells, (cell) => isNaN(seen[cell])) : null;
    const layout = {
      font, dragmode, hovermode: "closest", selections: [], height: 440,
      margin: { l: 58, r: 12, t: 34, b: 58 },
      xaxis: { title: { text: `${name}, shared latents only` }, zeroline: false },
      yaxis: { title: { text: `${name}, all latents${note ? `<br>(open circles: ${plain(note)})` : ""}` }, zeroline: false },
      shapes: [{ type: "line", x0: low, y0: low, x1: high, y1: high, line: { color: "#57606a", dash: "dot" } }],
    };
    Plotly.react(at("compare"), [trace(cells, x, y, open)], layout, config);
  }

  function drawMultiples() {
    at("multiples").querySelectorAll("button").forEach((button, i) => {
      drawSmall(button.querySelector("canvas"), Cells.views[i]);
      button.setAttribute("aria-pressed", Cells.views[i] === state.view);
    });
  }

  function selected() {
    drawMain();
    drawRest();
  }

  // All that is beside and below the large picture.
  function drawRest() {
    const n = count();
    at("status").textContent = n ? `${n.toLocaleString("en")} of ${Cells.n.toLocaleString("en")} cells are selected.` : "No cell is selected.";
    at("clear").disabled = !n;
    at("key").querySelectorAll("button").forEach((button, code) =>
      button.setAttribute("aria-pressed", state.levels.has(code)));
    drawMultiples();
    drawCounts(n);
    drawGenes(n);
    drawCompared();
  }

  function setColour(key) {
    at("colour").value = key;
    state.colour = Cells.colouring(key);
    state.levels.clear();
    if (key[0] === "g" && Cells.compared) at("gene").value = key.slice(1);
    drawKey();
    drawMain();
    drawMultiples();
    drawCompared();
  }

  function setView(i) {
    at("view").value = i;
    state.view = Cells.views[i];
    drawMain();
    drawMultiples();
  }

  // Cells that were lassoed in a picture of these cells.
  function listen(plot, cells) {
    plot.on("plotly_selected", (event) => {
      if (!event || !event.points.length) return;
      state.levels.clear();
      state.chosen = new Uint8Array(Cells.n);
      for (const point of event.points) state.chosen[cells()[point.pointIndex]] = 1;
      selected();
    });
    plot.on("plotly_deselect", clear);
  }

  function clear() {
    state.levels.clear();
    state.chosen = new Uint8Array(Cells.n);
    selected();
  }

  function start() {
    const numbered = (prefix, list) => list.map((item, i) => [`${prefix}${i}`, item.name ?? item]);
    options(at("colour"), [["Labels", numbered("c", Cells.columns)],
      ["Dimensions in use", numbered("d", Cells.dimensions)], ["Genes", numbered("g", Cells.genes)]]);
    Cells.views.forEach((view, i) => at("view").append(new Option(`${view.key} (${view.owners})`, i)));
    at("multiples").append(...Cells.views.map((view, i) => {
      const button = document.createElement("button"), small = document.createElement("small");
      button.type = "button";
      small.textContent = `${view.owners}, ${view.cells.length.toLocaleString("en")} cells`;
      button.append(document.createElement("canvas"), view.key, small);
      button.addEventListener("click", () => setView(i));
      return button;
    }));
    at("colour").addEventListener("change", (event) => setColour(event.target.value));
    at("view").addEventListener("change", (event) => setView(Number(event.target.value)));
    at("clear").addEventListener("click", clear);
    if (Cells.compared) {
      at("gene").append(...Cells.genes.map((name, i) =>
        new Option(Cells.notes[i] ? `${name} (${Cells.notes[i]})` : name, i)));
      at("gene").addEventListener("change", drawCompared);
    }
    state.colour = Cells.colouring("c0");
    drawKey();
    drawMain();
    listen(at("plot"), () => state.view.cells);
    setTimeout(() => {
      drawRest();
      if (Cells.compared) listen(at("compare"), () => Cells.compared.cells);
    });
  }

  // The library is most of the page: it is compiled when the page can be read already.
  function draw() {
    try {
      const library = document.createElement("script");
      library.textContent = at("library").textContent;
      document.head.append(library);
      start();
    } catch (error) {
      document.documentElement.classList.remove("drawn"); // the pictures in print are shown instead
      throw error;
    }
  }

  document.documentElement.classList.add("drawn"); // pictures need their width before they are drawn
  at("status").textContent = "The cells are being drawn.";
  addEventListener("load", () => setTimeout(draw, 50)); // after the page was painted
})();
