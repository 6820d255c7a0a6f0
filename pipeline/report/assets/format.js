"use strict";
// Text and elements. Names come from others: they are set as text only, never parsed as HTML.

// Control and format characters, among them those that turn the direction of writing, and lone
// surrogates are shown as escapes: what cannot be seen must not change what can.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;

function shown(text) {
  return String(text).replace(UNSEEN, (c) => {
    const code = c.codePointAt(0);
    return code > 0xffff ? `\\u{${code.toString(16)}}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "scope") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

const byId = (id) => document.getElementById(id);
const count = (value) => Number(value ?? 0).toLocaleString("en-US");
// "1 run", "2 runs"; ``several`` where an s at the end won't do.
const counted = (value, one, several = `${one}s`) =>
  `${count(value)} ${Number(value) === 1 ? one : several}`;
const score = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
const fileName = (uri) => uri.slice(uri.lastIndexOf("/") + 1) || uri;

function percent(share) {
  if (!Number.isFinite(share)) return "–";
  const value = 100 * share;
  return `${value === 0 || value >= 10 ? value.toFixed(0) : value.toPrecision(2)} %`;
}

function signed(value) {
  const text = Math.abs(value).toFixed(3);
  return Number(text) === 0 ? "0" : (value > 0 ? "+" : "−") + text;
}

function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 90) return `${seconds.toFixed(0)} s`;
  return seconds < 5400 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function rate(value) {
  if (!value) return "–";
  return value >= 100 ? count(Math.round(value)) : value.toPrecision(3);
}

// The folder that all files are in: what they share tells nothing of one of them.
function sharedFolder(uris) {
  let shared = uris[0] ?? "";
  for (const uri of uris) while (!uri.startsWith(shared)) shared = shared.slice(0, -1);
  return shared.slice(0, shared.lastIndexOf("/") + 1);
}

// A file name over its folder below the shared one; the whole of it on hover.
function keyLabel(uri, shared) {
  const name = fileName(uri);
  const folder = uri.slice(shared.length, uri.length - name.length) || "/";
  return make("span", { className: "key", title: shown(uri) },
    make("bdi", { className: "key-name", textContent: shown(name) }),
    make("bdi", { className: "key-folder", textContent: shown(folder) }));
}

function say(text) {
  byId("status").textContent = text;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages from plain HTTP have no clipboard of that kind.
    const area = make("textarea", { value: text, className: "unseen", readOnly: true });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

async function copyKey(uri, button) {
  const done = await copyText(uri);
  say(done ? "File name copied" : "The browser does not allow copying");
  if (!button) return;
  const before = button.dataset.label ?? button.textContent;
  button.dataset.label = before;
  button.textContent = done ? "Copied" : "Not allowed";
  setTimeout(() => { button.textContent = before; }, 1200);
}
