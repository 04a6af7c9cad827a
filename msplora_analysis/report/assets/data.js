// What is embedded, as arrays of rows; names and texts from files never become markup.
const PACKED = new Map(d3.range(33, 127).map((code) => String.fromCharCode(code)).filter((sign) => !'"&<>\\'.includes(sign)).map((sign, place) => [sign, place]));
const LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

function embedded(id) {
  return JSON.parse(document.getElementById(id).textContent, (key, value) => {
    if (key === "titles") return value; // its keys are names from files
    if (value?.numbers) return unpacked(value.numbers);
    if (value?.square) return inRows(unpacked(value.square));
    return value?.rows ? value.rows.map(unpacked) : value;
  });
}

function inRows(values) {
  const size = Math.sqrt(values.length);
  return Array.from({ length: size }, (_, row) => values.slice(row * size, (row + 1) * size));
}

// The numbers of a text that `packed` in packing.py wrote.
function unpacked(text) {
  return Array.from({ length: text.length / 3 }, (_, place) => {
    const [first, second, third] = [0, 1, 2].map((next) => PACKED.get(text[3 * place + next]));
    const code = (first * 89 + second) * 89 + third, digits = code % 10000, minus = Math.floor(code / 10000) % 2;
    if (!digits) return minus ? null : 0;
    return Number(`${minus ? "-" : ""}${digits}e${Math.floor(code / 20000) - 26}`);
  });
}

function asRows(table) {
  const names = Object.keys(table);
  const columns = names.map((name) => {
    const column = table[name];
    if (Array.isArray(column)) return column;
    const place = (letter) => (typeof letter === "string" ? LETTERS.indexOf(letter) : letter);
    return column.letters === undefined ? null : Array.from(column.letters, (letter) => column.values[place(letter)]);
  });
  const whole = columns.find((column) => column) ?? [];
  return whole.map((_, row) => Object.fromEntries(names.map((name, place) => [name, columns[place] ? columns[place][row] : table[name].every])));
}

const data = embedded("data");
const spectra = asRows(data.spectra);
const layerSpectra = asRows(data.layers);
const courses = asRows(data.courses);
const scores = asRows(data.scores);
const nulls = asRows(data.nulls);
const spread = asRows(data.spread);
const interference = asRows(data.interference);
const kept = embedded("kept-data");
const directions = kept.summary ?? { sharing: {}, subspaces: {}, course: {}, cosines: [], grids: [] };

const MEASURES = {
  entropy_rank: "entropy rank (higher = broader)",
  m_eff_1: "M_eff-1 (higher = more concentrated)",
  m_eff_2: "M_eff-2 (higher = more concentrated)",
  m_eff_4: "M_eff-4 (higher = more concentrated)",
  stable_rank: "stable rank (higher = broader)",
};
const SCALES = Object.keys(data.colours.scales);
const scaleColour = (scale) => `var(--${SCALES.includes(scale) ? scale : "ink"})`;
const DISTINCT = data.colours.distinct;
const METHODS = Object.keys(data.titles);
const methodColour = (method) => DISTINCT[METHODS.indexOf(method) % DISTINCT.length];
const FONT = { fontSize: "12px" };
const unique = (values) => [...new Set(values)];
const methodTitle = (method) => data.titles[method] ?? method;
const shown = (value, digits = 4) => (value == null ? "–" : String(Number(value.toPrecision(digits))).replace("-", "−"));

// Sets the index of M_eff lower, as the paper does; where only plain text can be, as in a list of options, it stays.
function setIndices(root) {
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), found = [];
  while (texts.nextNode()) if (texts.currentNode.data.includes("M_eff") && !["option", "script", "noscript"].includes(texts.currentNode.parentNode.localName)) found.push(texts.currentNode);
  for (const text of found) {
    const home = text.parentNode, svg = home.namespaceURI.endsWith("svg");
    const [before, ...after] = text.data.split(/M_(eff(?:-\w+)?)/); // text and index take turns
    const part = (tag, content, options = {}) => d3.create(svg ? "svg:tspan" : tag).text(content).call((one) => Object.entries(svg ? options : {}).forEach(([name, value]) => one.attr(name, value))).node();
    text.replaceWith(before, ...after.flatMap((piece, place) => (place % 2 ? part("span", piece, { dy: "-0.19em" }) : ["M", part("sub", piece, { dy: "0.25em", "font-size": "75%" })])));
  }
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
