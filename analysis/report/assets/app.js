"use strict";
// Fills the sections, from top to bottom, and starts the clips.

const runOf = (column) => page.runs.find((run) => run.run_id === column.run_id);

// One small square per multiple of the base compute: 4x is four squares.
function squares(multiple) {
  const n = Math.round(multiple);
  if (!(n >= 1 && n <= 64)) return null;
  return el("span", { class: "squares", "aria-hidden": "true" }, ...Array.from({ length: n }, () => el("i")));
}

function columnHeader(column, base) {
  const run = runOf(column);
  const ratio = run?.train_flops / base?.train_flops;
  const fvd = metricOf(run, "fvd");
  const facts = el("dl", {});
  const fact = (name, text, title) => facts.append(el("dt", { title }, name), valued("dd", text));
  fact("C", power(run?.train_flops), "Training FLOPs");
  fact("N", count(run?.n_params), "Parameters without embeddings");
  fact("D", count(run?.num_tokens), "Training tokens");
  fact("L", measured(metricOf(run, "val_loss"), 4), "Validation loss");
  fact("FVD", measured(fvd, 1), "Fréchet video distance");
  const limit = metricOf(run, "fvd_infinity");
  if (limit) fact("FVD∞", measured(limit, 1), "Extrapolated to infinitely many clips");
  return el("div", { role: "columnheader", class: "column" },
    squares(ratio), el("p", { class: "compute" }, times(column.compute)),
    el("p", { class: "sub" }, column.reason || (run === base ? "the reference" : ratio ? `${ratio.toFixed(1)}× the FLOPs of ${page.columns[0].compute}` : NONE)), facts);
}

function fillComparison() {
  const base = page.columns.length ? runOf(page.columns[0]) : null;
  const grid = $("grid");
  const playable = page.clips.some((clip) => clip.path);
  if (!playable) {
    $("comparison-missing").append(page.missing.comparison);
    $("comparison-missing").className = "absent";
  }
  grid.style.setProperty("--columns", page.columns.length);
  if (page.columns.length) {
    grid.append(el("div", { role: "row", class: "head" },
      el("div", { role: "columnheader", class: "prompt" }, el("span", { class: "hidden" }, "Prompt")),
      ...page.columns.map((column) => columnHeader(column, base))));
  }
  page.prompts.forEach((prompt, index) => {
    const row = el("div", { role: "row" },
      el("div", { role: "rowheader", class: "prompt" }, prompt.text, el("small", {}, `seed ${prompt.seed}`)));
    for (const { compute } of page.columns) {
      const holder = el("div", { role: "cell", class: "cell" });
      row.append(holder);
      addCell(holder, page.fractions.map((fraction) => {
        const sample = page.clips.find((c) => c.compute === compute && c.fraction === fraction && c.prompt === index);
        const moment = `${percent(fraction, 0)} of training`;
        const reason = sample ? sample.reason : `not sampled after ${moment}`;
        return { clip: sample?.path, reason, label: `${compute} compute, ${moment}: ${prompt.text}` };
      }).concat(page.fractions.length ? [] : [{ reason: "not sampled" }]));
    }
    grid.append(row);
  });
  page.fractions.forEach((fraction, moment) => {
    const radio = el("input", { type: "radio", name: "moment" });
    radio.addEventListener("change", () => choose(moment));
    $("moments").append(el("label", {}, radio, el("span", {}, percent(fraction, 0))));
  });
  const metrics = page.columns.map((column) => metricOf(runOf(column), "fvd")).filter(Boolean);
  const ways = [...new Set(metrics.map(circumstances))].filter(Boolean);
  if (ways.length) grid.after(el("p", { class: "fine" }, `FVD over ${ways.join("; ")}. L is ± one standard error.`));
}

