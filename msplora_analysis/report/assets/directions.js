// What layers share of their updates' energy, and of their subspaces, beside random directions: as `overlap` measured it.
const sharing = asRows(directions.sharing);
const subspaces = asRows(directions.subspaces);
const sharedCourse = asRows(directions.course);

const directionsOf = (method) => [...sharing, ...subspaces].filter((row) => row.model === choice.model && row.method === method);
const ofModule = (row) => chosen(row, ["model", "method", "stack"]) && (!choice.module || row.module === choice.module);

// The means over runs that fit the choices, each with a label for its component.
function chosenMeans(table) {
  const rows = table.filter((row) => ofModule(row) && row.task === choice.task);
  const several = unique(rows.map((row) => row.scale)).length > 1;
  return rows.map((row) => ({ ...row, label: several ? `${row.module}, ${row.scale}` : row.module }));
}

const runsOf = (rows) => {
  const count = d3.max(rows, (row) => row.runs);
  return count > 1 ? `mean over ${count} runs` : "one run";
};
const labelsWidth = (rows) => 16 + 6.5 * Math.min(24, d3.max(rows, (row) => row.label.length));
const shortened = (name) => (name.length > 24 ? `${name.slice(0, 23)}…` : name);

figure("sharing", (part) => {
  const rows = chosenMeans(sharing.filter((row) => row.excess != null));
  if (!rows.length) return false;
  const kinds = { "all layers": scaleColour("global"), "groups of layers": scaleColour("mid") };
  const bars = rows.flatMap((row) => [
    { ...row, kind: "all layers", from: 0, to: row.shared_by_all },
    { ...row, kind: "groups of layers", from: row.shared_by_all, to: row.shared_by_all + row.shared_by_groups },
  ]);
  part("about").textContent = `${about()}; ${runsOf(rows)}. Share of the energy (squared norms) that all layers, and beyond it groups of layers, have in common. Line: layers that share nothing; only what lies beyond it is shared.`;
  const chart = Plot.plot({
    width: widthOf(part("plot")), height: 60 + 26 * rows.length, marginLeft: labelsWidth(rows), marginBottom: 40,
    x: { label: "share of the energy", domain: [0, Math.min(1, 1.15 * d3.max(bars, (bar) => bar.to))], grid: true }, y: { label: null, domain: rows.map((row) => row.label), tickFormat: shortened },
    style: FONT, ariaLabel: "What the layers share",
    marks: [
      Plot.barX(bars, { x1: "from", x2: "to", y: "label", fill: (bar) => kinds[bar.kind], className: "bar" }),
      ...[["var(--ground)", 6], ["var(--ink)", 2]].map(([stroke, strokeWidth]) => Plot.tickX(rows, { x: (row) => row.null_shared_by_all + row.null_shared_by_groups, y: "label", stroke, strokeWidth, className: "null" })),
      ...tips(bars, { x: "to", y: "label", title: (bar) => `${bar.label}\nall ${shown(bar.shared_by_all)}, groups ${shown(bar.shared_by_groups)}\nnothing shared: ${shown(bar.null_shared_by_all)}, ${shown(bar.null_shared_by_groups)}\nbeyond chance ${shown(bar.excess)} ± ${shown(bar.deviation_own, 2)}` }),
    ],
  });
  part("plot").replaceChildren(legend(Object.keys(kinds), (name) => name, (name) => kinds[name]), chart);
  return true;
});

