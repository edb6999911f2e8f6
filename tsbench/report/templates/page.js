// Sorting and filtering are additions: the tables are complete, and in order of rank, without them.
const SIZES = {k: 1e3, M: 1e6, G: 1e9, T: 1e12};
// The first number of "1,234", "12.3k", "−5.0%" or "2.5 (1.0 to 4.0)".
const firstNumber = (text) => {
  const found = /(-?[\d.]+(?:e[-+]?\d+)?)([kMGT]?)/.exec(text.replaceAll(",", "").replaceAll("−", "-"));
  return found ? Number(found[1]) * (SIZES[found[2]] ?? 1) : Number.NaN;
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  for (const [place, head] of heads.entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const isNumber = head.classList.contains("number");
      const text = (row) => row.cells[place].dataset.value ?? row.cells[place].textContent.trim();
      const number = (row) => firstNumber(text(row));
      const compare = (a, b) => {
        const [x, y] = isNumber ? [number(a), number(b)] : [text(a), text(b)];
        if (isNumber && (Number.isNaN(x) || Number.isNaN(y))) return Number.isNaN(x) - Number.isNaN(y); // last, either way
        const order = isNumber ? x - y : x.localeCompare(y);
        return descending ? -order : order;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    });
  }
}

// A task that is not asked for goes from the whole page, a model from the tables. Names are separated by commas.
const form = document.querySelector("#filter");
if (form) {
  const tasks = [...document.querySelectorAll("[data-dataset]")];
  const rows = [...document.querySelectorAll("tr[data-model]")];
  const apply = () => {
    const asked = Object.fromEntries(new FormData(form));
    const names = asked.model.toLowerCase().split(",").map((name) => name.trim()).filter(Boolean);
    const fits = (task) => ["dataset", "context", "horizon"].every((key) => !asked[key] || task.dataset[key] === asked[key]);
    for (const task of tasks) task.hidden = !fits(task);
    for (const row of rows) {
      const model = row.dataset.model.toLowerCase();
      row.hidden = names.length > 0 && !names.some((name) => model.includes(name));
    }
    const ranked = rows.filter((row) => row.closest(".leaderboard"));
    const shown = ranked.filter((row) => !row.closest("[hidden]"));
    form.querySelector("output").textContent = `${shown.length} of ${ranked.length} rows`;
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply));
  apply();
}

// On paper nothing can be unfolded.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((fold) => (fold.open = true)));
