// Tables sort by a click on a heading, and are copied as CSV with all digits.
for (const table of document.querySelectorAll("table[data-name]")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const valueOf = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  headings.forEach((heading, column) => {
    const button = element("span", { role: "button", tabIndex: 0 }, ...heading.childNodes); // a <button> is not repeated on the next sheet of paper
    const sort = () => {
      const down = heading.ariaSort === "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const missing = (row) => valueOf(row, column) === "–"; // last in both directions
      body.append(...[...body.rows].sort((a, b) => missing(a) - missing(b) || (down ? -1 : 1) * compareCells(valueOf(a, column), valueOf(b, column))));
    };
    button.addEventListener("click", sort);
    button.addEventListener("keydown", (event) => {
      if (![" ", "Enter"].includes(event.key)) return;
      event.preventDefault();
      sort();
    });
    heading.replaceChildren(button);
  });
  const copy = element("button", { type: "button", className: "copy" }, "Copy as CSV");
  copy.addEventListener("click", async () => {
    const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    const same = JSON.parse(table.dataset.same ?? "{}");
    const lines = [[...Object.keys(same), ...headings.map((heading) => heading.textContent)],
      ...[...body.rows].map((row) => [...Object.values(same), ...headings.map((_, column) => valueOf(row, column))])];
    const text = lines.map((line) => line.map((cell) => quoted(cell === "–" ? "" : cell)).join(",")).join("\n") + "\n";
    copy.textContent = (await copyText(text)) ? "Copied" : "Not copied: the browser forbids it";
  });
  table.caption.append(" ", copy);
}

function compareCells(a, b) {
  const [x, y] = [Number(a), Number(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  return Number.isNaN(x) === Number.isNaN(y) ? a.localeCompare(b) : Number.isNaN(x) ? 1 : -1;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // some browsers grant no clipboard to a file
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