figure("subspaces", (part) => {
  const rows = chosenMeans(subspaces);
  if (!rows.length) return false;
  const sides = unique(rows.map((row) => row.side));
  const colour = (side) => DISTINCT[sides.indexOf(side)];
  part("about").textContent = `${about()}; ${runsOf(rows)}. φ at full rank is 1 where the subspaces of two layers are the same. Line: random subspaces. Dot: layers next to each other; ring: all pairs.`;
  const chart = Plot.plot({
    width: widthOf(part("plot")), height: 60 + 30 * unique(rows.map((row) => row.label)).length, marginLeft: labelsWidth(rows), marginBottom: 40,
    x: { label: "overlap of subspaces φ", grid: true, domain: [0, Math.min(1, 1.2 * d3.max(rows, (row) => Math.max(row.neighbours, row.pairs, row.chance)))] }, y: { label: null, domain: unique(rows.map((row) => row.label)), tickFormat: shortened },
    style: FONT, ariaLabel: "Subspaces of neighbouring layers",
    marks: [
      Plot.tickX(rows, { x: "chance", y: "label", stroke: "var(--ink)", strokeWidth: 2, className: "null" }),
      Plot.dot(rows, { x: "pairs", y: "label", stroke: (row) => colour(row.side), r: 4 }),
      Plot.dot(rows, { x: "neighbours", y: "label", fill: (row) => colour(row.side), r: 5, className: "phi" }),
      ...tips(rows, { x: "neighbours", y: "label", title: (row) => `${row.label}, ${row.side}\nφ of neighbours ${shown(row.neighbours)}, of all pairs ${shown(row.pairs)}; chance ${shown(row.chance)}\ncommon subspace ${shown(row.common)} of the energy; chance ${shown(row.null_common)}` }),
    ],
  });
  part("plot").replaceChildren(legend(sides, (side) => side, colour), chart);
  return true;
});

const shared = { compare: "method", hidden: new Set() };

figure("sharing-course", (part, redraw) => {
  const fits = (row, names) => names.every((name) => (name === shared.compare ? row[name] !== "" : row[name] === choice[name]));
  const known = sharedCourse.filter((row) => row.model === choice.model);
  const comparable = ["method", "module", "task"].filter((name) => unique(known.map((row) => row[name])).length > 1);
  if (!comparable.includes(shared.compare)) shared.compare = comparable[0] ?? "method";
  const clock = known.find((row) => row.method === choice.method)?.clock ?? known[0]?.clock;
  const mine = known.filter((row) => row.clock === clock && fits(row, ["method", "module", "task"]));
  if (unique(mine.map((row) => row.time)).length < 2) return false;
  const groups = unique(mine.map((row) => row[shared.compare]));
  const colour = (name) => (shared.compare === "method" ? methodColour(name) : DISTINCT[groups.indexOf(name) % DISTINCT.length]);
  const named = (name) => (shared.compare === "method" ? methodTitle(name) : name || "unknown");
  part("controls").replaceChildren(
    ...(comparable.length > 1 ? [chooser("shared", "a line for each", comparable.map((name) => [name, name]), shared.compare, (value) => {
      shared.compare = value;
      shared.hidden.clear();
      redraw();
    })] : []),
    legend(groups, named, colour, { hidden: shared.hidden, redraw }),
  );
  const words = [shared.compare === "method" ? "" : methodTitle(choice.method), shared.compare === "task" ? "" : choice.task || EVERY.task, shared.compare === "module" ? "" : choice.module || EVERY.module];
  part("about").textContent = `${words.filter(Boolean).join(", ")}. Share of the energy that layers have in common, beyond that of layers that share nothing: 0 where nothing is shared. ${linesMean(mine)} Grey: what layers that share nothing give, at most two standard deviations.`;
  part("plot").replaceChildren(linesOf(pointsOf(mine.filter((row) => !shared.hidden.has(row[shared.compare])), shared.compare, "time", "excess"), { width: widthOf(part("plot")), height: 260, colour, named, clock, label: "shared beyond chance", zero: true, chance: 2 * d3.max(mine, (row) => row.deviation_own) }));
  return true;
});

const MOST_PANELS = 6;
const grid = { scale: "" };

