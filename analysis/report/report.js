"use strict";
// Draws what the page holds and hands it out. Computes no number: all of them, and all words, come with the page.
(() => {
  const drawings = JSON.parse(document.getElementById("drawings").textContent);
  const coarse = window.matchMedia("(pointer: coarse)").matches;
  const config = { displayModeBar: false, responsive: true, doubleClick: "reset" };
  const boxes = [...document.querySelectorAll(".plot")];
  const chosen = new Map();
  const steps = new Map();

  const drawing = (id) => drawings[id][chosen.get(id) || 0];

  // The numbers of a breakdown as rows: the traces are its columns, the last one's interval the last of them.
  function rowsOf({ data, table: { cuts } }) {
    const columns = [...data.map((trace) => trace.y), data[data.length - 1].error_y.array];
    return cuts.map((cut, i) => [cut, ...columns.map((values) => (values[i] === null ? "n/a" : String(values[i])))]);
  }

  // Where the keyboard goes in a chart: trace, point, words.
  function placesOf(shown) {
    if (shown.walk) return shown.walk;
    const [, ...names] = shown.table.header;
    return rowsOf(shown).map(([cut, ...cells], i) => [0, i, `${cut}: ${names.map((name, k) => `${name} ${cells[k]}`).join(", ")}`]);
  }

  function draw(box) {
    if (box.dataset.drawn) return;
    box.dataset.drawn = "yes";
    redraw(box);
  }

  function redraw(box) {
    const { data, layout } = drawing(box.id);
    // A finger that drags over a chart scrolls the page.
    const mode = coarse ? { dragmode: false } : {};
    try {
      Plotly.react(box, data, { ...layout, ...mode }, config);
      box.querySelectorAll("svg").forEach((svg) => svg.setAttribute("aria-hidden", "true"));
    } catch (error) {
      box.textContent = "This chart could not be drawn: " + error.message;
      throw error;
    }
  }

  // Charts are drawn before they come into view, and the others while the reader does nothing.
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        near.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "800px 0px" });
  boxes.forEach((box) => near.observe(box));
  const whenIdle = window.requestIdleCallback || ((work) => setTimeout(work, 50));
  function drawNext() {
    const next = boxes.find((box) => !box.dataset.drawn);
    if (!next) {
      document.body.dataset.charts = "drawn";
      return;
    }
    draw(next);
    whenIdle(drawNext);
  }
  whenIdle(drawNext);
  window.addEventListener("beforeprint", () => boxes.forEach(draw));

  function walk(box, event) {
    const places = placesOf(drawing(box.id));
    const here = steps.has(box.id) ? steps.get(box.id) : -1;
    const moves = { ArrowRight: Math.min(here + 1, places.length - 1), ArrowLeft: Math.max(here - 1, 0), Home: 0, End: places.length - 1 };
    const readout = document.getElementById(box.id + "-readout");
    if (event.key === "Escape") {
      steps.delete(box.id);
      readout.textContent = "";
      Plotly.Fx.unhover(box);
      return;
    }
    if (!(event.key in moves) || !places.length) return;
    event.preventDefault();
    const to = moves[event.key];
    const [curve, point, words] = places[to];
    steps.set(box.id, to);
    readout.textContent = `${to + 1} of ${places.length}: ${words}`;
    Plotly.Fx.hover(box, [{ curveNumber: curve, pointNumber: point }]);
  }
  boxes.forEach((box) => box.addEventListener("keydown", (event) => walk(box, event)));

  const actions = {
    reset: (box) => Plotly.relayout(box, ranges(drawing(box.id).layout)),
    svg: (box) => save(box, "svg"),
    png: (box) => save(box, "png"),
  };

  function ranges(layout) {
    const found = {};
    for (const axis of ["xaxis", "yaxis"]) {
      const range = layout[axis].range;
      found[axis + (range ? ".range" : ".autorange")] = range ? [...range] : true;
    }
    return found;
  }

  function save(box, format) {
    const { data, layout } = drawing(box.id);
    const white = { ...layout, paper_bgcolor: "#ffffff", width: 900, height: 560 };
    return Plotly.downloadImage({ data, layout: white }, { format, width: 900, height: 560, scale: 2, filename: box.id });
  }

  document.querySelectorAll("button[data-does]").forEach((button) => {
    button.addEventListener("click", () => {
      const box = document.getElementById(button.dataset.chart);
      draw(box);
      actions[button.dataset.does](box);
    });
  });

  function element(name, text, attributes) {
    const made = document.createElement(name);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    return made;
  }

  function table(caption, header, rows) {
    const made = element("table", "");
    made.append(element("caption", caption));
    const head = element("tr", "");
    head.append(...header.map((name) => element("th", name, { scope: "col" })));
    const top = element("thead", "");
    top.append(head);
    const body = element("tbody", "");
    for (const [first, ...rest] of rows) {
      const row = element("tr", "");
      row.append(element("th", first, { scope: "row" }), ...rest.map((cell) => element("td", cell)));
      body.append(row);
    }
    made.append(top, body);
    const scroll = element("div", "", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption });
    scroll.append(made);
    return scroll;
  }

  function fillNumbers(details) {
    if (!details.open) return;
    const shown = drawing(details.dataset.chart);
    const title = document.getElementById(details.dataset.chart + "-title").textContent;
    details.querySelector("div").replaceChildren(table(title, shown.table.header, rowsOf(shown)));
  }
  const numbers = [...document.querySelectorAll("details.numbers")];
  numbers.forEach((details) => details.addEventListener("toggle", () => fillNumbers(details)));

  document.querySelectorAll("select[data-chart]").forEach((select) => {
    const label = document.querySelector(`label[for="${select.id}"]`);
    const show = () => { label.dataset.shown = select.selectedOptions[0].textContent; };
    show();
    select.addEventListener("change", () => {
      const id = select.dataset.chart;
      chosen.set(id, Number(select.value));
      steps.delete(id);
      document.getElementById(id + "-readout").textContent = "";
      show();
      const box = document.getElementById(id);
      box.dataset.drawn = "yes";
      redraw(box);
      numbers.filter((details) => details.dataset.chart === id).forEach(fillNumbers);
    });
  });

  // The embedded tables: base64 of gzip of CSV.
  async function csvBlob(id) {
    if (!window.DecompressionStream) throw new Error("this browser cannot decompress the embedded data (no DecompressionStream)");
    const packed = atob(document.getElementById(id + "-data").textContent);
    const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream, { headers: { "Content-Type": "text/csv" } }).blob();
  }

  function say(id, text) {
    document.getElementById(id + "-status").textContent = text;
  }

  function busy(button, id, work) {
    button.addEventListener("click", async () => {
      button.disabled = true;
      say(id, "Unpacking ...");
      try {
        await work();
      } catch (error) {
        say(id, "It did not work: " + error.message);
      }
      button.disabled = false;
    });
  }

  document.querySelectorAll("button.download").forEach((button) => {
    const id = button.dataset.table;
    busy(button, id, async () => {
      const address = URL.createObjectURL(await csvBlob(id));
      const link = element("a", "", { href: address, download: button.dataset.file });
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), 60000);
      say(id, button.dataset.file + " handed to the browser.");
    });
  });

  // Where the records of a CSV begin and end. A field in quotes may hold line ends.
  function recordsOf(text) {
    const found = [];
    let start = 0;
    let quoted = false;
    for (let i = 0; i < text.length; i += 1) {
      const code = text.charCodeAt(i);
      if (code === 34) quoted = !quoted;
      else if (code === 10 && !quoted) {
        found.push([start, i]);
        start = i + 1;
      }
    }
    if (start < text.length) found.push([start, text.length]);
    return found;
  }

  function fieldsOf(line) {
    const fields = [];
    let field = "";
    let quoted = false;
    for (let i = 0; i < line.length; i += 1) {
      const letter = line[i];
      if (letter === '"') {
        if (quoted && line[i + 1] === '"') {
          field += '"';
          i += 1;
        } else quoted = !quoted;
      } else if (letter === "," && !quoted) {
        fields.push(field);
        field = "";
      } else field += letter;
    }
    return [...fields, field];
  }

  const PAGE_ROWS = 50;

  async function showRows(id) {
    const view = document.getElementById(id + "-view");
    const text = await (await csvBlob(id)).text();
    const [head, ...records] = recordsOf(text);
    const header = fieldsOf(text.slice(...head));
    let matching = records;
    let first = 0;
    const search = element("input", "", { type: "search", id: id + "-search", autocomplete: "off" });
    const label = element("label", "Rows that contain", { for: search.id });
    const back = element("button", "Previous rows", { type: "button" });
    const on = element("button", "Next rows", { type: "button" });
    const tools = element("p", "", { class: "tools" });
    tools.append(label, search, back, on);
    const place = element("div", "");
    function show() {
      const last = Math.min(first + PAGE_ROWS, matching.length);
      const rows = matching.slice(first, last).map((ends) => fieldsOf(text.slice(...ends)));
      place.replaceChildren(table(view.dataset.caption, header, rows));
      back.disabled = first === 0;
      on.disabled = last >= matching.length;
      const which = matching.length ? `${first + 1} to ${last}` : "none";
      say(id, `Rows ${which} of ${matching.length}` + (matching.length < records.length ? ` that match, of ${records.length}.` : "."));
    }
    back.addEventListener("click", () => { first = Math.max(0, first - PAGE_ROWS); show(); });
    on.addEventListener("click", () => { first += PAGE_ROWS; show(); });
    let waiting = 0;
    search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        const wanted = search.value.toLowerCase();
        matching = wanted ? records.filter((ends) => text.slice(...ends).toLowerCase().includes(wanted)) : records;
        first = 0;
        show();
      }, 200);
    });
    view.replaceChildren(tools, place);
    view.hidden = false;
    show();
  }

  document.querySelectorAll("button.show").forEach((button) => {
    const id = button.dataset.table;
    busy(button, id, async () => {
      const view = document.getElementById(id + "-view");
      if (view.hidden) await showRows(id);
      else {
        view.hidden = true;
        view.replaceChildren();
        say(id, "");
      }
      button.setAttribute("aria-expanded", String(!view.hidden));
      button.textContent = view.hidden ? "Show the rows here" : "Hide the rows";
    });
  });
})();
