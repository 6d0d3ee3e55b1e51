// The toy of docs/why.md: minimise (1 - cos(w, w*))^2 in the plane, w* = (0, -1), in the browser.
// Its steps are those of tangential_lab.theory.cosine_2d; tests/docs/test_toy.py compares the numbers.
"use strict";

const EPS = 1e-8, DELTA = 0.1, STEPS = 500; // defaults of SGDP, and of the toy
const LEAST_LOSS = 1e-6; // lower end of the loss axis
const RUNS = [
  { name: "SGD", className: "plain", project: false, usesMomentum: false },
  { name: "SGD + momentum", className: "momentum", project: false, usesMomentum: true },
  { name: "SGDP", className: "projected", project: true, usesMomentum: true },
];

/** Loss and gradient at w = [x, y]; the loss depends only on the direction of w. */
function lossAt([x, y]) {
  const norm = Math.hypot(x, y), cosine = -y / norm;
  const dCosine = [(-cosine * x / norm) / norm, (-1 - cosine * y / norm) / norm];
  return { loss: (1 - cosine) ** 2, grad: dCosine.map((d) => -2 * (1 - cosine) * d) };
}

/** The radial part of u as a multiple of w, where the published gate fires; else 0. */
function radialPart(w, g, u) {
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
  const norms = Math.max(Math.sqrt(dot(w, w)), EPS) * Math.max(Math.sqrt(dot(g, g)), EPS);
  const fires = Math.abs(dot(w, g)) / norms < DELTA / Math.sqrt(2);
  return fires ? dot(u, w) / (Math.sqrt(dot(w, w)) + EPS) ** 2 : 0;
}

/** Weights and norms [steps + 1], and the loss before each step [steps]. */
function follow({ lr, momentum, project }, steps = STEPS) {
  let w = [Math.sin(0.001), Math.cos(0.001)], u = [0, 0];
  const weights = [w], losses = [];
  for (let step = 0; step < steps; step++) {
    const { loss, grad } = lossAt(w);
    u = u.map((x, i) => momentum * x + grad[i]);
    const coef = project ? radialPart(w, grad, u) : 0;
    w = w.map((x, i) => x - lr * (u[i] - coef * x));
    weights.push(w);
    losses.push(loss);
  }
  return { weights, norms: weights.map(([x, y]) => Math.hypot(x, y)), losses };
}

globalThis.tangentialToy = { follow };

// ---- the page

const SVG = "http://www.w3.org/2000/svg", SIZE = 300, MARGIN = { left: 44, right: 12, top: 28, bottom: 36 };

function element(parent, name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

/** Some round numbers from low to high. */
function ticks(low, high) {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((x) => x * power >= rough);
  const first = Math.ceil(low / step - 1e-9), count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => [(first + i) * step, String(+((first + i) * step).toPrecision(6))]);
}

function powers(low, high) {
  const all = [];
  for (let p = Math.ceil(low); p <= high; p++) all.push([p, p === 0 ? "1" : `1e${p}`]);
  return all;
}

/** Draw axes; return functions from values to places. */
function axes(svg, { title, x, y, xTicks, yTicks, xLabel }) {
  const right = SIZE - MARGIN.right, bottom = SIZE - MARGIN.bottom;
  const place = (value, [low, high], from, to) => from + ((value - low) / (high - low)) * (to - from);
  const px = (value) => place(value, x, MARGIN.left, right), py = (value) => place(value, y, bottom, MARGIN.top);
  element(svg, "text", { x: MARGIN.left, y: 16, class: "title" }, title);
  element(svg, "path", { d: `M${MARGIN.left},${MARGIN.top}V${bottom}H${right}`, class: "axis" });
  for (const [value, label] of xTicks) element(svg, "text", { x: px(value), y: bottom + 15, class: "tick middle" }, label);
  for (const [value, label] of yTicks) element(svg, "text", { x: MARGIN.left - 5, y: py(value) + 4, class: "tick end" }, label);
  element(svg, "text", { x: right, y: SIZE - 6, class: "tick end" }, xLabel);
  return { px, py };
}

function line(svg, className, xs, ys) {
  const points = xs.map((x, i) => `${x.toFixed(2)},${ys[i].toFixed(2)}`).join(" ");
  element(svg, "polyline", { points, class: className });
  element(svg, "circle", { cx: xs.at(-1), cy: ys.at(-1), r: 4, class: className });
}

