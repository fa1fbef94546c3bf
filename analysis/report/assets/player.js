"use strict";
// Plays all clips in lock-step. Knows cells, frames and moments of training, and nothing else of the page.

const urls = new Map();
function address(name) {
  if (!urls.has(name)) {
    const bytes = Uint8Array.from(atob(page.media[name]), (character) => character.charCodeAt(0));
    urls.set(name, URL.createObjectURL(new Blob([bytes], { type: "video/mp4" })));
  }
  return urls.get(name);
}

// Resolves when the cell shows the frame. The middle of a frame's time, because rounding must not show its neighbor.
function seek(cell, frame) {
  const { video, clip } = cell.shown;
  if (!video) return Promise.resolve();
  const time = (Math.min(frame, clip.frames - 1) + 0.5) / clip.fps;
  if (Math.abs(video.currentTime - time) > 1e-4) video.currentTime = time;
  if (!video.seeking) return Promise.resolve();
  return new Promise((done) => video.addEventListener("seeked", done, { once: true }));
}

const hole = (reason) => el("p", { class: "hole" }, reason);

// One version of a cell, ready to be shown: {node, video, clip}, or {node} where there is only a reason.
function prepare(clip, reason, label) {
  if (!clip) return Promise.resolve({ node: hole(reason) });
  const video = el("video", { "aria-label": label, muted: "", playsinline: "", preload: "auto", role: "img" });
  video.width = clip.width;
  video.height = clip.height;
  return new Promise((ready) => {
    video.addEventListener("loadeddata", () => ready({ node: video, video, clip }), { once: true });
    video.addEventListener("error", () => ready({ node: hole("This browser cannot play the clip.") }), { once: true });
    video.src = address(clip.media);
  });
}

const cells = []; // {holder, versions: one {clip, reason, label} per moment of training, ready, shown, seen}
const watch = new IntersectionObserver((changes) => {
  for (const { target, isIntersecting } of changes) {
    const cell = cells.find(({ holder }) => holder === target);
    cell.seen = isIntersecting;
    if (isIntersecting) seek(cell, now.frame);
  }
}, { rootMargin: "25%" });

function addCell(holder, versions) {
  cells.push({ holder, versions, ready: [], shown: {}, seen: true });
  watch.observe(holder);
}

// ---- The clock. The next frame waits until every visible clip shows this one: that is what lock-step means.

const now = { frame: 0, frames: 1, fps: 8, moment: 0, playing: null, turn: 0 };

async function show(frame) {
  now.frame = (frame + now.frames) % now.frames;
  $("frame").value = now.frame;
  $("count").textContent = `${now.frame + 1} / ${now.frames}`;
  $("frame").setAttribute("aria-valuetext", `frame ${now.frame + 1} of ${now.frames}`);
  const wanted = now.frame;
  await Promise.all(cells.filter((cell) => cell.seen).map((cell) => seek(cell, wanted)));
  document.body.dataset.frame = wanted;
}

async function play() {
  const loop = (now.playing = {}); // a later loop replaces it, and this one ends
  $("play").textContent = "Pause";
  while (now.playing === loop) {
    const due = performance.now() + 1000 / (now.fps * Number($("speed").value));
    await show(now.frame + 1);
    await new Promise((wake) => setTimeout(wake, Math.max(0, due - performance.now())));
  }
}

function pause() {
  now.playing = null;
  $("play").textContent = "Play";
}

const toggle = () => (now.playing ? pause() : play());

function step(by) {
  pause();
  show(now.frame + by);
}

// Switches every cell to a moment of training, all at once, when the last of them is ready.
async function choose(moment) {
  const turn = ++now.turn;
  now.moment = moment;
  const radio = $("moments").querySelectorAll("input")[moment];
  if (radio) radio.checked = true;
  const next = await Promise.all(cells.map((cell) => {
    const { clip, reason, label } = cell.versions[Math.min(moment, cell.versions.length - 1)];
    return (cell.ready[moment] ??= prepare(clip, reason, label));
  }));
  if (turn !== now.turn) return;
  cells.forEach((cell, i) => { cell.shown = next[i]; });
  await show(now.frame);
  cells.forEach((cell) => { if (cell.holder.firstChild !== cell.shown.node) cell.holder.replaceChildren(cell.shown.node); });
  document.body.dataset.moment = moment;
  if (page.fractions.length) $("announcement").textContent = `Samples after ${percent(page.fractions[moment], 0)} of training`;
}

// ---- Pointer and keyboard.

function listen() {
  $("play").addEventListener("click", toggle);
  $("back").addEventListener("click", () => step(-1));
  $("forward").addEventListener("click", () => step(1));
  $("frame").addEventListener("input", () => { pause(); show(Number($("frame").value)); });
  $("help").addEventListener("click", () => $("keys").showModal());
  document.addEventListener("visibilitychange", () => { if (document.hidden) pause(); });
  const later = (by) => choose(Math.max(0, Math.min(page.fractions.length - 1, now.moment + by)));
  const keys = {
    " ": toggle, ArrowLeft: () => step(-1), ArrowRight: () => step(1), "[": () => later(-1), "]": () => later(1),
    "?": () => ($("keys").open ? $("keys").close() : $("keys").showModal()),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
    // Space and the arrows keep their own meaning on a focused control.
    if (event.key.length > 1 && event.target.closest("input, select, .scroll, pre")) return;
    if (event.key === " " && event.target.closest("button, input, select, summary, a")) return;
    event.preventDefault();
    keys[event.key]();
  });
}
