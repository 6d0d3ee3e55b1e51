"use strict";
(() => {
  const PRINTED_WIDTH = 330; // width of a printed plot, as in page.css
  const root = document.documentElement;
  const redraw = (width) => plots.all.forEach((plot) => plots.draw(plot, width));

  const sizes = new ResizeObserver((changes) => { // the first call has all plots
    for (const { target } of changes) if (target.clientWidth) plots.draw(target);
    root.dataset.drawn ??= performance.now().toFixed(); // milliseconds
  });
  plots.all.forEach((plot) => sizes.observe(plot));
  if (!plots.all.length) root.dataset.drawn = "0";

  function print(now) {
    root.classList.toggle("printing", now);
    document.querySelectorAll(".how").forEach((method) => { method.open = now; });
    redraw(now ? PRINTED_WIDTH : undefined);
  }
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const { optimizer } = button.dataset;
      if (!plots.hidden.delete(optimizer)) plots.hidden.add(optimizer);
      button.setAttribute("aria-pressed", String(!plots.hidden.has(optimizer)));
      redraw();
    });
  }

  // ---- the values under the pointer

  const tip = document.querySelector(".tip");
  function row({ name, words }) {
    const made = document.createElement("p");
    if (name !== undefined) {
      const key = made.appendChild(document.createElement("span"));
      key.className = "key";
      key.style = plots.ink(name);
    }
    made.append(words);
    return made;
  }
  function point({ currentTarget: plot, clientX, clientY }) {
    const { left, top } = plot.getBoundingClientRect(), frame = plots.frame(plot);
    const seen = plots.seen(plot, clientX - left - frame.left, clientY - top - frame.top);
    plot.querySelector(".guide")?.remove();
    tip.hidden = !seen;
    if (!seen) return;
    tip.replaceChildren(...(seen.title ? [row({ words: seen.title })] : []), ...seen.lines.map(row));
    tip.style.left = `${Math.max(0, Math.min(clientX + 14, root.clientWidth - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, Math.min(clientY + 14, innerHeight - tip.offsetHeight))}px`;
    if (seen.guide !== undefined) plot.querySelector(".area").append(plots.guide(seen.guide, frame.h));
  }
  function leave({ currentTarget: plot }) {
    plot.querySelector(".guide")?.remove();
    tip.hidden = true;
  }
  for (const plot of plots.all) {
    plot.addEventListener("pointermove", point);
    plot.addEventListener("pointerdown", point);
    plot.addEventListener("pointerleave", leave);
  }

  // A table that does not fit gets a hint, and can be scrolled by keyboard.
  function mark(table) {
    const cut = table.scrollWidth - table.clientWidth > 1;
    const end = table.scrollWidth - table.clientWidth - table.scrollLeft <= 1;
    table.classList.toggle("cut", cut && !end);
    table.tabIndex = cut ? 0 : -1;
    table.nextElementSibling.hidden = !cut;
  }
  for (const table of document.querySelectorAll(".scroll")) {
    new ResizeObserver(() => mark(table)).observe(table);
    table.addEventListener("scroll", () => mark(table), { passive: true });
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
