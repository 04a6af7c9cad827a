// Fig. 3: singular values by scale over training, and the spectra at the moment of the slider.
let moment = Infinity;

figure("spectra", (part) => {
  const mine = spectra.filter((row) => chosen(row, ["model", "method", "stack", "task", "module"]));
  const first = d3.min(mine.filter((row) => row.sigma.some((value) => value > 0)), (row) => row.time);
  const trained = mine.filter((row) => row.time >= first);
  const times = unique(trained.map((row) => row.time)).sort(d3.ascending);
  if (times.length < 2) return false;
  const clock = trained[0].clock;
  const mixed = d3.max(d3.rollups(trained, (rows) => unique(rows.map((row) => row.rank)).length, (row) => row.scale), (one) => one[1]) > 1;
  const facet = (row) => (mixed ? `${row.scale}, rank ${row.rank}` : row.scale);
  const edges = [times[0], ...times.slice(1).map((time, place) => (time + times[place]) / 2), times.at(-1)];
  edges[0] -= edges[1] - times[0];
  edges[times.length] += times.at(-1) - edges[times.length - 1];
  const cells = trained.flatMap((row) => row.sigma.map((sigma, place) => {
    const column = times.indexOf(row.time);
    return { facet: facet(row), scale: row.scale, time: row.time, x1: edges[column], x2: edges[column + 1], k: place + 1, sigma };
  }));
  const [few, most] = d3.extent(trained, (row) => row.runs);
  part("about").textContent = `${about()}. Colour: average singular value; the slider marks a moment, whose spectra stand below.${few < most ? ` A column averages ${few} to ${most} runs.` : ""}${orChance()}`;

  const slider = element("input", { type: "range", min: 0, max: times.length - 1, value: Math.min(moment, times.length - 1) });
  slider.setAttribute("aria-label", clock);
  const output = element("output");
  slider.addEventListener("input", () => {
    moment = Number(slider.value);
    update();
  });
  part("controls").replaceChildren(element("label", {}, `${clock} `, slider, " ", output));

  const heat = element("div"), bars = element("div"), numbers = element("div", { className: "table" });
  part("plot").replaceChildren(heat, bars, numbers);
  const width = widthOf(part("plot"));
  const narrow = width < 560;
  const facets = unique(cells.map((cell) => cell.facet));
  const rank = d3.max(cells, (cell) => cell.k);

  function update() {
    const place = Number(slider.value), time = times[place];
    output.textContent = shown(time);
    slider.setAttribute("aria-valuetext", `${clock} ${shown(time)}`);
    const mark = facets.map((name) => ({ facet: name, x1: edges[place], x2: edges[place + 1] }));
    const side = narrow ? { fy: "facet" } : { fx: "facet" };
    heat.replaceChildren(Plot.plot({
      width, height: narrow ? 40 + facets.length * Math.max(90, rank * 9) : Math.max(190, 70 + rank * 14), marginLeft: 44, marginBottom: 40, ...(narrow ? {} : { marginTop: 38 }),
      marginRight: narrow ? 90 : 20, fx: { label: null, domain: facets }, fy: { label: null, domain: facets },
      x: { label: clock, ticks: narrow ? 5 : 4 }, y: { label: "singular value index", domain: [rank + 0.5, 0.5], ticks: d3.range(1, rank + 1, Math.ceil(rank / 8)), tickFormat: "d" },
      color: { ...colours(data.colours.magnitude), type: choice.log ? "log" : "linear", legend: true, label: "average magnitude", tickFormat: decimals(cells) },
      style: FONT, ariaLabel: "Singular values by scale over training",
      marks: [
        Plot.rect(cells.filter((cell) => !choice.log || cell.sigma > 0), { ...side, x1: "x1", x2: "x2", y1: (cell) => cell.k - 0.5, y2: (cell) => cell.k + 0.5, fill: "sigma", inset: 0, shapeRendering: "crispEdges" }),
        Plot.rect(mark, { ...side, x1: "x1", x2: "x2", y1: 0.5, y2: rank + 0.5, stroke: "var(--ink)", strokeWidth: 2, fill: "none" }),
        ...tips(cells, { ...side, x: (cell) => (cell.x1 + cell.x2) / 2, y: "k", title: (cell) => `${cell.scale}, ${clock} ${shown(cell.time)}\nσ${cell.k} = ${shown(cell.sigma)}` }),
      ],
    }));
    bars.replaceChildren(barChart(cells.filter((cell) => cell.time === time), { side, width, narrow, facets, most: rank, high: d3.max(cells, (cell) => cell.sigma) }));
    numbers.replaceChildren(measuresAt(trained.filter((row) => row.time === time), facet));
  }
  update();
  return true;
});

function colours(name) {
  return { scheme: name.replace("_r", ""), reverse: name.endsWith("_r") };
}

const positive = (cells) => d3.extent(cells, (cell) => (cell.sigma > 0 ? cell.sigma : undefined));

// Digits without the prefixes and exponents that are the default, unless they were long.
function decimals(cells) {
  const [least, most] = positive(cells);
  return least < 1e-4 || most >= 1e5 ? "~e" : "~r";
}

// The axis of singular values up to `high`, and a bar for each, from an end below the least on a log scale.
function asBars(bars, high, panels, label) {
  const floor = choice.log ? Math.min((positive(bars)[0] ?? 1) / 2, high / 10) : 0;
  return {
    y: { type: choice.log ? "log" : "linear", domain: [floor, high], label, grid: true, ticks: 4, tickFormat: decimals(bars) },
    mark: Plot.rectY(bars.filter((bar) => bar.sigma > floor), { ...panels, x1: (bar) => bar.k - 0.42, x2: (bar) => bar.k + 0.42, y1: floor, y2: "sigma", fill: (bar) => scaleColour(bar.scale), className: "bar" }),
  };
}

function barChart(bars, { side, width, narrow, facets, most, high }) {
  const { y, mark } = asBars(bars, high, side, "average magnitude");
  return Plot.plot({
    width, height: narrow ? 40 + facets.length * 90 : 185, marginLeft: 44, marginBottom: 40, ...(narrow ? {} : { marginTop: 38 }), marginRight: narrow ? 90 : 20,
    fx: { label: null, domain: facets }, fy: { label: null, domain: facets },
    x: { label: "singular value index", type: "linear", domain: [0.5, most + 0.5], ticks: Math.min(most, 8), tickFormat: "d" },
    y,
    style: FONT, ariaLabel: "Spectra at the moment of the slider",
    marks: [
      mark,
      ...tips(bars, { ...side, x: "k", y: "sigma", title: (bar) => `σ${bar.k} = ${shown(bar.sigma)}` }, Plot.pointerX),
    ],
  });
}

function measuresAt(rows, facet) {
  const names = Object.keys(MEASURES).filter((name) => rows.some((row) => row[name] != null));
  const head = element("tr", {}, element("th", { className: "word" }, "scale"), ...names.map((name) => element("th", {}, MEASURES[name])));
  const body = rows.map((row) => element("tr", {}, element("td", { className: "word" }, facet(row)), ...names.map((name) => element("td", {}, shown(row[name])))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}
