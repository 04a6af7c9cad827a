// The differences that a verdict rests on: a dot for each run or pair of runs, a row for each task.
drawn.push(() => {
  for (const home of document.querySelectorAll(".differences")) {
    const { differences, tasks, unit } = data.claims[Number(home.dataset.claim)];
    if (!differences.length) continue;
    const dots = differences.map((value, place) => ({ value, task: tasks[place] }));
    const names = unique(tasks);
    home.replaceChildren(Plot.plot({
      width: widthOf(home, 480), height: 62 + 22 * names.length, marginBottom: 42, marginLeft: 12 + 7 * Math.min(14, d3.max(names, (name) => name.length)),
      x: { label: `> 0 agrees${unit ? ` (${unit})` : ""}`, ticks: 4, nice: true }, y: { label: null, domain: names, tickFormat: (name) => (name.length > 14 ? `${name.slice(0, 13)}…` : name) },
      style: FONT, ariaLabel: "Differences by task",
      marks: [Plot.ruleX([0], { stroke: "var(--soft)" }), Plot.dot(dots, { x: "value", y: "task", fill: "var(--accent)", r: 4, fillOpacity: 0.7 }), ...tips(dots, { x: "value", y: "task", title: (dot) => `${dot.task}\n${shown(dot.value)}` })],
    }));
  }
});
