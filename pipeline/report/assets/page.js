// The page around the images: summary, categories, errors, runs, theme and keys.

const page = { data: null, category: ALL, order: { column: "over", down: true } };

const embedded = (id) => {
  const element = byId(id);
  const value = JSON.parse(element.textContent);
  element.remove(); // it may be megabytes
  return value;
};

function showHead(data) {
  const { dates } = data;
  const when = dates.length === 0 ? "nothing scored"
    : dates.length === 1 ? dates[0] : `${dates[0]} to ${dates.at(-1)}`;
  byId("title").replaceChildren(make("bdi", { textContent: shown(fileName(data.output)) }),
    make("span", { className: "when", textContent: when }));
  byId("subtitle").replaceChildren(make("bdi", { textContent: shown(data.output) }));
  byId("subtitle").title = shown(data.output);
}

// How the images ended that a run passed over; reports of older versions don't tell.
function before({ skipped, errors_before: failed = 0 }) {
  const scored = `${count(skipped - failed)} scored before`;
  return failed ? `${scored}, ${count(failed)} with an error` : scored;
}

function showTiles(data) {
  const { scored, errors, over } = data.counts;
  const run = data.run_id ? data.runs[0] : null;
  const done = data.runs.filter((each) => each.seconds?.run);
  const seconds = done.reduce((sum, each) => sum + each.seconds.run, 0);
  const images_done = done.reduce((sum, each) => sum + each.counts.scored + each.counts.errors, 0);
  const drifted = data.categories.filter((each) => each.drifted).length;
  const withThreshold = data.categories.some((each) => each.thresholds.length);
  const tiles = [
    ["Scored", count(scored),
      counted(data.categories.length + (data.others ? 1 : 0), "category", "categories")],
    ["Errors", count(errors), percent(errors / (scored + errors)), errors ? "bad" : ""],
    withThreshold && ["Over threshold", count(over), percent(over / scored), over ? "bad" : ""],
    data.past_dates.length && ["Drifted", count(drifted), drifted === 1 ? "category" : "categories", drifted ? "bad" : ""],
    seconds && ["Rate", rate(images_done / seconds), `images/s, ${duration(seconds)}`],
    run?.counts && ["Listed", count(run.counts.listed), before(run.counts)],
    run?.counts?.not_reached && ["Not reached", count(run.counts.not_reached), "next run", "bad"],
    data.dates.length > 1 && ["Nights", count(data.dates.length),
      `${count(data.past_dates.length)} before`],
  ].filter(Boolean);
  byId("tiles").replaceChildren(...tiles.map(([name, value, more, kind]) =>
    make("div", { className: `tile ${kind ?? ""}` }, make("dt", { textContent: name }),
      make("dd", {}, make("b", { textContent: value }), make("span", { textContent: more })))));
}

function showNotices(data) {
  const notices = [];
  const bdi = (text) => make("bdi", { textContent: shown(text) });
  const add = (kind, head, more = []) => notices.push( // more: a text, or lines of a list
    make("div", { className: `notice ${kind}` }, make("strong", { textContent: head }),
      typeof more === "string" ? make("span", {}, bdi(more))
        : more.length ? make("ul", {}, ...more.map((line) => make("li", {}, bdi(line)))) : ""));
  if (data.alert?.fired) add("bad", "Alert", data.alert.reasons);
  const failed = data.runs.filter((run) => run.status && run.status !== "done");
  for (const run of data.run_id ? failed.slice(0, 1) : failed.slice(0, 5)) {
    add("bad", `Run ${shown(run.run_id)}: ${shown(run.status).replaceAll("_", " ")}`,
      run.message ?? "");
  }
  const drifted = data.categories.filter((each) => each.drifted).map((each) =>
    `${each.name}: median ${score(each.past[3])} before, ${score(each.now[3])} now`);
  if (drifted.length) add("", "Scores have drifted", drifted);
  const some = (names) => names.slice(0, 20).join(", ")
    + (names.length > 20 ? `, and ${count(names.length - 20)} more` : "");
  const outdated = data.alert?.outdated ?? [];
  if (outdated.length) add("bad", "Thresholds of other references: calibrate again", some(outdated));
  const uncalibrated = Object.keys(data.alert?.uncalibrated ?? {});
  if (uncalibrated.length) {
    add("", "Too few past images for an alert threshold", some(uncalibrated));
  }
  const leftOut = (number, of) =>
    add("", `${counted(number, "row")}${of} ${number === 1 ? "is" : "are"} left out`);
  const rows = (found) => found.reduce((sum, [, n]) => sum + n, 0);
  const left = Object.entries(data.other_models);
  const others = left.filter(([name]) => name.split("+refs-")[0] !== data.model);
  if (others.length) {
    leftOut(rows(others), ` of ${counted(others.length, "other model")}`);
  }
  const referred = rows(left) - rows(others);
  if (referred) leftOut(referred, " with other references");
  if (data.others) {
    add("", "More categories than the page lists",
      `${counted(data.others.now[0], "image")} and ${counted(data.others.errors, "error")} `
        + "are in the rest");
  }
  byId("notices").replaceChildren(...notices);
}

