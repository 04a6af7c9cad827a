// One choice of model, method, layers, task and module for all pictures; each picture redraws when it changes.
const choice = { model: "", method: "", stack: "", task: "", module: "", log: false };
const drawn = [];

const WORDS = { model: "model", method: "method", stack: "layers", task: "task", module: "module" };
const EVERY = { task: "all tasks", module: "all modules" };
const OTHER = { task: "module", module: "task" };
const PAIRS = layerSpectra.some((row) => row.task && row.module); // otherwise too many for the page
const chosen = (row, names) => names.every((name) => row[name] === choice[name]);

function optionsOf(name) {
  const before = { model: [], method: ["model"], stack: ["model", "method"] }[name] ?? ["model", "method", "stack"];
  return unique(layerSpectra.filter((row) => chosen(row, before)).map((row) => row[name]));
}

function fillChoices() {
  const form = document.getElementById("choices");
  const selects = Object.keys(WORDS).flatMap((name) => {
    const options = optionsOf(name);
    if (!options.includes(choice[name])) choice[name] = name === "method" ? firstMethod(options) : options[0];
    if (options.length < 2) return [];
    const title = (value) => (name === "method" ? methodTitle(value) : value || EVERY[name] || "unknown");
    return [chooser(name, WORDS[name], options.map((value) => [value, title(value)]), choice[name], (value) => {
      choice[name] = value;
      if (value && !PAIRS && OTHER[name]) choice[OTHER[name]] = "";
      drawAll();
    })];
  });
  const log = element("input", { type: "checkbox", name: "log", checked: choice.log });
  log.addEventListener("change", () => {
    choice.log = log.checked;
    drawAll();
  });
  const focused = document.activeElement?.name;
  const apart = !PAIRS && Object.keys(OTHER).every((name) => optionsOf(name).length > 1);
  form.replaceChildren(...selects, element("label", {}, log, " log scale"), ...(apart ? [element("span", { className: "note" }, "A task or a module; both together are in the CSV files.")] : []));
  if (focused && form.elements[focused]) form.elements[focused].focus();
}

// One whose directions were measured, and of these the one with most scales, then most singular values: most to show.
function firstMethod(methods) {
  const known = methods.filter((method) => directionsOf(method).length);
  const of = (method) => layerSpectra.filter((row) => row.model === choice.model && row.method === method);
  const most = (method) => 1e6 * unique(of(method).map((row) => row.scale)).length + d3.max(of(method), (row) => row.sigma.length);
  return d3.greatest(known.length ? known : methods, (a, b) => d3.ascending(most(a), most(b)));
}

function chooser(name, words, options, value, change) {
  const select = element("select", { name });
  select.append(...options.map(([key, title]) => element("option", { value: key, selected: key === value }, title)));
  select.addEventListener("change", () => change(select.value));
  return element("label", {}, `${words} `, select);
}

function drawAll() {
  fillChoices();
  for (const draw of drawn) draw();
  const figures = [...document.querySelectorAll("#interactive > figure")];
  document.getElementById("nothing").hidden = figures.some((one) => !one.hidden);
}

// Draws a figure whenever a choice changes, and where `redraw` is called; one without anything to show is hidden.
function figure(id, draw) {
  const home = document.getElementById(id);
  if (!home) return; // of overlap or plan, which did not run
  const part = (name) => home.querySelector(`.${name}`);
  const redraw = () => {
    const focused = home.contains(document.activeElement) && document.activeElement.name;
    home.hidden = false; // a hidden figure has no width
    home.hidden = draw(part, redraw) === false;
    setIndices(home);
    if (focused) home.querySelector(`[name="${CSS.escape(focused)}"]`)?.focus();
  };
  drawn.push(redraw);
}

const about = () =>
  [methodTitle(choice.method), choice.stack, choice.task || EVERY.task, choice.module || EVERY.module].filter(Boolean).join(", ");
// Words where the spectra of the method are those of random factors.
function orChance() {
  const words = data.like_chance.find((one) => chosen(one, ["model", "method"]))?.words;
  return words ? ` ${words[0].toUpperCase()}${words.slice(1)}.` : "";
}
// On paper a picture is as wide as there, not a wide one made small.
const PAPER = 680;
let printing = false;
function widthOf(home, most = 1100) {
  const share = printing ? PAPER / document.querySelector("main").clientWidth : 1;
  return Math.min(Math.max(home.clientWidth * share, 240), most);
}
