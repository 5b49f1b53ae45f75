// Brings token views to life: steps through blocks and strata, and shows a token's path on hover and by keyboard.
(() => {
"use strict";

window.smoeTokenView = (root) => {
  for (const view of root.querySelectorAll(".token-view[data-blocks]:not([data-alive])")) {
    view.dataset.alive = "";
    const blocks = JSON.parse(view.dataset.blocks);
    if (blocks.length) new TokenView(view, blocks);
  }
};

// Where the mouse moved last. A page that scrolls under a mouse at rest lets it enter tokens, and whoever uses the
// keyboard did not choose these.
let mouse = "";
document.addEventListener("mousemove", (event) => (mouse = spot(event)));

function spot(event) {
  return `${event.clientX} ${event.clientY}`;
}

class TokenView {
  constructor(view, blocks) {
    this.view = view;
    this.blocks = blocks;
    // Steps: null (the mean over blocks), then each block as a whole, then each of its strata.
    this.steps = [null];
    for (const block of blocks) {
      this.steps.push({ block, stratum: null });
      block.strata.forEach((_, stratum) => this.steps.push({ block, stratum }));
    }
    this.sides = [...view.querySelectorAll(".tv-side")].map((element) => ({
      element,
      name: element.dataset.side,
      tokens: [...element.querySelectorAll("button.tv-token")],
    }));
    for (const side of this.sides) {
      side.data = side.tokens.map((token) => JSON.parse(token.dataset.token));
      this.listenTo(side);
    }
    this.find = (name) => view.querySelector(name);
    this.buildControls();
    this.show(0);
  }

  buildControls() {
    const select = this.find(".tv-place");
    this.steps.forEach((step, number) => {
      const name = !step ? "all blocks (mean)" : step.block.name + (step.stratum === null ? "" : `, stratum ${step.stratum}`);
      select.add(new Option(name, number));
    });
    select.addEventListener("change", () => this.show(Number(select.value)));
    this.find(".tv-back").addEventListener("click", () => this.show(this.at - 1));
    this.find(".tv-next").addEventListener("click", () => this.show(this.at + 1));
    this.find(".tv-play").addEventListener("click", () => (this.timer ? this.stop() : this.play()));
    this.find(".tv-controls").hidden = false;
  }

  play() {
    if (this.at === this.steps.length - 1) this.show(0);
    this.timer = setInterval(() => {
      if (!this.view.isConnected || this.at === this.steps.length - 1) this.stop();
      else this.show(this.at + 1);
    }, 1300);
    this.markPlay();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = undefined;
    this.markPlay();
  }

  markPlay() {
    const button = this.find(".tv-play");
    button.textContent = this.timer ? "Pause" : "Play";
    button.setAttribute("aria-pressed", String(Boolean(this.timer)));
  }

  show(number) {
    this.at = Math.max(0, Math.min(number, this.steps.length - 1));
    const step = this.steps[this.at];
    this.find(".tv-place").value = this.at;
    this.find(".tv-back").disabled = this.at === 0;
    this.find(".tv-next").disabled = this.at === this.steps.length - 1;
    this.view.classList.toggle("tv-in-block", Boolean(step));
    for (const side of this.sides) {
      const shown = Boolean(step) && step.block.side === side.name;
      side.element.classList.toggle("tv-shown", shown);
      side.tokens.forEach((token, t) => this.paint(token, side.data[t], shown ? step : null));
    }
    this.find(".tv-caption").textContent = this.caption(step);
    this.detail();
  }

  paint(token, data, step) {
    const place = step ? step.block.index + 1 : 0;
    if (!data.rc.length) return;
    const chip = token.querySelector(".tv-chip");
    chip.className = `tv-chip tv-c${data.level[place]}`;
    token.querySelector(".tv-rc").textContent = step && step.block.heads === 1 ? data.rc[place] : data.rc[place].toFixed(2);
    if (step) this.paintLanes(token, data.paths[step.block.index], step);
    token.classList.toggle("tv-away", Boolean(step) && step.stratum !== null && !passes(data.paths[step.block.index], step.stratum));
  }

  paintLanes(token, slices, { block, stratum }) {
    const lanes = token.querySelector(".tv-lanes");
    if (lanes.dataset.block !== block.name) {
      lanes.dataset.block = block.name;
      lanes.replaceChildren(...block.strata.map(() => element("span", "tv-cell")), element("span", "tv-exit", "out"));
      if (block.heads === 1) lanes.append(element("span", "tv-dot"));
    }
    const cells = lanes.querySelectorAll(".tv-cell");
    cells.forEach((cell, i) => {
      const some = slices.map((path) => path.find((pass) => pass[0] === i)).filter(Boolean);
      const later = stratum !== null && i > stratum;
      cell.className = "tv-cell" + (later ? " tv-later" : some.length ? " tv-passed" : "") + (i === stratum ? " tv-now" : "");
      cell.textContent = !some.length || later ? "\u00a0" : block.heads > 1 ? `${some.length}/${block.heads}` : some[0][1].map((pair) => pair[0]).join("\u00a0") || "-";
    });
    const dot = lanes.querySelector(".tv-dot");
    if (!dot) return;
    // Where the token is: in the first stratum from this one on that it passes, or out.
    const next = slices[0].find((pass) => stratum !== null && pass[0] >= stratum);
    const target = next ? cells[next[0]] : lanes.querySelector(".tv-exit");
    dot.style.transform = `translateY(${target.offsetTop + target.offsetHeight / 2 - dot.offsetHeight / 2}px)`;
  }

  caption(step) {
    if (!step) return "Mean requested capacity (strata passed) over the blocks of a side.";
    const { block, stratum } = step;
    const data = this.sides.find((side) => side.name === block.side).data;
    if (stratum === null) {
      const mean = data.reduce((sum, token) => sum + token.rc[block.index + 1], 0) / data.length;
      const cells = block.heads > 1 ? "slices of the token that pass each stratum" : "experts taken in each stratum";
      return `${block.name}: requested capacity ${mean.toFixed(2)} on average. Boxes below a token: ${cells}, the first stratum on top; a dashed box was jumped over.`;
    }
    const slices = data.flatMap((token) => token.paths[block.index]);
    const here = slices.filter((path) => path.some((pass) => pass[0] === stratum)).length;
    const out = slices.filter((path) => path.every((pass) => pass[0] < stratum)).length;
    const what = block.heads > 1 ? "slices of tokens" : "tokens";
    const jump = slices.length - here - out;
    return `${block.name}, stratum ${stratum} of 0 to ${block.strata.length - 1}: of ${slices.length} ${what}, ${here} passing it, ${jump} jumping over it to a later one, ${out} out already.`;
  }

  listenTo(side) {
    side.tokens.forEach((token, t) => {
      token.tabIndex = t === 0 ? 0 : -1;
      token.addEventListener("mouseenter", (event) => {
        if (spot(event) !== mouse) this.select(side, t);
      });
      token.addEventListener("focus", () => this.select(side, t));
      token.addEventListener("click", () => this.select(side, t));
      token.addEventListener("keydown", (event) => this.key(event, side, t));
    });
  }

  key(event, side, t) {
    const rtl = getComputedStyle(token(side, t)).direction === "rtl";
    const on = rtl ? "ArrowLeft" : "ArrowRight";
    const back = rtl ? "ArrowRight" : "ArrowLeft";
    const to = { [on]: t + 1, [back]: t - 1, Home: 0, End: side.tokens.length - 1 }[event.key];
    if (event.key === "Escape") this.select(null);
    if (to === undefined || !side.tokens[to]) return;
    event.preventDefault();
    side.tokens.forEach((one, number) => (one.tabIndex = number === to ? 0 : -1));
    side.tokens[to].focus();
  }

  select(side, t) {
    this.selected = side ? { side, t } : null;
    for (const one of this.sides) one.tokens.forEach((token, number) => token.setAttribute("aria-pressed", String(one === side && number === t)));
    this.detail();
  }

  detail() {
    const panel = this.find(".tv-detail");
    panel.hidden = !this.selected;
    if (!this.selected) return;
    const { side, t } = this.selected;
    const data = side.data[t];
    const head = element("div");
    const name = element("bdi", "", token(side, t).querySelector("bdi").textContent);
    const strong = element("strong");
    strong.append(name);
    head.append(strong, ` ${side.name}, position ${t + 1}; requested capacity ${data.rc[0].toFixed(2)} (mean over blocks)`);
    const table = element("table");
    const top = table.createTHead().insertRow();
    for (const title of ["block", "RC", "strata passed: experts (weights)"]) top.append(element("th", "", title));
    const step = this.steps[this.at];
    for (const block of this.blocks.filter((one) => one.side === side.name)) {
      const row = (table.tBodies[0] || table.createTBody()).insertRow();
      if (step && step.block === block) row.className = "tv-now";
      row.append(element("th", "", block.name), element("td", "", data.rc[block.index + 1].toFixed(2)), element("td", "", data.paths[block.index].map(spell).join("; ")));
    }
    const close = element("button", "tv-close", "\u00d7");
    close.type = "button";
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", () => this.select(null));
    panel.replaceChildren(close, head, table);
  }
}

function token(side, t) {
  return side.tokens[t];
}

function passes(slices, stratum) {
  return slices.some((path) => path.some((pass) => pass[0] === stratum));
}

// A path in words: "0: 1 (0.62), 5 (0.38) → 2: 4 (1) → out".
function spell(path) {
  const parts = path.map(([stratum, taken]) => `${stratum}: ${taken.map(([expert, weight]) => `${expert} (${weight})`).join(", ") || "none"}`);
  return [...parts, "out"].join(" \u2192 ");
}

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

const begin = () => window.smoeTokenView(document);
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
else begin();
})();
