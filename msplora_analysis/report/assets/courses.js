// Measures and task scores over training: a line is the mean over runs, a band reaches from the lowest to the highest.
// Over shares of training, which runs need not have in common, each run has its own line. All means are those of the CSVs.
const course = { measure: "entropy_rank", compare: "scale", scale: "layer" };
const hidden = new Set();

figure("courses", (part, redraw) => {
  const { compare } = course;
  const fixed = ["model", "stack", ...(compare === "method" ? [] : ["method"])];
  const chosenOrEach = (name) => (row) => (compare === name ? row[name] !== "" : row[name] === choice[name]);
  const known = courses.filter((row) => chosen(row, fixed)).filter(chosenOrEach("task")).filter(chosenOrEach("module"));
  const clock = courses.find((row) => chosen(row, ["model", "method", "stack"]))?.clock;
  const scales = unique(known.map((row) => row.scale));
  if (compare !== "scale" && !scales.includes(course.scale)) course.scale = scales.at(-1);
  const mine = known.filter((row) => row.clock === clock && (compare === "scale" || row.scale === course.scale) && row[course.measure] != null);
  const groups = unique(mine.map((row) => row[compare]));
  if (compare === "scale") groups.sort((a, b) => SCALES.indexOf(a) - SCALES.indexOf(b));
  const every = unique(courses.filter((row) => chosen(row, ["model", "method", "stack"])).map((row) => row.time));
  if (every.length < 2) return false;

  const set = (name) => (value) => {
    course[name] = value;
    if (name === "compare") hidden.clear();
    redraw();
  };
  const comparable = ["scale", "method", "task", "module"].filter((name) => {
    const rows = courses.filter((row) => chosen(row, ["model", "stack", ...(name === "method" ? [] : ["method"])]));
    return name === compare || unique(rows.map((row) => row[name])).length > 1;
  });
  const colour = (name) => (compare === "scale" ? scaleColour(name) : compare === "method" ? methodColour(name) : DISTINCT[groups.indexOf(name) % DISTINCT.length]);
  const named = (name) => (compare === "method" ? methodTitle(name) : name || "unknown");
  part("controls").replaceChildren(
    chooser("measure", "measure", Object.entries(MEASURES), course.measure, set("measure")),
    chooser("compare", "a line for each", comparable.map((name) => [name, name]), compare, set("compare")),
    ...(compare === "scale" ? [] : [chooser("scale", "scale", scales.map((name) => [name, name]), course.scale, set("scale"))]),
    legend(groups, named, colour, { hidden, redraw }),
  );
  const beside = nullsOf(groups.filter((name) => !hidden.has(name)));
  const drawnBy = beside.length ? ` Dashed: the null model of the runs at the end (${unique(beside.map((one) => one.null)).join(", ")}), with a bar for 95% of its draws.`
    : nulls.some((row) => chosen(row, ["model", "method", "stack"])) ? " No null model: it is of all modules together." : "";
  part("about").textContent = `${about()}. ${linesMean(mine)}${drawnBy}`;
  const points = pointsOf(mine.filter((row) => !hidden.has(row[compare])), compare, "time", course.measure);
  part("plot").replaceChildren(linesOf(points, { width: widthOf(part("plot")), height: 300, colour, named, clock, label: MEASURES[course.measure], beside }));
  return true;
});

// The null models of the groups shown; they are of all modules together.
function nullsOf(groups) {
  if (choice.module || course.compare === "module") return [];
  return groups.flatMap((name) => {
    const wanted = { method: choice.method, scale: course.scale, task: choice.task, [course.compare]: name };
    return nulls.filter((row) => chosen(row, ["model", "stack"]) && row.measure === course.measure && Object.keys(wanted).every((key) => row[key] === wanted[key])).map((row) => ({ ...row, name }));
  });
}

const hiddenMethods = new Set();

