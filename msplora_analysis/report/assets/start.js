for (const id of ["interactive", "choices"]) document.getElementById(id).hidden = false;
drawAll();
let width = document.body.clientWidth;
addEventListener("resize", () => {
  if (document.body.clientWidth === width) return;
  width = document.body.clientWidth;
  requestAnimationFrame(drawAll);
});
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
document.documentElement.dataset.ready = Math.round(performance.now());
