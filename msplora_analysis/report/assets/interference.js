// Cosines between the scales of a method, and between the layers that share a component, where trainings recorded them.
let between = "scales";

const hiddenPairs = new Set();

figure("interference", (part, redraw) => {
  const recorded = interference.filter((row) => chosen(row, ["model", "method"]));
  const task = recorded.some((row) => row.task === choice.task) ? choice.task : ""; // not all runs may have recorded it
  const known = recorded.filter((row) => row.task === task);
  const kinds = unique(known.map((row) => row.between));
  if (!kinds.length) return false;
  if (!kinds.includes(between)) between = kinds[0];
  const mine = known.filter((row) => row.between === between && row.cosine != null);
  const pairs = unique(mine.map((row) => row.pair));
  const colour = (name) => data.colours.pairs[name] ?? scaleColour(name);
  const named = (name) => (between === "scales" ? name.replace("-", " and ") : `layers, by ${name}`);
  const titles = { scales: "the steps that two scales make", layers: "the gradients that layers send to what they share" };
  part("controls").replaceChildren(
    chooser("between", "between", kinds.map((name) => [name, titles[name] ?? name]), between, (value) => {
      between = value;
      redraw();
    }),
    legend(pairs, named, colour, { hidden: hiddenPairs, redraw }),
  );
  part("about").textContent = `${methodTitle(choice.method)}, ${task || EVERY.task}, all modules. Mean cosine of an epoch: 0 for unrelated directions; below 0 one undoes part of what the other does. ${linesMean(mine, "95% interval of the mean")}`;
  const points = pointsOf(mine.filter((row) => !hiddenPairs.has(row.pair)).map((row) => ({ ...row, cosine_low: row.low, cosine_high: row.high })), "pair", "epoch", "cosine");
  part("plot").replaceChildren(linesOf(points, { width: widthOf(part("plot")), height: 260, colour, named, clock: "epoch", label: "cosine", zero: true }));
  return true;
});