// Name, title, value to sort by, text; the first one is a row's heading.
const COLUMNS = [
  ["name", "Category", (c) => c.name, null],
  ["images", "Images", (c) => c.now[0], (c) => count(c.now[0])],
  ["errors", "Errors", (c) => c.errors, (c) => (c.errors ? count(c.errors) : "")],
  ["over", "Over", (c) => c.over, (c) => (c.over || c.thresholds.length ? count(c.over) : "")],
  ["median", "Median", (c) => c.now[3], (c) => (c.now[0] ? score(c.now[3]) : "–")],
  ["change", "Change", (c) => Math.abs(change(c) ?? 0), (c) => changeText(c)],
  ["p95", "95 %", (c) => c.now[5], (c) => (c.now[0] ? score(c.now[5]) : "–")],
  ["highest", "Highest", (c) => c.now[6], (c) => (c.now[0] ? score(c.now[6]) : "–")],
];

// Without thresholds nothing is over them, and without nights before nothing has changed.
function columns({ categories, past_dates }) {
  const shown = { over: categories.some((c) => c.thresholds.length), change: past_dates.length };
  return COLUMNS.filter(([key]) => shown[key] ?? true);
}

const change = (c) => (c.now[0] && c.past[0] ? c.now[3] - c.past[3] : null);
const changeText = (c) => (change(c) === null ? "new" : signed(change(c)));

function categoryRow(category, chosen) {
  const select = () => selectCategory(chosen);
  const name = make("button", {
    type: "button", onclick: select, "aria-pressed": String(page.category === chosen),
  }, chosen === ALL ? "All categories"
    : make("bdi", { textContent: shown(category.name), title: shown(category.name) }));
  const row = make("tr", { className: page.category === chosen ? "chosen" : "", onclick: select },
    make("th", { scope: "row" }, name, category.drifted
      ? make("span", { className: "flag", title: "the scores have drifted" }, "drift") : ""));
  for (const [key, , , text] of columns(page.data).slice(1)) {
    const bad = (key === "over" && category.over) || (key === "errors" && category.errors);
    row.append(make("td", { textContent: text(category), className: bad ? "bad" : "" }));
  }
  return row;
}

function showCategories() {
  const { data, order } = page;
  const wanted = byId("category-find").value.toLowerCase();
  const value = COLUMNS.find(([key]) => key === order.column)[2];
  const sorted = data.categories.filter((c) => c.name.toLowerCase().includes(wanted));
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  sorted.sort((a, b) => (order.down ? -1 : 1) * compare(value(a), value(b))
    || b.now[6] - a.now[6]);
  const table = byId("category-table");
  table.tHead.rows[0].replaceChildren(...columns(data).map(([key, title]) => {
    const is = key === order.column;
    const button = make("button", { type: "button", textContent: title, onclick: () => {
      page.order = { column: key, down: is ? !order.down : key !== "name" };
      showCategories();
    } });
    const direction = order.down ? "descending" : "ascending";
    return make("th", { scope: "col", "aria-sort": is ? direction : "none" }, button);
  }));
  const all = data.categories.length > 1 && !wanted
    ? [categoryRow(data.together, ALL)] : [];
  table.tBodies[0].replaceChildren(...all, ...sorted.map((c) => categoryRow(c, c)));
}

function selectCategory(category) {
  page.category = category;
  showCategories();
  drawCharts(page.data, category);
  const index = category === ALL ? "" : String(page.data.categories.indexOf(category));
  const select = byId("filter-category");
  select.value = [...select.options].some((option) => option.value === index) ? index : "";
  refresh();
}

function showLegend(data) {
  const item = (kind, text) => make("span", {}, make("i", { className: kind }), text);
  const before = data.past_dates.length;
  byId("legend").replaceChildren(
    item("now", data.dates.length > 1 ? "these nights" : "this night"),
    before || data.categories.some((c) => c.past[0])
      ? item("past", before > 1 ? `${before} nights before` : "before") : "",
    data.gallery.length ? item("rug", "images of the gallery") : "",
    data.categories.some((c) => c.thresholds.length) ? item("limit", "alert threshold") : "");
  byId("category-hint").textContent = [
    data.past_dates.length && "Change: of the median, against the nights before.",
    data.categories.length > 1 && "Click a category to see it alone.",
  ].filter(Boolean).join(" ");
}

