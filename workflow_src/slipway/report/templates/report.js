"use strict";
(() => {
  const root = document.documentElement;
  const stored = {
    get() { try { return localStorage.getItem("slipway-theme"); } catch { return null; } },
    set(theme) { try { localStorage.setItem("slipway-theme", theme); } catch { /* a file opened from disk may have no storage */ } },
  };
  if (stored.get()) root.dataset.theme = stored.get();
  const button = document.getElementById("theme");
  button.hidden = false;
  button.addEventListener("click", () => {
    const now = root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    stored.set(root.dataset.theme);
  });

  // The page carries result.json, so that the link works where the page has been moved away from its folder.
  const carried = document.getElementById("result");
  const link = document.querySelector('a[href="result.json"]');
  if (carried && link) link.href = URL.createObjectURL(new Blob([carried.textContent], { type: "application/json" }));

  for (const table of document.querySelectorAll("table[data-sort]")) {
    table.querySelectorAll("thead th").forEach((head, column) => {
      const sort = document.createElement("button");
      sort.type = "button";
      sort.textContent = head.textContent;
      head.replaceChildren(sort);
      sort.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
        const compare = (a, b) => key(a).localeCompare(key(b), "en", { numeric: true });
        const byNumber = (a, b) => Number(key(a)) - Number(key(b));
        const body = table.tBodies[0];
        const rows = [...body.rows];
        rows.sort(rows.every((row) => key(row) !== "" && !Number.isNaN(Number(key(row)))) ? byNumber : compare);
        if (down) rows.reverse();
        body.append(...rows);
      });
    });
  }
})();
