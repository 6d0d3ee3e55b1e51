"use strict";
// Draws the figures as SVG. Colours are CSS variables: a dark scheme and paper need no other drawing.
const plots = (() => {
  const { figures, styles, look } = JSON.parse(document.getElementById("data").textContent);
  const MARGIN = 0.05; // between the values and the frame, as a share of their range
  const GAP = 8; // between labels, in pixels
  const LINE = 16; // height of a line of text
  const NEAR = 30; // the pointer shows a point within so many pixels

  const hidden = new Set(); // names whose lines are not shown
  const panels = new Map(); // by plot
  for (const place of document.querySelectorAll("[data-figure]")) {
    const figure = figures.find(({ key }) => key === place.dataset.figure);
    place.querySelectorAll(".plot").forEach((plot, i) => panels.set(plot, figure.panels[i]));
  }

  function element(name, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }
  const text = (words, x, y, attributes) => element("text", { x, y, ...attributes }, words);
  const ink = (name) => `--light: ${styles[name].colour}; --dark: ${styles[name].dark}`;
  const shown = (panel) => (panel.series ?? []).filter(({ name }) => !hidden.has(name));
  const short = (value) => (value === null ? "unknown" : Number(value.toPrecision(4)).toString());

  // ---- scales

  function scale({ log, limits }, values, margin = MARGIN) {
    const turn = log ? Math.log10 : (x) => x;
    const [least, most] = values.reduce(
      ([a, b], x) => (x === null || (log && x <= 0) ? [a, b] : [Math.min(a, x), Math.max(b, x)]), [Infinity, -Infinity],
    );
    let [low, high] = (limits ?? (least > most ? [1, 2] : [least, most])).map(turn);
    const pad = limits ? 0 : margin * (high - low) || (high > low ? 0 : MARGIN * Math.abs(high) || MARGIN);
    [low, high] = [low - pad, high + pad];
    return { log, low, high, at: (x) => (turn(x) - low) / (high - low) };
  }

  function even(low, high, most) {
    const least = (high - low) / most, power = 10 ** Math.floor(Math.log10(least));
    const step = power * [1, 2, 5, 10].find((x) => x * power >= 0.999 * least);
    const first = Math.ceil(low / step - 1e-6), last = Math.floor(high / step + 1e-6);
    return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
  }

  function ticks({ log, low, high }, most) {
    if (!log) return even(low, high, most);
    const ends = [10 ** low, 10 ** high].map((x) => Number(x.toPrecision(9)));
    const within = (exponents, factors) => exponents.flatMap((n) => factors.map((x) => Number(`${x}e${n}`))).filter((x) => x >= ends[0] && x <= ends[1]);
    const decades = Array.from({ length: Math.floor(high) - Math.floor(low) + 1 }, (_, i) => Math.floor(low) + i);
    const every = (n) => decades.filter((exponent) => exponent % n === 0);
    const choices = [within(decades, [1, 2, 5]), ...decades.map((_, i) => within(every(i + 1), [1]))];
    const chosen = choices.find(({ length }) => length <= most);
    return chosen?.length >= Math.min(3, most) ? chosen : even(...ends, most);
  }

  const raised = (n) => [...String(n)].map((c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c])).join("");
  function power(value) {
    const [digits, exponent] = Number(value.toPrecision(6)).toExponential().split("e");
    const ten = `10${raised(Number(exponent))}`;
    const factor = { 1: "", "-1": "−" }[digits] ?? `${digits.replace("-", "−")}×`;
    return value === 0 ? "0" : factor + ten;
  }

  // Numbers on an axis; those of a linear one have equally many decimals.
  function labels(values, log) {
    const round = values.map((x) => Number(x.toPrecision(6)));
    const sizes = round.map(Math.abs).filter((x) => x > 0);
    if (Math.min(...sizes) < 1e-4 || Math.max(...sizes) >= 1e6) return round.map(power);
    const decimals = round.map((x) => (String(x).split(".")[1] ?? "").length);
    return round.map((x, i) => x.toFixed(log ? decimals[i] : Math.max(...decimals)).replace("-", "−"));
  }

  // "encoder.layers.0.self_attn.out_proj" becomes "e.l.0.s.out_proj".
  function abbreviated(name) {
    const parts = name.split(".");
    for (let i = 0; i < parts.length - 1 && parts.join(".").length > 16; i++) {
      if (!/^\d/.test(parts[i])) parts[i] = [...parts[i]].slice(0, 1).join("");
    }
    return parts.join(".").slice(-20);
  }

  const pen = document.createElement("canvas").getContext("2d");
  function widths(labels) {
    pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    return labels.map((label) => pen.measureText(label).width);
  }

  // ---- the frame of a plot: its scales, its size, its labels

  const edges = (x) => { // of the columns of a heat map, halfway between them
    const middles = x.slice(1).map((b, i) => (x[i] + b) / 2);
    return middles.length ? [2 * x[0] - middles[0], ...middles, 2 * x.at(-1) - middles.at(-1)] : [x[0] - 0.5, x[0] + 0.5];
  };

  function frameOf(panel, width, height) {
    const all = (name) => (panel.series ?? []).flatMap((series) => series[name] ?? []);
    const { heat } = panel, bottom = 2 * LINE + GAP, top = GAP, h = height - top - bottom;
    const y = scale(panel.y, heat ? [0, heat.layers.length] : [...all("y"), ...all("low"), ...all("high")], heat ? 0 : MARGIN);
    const x = scale(panel.x, heat ? edges(heat.x) : all("x"), heat ? 0 : MARGIN / 2);
    const up = (value) => h * (heat ? y.at(value) : 1 - y.at(value)); // a heat map begins on top
    const values = heat ? (heat.labels ?? []).map((_, i) => i + 0.5) : ticks(y, Math.max(2, Math.floor(h / (2 * LINE))));
    const names = heat ? (heat.labels ?? []).map(abbreviated) : labels(values, y.log);
    const left = LINE + GAP + Math.max(0, ...widths(names)) + GAP, w = width - left - 2 * GAP;
    const right = (value) => w * x.at(value);
    return { left, top, w, h, right, up, ...xLabels(x, w), yValues: values, yNames: names };
  }

  function xLabels(x, w) {
    for (let most = Math.floor(w / 40); ; most--) {
      const values = ticks(x, Math.max(1, most)), names = labels(values, x.log);
      const at = values.map((value) => w * x.at(value)), sizes = widths(names).map((size) => size / 2);
      if (most < 2 || at.every((place, i) => !i || place - at[i - 1] >= sizes[i] + sizes[i - 1] + GAP)) return { xValues: values, xNames: names };
    }
  }

  function axes(panel, { left, top, w, h, right, up, xValues, xNames, yValues, yNames }) {
    const grid = (ends) => (panel.heat ? [] : [element("line", { class: "grid", ...ends })]);
    const across = xValues.map((value, i) => {
      const x = left + right(value);
      return element("g", { class: "xtick" }, ...grid({ x1: x, x2: x, y1: top, y2: top + h }), text(xNames[i], x, top + h + LINE));
    });
    const upwards = yValues.map((value, i) => {
      const y = top + up(value);
      return element("g", { class: panel.heat ? "ytick small" : "ytick" }, ...grid({ x1: left, x2: left + w, y1: y, y2: y }), text(yNames[i], left - GAP, y, { dy: ".35em" }));
    });
    const line = element("line", { class: "axis", x1: left, x2: left + w, y1: top + h, y2: top + h });
    const middle = top + h / 2;
    const titles = [
      text(panel.x.title, left + w / 2, top + h + 2 * LINE + GAP / 2, { class: "xtitle" }),
      text(panel.y.title, 12, middle, { class: "ytitle", transform: `rotate(-90 12 ${middle})` }),
    ];
    return [...across, ...upwards, line, ...titles];
  }

  // ---- what is drawn in a frame

  const path = (points, stairs) => {
    let last = null;
    return points.map(([x, y]) => {
      const step = last === null || y === null ? "M" : stairs ? `H${x.toFixed(1)}V` : "L";
      last = y;
      return y === null ? "" : step.endsWith("V") ? step + y.toFixed(1) : `${step}${x.toFixed(1)},${y.toFixed(1)}`;
    }).join("");
  };

  function line(series, frame, stairs) {
    const place = (values) => series.x.map((x, i) => [frame.right(x), values[i] === null ? null : frame.up(values[i])]);
    const kind = styles[series.name].dashed ? "line dashed" : "line", points = place(series.y);
    const drawn = [element("path", { class: kind, d: path(points, stairs) })];
    if (series.low) drawn.unshift(element("path", { class: "band", d: path([...place(series.high), ...place(series.low).toReversed()]) }));
    if (series.x.length < look.few && !stairs) drawn.push(...points.filter(([, y]) => y !== null).map(([cx, cy]) => element("circle", { class: "dot", cx, cy, r: 2.5 })));
    return drawn;
  }

  const corners = (count, turn) => Array.from({ length: count }, (_, i) => 2 * Math.PI * (i / count + turn)).map((a) => [Math.cos(a), Math.sin(a)]);
  const PLUS = corners(4, 0).flatMap(([c, s]) => [[-1, 1], [1, 1], [1, 3]].map(([u, v]) => [(c * v - s * u) / 3, (s * v + c * u) / 3]));
  const SHAPES = [ // in the order of MARKS in styles.py
    ...[corners(24, 0), corners(4, 1 / 8), corners(4, 0), corners(3, -1 / 4), corners(3, 1 / 4), PLUS],
    ...[corners(3, 1 / 2), corners(3, 0), corners(6, 1 / 12)],
  ];
  const CROSS = "M-3,-3L3,3M-3,3L3,-3";

  function points(series, frame) {
    const { mark, dashed } = styles[series.name];
    const outline = `M${SHAPES[mark % SHAPES.length].map((corner) => corner.map((x) => (4.5 * x).toFixed(2))).join("L")}Z`;
    const at = (i) => `translate(${frame.right(series.x[i]).toFixed(1)} ${frame.up(series.y[i]).toFixed(1)})`;
    const drawn = series.x.map((_, i) => {
      const diverged = (series.diverged ?? []).includes(i);
      return series.y[i] === null ? "" : element("path", { class: diverged || dashed ? "mark open" : "mark", d: diverged ? CROSS : outline, transform: at(i) });
    });
    if (series.best !== undefined) drawn.push(element("circle", { class: "ring", r: 8.5, transform: at(series.best) }));
    return drawn;
  }

  const channels = look.heat.map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  function colour(share) {
    const place = Math.min(1, Math.max(0, share)) * (channels.length - 1), i = Math.min(Math.floor(place), channels.length - 2);
    return `rgb(${channels[i].map((a, k) => Math.round(a + (place - i) * (channels[i + 1][k] - a)))})`;
  }

  function heat({ x, values, low, high }, { w, h, right }) {
    const canvas = document.createElement("canvas"), sharp = Math.max(2, devicePixelRatio), cell = canvas.getContext("2d");
    Object.assign(canvas, { width: sharp * w, height: sharp * h });
    const columns = edges(x).map((edge) => Math.round(sharp * right(edge))), range = Math.log(high / low) || 1;
    values.forEach((row, i) => {
      const [top, bottom] = [i, i + 1].map((edge) => Math.round((canvas.height * edge) / values.length));
      row.forEach((value, j) => {
        if (value === null) return;
        cell.fillStyle = colour(value > 0 ? Math.log(value / low) / range : 0);
        cell.fillRect(columns[j], top, columns[j + 1] - columns[j], bottom - top);
      });
    });
    return element("image", { class: "heat", href: canvas.toDataURL(), width: w, height: h, preserveAspectRatio: "none" });
  }

  function contents(panel, frame) {
    if (panel.heat) return [heat(panel.heat, frame)];
    return shown(panel).map((series) => {
      const drawn = panel.kind === "points" ? points(series, frame) : line(series, frame, panel.kind === "stairs");
      return element("g", { class: "ink", style: ink(series.name) }, ...drawn);
    });
  }

  const frames = new Map(); // by plot
  function draw(plot, width = plot.clientWidth) {
    const panel = panels.get(plot), height = plot.clientHeight, frame = frameOf(panel, width, height);
    frames.set(plot, frame);
    const { left, top, w, h } = frame;
    const area = element("svg", { class: "area", x: left, y: top, width: w, height: h }, ...contents(panel, frame)); // it hides what lies outside
    plot.replaceChildren(element("svg", { class: "drawing", width, height, "aria-hidden": true }, ...axes(panel, frame), area));
  }

  // ---- what the pointer shows: a title, and lines with the name whose colour they have

  const nearest = (values, distance) => values.reduce((best, value, i) => (distance(value) < distance(values[best]) ? i : best), 0);

  function seen(plot, px, py) {
    const panel = panels.get(plot), { w, h, right, up } = frames.get(plot), { heat: map } = panel;
    if (px < 0 || py < 0 || px > w || py > h) return null;
    if (map) {
      const j = nearest(map.x, (x) => Math.abs(right(x) - px)), i = Math.min(Math.floor((py / h) * map.layers.length), map.layers.length - 1);
      return { title: map.layers[i], lines: [{ words: `${panel.x.title} ${short(map.x[j])}: ${short(map.values[i][j])}` }] };
    }
    const near = shown(panel).map((series) => {
      const away = panel.kind === "points" ? (i) => Math.hypot(right(series.x[i]) - px, up(series.y[i]) - py) : (i) => Math.abs(right(series.x[i]) - px);
      const i = nearest([...series.x.keys()], away);
      return { series, i, distance: away(i) };
    }).sort((a, b) => a.distance - b.distance);
    if (panel.kind !== "points") {
      const lines = near.toSorted((a, b) => b.series.y[b.i] - a.series.y[a.i]).map(({ series, i }) => ({ name: series.name, words: `${styles[series.name].label}: ${short(series.y[i])}` }));
      return near.length ? { title: `${panel.x.title} ${short(near[0].series.x[near[0].i])}`, lines, guide: right(near[0].series.x[near[0].i]) } : null;
    }
    return near[0]?.distance < NEAR ? { title: "", lines: [{ name: near[0].series.name, words: near[0].series.texts[near[0].i] }] } : null;
  }

  const guide = (x, height) => element("line", { class: "guide", x1: x, x2: x, y1: 0, y2: height });
  return { draw, guide, hidden, ink, seen, frame: (plot) => frames.get(plot), all: [...panels.keys()] };
})();