function showErrors(data) {
  byId("errors-count").textContent = count(data.counts.errors);
  if (!data.errors.length) {
    byId("error-list").replaceChildren(make("p", { className: "hint", textContent: "No errors." }));
    return;
  }
  const total = data.counts.scored + data.counts.errors;
  byId("error-list").replaceChildren(...data.errors.map((kind, i) =>
    make("details", { open: i < 3 },
      make("summary", {}, make("code", { textContent: shown(kind.code) }),
        make("b", { textContent: count(kind.count) }),
        make("span", { textContent: `${percent(kind.count / total)} of the images` }),
        make("span", { className: "hint", textContent:
          kind.final ? "final: another try gives the same" : "the next run tries again" })),
      make("ul", {}, ...kind.examples.map((example) => {
        const copy = make("button", { type: "button", className: "copy", textContent: "Copy",
          "aria-label": `Copy file name ${shown(fileName(example.uri))}`,
          onclick: () => copyKey(example.uri, copy) });
        return make("li", {}, make("bdi", { className: "uri", textContent: shown(example.uri) }),
          make("bdi", { className: "message", textContent: shown(example.message) }), copy);
      })))));
}

function showRuns(data) {
  const columns = [
    ["Run", (run) => run.run_id + (run.untold ? " (not told of before)" : "")],
    ["Status", (run) => (run.status ?? "no report").replaceAll("_", " ")],
    ["Listed", (run) => (run.counts ? count(run.counts.listed) : "–")],
    ["Skipped", (run) => (run.counts ? before(run.counts) : "–")],
    ["Scored", (run) => (run.counts ? count(run.counts.scored) : "–")],
    ["Errors", (run) => (run.counts ? count(run.counts.errors) : "–")],
    ["Images/s", (run) => rate(run.images_per_s?.run)],
    ["Time", (run) => duration(run.seconds?.run)],
  ];
  const title = data.runs.length === 1 ? "Run" : "Runs";
  for (const id of ["runs-link", "runs-title"]) byId(id).textContent = title;
  const table = byId("run-table");
  table.tHead.rows[0].replaceChildren(...columns.map(([title]) =>
    make("th", { scope: "col", textContent: title })));
  table.tBodies[0].replaceChildren(...data.runs.map((run) => make("tr", {},
    ...columns.map(([, text], i) => make(i ? "td" : "th",
      { textContent: shown(text(run)), ...(i ? {} : { scope: "row" }) })))));
  byId("footer").replaceChildren(
    `Made ${data.made.replace("T", " ").slice(0, 16)} UTC by adaclip-pipeline ${data.version} · model `,
    make("code", { textContent: shown(data.model || "–") }));
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  showTheme();
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

const redraw = () => drawCharts(page.data, page.category);

function showTheme() {
  byId("theme").setAttribute("aria-pressed", String(isDark()));
  redraw();
}

const toggleTheme = () => setTheme(isDark() ? "light" : "dark");
const toggleBoxes = () => byId("boxes").click();

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  const typing = target.matches("input:not([type=checkbox]):not([type=range]), select, textarea");
  if (typing || byId("help").open) return;
  const sliding = target.matches("input[type=range]");
  const inside = byId("viewer").open || byId("gallery").contains(target);
  const step = byId("viewer").open ? 1 : columnsOfGallery();
  const arrows = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: step, ArrowUp: -step };
  const keys = {
    "+": () => setOpacity(opacity() + 10),
    "=": () => setOpacity(opacity() + 10),
    "-": () => setOpacity(opacity() - 10),
    "b": toggleBoxes,
    "d": toggleTheme,
    "c": () => images.found.length && copyKey(images.found[images.current].uri),
    "?": () => byId("help").showModal(),
    "/": () => !byId("viewer").open && byId("filter-key").focus(),
    "[": () => !byId("viewer").open && turnPage(-1),
    "]": () => !byId("viewer").open && turnPage(1),
  };
  if (event.key in arrows) {
    // Up and down scroll the page as ever until an image has the focus.
    if (sliding || (!inside && !["ArrowLeft", "ArrowRight"].includes(event.key))) return;
    if (inside) goTo(images.current + arrows[event.key]);
    else focusCard(images.current);
  } else if (event.key in keys) {
    keys[event.key]();
  } else {
    return;
  }
  event.preventDefault();
}

function start() {
  byId("needs-script").remove();
  for (const part of document.querySelectorAll("body > [hidden]")) part.hidden = false;
  const data = embedded("data");
  page.data = data;
  showHead(data);
  showTiles(data);
  showNotices(data);
  showLegend(data);
  byId("category-find-label").hidden = data.categories.length < 12;
  byId("category-find").addEventListener("input", showCategories);
  if (data.categories.length === 1) page.category = data.categories[0];
  showCategories();
  showErrors(data);
  showRuns(data);
  startGallery(data, embedded("pictures"));
  byId("theme").onclick = toggleTheme;
  byId("help-open").onclick = () => byId("help").showModal();
  byId("help-close").onclick = () => byId("help").close();
  document.addEventListener("keydown", onKey);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
  let resized; // Plotly fits a chart's size to the window, not its number of dates
  window.addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(redraw, 150);
  });
  window.addEventListener("load", showTheme); // Plotly's script comes after this one
}

start();
