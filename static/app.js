// The pages work without this. With it, they refresh in place, times are local, and weights sum to 100 %.
"use strict";

// ---------------------------------------------------------------- times, as the reader's clock says

function localTimes(root) {
  const today = new Date().toDateString();
  for (const time of root.querySelectorAll("time[data-show='clock']")) {
    const at = new Date(time.dateTime);
    const sameDay = at.toDateString() === today;
    time.textContent = sameDay
      ? at.toLocaleTimeString()
      : at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    time.title = `${at.toLocaleString()} (${time.dateTime})`;
  }
  for (const time of root.querySelectorAll("time[data-show='minute']")) {
    const at = new Date(time.dateTime);
    const sameDay = at.toDateString() === today;
    const minute = { hour: "2-digit", minute: "2-digit" };
    time.textContent = at.toLocaleString([], sameDay ? minute : { ...minute, day: "numeric", month: "short" });
    time.title = at.toLocaleString();
  }
  for (const label of root.querySelectorAll("text[data-at]")) {
    const at = new Date(label.dataset.at);
    label.textContent =
      at.getHours() + at.getMinutes() === 0
        ? at.toLocaleDateString([], { day: "numeric", month: "short" })
        : at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  }
}

// ---------------------------------------------------------------- refreshing without losing focus or scroll

function sameKind(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
}

function patch(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    const theirs = old.nodeName === "DETAILS" && name === "open";
    if (!fresh.hasAttribute(name) && !theirs) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    const theirs = old.nodeName === "DETAILS" && name === "open";
    if (old.getAttribute(name) !== value && !theirs) old.setAttribute(name, value);
  }
  patchChildren(old, fresh);
}

