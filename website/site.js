// What the theme leaves out for keyboards and screen readers: a name of the search, and regions that scroll can be focused.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  for (const dialog of document.querySelectorAll(".md-search")) dialog.setAttribute("aria-label", "Search");
  const name = () => {
    for (const box of document.querySelectorAll(".md-typeset pre > code, .md-typeset__scrollwrap, .md-typeset table")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    }
  };
  name();
  window.addEventListener("load", name);
  window.addEventListener("resize", name);
});
