// Before the first paint: the theme that was chosen here last, else the system's.
"use strict";
(() => {
  const kept = localStorage.getItem("akr-theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