figure("scores", (part, redraw) => {
  const mine = scores.filter((row) => row.model === choice.model && (!choice.task || row.task === choice.task));
  if (!mine.length) return false;
  const methods = unique(mine.map((row) => row.method));
  part("about").textContent = "Evaluation metrics by method: mean over seeds, band from the lowest to the highest.";
  const kinds = d3.groups(mine, (row) => row.task, (row) => row.metric).flatMap(([task, metrics]) => metrics.map(([metric, rows]) => ({ task, metric, rows })));
  const several = element("div", { className: "several" });
  part("plot").replaceChildren(legend(methods, methodTitle, methodColour, { hidden: hiddenMethods, redraw }), several);
  const room = widthOf(several) + 16, columns = Math.max(1, Math.floor(room / 256));
  const width = Math.min(room / columns - 16, 340);
  several.append(...kinds.map(({ task, metric, rows }) => {
    const points = pointsOf(rows.filter((row) => !hiddenMethods.has(row.method)), "method", "epoch", "value");
    return linesOf(points, { width, height: 190, colour: methodColour, named: methodTitle, clock: "epoch", label: `${task || "unknown task"}, ${metric}` });
  }));
  return true;
});

function linesMean(rows, band = "lowest to highest run") {
  if (rows.some((row) => row.runs > 1)) return `Line: mean over the runs; band: ${band}.`;
  return rows.some((row) => row.line) ? "A line for each run." : "One run.";
}

function pointsOf(rows, group, time, value) {
  const ranks = unique(rows.map((row) => row.rank));
  return rows.map((row) => {
    const rank = ranks.length > 1 ? `r=${row.rank}` : "", mean = row[value];
    return { name: row[group], kind: [rank, row.line].filter(Boolean).join(", "), line: JSON.stringify([row[group], row.rank, row.line]), time: row[time],
      value: mean, low: row[`${value}_low`] ?? mean, high: row[`${value}_high`] ?? mean, runs: row.runs };
  }).sort((a, b) => d3.ascending(a.time, b.time));
}

// Whole epochs and steps have their ticks there; shares of a training anywhere.
function ticksOf(times, width) {
  if (!times.every(Number.isInteger)) return undefined;
  return times.length <= width / 40 ? times : d3.ticks(d3.min(times), d3.max(times), width / 60).filter(Number.isInteger);
}

function linesOf(points, { width, height, colour, named, clock, label, beside = [], zero = false, chance = 0 }) {
  const end = d3.max(points, (point) => point.time);
  const times = unique(points.map((point) => point.time)).sort(d3.ascending);
  const single = times.length < 2, several = points.some((point) => point.runs > 1);
  return Plot.plot({
    width, height, marginLeft: 48, marginBottom: 40, x: { label: clock, ticks: ticksOf(times, width), tickFormat: (time) => shown(time) }, y: { label, grid: true, nice: true, ticks: 5 }, style: FONT, ariaLabel: label,
    marks: [
      ...(chance ? [Plot.rect([chance], { y1: (half) => -half, y2: (half) => half, fill: "var(--null)", className: "chance" })] : []),
      ...(zero ? [Plot.ruleY([0], { stroke: "var(--soft)" })] : []),
      Plot.ruleY(beside, { y: "null_mean", stroke: (one) => colour(one.name), strokeDasharray: "5 4", className: "null" }),
      Plot.ruleX(beside, { x: () => end, y1: "null_low", y2: "null_high", stroke: (one) => colour(one.name), strokeWidth: 8, strokeOpacity: 0.35 }),
      Plot.areaY(points, { x: "time", y1: "low", y2: "high", z: "line", fill: (point) => colour(point.name), fillOpacity: 0.2 }),
      Plot.lineY(points, { x: "time", y: "value", z: "line", stroke: (point) => colour(point.name), strokeWidth: 2, className: "course" }),
      ...(single ? [Plot.dot(points, { x: "time", y: "value", fill: (point) => colour(point.name), r: 4 })] : []),
      ...tips(points, { x: "time", y: "value", title: (point) => `${[named(point.name), point.kind].filter(Boolean).join(", ")}, ${clock} ${shown(point.time)}\n${shown(point.value)}` + (point.runs > 1 ? ` (${shown(point.low)} to ${shown(point.high)}, ${point.runs} runs)` : several ? " (1 run)" : "") }),
    ],
  });
}

// Names with their colours; where it is known what is hidden, a name can be switched off.
function legend(names, named, colour, { hidden, redraw } = {}) {
  const entries = names.map((name, place) => {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = colour(name);
    if (!hidden) return element("span", {}, swatch, named(name));
    const box = element("input", { type: "checkbox", name: `shown-${place}`, checked: !hidden.has(name) });
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(name);
      else hidden.add(name);
      redraw();
    });
    return element("label", {}, box, swatch, named(name));
  });
  const home = element("span", { className: "controls legend", role: "group" }, ...entries);
  home.setAttribute("aria-label", "legend");
  return home;
}