function fillForecast() {
  const p = page.prediction;
  if (!p) return $("forecast").append(el("p", { class: "absent" }, page.missing.prediction));
  const interval = known(p.low) && known(p.high);
  const wide = interval ? `, between ${p.low.toFixed(4)} and ${p.high.toFixed(4)}${known(p.level) ? ` with ${percent(p.level, 0)} probability` : ""}` : "";
  $("forecast").append(el("p", {},
    `Forecast from the smaller runs alone: ${power(p.target_flops)} FLOPs are best spent on ` +
    `${count(p.n_params)} parameters and ${count(p.num_tokens)} tokens, and reach a loss of `,
    el("strong", {}, p.val_loss.toFixed(4)), `${wide}.`));
  if (!known(p.measured)) {
    $("forecast").append(el("p", { class: "absent" }, "The predicted run has not been measured."));
  } else {
    const off = p.relative_error;
    $("forecast").append(el("p", {}, "The run was then trained, and measured ", el("strong", {}, p.measured.toFixed(4)),
      known(p.inside) ? `, ${p.inside ? "inside" : "outside"} the interval` : "",
      known(off) ? `; the forecast was ${percent(Math.abs(off), 2)} too ${off > 0 ? "high" : "low"}.` : "."));
  }
  if (interval) $("forecast").append(intervalStrip(p));
}

function intervalStrip(p) {
  const marks = [p.low, p.high, p.val_loss, p.measured].filter(known);
  const low = Math.min(...marks), span = Math.max(...marks) - low || 1;
  const at = (x) => 6 + (88 * (x - low)) / span;
  const strip = el("div", { class: "strip", "aria-hidden": "true" });
  const mark = (kind, x, name) => {
    const node = el("span", { class: kind }, name ? el("b", {}, name) : null);
    node.style.left = `${at(x)}%`;
    strip.append(node);
    return node;
  };
  mark("band", p.low).style.width = `${at(p.high) - at(p.low)}%`;
  mark("predicted", p.val_loss, "predicted");
  if (known(p.measured)) mark("measured", p.measured, "measured");
  return strip;
}

function picture(figure) {
  return el("figure", {}, el("img", { src: figure.path, alt: figure.title }),
    el("figcaption", {}, el("strong", {}, figure.title), ` ${figure.caption}`));
}

function fillFigures() {
  $("figures").append(...page.figures.map(picture));
  if (!page.figures.length) $("figures").append(el("p", { class: "absent" }, page.missing.figures));
}

function fillTuning() {
  if (page.tuning) $("trials").append(picture(page.tuning));
  else $("tuning").remove();
}

// Title, value to sort by, text to show.
const COLUMNS = [
  ["Run", (run) => run.run_id, (run) => run.run_id],
  ["Compute", (run) => run.flop_budget, (run) => times(run.compute) || "–"],
  ["N", (run) => run.n_params, (run) => count(run.n_params)],
  ["D", (run) => run.num_tokens, (run) => count(run.num_tokens)],
  ["C", (run) => run.train_flops, (run) => power(run.train_flops)],
  ["L", (run) => valueOf(run, "val_loss"), (run) => (known(run.diverged_at) ? "diverged" : measured(metricOf(run, "val_loss"), 4))],
  ["FVD", (run) => valueOf(run, "fvd"), (run) => measured(metricOf(run, "fvd"), 1)],
  ["Steps", (run) => run.steps, (run) => (known(run.steps) ? plain.format(run.steps) : NONE)],
  ["Time", (run) => run.wall_seconds, (run) => duration(run.wall_seconds)],
  ["FLOP/s", (run) => run.flops_per_second, (run) => power(run.flops_per_second)],
];

