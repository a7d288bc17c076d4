// Keeps the page up to date from /api/v1/status. Text is changed only where it differs, so that neither a selection nor
// a screen reader is disturbed; the readiness line alone is announced.
"use strict";

const EVERY_MS = 2000;
const TIMEOUT_MS = 5000;
const UNKNOWN = "–";
const counts = new Intl.NumberFormat("en");

const summary = document.getElementById("summary");
const pause = document.getElementById("pause");
const rows = document.getElementById("partition-rows");
const blankRow = document.getElementById("partition-row").content.firstElementChild;

let paused = false;
let next = null;
let silentSince = null;

function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function written(value) {
  if (value === null || value === undefined) return UNKNOWN;
  if (typeof value === "number") return counts.format(value);
  return value.replace(/^(\d{4}-\d\d-\d\d)T(\S+)Z$/, "$1 $2 UTC");
}

function percent(ratio) {
  return ratio === null ? UNKNOWN : `${(100 * ratio).toFixed(1)} %`;
}

function at(status, path) {
  return path.split(".").reduce((inner, member) => inner?.[member], status);
}

function showSummary(text, ready) {
  show(summary, text);
  summary.dataset.ready = ready ? "yes" : "no";
}

function showPartition(partition) {
  let row = rows.querySelector(`[data-partition="${partition.partition}"]`);
  if (!row) {
    row = blankRow.cloneNode(true);
    row.dataset.partition = partition.partition;
    const later = [...rows.children].find((other) => Number(other.dataset.partition) > partition.partition);
    rows.insertBefore(row, later ?? null);
  }
  row.dataset.state = partition.state;
  const cells = { partition: partition.partition, state: partition.state, stream_time: partition.stream_time };
  for (const [topic, place] of Object.entries(partition.topics)) {
    cells[`${topic}.position`] = place.position;
    cells[`${topic}.lag`] = place.lag;
  }
  for (const cell of row.querySelectorAll("[data-cell]")) show(cell, written(cells[cell.dataset.cell]));
}

function showStatus(status) {
  showSummary(status.summary, status.working);
  for (const element of document.querySelectorAll("[data-value]")) {
    show(element, written(at(status, element.dataset.value)));
  }
  for (const element of document.querySelectorAll("[data-percent]")) {
    show(element, percent(at(status, element.dataset.percent)));
  }
  const held = new Set(status.partitions.map((partition) => String(partition.partition)));
  for (const row of [...rows.children]) if (!held.has(row.dataset.partition)) row.remove();
  status.partitions.forEach(showPartition);
  document.getElementById("no-partitions").hidden = held.size > 0;
}

async function update() {
  clearTimeout(next);
  if (paused || document.hidden) return;
  try {
    const answer = await fetch("/api/v1/status", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const status = await answer.json();
    silentSince = null;
    if (!paused) showStatus(status);
  } catch {
    silentSince ??= new Date().toISOString().slice(11, 19);
    showSummary(`No answer from the worker since ${silentSince} UTC; the figures are older. Trying again.`, false);
  }
  clearTimeout(next);
  next = setTimeout(update, EVERY_MS);
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  update();
});
document.addEventListener("visibilitychange", update);
next = setTimeout(update, EVERY_MS);
