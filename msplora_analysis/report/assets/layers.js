// Spectra of one moment, a small bar chart for each layer or shared component.
figure("layers", (part) => {
  const all = layerSpectra.filter((row) => chosen(row, ["model", "method", "stack", "task", "module"]));
  const mine = unique(all.map((row) => row.scale)).length > 1 ? all.filter((row) => row.scale !== "total") : all;
  if (!mine.some((row) => row.sigma.some((value) => value > 0))) return false;
  const width = widthOf(part("plot")), columns = Math.max(2, Math.floor(width / 105));
  const place = new Map(mine.map((row, index) => [row, { column: index % columns, row: Math.floor(index / columns) }]));
  const bars = mine.flatMap((row) => row.sigma.map((sigma, index) => ({ ...place.get(row), scale: row.scale, unit: row.unit, k: index + 1, sigma })));
  const most = d3.max(bars, (bar) => bar.k);
  const { y, mark } = asBars(bars, d3.max(bars, (bar) => bar.sigma), { fx: "column", fy: "row" }, null);
  const name = (row) => (row.scale === "layer" ? `layer ${row.unit}` : row.scale === "global" ? "global" : `${row.scale} ${row.unit}`);
  part("about").textContent = `${about()}, at the epoch compared. One scale of magnitude for all.${orChance()}`;
  part("plot").replaceChildren(Plot.plot({
    width, height: 40 + 95 * Math.ceil(mine.length / columns), marginLeft: 44, marginTop: 14,
    fx: { axis: null, padding: 0.12 }, fy: { axis: null, padding: 0.25 },
    x: { axis: null, domain: [0.4, most + 0.6] },
    y,
    style: FONT, ariaLabel: "Spectra by layer",
    marks: [
      mark,
      Plot.text(mine, { fx: (row) => place.get(row).column, fy: (row) => place.get(row).row, text: name, frameAnchor: "top", dy: -11, fontSize: 11 }),
      ...tips(bars, { fx: "column", fy: "row", x: "k", y: "sigma", title: (bar) => `${name(bar)}\nσ${bar.k} = ${shown(bar.sigma)}` }, Plot.pointerX),
    ],
  }));
  return true;
});
