// The cells of the explorer, unpacked: numbers come as base64 of bytes and words.
"use strict";
const Cells = (() => {
  const data = JSON.parse(document.getElementById("x-data").textContent);
  const STOPS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779",
    "#6ece58", "#b5de2b", "#fde725"]; // viridis
  const RAMP = Array.from({ length: 64 }, (_, i) => {
    const at = (i / 63) * (STOPS.length - 1), k = Math.min(Math.floor(at), STOPS.length - 2);
    const part = (hex, j) => parseInt(hex.slice(1 + 2 * j, 3 + 2 * j), 16);
    const mix = (j) => Math.round(part(STOPS[k], j) * (k + 1 - at) + part(STOPS[k + 1], j) * (at - k));
    return `rgb(${mix(0)},${mix(1)},${mix(2)})`;
  });

  function bytes(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }

  function words(text) {
    const view = new DataView(bytes(text).buffer);
    return Uint16Array.from({ length: view.byteLength / 2 }, (_, i) => view.getUint16(2 * i, true));
  }

  function numbers({ low, high, codes }) {
    const step = (high - low) / 65534;
    return Float32Array.from(words(codes), (code) => (code === 65535 ? NaN : low + code * step));
  }

  // Rows of genes: a function from the position of a gene to its values.
  function matrix({ low, high }, codes, width) {
    const all = bytes(codes);
    return (gene) => {
      const step = (high[gene] - low[gene]) / 254;
      const part = all.subarray(gene * width, (gene + 1) * width);
      return Float32Array.from(part, (code) => (code === 255 ? NaN : low[gene] + code * step));
    };
  }

  const views = data.views.map((view) => ({
    ...view, cells: words(view.cells), at: view.at.map(numbers),
  }));
  const columns = data.columns.map((column) =>
    column.levels === null ? { ...column, values: numbers(column) }
      : { ...column, codes: bytes(column.codes) });
  const genes = data.genes === null ? [] : data.genes.names;
  const notes = data.genes === null ? [] : data.genes.notes; // where a gene was not measured
  const expression = genes.length ? matrix(data.genes, data.genes.codes, data.n) : null;

  function scaled(name, values) {
    let low = Infinity, high = -Infinity;
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    const span = high > low ? high - low : 1;
    const colour = Array.from(values, (value) =>
      isNaN(value) ? data.missing : RAMP[Math.round(63 * (value - low) / span)]);
    return { name, levels: null, values, low, high, colour };
  }

  // The values of a dimension in all cells: those that do not own its latent have none.
  function along(dimension) {
    const values = new Float32Array(data.n).fill(NaN), own = numbers(dimension);
    views[dimension.view].cells.forEach((cell, i) => { values[cell] = own[i]; });
    return values;
  }

  // What cells are coloured by: "c0" is a column, "d0" a dimension and "g0" a gene.
  function colouring(key) {
    const kind = key[0], i = Number(key.slice(1));
    if (kind === "d") return scaled(data.dimensions[i].name, along(data.dimensions[i]));
    if (kind === "g") return scaled(`${genes[i]}, ${data.genes.unit}`, expression(i));
    const column = columns[i];
    if (column.levels === null) return scaled(column.name, column.values);
    const look = (list, rest) => Array.from(column.codes, (code) => (code === 255 ? rest : list[code]));
    return { ...column, colour: look(column.colours, data.missing), symbol: look(column.symbols, "circle") };
  }

  function comparison(expected) {
    const cells = words(expected.cells);
    return { cells, all: matrix(expected, expected.all, cells.length),
      shared: matrix(expected, expected.shared, cells.length) };
  }

  const compared = data.expected === null ? null : comparison(data.expected);
  return { n: data.n, views, columns, dimensions: data.dimensions, genes, notes, expression, colouring,
    compared, missing: data.missing, ramp: RAMP };
})();