figure("grids", (part) => {
  const every = directions.grids.filter(ofModule), scales = unique(every.map((one) => one.scale));
  if (!scales.includes(grid.scale)) grid.scale = scales.at(-1);
  const mine = every.filter((one) => one.scale === grid.scale).map((one) => ({ ...one, ...(one.parts.find((each) => each.task === choice.task) ?? one.parts[0]) }));
  if (!mine.some((one) => one.phi.length > 1)) return false; // φ(1, 1) is in the picture above
  const panels = unique(mine.map((one) => one.module)), few = panels.slice(0, MOST_PANELS), sides = unique(mine.map((one) => one.side));
  const sizes = d3.rollup(subspaces.filter(ofModule), (rows) => rows[0].size, (row) => `${row.module} ${row.side}`);
  const cells = mine.filter((one) => few.includes(one.module)).flatMap((one) => one.phi.flatMap((row, i) => row.map((phi, j) => ({ panel: one.module, side: one.side, i: i + 1, j: j + 1, phi, runs: one.runs, size: sizes.get(`${one.module} ${one.side}`) }))));
  const most = d3.max(cells, (cell) => cell.i), right = few.length > 1 ? labelsWidth(few.map((label) => ({ label }))) : 20;
  const width = Math.min(widthOf(part("plot")), 60 + right + 250 * sides.length), size = (width - 60 - right) / sides.length;
  const ticks = d3.range(1, most + 1, Math.ceil(most / Math.min(8, size / 24)));
  const task = unique(mine.map((one) => one.task))[0];
  part("controls").replaceChildren(...(scales.length > 1 ? [chooser("grid", "scale", scales.map((one) => [one, one]), grid.scale, (value) => {
    grid.scale = value;
    drawAll();
  })] : []));
  part("about").textContent = `${methodTitle(choice.method)}, ${task || EVERY.task}, ${panels.length > 1 ? EVERY.module : panels[0]}; mean over neighbouring layers${mine[0].runs > 1 ? ` and ${mine[0].runs} runs` : ""}. φ(i, j) is 1 where the i leading directions of a layer lie in the j leading ones of the next, or the other way round, and max(i, j)/d for random directions in d dimensions (${unique([...sizes.values()]).join(", ")}).${panels.length > few.length ? ` ${panels.length - few.length} more: choose a module above.` : ""}`;
  part("plot").replaceChildren(Plot.plot({
    width, height: 80 + few.length * size, marginLeft: 44, marginRight: right, marginBottom: 40, marginTop: 38,
    fx: { label: null, domain: sides, padding: 0.06 }, fy: { label: null, domain: few, tickFormat: shortened, padding: 0.08, ...(few.length > 1 ? {} : { axis: null }) },
    x: { label: "j, of the next layer", type: "linear", domain: [0.5, most + 0.5], ticks, tickFormat: "d" }, y: { label: "i, of a layer", type: "linear", domain: [most + 0.5, 0.5], ticks, tickFormat: "d" },
    color: { ...colours(data.colours.magnitude), type: "linear", domain: [0, d3.max(cells, (cell) => cell.phi)], legend: true, label: "φ(i, j)", width: Math.min(width, 300) },
    style: FONT, ariaLabel: "Similarity of leading directions",
    marks: [
      Plot.rect(cells, { fx: "side", fy: "panel", x1: (cell) => cell.j - 0.5, x2: (cell) => cell.j + 0.5, y1: (cell) => cell.i - 0.5, y2: (cell) => cell.i + 0.5, fill: "phi", inset: 0, shapeRendering: "crispEdges", className: "phi" }),
      ...tips(cells, { fx: "side", fy: "panel", x: "j", y: "i", title: (cell) => `${cell.panel}, ${cell.side}\nφ(${cell.i}, ${cell.j}) = ${shown(cell.phi)}${cell.size ? `; random ${shown(Math.max(cell.i, cell.j) / cell.size)}` : ""}` }),
    ],
  }));
  return true;
});

// Where nothing of the choice was measured, which choice was.
drawn.push(() => {
  const home = document.getElementById("elsewhere");
  if (!home) return;
  const here = [...document.querySelectorAll("#directions > figure")].some((one) => !one.hidden);
  const known = unique(sharing.filter((row) => row.model === choice.model).map((row) => row.method));
  home.hidden = here || !known.length;
  home.textContent = `No chart: overlap measured nothing of ${about()}. It measured ${known.map(methodTitle).join(", ")}.`;
});
