// The ranks of a plan beside those of the probe and beside equal ranks of the same size.
figure("ranks", (part) => {
  if (!kept.plan) return false;
  const every = asRows(kept.plan.modules);
  const rows = (every.some((row) => row.module === choice.module) ? every.filter((row) => row.module === choice.module) : every)
    .map((row) => ({ ...row, place: row.unit == null ? row.scale : String(row.unit) }));
  if (!rows.length) return false;
  const { uniform_rank: uniform } = kept.plan;
  const width = widthOf(part("plot")), modules = unique(rows.map((row) => row.module)), places = unique(rows.map((row) => row.place));
  const few = (value, index) => index % Math.ceil(places.length / Math.max(4, Math.floor(width / 60))) === 0;
  part("about").textContent = `Bar: planned rank; line above: rank of the probe${uniform == null ? "" : `; dashed: rank ${shown(uniform, 3)} everywhere, with as many parameters`}.`;
  part("plot").replaceChildren(Plot.plot({
    width, height: 50 + 100 * modules.length, marginLeft: 44, marginRight: 90, marginBottom: 40,
    fy: { label: null, domain: modules, tickFormat: shortened }, x: { label: rows.some((row) => row.unit != null) ? "layer" : "scale", domain: places, ticks: places.filter(few) }, y: { label: "rank", grid: true, ticks: 4, tickFormat: "d" },
    style: FONT, ariaLabel: "Planned ranks",
    marks: [
      Plot.barY(rows, { fy: "module", x: "place", y: "rank", fill: "var(--accent)", className: "bar" }),
      Plot.tickY(rows, { fy: "module", x: "place", y: "rank_before", stroke: "var(--ink)", strokeWidth: 2, className: "before" }),
      ...(uniform == null ? [] : [Plot.ruleY([uniform], { stroke: "var(--bad)", strokeDasharray: "5 4" })]),
      ...tips(rows, { fy: "module", x: "place", y: "rank", title: (row) => `${row.module} ${row.place}: rank ${row.rank} of ${row.rank_before}\nkeeps ${shown(100 * row.kept, 3)} % of its energy; equal ranks ${shown(100 * row.kept_uniform, 3)} %` }, Plot.pointerX),
    ],
  }));
  return true;
});