function drawPlane(svg, results) {
  const all = results.flatMap((result) => result.weights);
  const range = (i) => [Math.min(-1, ...all.map((w) => w[i])), Math.max(1, ...all.map((w) => w[i]))];
  const [x, y] = [range(0), range(1)], half = 0.53 * Math.max(x[1] - x[0], y[1] - y[0]);
  const around = ([low, high]) => [(low + high) / 2 - half, (low + high) / 2 + half];
  const [xs, ys] = [around(x), around(y)];
  const options = { title: "path of w", x: xs, y: ys, xTicks: ticks(...xs), yTicks: ticks(...ys), xLabel: "w₁" };
  const { px, py } = axes(svg, options);
  element(svg, "ellipse", { cx: px(0), cy: py(0), rx: px(1) - px(0), ry: py(0) - py(1), class: "circle" });
  element(svg, "path", { d: `M${px(0)},${py(0)}V${py(ys[0])}`, class: "optimum" });
  for (const { className, weights } of results) {
    line(svg, className, weights.map((w) => px(w[0])), weights.map((w) => py(w[1])));
    for (let i = 0; i < weights.length; i += 50) element(svg, "circle", { cx: px(weights[i][0]), cy: py(weights[i][1]), r: 2.5, class: className });
  }
}

function drawOverSteps(svg, results, title, valuesOf, y, yTicks) {
  const x = [0, STEPS], { px, py } = axes(svg, { title, x, y, xTicks: ticks(...x), yTicks, xLabel: "step" });
  for (const result of results) {
    const values = valuesOf(result);
    line(svg, result.className, values.map((_, i) => px(i)), values.map((value) => py(value)));
  }
}

function draw(toy) {
  const [momentum, power] = [...toy.querySelectorAll("input")].map((input) => Number(input.value));
  const lr = 10 ** power;
  const results = RUNS.map((run) => ({ ...run, ...follow({ lr, momentum: run.usesMomentum ? momentum : 0, project: run.project }) }));
  const [shownMomentum, shownLr] = toy.querySelectorAll("output");
  shownMomentum.textContent = momentum.toFixed(2);
  shownLr.textContent = lr.toPrecision(2);
  const [plane, norm, loss] = toy.querySelectorAll("svg");
  for (const svg of [plane, norm, loss]) svg.replaceChildren();
  drawPlane(plane, results);
  const highest = Math.max(1.2, ...results.flatMap((result) => result.norms)), norms = [0, 1.05 * highest];
  drawOverSteps(norm, results, "norm of w", (result) => result.norms, norms, ticks(...norms));
  const logs = (result) => result.losses.map((value) => Math.log10(Math.max(value, LEAST_LOSS)));
  const losses = [Math.log10(LEAST_LOSS), Math.log10(8)];
  drawOverSteps(loss, results, "loss (log scale)", logs, losses, powers(...losses));
  toy.querySelectorAll("tbody tr").forEach((row, i) => {
    row.cells[1].textContent = results[i].norms.at(-1).toFixed(2);
    row.cells[2].textContent = results[i].losses.at(-1).toExponential(1);
  });
}

function slider(label, min, max, step, value) {
  return `<label>${label} <input type="range" min="${min}" max="${max}" step="${step}" value="${value}"><output></output></label>`;
}

function start(toy) {
  const rows = RUNS.map((run) => `<tr><th scope="row"><i class="${run.className}"></i> ${run.name}</th><td></td><td></td></tr>`);
  const svg = (label) => `<svg viewBox="0 0 ${SIZE} ${SIZE}" role="img" aria-label="${label}"></svg>`;
  toy.innerHTML = `<div class="controls">${slider("momentum", 0, 0.99, 0.01, 0.9)}${slider("learning rate", -3, -1, 0.05, -2)}</div>
    <div class="plots">${svg("Path of the weight in the plane")}${svg("Norm over steps")}${svg("Loss over steps")}</div>
    <table><thead><tr><th scope="col">after 500 steps</th><th scope="col">norm</th><th scope="col">loss</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
  toy.addEventListener("input", () => draw(toy));
  draw(toy);
  toy.dataset.drawn = "";
}

document.querySelectorAll("[data-toy]").forEach(start);
