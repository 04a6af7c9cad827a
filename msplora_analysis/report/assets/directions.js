// What layers share of their updates' energy, and of their subspaces, beside random directions: as `overlap` measured it.
const sharing = asRows(directions.sharing);
const subspaces = asRows(directions.subspaces);

function keptRows(rows) {
  return rows.filter((row) => chosen(row, ["model", "method"]) && (!choice.task || row.task === choice.task) && (!choice.module || row.module === choice.module));
}

// The mean over runs of each component and of whatever else is named.
function meansOf(rows, keys, values) {
  return d3.groups(rows, (row) => JSON.stringify(keys.map((key) => row[key]))).map(([, part]) => ({
    ...part[0], runs: part.length, ...Object.fromEntries(values.map((name) => [name, d3.mean(part, (row) => row[name])])),
    label: unique(rows.map((row) => row.scale)).length > 1 ? `${part[0].module}, ${part[0].scale}` : part[0].module,
  }));
}

const runsOf = (rows) => {
  const count = d3.max(rows, (row) => row.runs);
  return count > 1 ? `mean over ${count} runs` : "one run";
};
const labelsWidth = (rows) => 16 + 6.5 * Math.min(24, d3.max(rows, (row) => row.label.length));
const shortened = (name) => (name.length > 24 ? `${name.slice(0, 23)}…` : name);

figure("sharing", (part) => {
  const values = ["shared_by_all", "shared_by_groups", "null_shared_by_all", "null_shared_by_groups", "deviation_own", "excess"];
  const rows = meansOf(keptRows(sharing).filter((row) => row.excess != null), ["scale", "module"], values);
  if (!rows.length) return false;
  const kinds = { "all layers": DISTINCT[0], "groups of layers": DISTINCT[2] };
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
      Plot.tickX(rows, { x: (row) => row.null_shared_by_all + row.null_shared_by_groups, y: "label", stroke: "var(--ink)", strokeWidth: 3, className: "null" }),
      Plot.tip(bars, Plot.pointer({ x: "to", y: "label", ...TIP, title: (bar) => `${bar.label}\nall ${shown(bar.shared_by_all)}, groups ${shown(bar.shared_by_groups)}\nnothing shared: ${shown(bar.null_shared_by_all)}, ${shown(bar.null_shared_by_groups)}\nbeyond chance ${shown(bar.excess)} ± ${shown(bar.deviation_own, 2)}` })),
    ],
  });
  part("plot").replaceChildren(legend(Object.keys(kinds), (name) => name, (name) => kinds[name]), chart);
  return true;
});

figure("subspaces", (part) => {
  const rows = meansOf(keptRows(subspaces), ["scale", "module", "side"], ["neighbours", "pairs", "chance", "common", "null_common"]);
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
      Plot.tip(rows, Plot.pointer({ x: "neighbours", y: "label", ...TIP, title: (row) => `${row.label}, ${row.side}\nφ of neighbours ${shown(row.neighbours)}, of all pairs ${shown(row.pairs)}; chance ${shown(row.chance)}\ncommon subspace ${shown(row.common)} of the energy; chance ${shown(row.null_common)}` })),
    ],
  });
  part("plot").replaceChildren(legend(sides, (side) => side, colour), chart);
  return true;
});
