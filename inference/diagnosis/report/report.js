// The filter of the table of responses; without it the page is the whole table.
(() => {
  const form = document.getElementById("filter");
  const table = document.querySelector("table.outputs");
  const rows = [...table.tBodies[0].rows];
  const columns = [...table.querySelectorAll("[data-column]")];
  const boxes = [...form.querySelectorAll("[name=shown]")];

  function apply() {
    const text = form.elements.text.value.trim().toLowerCase();
    const likeliest = form.elements.likeliest?.value ?? "";
    const shown = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    for (const cell of columns) {
      cell.hidden = boxes.length > 0 && !shown.has(cell.dataset.column);
    }
    let count = 0;
    for (const row of rows) {
      const words = [...row.cells].filter((cell) => !cell.hidden).map((cell) => cell.textContent);
      const kept =
        (likeliest === "" || row.dataset.likeliest === likeliest) &&
        words.join("\n").toLowerCase().includes(text);
      row.hidden = !kept;
      count += kept;
    }
    document.getElementById("count").value = `${count} of ${rows.length} prompts`;
  }

  // A link sets the filter: #text=carry&likeliest=2&shown=0,2
  function read() {
    const asked = new URLSearchParams(location.hash.slice(1));
    if (asked.has("text")) form.elements.text.value = asked.get("text");
    if (asked.has("likeliest") && form.elements.likeliest) form.elements.likeliest.value = asked.get("likeliest");
    if (asked.has("shown")) {
      const shown = asked.get("shown").split(",");
      for (const box of boxes) box.checked = shown.includes(box.value);
    }
    apply();
  }

  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", read);
  form.hidden = false;
  read();
})();
