"use strict";
(function () {
  const form = document.getElementById("filter");
  const models = Array.from(document.querySelectorAll("details.model"));
  if (!form || models.length === 0) return;
  const search = document.getElementById("search");
  const boxes = Array.from(form.querySelectorAll("input[name=state]"));
  const rows = new Map();
  for (const row of document.querySelectorAll("tr[data-row]")) rows.set(row.dataset.row, row);

  function apply() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const states = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    let shown = 0;
    for (const model of models) {
      const found = words.every((word) => model.dataset.find.includes(word));
      const visible = found && states.has(model.dataset.state);
      model.hidden = !visible;
      const row = rows.get(model.id);
      if (row) row.hidden = !visible;
      shown += visible ? 1 : 0;
    }
    document.getElementById("shown").textContent = shown + " of " + models.length + " models shown";
    document.getElementById("none").hidden = shown > 0;
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

  search.addEventListener("input", apply);
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
