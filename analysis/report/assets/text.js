"use strict";
// The page's data, and how elements and numbers are written. Text from the data only ever becomes a text node, so a
// caption cannot become markup.

const page = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

// ---- Numbers as people write them; null is shown in words, never as 0.

const NONE = "not measured";
const known = (value) => value !== null && value !== undefined;
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const plain = new Intl.NumberFormat("en");
const count = (x) => (known(x) ? compact.format(x).replace(/(\d)([A-Z])/, "$1\u00a0$2") : NONE);
const raised = (n) => String(n).replace(/./g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]));
const percent = (x, digits) => `${(100 * x).toFixed(digits)}\u00a0%`;
const times = (label) => label.replace(/^([\d.]+)x$/, "$1×");

function power(x) {
  if (!known(x)) return NONE;
  const [digits, exponent] = x.toExponential(2).split("e");
  return `${digits}\u00a0×\u00a010${raised(Number(exponent))}`;
}

function duration(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds < 120) return `${seconds.toFixed(0)} s`;
  if (seconds < 7200) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

const metricOf = (run, name) => (run ? run.metrics.find((metric) => metric.name === name) : undefined);
const valueOf = (run, name) => metricOf(run, name)?.value;

function measured(metric, digits) {
  if (!metric) return NONE;
  const spread = known(metric.standard_error) ? ` ± ${metric.standard_error.toFixed(digits)}` : "";
  return metric.value.toFixed(digits) + spread;
}

// How a metric was taken, for the words under a number: clips, extractor, settings.
function circumstances(metric) {
  const short = (value) => (typeof value === "number" ? Number(value.toPrecision(4)) : value);
  const settings = Object.entries(metric.settings).map(([name, value]) => `${name} ${short(value)}`);
  return [known(metric.n) ? `${metric.n} clips` : null, metric.extractor, ...settings].filter(Boolean).join(", ");
}

const valued = (tag, text) => el(tag, text === NONE ? { class: "none" } : {}, text);
