for (const id of ["interactive", "choices"]) document.getElementById(id).hidden = false;
setIndices(document.querySelector("main"));
drawAll();
let width = document.body.clientWidth;
addEventListener("resize", () => {
  if (document.body.clientWidth === width) return;
  width = document.body.clientWidth;
  requestAnimationFrame(drawAll);
});
for (const details of document.querySelectorAll("details:has(.differences)")) details.addEventListener("toggle", drawAll);
// Paper has what a click would show, but no table of many pages: its line names the file that has it.
addEventListener("beforeprint", () => {
  printing = true;
  drawAll();
  for (const details of document.querySelectorAll("details")) details.open ||= details.querySelectorAll("tbody tr").length <= 60;
});
addEventListener("afterprint", () => {
  printing = false;
  drawAll();
});
document.documentElement.dataset.ready = Math.round(performance.now());
