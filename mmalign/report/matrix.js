"use strict";
// A cell shows its program and its test; without this script its link shows the program alone.
document.addEventListener("click", (event) => {
  const link = event.target.closest("figure.matrix a[data-shows]");
  if (!link) return;
  event.preventDefault();
  const figure = link.closest("figure");
  const ids = link.dataset.shows.split(" ");
  figure.classList.add("scripted");
  for (const candidate of figure.querySelectorAll(".candidate")) {
    candidate.classList.toggle("shown", ids.includes(candidate.id));
  }
  for (const other of figure.querySelectorAll("a[aria-current]")) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
});
