"use strict";
(function () {
  const form = document.getElementById("filter");
  const models = Array.from(document.querySelectorAll("details.model"));
  if (!form || models.length === 0) return;
  const search = document.getElementById("search");
  const boxes = Array.from(form.querySelectorAll("input[name=state]"));
  let index = null;
  let waiting = 0;

  // what a search looks through, read from the page once
  function indexed() {
    if (index === null) {
      const rows = new Map();
      for (const row of document.querySelectorAll("tr[data-row]")) rows.set(row.dataset.row, row);
      index = models.map((model) => {
        const elements = [model, rows.get(model.id)].filter(Boolean);
        return { text: model.dataset.find, state: model.dataset.state, elements, shown: true };
      });
    }
    return index;
  }

  function apply() {
    clearTimeout(waiting);
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const states = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    let shown = 0;
    for (const one of indexed()) {
      const found = states.has(one.state) && words.every((word) => one.text.includes(word));
      // the browser lays out anew what changes, and only that
      if (found !== one.shown) for (const element of one.elements) element.hidden = !found;
      one.shown = found;
      shown += found ? 1 : 0;
    }
    document.getElementById("shown").textContent = shown + " of " + models.length + " models shown";
    document.getElementById("none").hidden = shown > 0;
    form.setAttribute("aria-busy", "false");
  }

  // not at every key of a word that is being typed
  function soon() {
    form.setAttribute("aria-busy", "true");
    clearTimeout(waiting);
    waiting = setTimeout(apply, 100);
  }

  function open(all) {
    for (const model of models) if (!model.hidden) model.open = all;
  }

  function follow() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const model = target && target.closest("details.model");
    if (!model) return;
    if (model.hidden) {
      search.value = "";
      for (const box of boxes) box.checked = true;
      apply();
    }
    model.open = true;
    target.scrollIntoView();
  }

  search.addEventListener("input", soon);
  for (const box of boxes) box.addEventListener("change", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("open").addEventListener("click", () => open(true));
  document.getElementById("close").addEventListener("click", () => open(false));
  window.addEventListener("hashchange", follow);
  window.addEventListener("beforeprint", () => open(true));
  form.hidden = false;
  apply();
  follow();
})();
