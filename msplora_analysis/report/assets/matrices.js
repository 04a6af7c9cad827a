// Layers × layers: KL of a method, or minus its baseline's, or cosines as `overlap` measured them; a click or the arrow keys show a pair of layers.
const matrix = { show: "", scale: data.scale, row: 0, column: 1 };

figure("matrices", (part, redraw) => {
  const known = (one) => (one.kl ?? one.parts[0].mean).some((row) => row.some((value) => value > 0 || value < 0));
  const fits = (one) => known(one) && chosen(one, ["model", "method", "stack"]) && (!choice.module || (one.modules ?? [one.module]).includes(choice.module));
  const scales = unique([...data.matrices, ...directions.cosines].filter(fits).map((one) => one.scale));
  if (!scales.length) return false;
  if (!scales.includes(matrix.scale)) matrix.scale = scales[0];
  const views = viewsOf((one) => fits(one) && one.scale === matrix.scale);
  const view = views.find((one) => one.name === matrix.show) ?? views.findLast((one) => !one.mean) ?? views.at(-1);
  const set = (name) => (value) => {
    matrix[name] = value;
    redraw();
  };
  part("controls").replaceChildren(
    chooser("show", "show", views.map((one) => [one.name, one.name]), view.name, set("show")),
    chooser("scale", "spectra of", scales.map((name) => [name, name === "total" ? "all that acts on a layer" : "each layer's own component"]), matrix.scale, set("scale")),
  );
  const { layers } = view;
  matrix.row = Math.min(matrix.row, layers.length - 1);
  matrix.column = Math.min(matrix.column, layers.length - 1);
  part("about").textContent = `${methodTitle(choice.method)}, ${view.task || EVERY.task}, ${view.module || EVERY.module}; ${view.rule}.${view.mean ? "" : ` Row i, column j: D(layer i ‖ layer j) in nats.${spreadOf(view)}${orChance()}`}`;

  const cells = layers.flatMap((from, i) => layers.map((to, j) => ({ from, to, i, j, value: view.values[i][j] })));
  const width = Math.min(widthOf(part("plot")), 520);
  const least = view.mean ? 0 : data.all_layers_alike; // as in the figures: small differences look small
  const reach = Math.max(least, d3.max(cells, (cell) => Math.abs(cell.value ?? 0))) || 1;
  const few = (value, index) => index % Math.ceil(layers.length / 12) === 0;
  const svg = Plot.plot({
    width, height: width, aspectRatio: 1, marginLeft: 44, marginBottom: 44, x: { label: "layer", labelOffset: 38, type: "band", ticks: layers.filter(few), padding: 0 }, y: { label: "layer", type: "band", ticks: layers.filter(few), padding: 0 },
    color: view.signed
      ? { ...colours(data.colours.difference), type: "linear", domain: [-reach, reach], label: view.name, legend: false }
      : { ...colours(data.colours.divergence), type: "linear", domain: [0, reach], label: view.name, legend: false },
    style: FONT, ariaLabel: `${view.name}, layers by layers`,
    marks: [
      Plot.cell(cells.filter((cell) => cell.value != null), { x: "to", y: "from", fill: "value", inset: layers.length > 16 ? 0 : 0.5 }),
      ...[["var(--ground)", 4], ["var(--ink)", 2]].map(([stroke, strokeWidth]) => Plot.cell([cells[matrix.row * layers.length + matrix.column]], { x: "to", y: "from", fill: "none", stroke, strokeWidth })),
      Plot.tip(cells, Plot.pointer({ x: "to", y: "from", title: (cell) => `${view.mean ? `layers ${cell.from} and ${cell.to}` : `D(${cell.from} ‖ ${cell.to})`}\n${shown(cell.value)}`, ...TIP })),
    ],
  });
  const move = (row, column) => {
    matrix.row = Math.max(0, Math.min(layers.length - 1, row));
    matrix.column = Math.max(0, Math.min(layers.length - 1, column));
    redraw();
    part("plot").querySelector("svg[tabindex]").focus({ preventScroll: true });
  };
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("role", "application");
  svg.addEventListener("click", (event) => {
    const [x, y] = d3.pointer(event, svg);
    const at = (scale, value) => layers.findIndex((layer) => Math.abs(scale.apply(layer) + scale.bandwidth / 2 - value) <= scale.step / 2);
    const row = at(svg.scale("y"), y), column = at(svg.scale("x"), x);
    if (row >= 0 && column >= 0) move(row, column);
  });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    move(matrix.row + step[0], matrix.column + step[1]);
  });
  part("plot").replaceChildren(svg.legend("color", { width: Math.min(width, 300) }), svg);
  part("detail").replaceChildren(...pairOf(view, widthOf(part("detail"), 520)));
  return true;
});

// The numbers of the task or module that is chosen, as far as the page has them; intervals are of all.
function ofChoice(one) {
  const known = [[choice.task, choice.module], [choice.task, ""], ["", choice.module]];
  for (const [task, module] of known) {
    const found = one.chosen.find((part) => part.task === task && part.module === module);
    if (found) return { ...one, ...found };
  }
  return { ...one, task: "", module: "" };
}

