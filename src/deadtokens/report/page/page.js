"use strict";
(() => {
  const json = (id) => JSON.parse(document.getElementById(id).textContent);
  const { $schema, ...config } = json("config");
  const options = {
    ast: true, actions: false, renderer: "svg", mode: "vega-lite", defaultStyle: false,
    tooltip: { disableDefaultStyle: true },
  };

  const live = (figure) => {
    const name = figure.dataset.chart;
    const specs = new Map(json("data-" + name).map(({ key, spec }) => [JSON.stringify(key), spec]));
    const place = figure.querySelector(".live");
    const selects = [...figure.querySelectorAll("select")];
    let shown = null;
    let asked = 0;
    const show = async () => {
      const number = ++asked;
      const chosen = JSON.stringify(selects.map((select) => select.value));
      const spec = {
        ...specs.get(chosen), $schema, config, width: "container",
        autosize: { type: "fit-x", contains: "padding" },
      };
      const holder = document.createElement("div");
      holder.style.width = "100%";
      place.replaceChildren(holder);
      const made = await window.vegaEmbed(holder, spec, options);
      if (number !== asked) { made.finalize(); return; }
      if (shown) shown.finalize();
      shown = made;
      place.dataset.shown = chosen;
    };
    place.hidden = false;
    selects.forEach((select) => select.addEventListener("change", show));
    return show().then(() => {
      figure.querySelector(".drawn").hidden = true;
      for (const choices of figure.querySelectorAll(".choices")) choices.hidden = false;
    }).catch((error) => {
      place.hidden = true;
      console.error(name, error);
    });
  };

  const sortable = (table) => {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const value = (row, column) => {
      const cell = row.cells[column];
      return "number" in cell.dataset ? Number(cell.dataset.number) : cell.textContent;
    };
    const order = (a, b) => {
      if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
      return typeof a === "number" ? -1 : 1;
    };
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...body.rows].map((row) => [value(row, column), row]);
        rows.sort(([a], [b]) => {
          // Blanks stay last either way.
          const blank = (typeof a === "number") !== (typeof b === "number");
          return blank || up ? order(a, b) : -order(a, b);
        });
        body.append(...rows.map(([, row]) => row));
      });
    });
  };

  document.querySelectorAll("table").forEach(sortable);
  Promise.all([...document.querySelectorAll("figure[data-chart]")].map(live)).then(() => {
    document.documentElement.dataset.ready = "yes";
  });
})();