function patchChildren(old, fresh) {
  const wanted = [...fresh.childNodes];
  wanted.forEach((node, index) => {
    const mine = old.childNodes[index];
    if (!mine) old.append(node);
    else if (sameKind(mine, node)) patch(mine, node);
    else mine.replaceWith(node);
  });
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

function isTyping(part) {
  const focus = document.activeElement;
  return focus && part.contains(focus) && focus.matches("input, textarea, select");
}

// What a form shows of changes that are not applied yet stays until it is sent.
function isPreview(part) {
  const form = document.getElementById(part.dataset.with);
  return form && "changed" in form.dataset;
}

async function refresh() {
  // An answer to a form stands at the form's address, which may be another page's.
  const source = document.getElementById("main").dataset.source || location.href;
  const answer = await fetch(source, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) throw new Error(`answered ${answer.status}`);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  localTimes(fresh);
  copyButtons(fresh);
  for (const part of document.querySelectorAll("[data-live][id]")) {
    const twin = fresh.getElementById(part.id);
    if (twin && !isTyping(part) && !isPreview(part)) patch(part, twin);
  }
  readAgain();
  document.title = fresh.title;
  const main = fresh.getElementById("main");
  document.getElementById("main").dataset.refresh = main.dataset.refresh || "";
}

const SELDOM_S = 60;
let failures = 0;
let shownAt = new Date();
let timer = 0;

function waitS() {
  const wanted = Number(document.getElementById("main").dataset.refresh);
  if (!wanted) return 0;
  return document.hidden ? SELDOM_S : Math.min(wanted * 2 ** failures, SELDOM_S);
}

function schedule() {
  clearTimeout(timer);
  const seconds = waitS();
  if (seconds) timer = setTimeout(tick, seconds * 1000);
}

// What is shown is old while the server does not answer: said at the top, and nothing stays green.
function markStale(isStale) {
  const notice = document.getElementById("unreachable");
  document.body.classList.toggle("stale", isStale);
  notice.hidden = !isStale;
  const since = shownAt.toLocaleTimeString();
  if (isStale) notice.textContent = `The server does not answer. This page shows the state of ${since}.`;
}

async function tick() {
  const note = document.getElementById("refreshed");
  try {
    await refresh();
    failures = 0;
    shownAt = new Date();
    note.textContent = `Refreshed ${shownAt.toLocaleTimeString()}`;
  } catch {
    failures += 1;
    note.textContent = "";
  }
  markStale(failures > 0);
  schedule();
}

document.addEventListener("visibilitychange", () => (document.hidden ? schedule() : waitS() && tick()));

// ---------------------------------------------------------------- the numbers of a chart at the pointer

let readAt = null; // the chart and the unit that are read out

// The row of the chart's own table, so that both always say the same.
function readOut(chart, unit) {
  const table = chart.querySelector("table");
  const row = table.tBodies[0].rows[unit];
  const box = chart.querySelector(".readout");
  if (!row) return;
  readAt = { chart, unit };
  const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  box.textContent = [...row.cells]
    .map((cell, column) => (column ? `${names[column]}  ${cell.textContent}` : cell.textContent))
    .filter((line, column) => !column || row.cells[column].textContent)
    .join("\n");
  const units = Number(chart.dataset.units);
  box.className = `readout ${unit < units / 2 ? "at-right" : "at-left"}`;
  box.hidden = false;
  for (const plot of chart.querySelectorAll(".plot")) {
    let line = plot.querySelector(".cursor");
    if (!line) plot.append((line = document.createElementNS("http://www.w3.org/2000/svg", "path")));
    line.setAttribute("class", "cursor");
    line.setAttribute("d", `M${unit + 0.5} 0V100`);
  }
}

function readNothing() {
  if (!readAt) return;
  readAt.chart.querySelector(".readout").hidden = true;
  for (const line of readAt.chart.querySelectorAll(".cursor")) line.remove();
  readAt = null;
}

function readAgain() {
  if (readAt && readAt.chart.isConnected) readOut(readAt.chart, readAt.unit);
}

function readAtPointer(event) {
  const plot = event.target.closest?.(".plot");
  if (!plot) return readNothing();
  const chart = plot.closest(".timechart");
  const box = plot.getBoundingClientRect();
  readOut(chart, Math.floor(((event.clientX - box.left) / box.width) * Number(chart.dataset.units)));
}

document.addEventListener("pointermove", readAtPointer);
document.addEventListener("pointerdown", readAtPointer); // a finger need not move

// ---------------------------------------------------------------- weights that sum to 100 %

function weights(form) {
  const numbers = [...form.querySelectorAll("input[type='number']")];
  const sliders = [...form.querySelectorAll("input[type='range']")];
  if (!form.querySelector("button")) return; // the reader may change nothing
  for (const slider of sliders) slider.hidden = slider.disabled = false;

  const values = () => Object.fromEntries(numbers.map((n) => [n.dataset.weight, Number(n.value) || 0]));
  let before = values();

  function show(next, except) {
    for (const input of [...numbers, ...sliders]) {
      if (input !== except) input.value = next[input.dataset.weight].toFixed(1);
    }
    before = next;
    form.dataset.changed = "";
    form.querySelector("#sum").value = Object.values(next).reduce((a, b) => a + b, 0).toFixed(1);
    clearTimeout(show.timer);
    show.timer = setTimeout(preview, 150);
  }

  // The others keep their proportions among themselves.
  function balance(name, percent) {
    const given = Math.min(100, Math.max(0, percent || 0));
    const others = Object.keys(before).filter((other) => other !== name);
    const rest = others.reduce((sum, other) => sum + before[other], 0);
    const next = { [name]: given };
    for (const other of others) next[other] = ((100 - given) * (rest ? before[other] / rest : 1 / others.length));
    return next;
  }

  // The server draws the effect; only the newest answer counts.
  let asked = 0;
  async function preview() {
    const number = ++asked;
    const body = new URLSearchParams(new FormData(form));
    body.set("action", "preview");
    const answer = await fetch(form.getAttribute("action"), { method: "POST", body, headers: { Accept: "text/html" } });
    if (!answer.ok || number !== asked) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    patch(document.getElementById("effect"), fresh.getElementById("effect"));
  }

  form.addEventListener("input", (event) => {
    const name = event.target.dataset.weight;
    if (name) show(balance(name, Number(event.target.value)), event.target);
  });
  form.addEventListener("change", (event) => {
    if (event.target.dataset.weight) show(before);
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-preset]");
    if (!link) return;
    event.preventDefault();
    const preset = JSON.parse(link.dataset.preset);
    show(Object.fromEntries(Object.entries(preset).map(([name, weight]) => [name, 100 * weight])));
    for (const other of document.querySelectorAll("[data-preset]")) other.removeAttribute("aria-current");
    link.setAttribute("aria-current", "true");
  });
}

// ---------------------------------------------------------------- copying

async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Without TLS and away from this machine, browsers have no other clipboard.
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

function copyButtons(root) {
  for (const button of root.querySelectorAll("button.copy[hidden]")) button.hidden = false;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const label = button.dataset.label || (button.dataset.label = button.textContent);
  try {
    const path = button.dataset.fetch;
    const text = path ? await (await fetch(path)).text() : document.getElementById(button.dataset.copy).textContent;
    await copyText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not copied";
  }
  setTimeout(() => (button.textContent = label), 1500);
});

// ---------------------------------------------------------------- start

localTimes(document);
copyButtons(document);
const form = document.getElementById("weights");
if (form) weights(form);
schedule();