function viewsOf(fits) {
  const own = data.matrices.filter(fits).map(ofChoice).map((one) => ({
    ...one, name: `KL of ${methodTitle(one.method)}`, values: one.kl, signed: false, rule: `leading ${one.length} singular values`, spectra: [one.method],
  }));
  const compared = data.comparisons.filter(fits).map(ofChoice).map((one) => ({
    ...one, name: `KL minus that of ${methodTitle(one.baseline)}`, values: one.difference, signed: true, spectra: [one.method, one.baseline],
  }));
  const cosines = directions.cosines.filter(fits).map((one) => ({ ...one, ...(one.parts.find((part) => part.task === choice.task) ?? one.parts[0]) })).map((one) => ({
    ...one, name: `cosines of ${one.module}`, values: one.mean, signed: true, spectra: [one.method],
    rule: `cosines between updates${one.bound == null ? "" : `; where layers share nothing, none lies beyond ±${shown(one.bound, 2)} (with probability 0.95)`}`,
  }));
  return [...own, ...compared, ...cosines];
}

// Those of a difference, from cells.csv, which has them for all tasks and modules together.
function certainty(view, i, j) {
  if (i === j) return "a layer with itself: 0 by definition";
  const at = (name) => view[name]?.[i][j];
  const interval = at("low") == null ? `no interval from ${view.pairs} pairs of runs` : `${shown(at("low"))} to ${shown(at("high"))}`;
  const p = at("p_corrected");
  return p == null ? interval : `${interval}, p ${shown(p, 2)} (corrected over the matrix): ${p <= 0.05 ? "decided" : "not decided"}`;
}

// How far apart two seeds of the same layer are: what a KL between layers is measured against.
function spreadOf(view) {
  const rows = spread.filter((row) => row.model === view.model && row.method === view.method && row.stack === view.stack && row.scale === view.scale && (!choice.task || row.task === choice.task));
  const known = rows.filter((row) => row.kl != null);
  const [low, high] = d3.extent(known, (row) => row.kl).map((value) => shown(value, 3));
  return known.length ? ` Two seeds of the same layer are ${low === high ? low : `${low} to ${high}`} nats apart${known.length > 1 ? ", by task" : ""}.` : "";
}

function cosineFacts(view, fact) {
  const { row: i, column: j } = matrix;
  if (i === j) return [fact("cosine", "1 by definition: a layer with itself")];
  const range = view.low ? `, ${shown(view.low[i][j])} to ${shown(view.high[i][j])} over ${view.runs} runs` : "";
  const cosine = fact(`cosine of ${view.module}`, `${shown(view.mean[i][j])}${range}`);
  if (view.bound == null) return [cosine];
  const beyond = Math.abs(view.mean[i][j]) > view.bound ? "beyond" : "within";
  return [cosine, fact("if nothing is shared", `${beyond} ±${shown(view.bound, 2)}`)];
}

function pairOf(view, width) {
  const { row: i, column: j } = matrix;
  const [from, to] = [view.layers[i], view.layers[j]];
  const fact = (name, value) => element("div", {}, element("dt", {}, name), element("dd", {}, value));
  const both = (values) => `${shown(values[i][j])} and back ${shown(values[j][i])} nats`;
  const facts = view.mean ? cosineFacts(view, fact) : [fact(`KL, ${methodTitle(view.method)}`, both(view.kl))];
  if (view.kl_baseline) facts.push(fact(`KL, ${methodTitle(view.baseline)}`, both(view.kl_baseline)), fact("difference", both(view.difference)), fact(`95% interval and p of the difference${view.task || view.module ? ", all tasks and modules together" : ""}`, certainty(view, i, j)));
  else if (!view.mean && i !== j) facts.push(fact("95% interval", view.runs > 1 ? "none: one number of all runs" : "none: one run"));
  const shares = view.spectra.flatMap((method) => {
    const all = layerSpectra.filter((row) => row.model === view.model && row.stack === view.stack && row.method === method && row.task === choice.task);
    const own = [view.module, choice.module].map((module) => all.filter((row) => row.module === module)).find((rows) => rows.length) ?? [];
    const scale = own.some((row) => row.scale === view.scale) ? view.scale : "layer";
    return unique([from, to]).flatMap((unit) => own.filter((row) => row.scale === scale && row.unit === unit).flatMap((row) => {
      const sum = d3.sum(row.sigma);
      return row.sigma.map((sigma, k) => ({ method: methodTitle(method), layer: `layer ${unit}`, k: k + 1, sigma, share: sigma / sum }));
    }));
  });
  const names = unique(shares.map((one) => one.layer));
  const chart = Plot.plot({
    width, height: 70 + 130 * view.spectra.length, marginLeft: 44, marginBottom: 40, marginRight: view.spectra.length > 1 ? 90 : 10, fy: { label: null, domain: view.spectra.map(methodTitle), ...(view.spectra.length > 1 ? {} : { axis: null }) }, fx: { label: "singular value index" },
    x: { axis: null, domain: names }, y: { label: "share of all singular values", grid: true, ticks: 4 }, color: { domain: names, range: [DISTINCT[0], DISTINCT[1]], legend: true },
    style: FONT, ariaLabel: "Spectra of both layers",
    marks: [
      Plot.barY(shares, { fx: "k", fy: "method", x: "layer", y: "share", fill: "layer", className: "bar" }),
      ...tips(shares, { fx: "k", fy: "method", x: "layer", y: "share", title: (one) => `${one.layer}, k = ${one.k}\nshare ${shown(one.share, 3)}, σ = ${shown(one.sigma)}` }),
    ],
  });
  return [element("h4", {}, `Layer ${from} and layer ${to}`), element("dl", {}, ...facts), chart];
}