function fillTable() {
  if (!page.runs.length) return $("table").append(el("p", { class: "absent" }, page.missing.runs));
  const body = el("tbody", {});
  const heads = COLUMNS.map(([title]) => el("th", { scope: "col" }, el("button", { type: "button" }, title)));
  const vaes = [...new Set(page.runs.map((run) => run.vae_id || "not recorded"))];
  const shown = new Set(page.columns.map((column) => column.run_id));
  const draw = (runs) => body.replaceChildren(...runs.map((run) => el("tr", shown.has(run.run_id) ? { class: "shown" } : {},
    ...COLUMNS.map(([, , text], i) => (i ? valued("td", text(run)) : el("th", { scope: "row" }, text(run)))))));
  heads.forEach((head, i) => head.firstChild.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const key = COLUMNS[i][1];
    const [have, lack] = [page.runs.filter((run) => known(key(run))), page.runs.filter((run) => !known(key(run)))];
    draw([...have.sort((a, b) => sign * (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0)), ...lack]); // runs without the value come last
  }));
  draw(page.runs);
  $("table").append(
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of runs" },
      el("table", {}, el("thead", {}, el("tr", {}, ...heads)), body)),
    el("p", { class: "fine" }, `Press a heading to sort. A bar marks the runs of the comparison. VAE: ${vaes.join(", ")}.`));
}

// What is measured of a VAE: its name for the reader, digits, unit.
const FIDELITY = {
  psnr: ["PSNR", 2, " dB"],
  ssim: ["SSIM", 4, ""],
  lpips: ["LPIPS", 4, ""],
  rfvd: ["rFVD", 1, ""],
  rfvd_infinity: ["rFVD at infinitely many clips", 1, ""],
};

function fillReconstructions() {
  if (!page.vae) return $("reconstructions").append(el("p", { class: "absent" }, page.missing.vae));
  const facts = el("dl", { class: "words" }, el("dt", {}, "VAE"), el("dd", {}, page.vae.run.run_id));
  for (const metric of page.vae.run.metrics) {
    const [how, [name, digits, unit]] = [circumstances(metric), FIDELITY[metric.name] || [metric.name, 2, ""]];
    facts.append(el("dt", {}, name), el("dd", {}, measured(metric, digits) + unit + (how ? ` (${how})` : "")));
  }
  const pairs = el("div", { class: "pairs" });
  page.vae.pairs.forEach((pair, i) => {
    const halves = ["original", "decoded"].map((side) => {
      const holder = el("div", { class: "cell" });
      addCell(holder, [{ clip: pair[side], label: `Clip ${i + 1}, ${side}` }]);
      return el("figure", {}, holder, el("figcaption", {}, side));
    });
    pairs.append(el("div", { class: "pair" }, ...halves));
  });
  $("reconstructions").append(facts, pairs);
}

function fillRecipe() {
  const recipe = page.recipe;
  if (!recipe) $("steps").append(el("p", { class: "absent" }, page.missing.recipe));
  else {
    if (recipe.commands.length) $("steps").append(el("pre", { tabindex: "0" }, recipe.commands.join("\n")));
    const groups = { Code: { revision: recipe.git_revision || "not recorded" }, Versions: recipe.versions, Seeds: recipe.seeds,
      Settings: recipe.settings, Stages: recipe.stage_ids };
    for (const [title, group] of Object.entries(groups)) {
      const rows = Object.entries(group).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]);
      if (rows.length) $("steps").append(el("details", {}, el("summary", {}, title), el("dl", { class: "words" }, ...rows)));
    }
  }
}

$("sweep").append(page.sweep ? `Sweep ${page.sweep}` : "");
$("title").append(page.title);
fillComparison();
fillForecast();
fillFigures();
fillTuning();
fillTable();
fillReconstructions();
fillRecipe();

const clips = cells.flatMap((cell) => cell.versions.map(({ clip }) => clip)).filter(Boolean);
if (clips.length) {
  now.frames = Math.max(...clips.map((clip) => clip.frames));
  now.fps = Math.max(...clips.map((clip) => clip.fps));
  $("frame").max = now.frames - 1;
  listen();
} else {
  $("controls").hidden = true;
}
choose(Math.max(0, page.fractions.length - 1)).then(() => {
  if (clips.length && !matchMedia("(prefers-reduced-motion: reduce)").matches) play();
});
