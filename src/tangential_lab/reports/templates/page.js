"use strict";
(() => {
  const { figures, styles, look } = JSON.parse(document.getElementById("data").textContent);
  const PRINTED_WIDTH = 330; // width of a printed plot, as in page.css
  const DECADES = 1.3; // a shorter logarithmic axis has ticks at 1, 2 and 5

  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const pointer = matchMedia("(hover: hover)");
  const hidden = new Set();
  let printing = false;

  const panels = new Map(); // by plot
  for (const place of document.querySelectorAll("[data-figure]")) {
    const figure = figures.find(({ key }) => key === place.dataset.figure);
    place.querySelectorAll(".plot").forEach((plot, i) => panels.set(plot, figure.panels[i]));
  }

  // Plotly reads markup, entities and mathematics in every text; names are shown as they are.
  const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", $: "&#36;" };
  const literal = (text) => text.replace(/[&<>$]/g, (character) => ENTITIES[character]);
  const variable = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const colour = (name) => (dark.matches && !printing ? styles[name].dark : styles[name].colour);
  const faint = (hex) => `rgba(${[1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16))}, ${look.opacity})`;
  const short = (value) => Number(value.toPrecision(3)).toString();

  function line(series, stairs) {
    const dash = styles[series.name].dashed ? look.dash : "solid";
    const line = { color: colour(series.name), width: look.width, dash, shape: stairs ? "hv" : "linear" };
    const dots = series.x.length < look.few && !stairs ? { mode: "lines+markers", marker: { size: 5, color: line.color } } : { mode: "lines" };
    const drawn = [{ type: "scatter", ...dots, name: literal(styles[series.name].label), x: series.x, y: series.y, line }];
    if (!series.low) return drawn;
    const band = { type: "scatter", mode: "lines", x: [...series.x, ...series.x.toReversed()], y: [...series.high, ...series.low.toReversed()] };
    return [{ ...band, fill: "toself", fillcolor: faint(line.color), line: { width: 0 }, hoverinfo: "skip" }, ...drawn];
  }

  function points(series) {
    const { mark, dashed } = styles[series.name];
    const symbols = series.x.map(() => look.marks[mark % look.marks.length] + (dashed ? "-open" : ""));
    for (const i of series.diverged ?? []) symbols[i] = "x-thin-open";
    const ink = { color: colour(series.name), line: { width: 1.5, color: colour(series.name) } };
    const all = { type: "scatter", mode: "markers", name: literal(styles[series.name].label), x: series.x, y: series.y };
    const marker = { ...ink, size: 8, symbol: symbols };
    const drawn = [{ ...all, marker, text: series.texts.map(literal), hovertemplate: "%{text}<extra></extra>" }];
    if (series.best === undefined) return drawn;
    const at = { x: [series.x[series.best]], y: [series.y[series.best]] };
    return [...drawn, { ...all, ...at, marker: { ...ink, size: 17, symbol: "circle-open" }, hoverinfo: "skip" }];
  }

  function heat(map) {
    const log = (x) => (x > 0 ? Math.log10(x) : null);
    const text = map.values.map((row, i) => row.map((x, j) => `${literal(map.layers[i])}<br>step ${short(map.x[j])}: ${x === null ? "unknown" : short(x)}`));
    return [{ type: "heatmap", x: map.x, y: map.layers.map((_, i) => i), z: map.values.map((row) => row.map(log)), zmin: log(map.low), zmax: log(map.high), colorscale: look.heat, showscale: false, text, hovertemplate: "%{text}<extra></extra>" }];
  }

  function traces(panel) {
    if (panel.heat) return heat(panel.heat);
    const shown = (panel.series ?? []).filter((series) => !hidden.has(series.name));
    return shown.flatMap((series) => (panel.kind === "points" ? points(series) : line(series, panel.kind === "stairs")));
  }

  function axis({ title, log, limits }, values, plain) {
    const grid = plain ? { showgrid: false } : { gridcolor: variable("--grid") };
    const drawn = { title: { text: literal(title), standoff: 12 }, type: log ? "log" : "linear", ...grid, linecolor: variable("--line"), zeroline: false, exponentformat: "power", automargin: true, hoverformat: ".4~g" };
    if (limits) drawn.range = log ? limits.map(Math.log10) : limits;
    const known = (limits ?? values).filter((x) => x > 0);
    if (!log || !known.length) return drawn;
    const decades = Math.log10(known.reduce((a, b) => Math.max(a, b)) / known.reduce((a, b) => Math.min(a, b)));
    return { ...drawn, dtick: decades < DECADES ? "D2" : Math.ceil(decades / 6) };
  }

  function layers(axis, labels = []) {
    const ends = labels.map((label) => literal(label.slice(-16)));
    return { ...axis, autorange: "reversed", showticklabels: labels.length > 0, tickvals: labels.map((_, i) => i), ticktext: ends, tickfont: { size: 9 } };
  }

  function layout(panel, plot) {
    const all = (name) => (panel.series ?? []).flatMap((series) => series[name] ?? []);
    const ink = variable("--ink");
    const y = axis(panel.y, [...all("y"), ...all("low"), ...all("high")], panel.heat);
    const unified = panel.kind === "lines" && !panel.heat;
    const line = { spikecolor: variable("--quiet"), spikethickness: 1, unifiedhovertitle: { text: `${literal(panel.x.title)} %{x}` } };
    return {
      width: printing ? PRINTED_WIDTH : plot.clientWidth,
      height: plot.clientHeight,
      margin: { l: 52, r: 14, t: 8, b: 52 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif", size: 12, color: variable("--quiet") },
      hoverlabel: { bgcolor: variable("--paper"), bordercolor: variable("--line"), font: { color: ink, size: 12 }, namelength: -1 },
      hovermode: unified ? "x unified" : "closest",
      dragmode: pointer.matches ? "zoom" : false, // on a touch screen, dragging scrolls the page
      showlegend: false,
      xaxis: { ...axis(panel.x, all("x"), panel.heat), ...(unified ? line : { showspikes: false }) },
      yaxis: panel.heat ? layers(y, panel.heat.labels) : y,
    };
  }

  const drawn = new Set();
  function draw(plot) {
    const panel = panels.get(plot);
    drawn.add(plot);
    Plotly.react(plot, traces(panel), layout(panel, plot), { displayModeBar: false });
    plot.dataset.drawn = "true";
  }
  const redraw = () => drawn.forEach(draw);

  // Plots in view are drawn first, the others when the browser is idle.
  const waiting = () => [...panels.keys()].filter((plot) => !drawn.has(plot));
  const whenIdle = window.requestIdleCallback ?? ((task) => setTimeout(task, 30));
  const next = () => {
    const [plot] = waiting();
    if (plot) { draw(plot); whenIdle(next); } else root.dataset.drawn = "true";
  };
  const near = new IntersectionObserver((seen) => { // the first call has all plots
    seen.filter(({ isIntersecting, target }) => isIntersecting && !drawn.has(target)).forEach(({ target }) => draw(target));
    if (root.dataset.opened) return;
    root.dataset.opened = performance.now().toFixed(); // milliseconds
    whenIdle(next);
  }, { rootMargin: "200px" });
  panels.forEach((_, plot) => near.observe(plot));
  if (!panels.size) root.dataset.drawn = "true";

  // A table that does not fit gets a hint.
  function mark(table) {
    const cut = table.scrollWidth - table.clientWidth > 1;
    const end = table.scrollWidth - table.clientWidth - table.scrollLeft <= 1;
    table.classList.toggle("cut", cut && !end);
    table.nextElementSibling.hidden = !cut;
  }
  for (const table of document.querySelectorAll(".scroll")) {
    new ResizeObserver(() => mark(table)).observe(table);
    table.addEventListener("scroll", () => mark(table), { passive: true });
  }

  dark.addEventListener("change", redraw);
  let resized;
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // a phone's address bar appears and disappears
    width = innerWidth;
    cancelAnimationFrame(resized);
    resized = requestAnimationFrame(redraw);
  });
  function print(now) {
    printing = now;
    root.classList.toggle("printing", now);
    waiting().forEach(draw);
    redraw();
  }
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const { optimizer } = button.dataset;
      if (!hidden.delete(optimizer)) hidden.add(optimizer);
      button.setAttribute("aria-pressed", String(!hidden.has(optimizer)));
      redraw();
    });
  }

  // A served page asks whether the study has changed, and reloads at the same scroll position.
  const { version } = root.dataset;
  if (version === undefined) return;
  const news = document.querySelector(".news");
  scrollTo(0, Number(sessionStorage.getItem("scroll") ?? 0));
  sessionStorage.removeItem("scroll");
  setInterval(async () => {
    try {
      const state = await (await fetch("/state", { cache: "no-store" })).json();
      news.hidden = true;
      if (state.version === version) return;
      sessionStorage.setItem("scroll", String(scrollY));
      location.reload();
    } catch {
      news.textContent = "`tangential watch` has stopped. This page shows the study as it was then.";
      news.hidden = false;
    }
  }, 2000);
})();
