// The table of a routed backlog: sorts, filters and grows without a network. Task texts only ever become text nodes.
(() => {
  "use strict";
  const STEP = 100;
  const data = JSON.parse(document.getElementById("data").textContent);
  const rows = data.rows.map((cells) => Object.fromEntries(data.fields.map((name, i) => [name, cells[i]])));
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const byId = (id) => document.getElementById(id);

  // What the table can be sorted by: how two rows compare, ascending, and the column's heading if it has one.
  const SORTS = [
    { name: "place in the file", heading: "#", compare: (a, b) => a.number - b.number },
    { name: "task", heading: "Task", compare: (a, b) => collator.compare(a.title, b.title) },
    { name: "where it goes", heading: "Goes to", compare: (a, b) => a.quadrant - b.quadrant },
    { name: "certainty of loop", heading: "Loop", compare: (a, b) => a.loop - b.loop },
    { name: "certainty of mode", heading: "Mode", compare: (a, b) => a.mode - b.mode },
    { name: "what to review first", heading: "Review", compare: (a, b) => a.urgency - b.urgency },
    ...data.facets.map((facet, i) => ({
      name: facet.name,
      compare: (a, b) => collator.compare(valuesOf(a, i).join(", "), valuesOf(b, i).join(", ")),
    })),
  ];
  const REVIEW_FIRST = 5;
  const state = { sort: 0, descending: false, shown: STEP };

  function valuesOf(row, facet) {
    return row.values[facet].map((at) => data.facets[facet].values[at]);
  }

  function element(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  /** A task's own words: written in their own direction, whatever it is. */
  function quoted(text) {
    return element("bdi", {}, text);
  }

  function mark(quadrant) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of Object.entries({ class: "mark", width: 11, height: 11, "aria-hidden": "true" }))
      svg.setAttribute(key, value);
    for (const [key, value] of Object.entries({ class: `q${quadrant}`, x: 0.5, y: 0.5, width: 10, height: 10, rx: 1.5 }))
      rect.setAttribute(key, value);
    svg.append(rect);
    return svg;
  }

  /** A probability with two decimals, never more than it is. */
  function figure(value) {
    return (Math.min(Math.floor(value * 100 + 1e-9), 99) / 100).toFixed(2);
  }

  // Filters

  const search = byId("search");
  const onlyReview = byId("only-review");
  const boxes = [...document.querySelectorAll("input[name=quadrant]")];
  const selects = data.facets.map((facet, i) => {
    const select = element("select", { id: `facet-${i}` }, element("option", { value: "" }, "all"));
    facet.values.forEach((value, at) => select.append(element("option", { value: at }, value)));
    byId("selects").append(
      element("div", {}, element("label", { for: select.id }, quoted(facet.name)), select),
    );
    return select;
  });

  for (const row of rows) {
    const values = data.facets.map((_, i) => valuesOf(row, i).join(" "));
    row.haystack = [row.id, row.title, row.more, row.review, ...values].join("\n").toLowerCase();
  }

  function chosenRows() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const quadrants = new Set(boxes.filter((box) => box.checked).map((box) => Number(box.value)));
    return rows.filter(
      (row) =>
        quadrants.has(row.quadrant) &&
        (!onlyReview.checked || row.review) &&
        words.every((word) => row.haystack.includes(word)) &&
        selects.every((select, i) => select.value === "" || row.values[i].includes(Number(select.value))),
    );
  }

  // Rows. Phones show them as cards, which takes the meaning of table elements away: roles give it back.

  const body = element("tbody", { role: "rowgroup" });
  const headings = SORTS.filter((sort) => sort.heading).map((sort, at) => {
    const button = element("button", { type: "button", title: `Sort by ${sort.name}` }, sort.heading);
    button.addEventListener("click", () => sortBy(at, state.sort === at && !state.descending));
    return element("th", { scope: "col", role: "columnheader" }, button);
  });
  byId("table").append(
    element("table", { class: "rows", role: "table", "aria-label": "Tasks" },
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...headings)),
      body),
  );

  function cell(heading, kind, ...children) {
    return element("td", { role: "cell", class: kind, "data-heading": heading }, ...children);
  }

  function details(row) {
    const known = [row.id, ...data.facets.map((facet, i) => valuesOf(row, i).filter((v) => v !== "(none)").join(", "))];
    const summary = element("summary", {}, "why");
    const words = row.words.split(" | ").map((line) => element("span", { class: "words" }, quoted(line)));
    const line = element("p", {});
    known.filter(Boolean).forEach((text, i) => line.append(i ? " · " : "", quoted(text)));
    return element("div", { class: "below" }, line, element("details", {}, summary, ...words));
  }

  function rowElement(row) {
    const [loop, mode] = data.quadrants[row.quadrant];
    const task = cell("Task", "task", element("p", { class: "title" }, quoted(row.title || "(empty)")));
    if (row.more) task.append(element("p", { class: "rest" }, quoted(row.more)));
    task.append(details(row));
    return element("tr", { role: "row" },
      cell("#", "number", String(row.number)),
      task,
      cell("Goes to", "route", mark(row.quadrant), " ", data.routes[row.quadrant]),
      cell("Loop", "sure", `${loop} `, element("span", { class: "figure" }, figure(row.loop))),
      cell("Mode", "sure", `${mode} `, element("span", { class: "figure" }, figure(row.mode))),
      cell("Review", "reason", row.review));
  }

  function render() {
    const chosen = chosenRows();
    const { compare } = SORTS[state.sort];
    const sign = state.descending ? -1 : 1;
    chosen.sort((a, b) => sign * compare(a, b) || a.number - b.number);
    body.replaceChildren(...chosen.slice(0, state.shown).map(rowElement));
    headings.forEach((heading, at) => {
      if (at === state.sort) heading.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
    const left = chosen.length - state.shown;
    const n = (count) => count.toLocaleString("en");
    byId("status").textContent =
      `${n(chosen.length)} of ${n(rows.length)} tasks, ${n(chosen.filter((row) => row.review).length)} to review` +
      (left > 0 ? `; the first ${n(state.shown)} are shown` : "");
    byId("more").hidden = left <= 0;
    byId("show-more").textContent = `Show ${n(Math.min(STEP, left))} more`;
    byId("show-all").textContent = `Show all ${n(chosen.length)}`;
  }

  // What people do

  function update() {
    state.shown = STEP;
    render();
  }

  function sortBy(at, descending = false) {
    Object.assign(state, { sort: at, descending });
    byId("sort").value = String(at);
    update();
  }

  function clear() {
    search.value = "";
    onlyReview.checked = false;
    boxes.forEach((box) => (box.checked = true));
    selects.forEach((select) => (select.value = ""));
    sortBy(0);
  }

  let waiting;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 120);
  });
  [onlyReview, ...boxes, ...selects].forEach((control) => control.addEventListener("change", update));
  SORTS.forEach((sort, at) => byId("sort").append(element("option", { value: at }, sort.name)));
  byId("sort").addEventListener("change", (event) => sortBy(Number(event.target.value)));
  byId("clear").addEventListener("click", clear);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("show-more").addEventListener("click", () => {
    state.shown += STEP;
    render();
  });
  byId("show-all").addEventListener("click", () => {
    state.shown = rows.length;
    render();
  });
  // Links of the figures above show their tasks in the table.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href='#tasks']");
    if (!link || link.classList.contains("skip")) return;
    clear();
    const { quadrant, facet, value, review } = link.dataset;
    if (quadrant !== undefined) boxes.forEach((box) => (box.checked = box.value === quadrant));
    if (facet !== undefined) selects[Number(facet)].value = value;
    if (review !== undefined) onlyReview.checked = true;
    sortBy(review === undefined ? 0 : REVIEW_FIRST);
  });

  byId("controls").hidden = false;
  render();
})();
