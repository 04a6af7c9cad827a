// The value nearest to the pointer, which the arrow keys reach as well: they move from point to point, Escape ends it.
const TIP = { fill: "var(--ground)", stroke: "var(--line)", fontSize: 12 };
const STEPS = { ArrowUp: ["y", -1], ArrowDown: ["y", 1], ArrowLeft: ["x", -1], ArrowRight: ["x", 1] };

// The marks of a tip: options as of Plot.tip, with a function `title` of a row.
function tips(rows, options, pointer = Plot.pointer) {
  const { x, y, fx, fy, title } = options;
  const stops = [];
  const render = (index, scales, { x: xs, y: ys }, frame, context) => {
    if (!stops.length) followKeys(context.ownerSVGElement, stops);
    const left = scales.fx ? scales.fx(index.fx) - frame.marginLeft : 0, top = scales.fy ? scales.fy(index.fy) - frame.marginTop : 0;
    const placed = Array.from(index, (one) => ({ x: left + xs[one], y: top + ys[one], panel: index.fi, row: rows[one] }));
    stops.push(...placed.map((stop) => ({ ...stop, left, top })).filter((stop) => Number.isFinite(stop.x + stop.y)).map((stop) => ({ ...stop, text: title(stop.row) })));
    return context.document.createElementNS("http://www.w3.org/2000/svg", "g");
  };
  return [Plot.dot(rows, { x, y, fx, fy, render }), Plot.tip(rows, pointer({ ...TIP, ...options }))];
}

function followKeys(svg, stops) {
  let at = null;
  const point = (type) => {
    const { x, y } = at ?? { x: 0, y: 0 };
    const { x: clientX, y: clientY } = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
    svg.dispatchEvent(new PointerEvent(type, { pointerType: "mouse", clientX, clientY }));
  };
  const leave = () => {
    at = null;
    point("pointerleave");
  };
  svg.setAttribute("tabindex", "0");
  svg.setAttribute("role", "application");
  svg.setAttribute("aria-description", "arrow keys: one value after the other");
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Escape") leave();
    if (!STEPS[event.key]) return;
    event.preventDefault();
    at = at ? nextStop(stops, at, ...STEPS[event.key]) : stops[0];
    point("pointermove");
    const here = stops.filter((stop) => Math.hypot(stop.x - at.x, stop.y - at.y) < 1); // lines that hide each other
    document.getElementById("said").textContent = unique(here.map((stop) => stop.text)).join("\n");
  });
}

// The next point in a direction: of the same panel if it has one; columns, or rows where these are fewer, go first.
// Else the first of the next panel, which stands in the same row or column of panels if there is one.
function nextStop(stops, at, axis, sign) {
  const places = (name) => new Set(stops.map((stop) => Math.round(stop[name]))).size;
  const first = places("x") <= places("y") ? "x" : "y", second = first === "x" ? "y" : "x";
  const off = (stop, name) => Math.abs(stop[name] - at[name]);
  const ahead = stops.filter((stop) => sign * (stop[axis] - at[axis]) > 0.5);
  const near = ahead.filter((stop) => stop.panel === at.panel);
  if (near.length) return d3.least(near, (a, b) => off(a, first) - off(b, first) || off(a, second) - off(b, second));
  const [along, across, other] = axis === "x" ? ["left", "top", "y"] : ["top", "left", "x"];
  const start = (a, b) => (axis === "x" ? sign * (a.x - b.x) : off(a, "x") - off(b, "x"));
  return d3.least(ahead, (a, b) => off(a, across) - off(b, across) || off(a, along) - off(b, along) || start(a, b) || off(a, other) - off(b, other)) ?? at;
}
