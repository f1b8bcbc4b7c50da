"use strict";
// Texts of a pool reach the page by textContent alone.
(() => {
  const byId = (id) => document.getElementById(id);
  const number = (value) => value.toLocaleString("en");

  const unpack = async (id) => {
    const bytes = Uint8Array.from(atob(byId(id).textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };

  const element = (name, text, attributes = {}) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };

  // The table of chosen rows

  let rows = null;
  let replies = null;
  let shown = [];
  let page = 0;
  let sort = { key: "order", down: false };
  let searched = [];

  const fillSelect = (select, names) => {
    select.replaceChildren(element("option", "all", { value: "" }));
    names.forEach((name, value) => select.append(element("option", name, { value })));
  };

  const search = () => {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const by = byId("by").value;
    const wanted = [...document.querySelectorAll("#filters select")].map((select) => select.value);
    shown = [];
    for (let row = 0; row < rows.order.length; row += 1) {
      const isWanted = wanted.every((value, column) => value === "" || rows.groups[column].codes[row] === Number(value));
      if (isWanted && (by === "" || rows.by.codes[row] === Number(by)) && words.every((word) => searched[row].includes(word))) {
        shown.push(row);
      }
    }
    const values = rows[sort.key];
    const sign = sort.down ? -1 : 1;
    const compare = (a, b) => (a === b ? 0 : a === null ? 1 : b === null ? -1 : (a < b ? -1 : 1) * sign);
    shown.sort((a, b) => compare(values[a], values[b]) || a - b);
    page = 0;
    show();
  };

  const cell = (text, kind) => element("td", text, kind ? { class: kind } : { dir: "auto" });

  const block = (into, title, text) => {
    into.append(element("h3", title), element("pre", text, { dir: "auto", tabindex: "0" }));
  };

  const open = async (button, row, line) => {
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) {
      line.nextSibling.remove();
      return;
    }
    const more = element("tr", undefined, { class: "more" });
    const into = element("td", undefined, { colspan: line.children.length });
    more.append(into);
    line.after(more);
    block(into, "Instruction", rows.text[row]);
    if (rows.input && rows.input[row]) block(into, "Input", rows.input[row]);
    if (rows.reason && rows.reason[row]) block(into, "Why it is worth it, in the model's words", rows.reason[row]);
    const place = rows.row[row] === null ? "" : `row ${number(rows.row[row])} of the pool, `;
    into.append(element("p", `${place}id ${rows.id[row]}…`, { class: "small" }));
    if (!byId("packed-replies")) return;
    replies = replies || unpack("packed-replies");
    const known = await replies;
    if (row >= known.rows.length) {
      into.append(element("p", "The replies about this row are in the store: selectllm explain shows them.", { class: "small" }));
      return;
    }
    for (const [key, position] of known.rows[row]) {
      const reply = known.replies[key];
      const where = position ? `, this row at position ${position} of ${reply.shown}` : "";
      block(into, `Reply to ${reply.question || "a question"}${where} (${reply.outcome})`, reply.text);
      if (reply.thinking) block(into, "Thinking before it", reply.thinking);
    }
  };

  const show = () => {
    const size = Number(byId("size").value);
    const pages = Math.max(1, Math.ceil(shown.length / size));
    const body = document.querySelector("#rows tbody");
    body.replaceChildren();
    for (const row of shown.slice(page * size, (page + 1) * size)) {
      const line = element("tr");
      const button = element("button", undefined, { type: "button", class: "open", "aria-expanded": "false" });
      button.append(element("span", rows.text[row].slice(0, 600), { dir: "auto" }));
      button.addEventListener("click", () => open(button, row, line));
      const text = element("td", undefined, { class: "text" });
      text.append(button);
      const reason = rows.reason && rows.reason[row] ? `${rows.reason[row]} (${rows.why[row]})` : rows.why[row];
      line.append(element("th", number(rows.order[row]), { scope: "row", class: "number" }), text, cell(reason));
      line.append(cell(number(rows.length[row]), "number"));
      if (rows.score) line.append(cell(rows.score[row] === null ? "" : String(rows.score[row]), "number"));
      rows.groups.forEach((group) => line.append(cell(group.names[group.codes[row]])));
      body.append(line);
    }
    byId("found").textContent = `${number(shown.length)} of ${number(rows.order.length)} rows match`;
    byId("page").textContent = `page ${number(page + 1)} of ${number(pages)}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page + 1 >= pages;
    document.querySelectorAll("#rows th[data-sort]").forEach((head) => {
      const isSorted = head.dataset.sort === sort.key;
      head.setAttribute("aria-sort", isSorted ? (sort.down ? "descending" : "ascending") : "none");
      head.querySelector(".arrow").textContent = isSorted ? (sort.down ? " ↓" : " ↑") : "";
    });
  };

  const turn = (by) => {
    page += by;
    show();
    byId("rows").scrollIntoView({ block: "start" });
  };

  const makeSortable = (head) => {
    const button = element("button", head.textContent, { type: "button", class: "sort" });
    button.append(element("span", "", { class: "arrow", "aria-hidden": "true" }));
    button.addEventListener("click", () => {
      sort = { key: head.dataset.sort, down: sort.key === head.dataset.sort && !sort.down };
      search();
    });
    head.replaceChildren(button);
  };

  const startTable = async () => {
    rows = await unpack("packed-rows");
    rows.order = rows.text.map((_, row) => row + 1);
    rows.input = rows.input || null;
    const parts = [rows.text, rows.input, rows.why, rows.reason, rows.id].filter(Boolean);
    searched = rows.text.map((_, row) => parts.map((part) => part[row]).join("\n").toLowerCase());
    const heads = document.querySelector("#rows thead tr");
    if (rows.score) heads.append(element("th", "score", { scope: "col", class: "number", "data-sort": "score" }));
    JSON.parse(byId("columns").textContent).forEach((name, column) => {
      heads.append(element("th", name, { scope: "col", dir: "auto" }));
      const label = element("label", `${name} `);
      const select = element("select");
      fillSelect(select, rows.groups[column].names);
      select.addEventListener("change", search);
      label.append(select);
      byId("filters").append(label);
    });
    document.querySelectorAll("#rows th[data-sort]").forEach(makeSortable);
    fillSelect(byId("by"), rows.by.names);
    byId("search").addEventListener("input", search);
    byId("by").addEventListener("change", search);
    byId("size").addEventListener("change", () => { page = 0; show(); });
    byId("previous").addEventListener("click", () => turn(-1));
    byId("next").addEventListener("click", () => turn(1));
    byId("controls").hidden = false;
    byId("pager").hidden = false;
    search();
  };

  // Charts: with Vega's own interpreter, so that nothing is ever evaluated as a script

  const options = { actions: false, ast: true, defaultStyle: false, renderer: "svg", tooltip: { disableDefaultStyle: true } };
  const charts = JSON.parse(byId("charts").textContent);

  const draw = async (key, into, more = {}) => {
    const inner = element("div", undefined, { "aria-hidden": "true" }); // what is outside names the chart
    into.replaceChildren(inner);
    await window.vegaEmbed(inner, charts[key], { ...options, ...more });
  };

  const startMap = async () => {
    const into = document.querySelector('[data-chart="map"]');
    if (!into) return;
    const points = await unpack("packed-map");
    const select = byId("projection");
    const redraw = () => {
      const [x, y] = points.places[select ? select.value : "PCA"];
      const values = x.map((place, row) => {
        const order = points.order[row];
        const text = order && order <= rows.text.length ? rows.text[order - 1].slice(0, 120) : "";
        return { x: place, y: y[row], row: points.row[row], order, text };
      });
      charts.map = { ...charts.map, datasets: { map: values } };
      return draw("map", into, { renderer: "canvas" });
    };
    if (select) select.addEventListener("change", redraw);
    await redraw();
  };

  const start = async () => {
    await startTable();
    for (const into of document.querySelectorAll("[data-chart]")) {
      if (into.dataset.chart !== "map") await draw(into.dataset.chart, into);
    }
    await startMap();
    document.documentElement.dataset.ready = "true";
  };

  start().catch((error) => {
    byId("found").textContent = `This browser cannot show all of the page: ${error.message}`;
    document.documentElement.dataset.ready = "failed";
  });
})();
