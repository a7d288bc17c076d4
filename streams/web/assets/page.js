// Keeps the page up to date: fetches its live part as HTML and changes only what differs, so that neither focus, nor a
// selection, nor an open table, nor a screen reader is disturbed. The line about health alone is announced.
"use strict";

const EVERY_MS = 2000;
const TIMEOUT_MS = 5000;

const live = document.getElementById("live");
const summary = document.getElementById("summary");
const now = document.getElementById("now");
const pause = document.getElementById("pause");

let paused = false;
let next = null;
let silentSince = null;

function key(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.dataset.key : undefined;
}

function alike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && key(one) === key(other);
}

function showAttributes(old, fresh) {
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) {
    // Whether a table is open is the reader's choice.
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
}

function showChildren(old, fresh) {
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    let found = at;
    if (key(wanted) !== undefined) {
      while (found && key(found) !== key(wanted)) found = found.nextSibling;
    }
    if (found && alike(found, wanted)) {
      if (found !== at) {
        old.insertBefore(found, at);
      } else {
        at = at.nextSibling;
      }
      show(found, wanted);
    } else {
      old.insertBefore(document.importNode(wanted, true), at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function show(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.isEqualNode(fresh)) return;
  showAttributes(old, fresh);
  showChildren(old, fresh);
}

function showSummary(text, ready) {
  if (summary.textContent !== text) summary.textContent = text;
  summary.dataset.ready = ready;
}

function trouble(status) {
  if (status === 401) return "The worker asks for its token anew: reload the page";
  if (status) return `The worker answers with an error (${status}) since ${silentSince} UTC`;
  return `No answer from the worker since ${silentSince} UTC`;
}

async function update() {
  clearTimeout(next);
  if (paused || document.hidden) return;
  let status = null;
  try {
    const answer = await fetch("/?part=live", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) {
      status = answer.status;
      throw new Error(`status ${status}`);
    }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
    silentSince = null;
    if (!paused) {
      show(live, fresh);
      showSummary(fresh.dataset.summary, fresh.dataset.ready);
      now.textContent = fresh.dataset.now;
    }
  } catch {
    silentSince ??= new Date().toISOString().slice(11, 19);
    showSummary(`${trouble(status)}; the figures are older. Trying again.`, "no");
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
