// The images: filter, sort, page, enlarge. Only the cards of one page are in the document.

// Points of the "turbo" colour map (A. Mikhailov, Google, 2019), as pipeline.results has them.
const TURBO = [
  [48, 18, 59], [65, 125, 237], [29, 229, 181], [164, 252, 60], [251, 128, 34], [122, 4, 3],
];

// 256 colours whose opacity grows with the probability: what is normal stays clear.
const HEAT = Array.from({ length: 256 }, (_, value) => {
  const at = (value / 255) * (TURBO.length - 1);
  const i = Math.min(Math.floor(at), TURBO.length - 2);
  return [0, 1, 2].map((c) => Math.round(TURBO[i][c] + (at - i) * (TURBO[i + 1][c] - TURBO[i][c])));
});

// Scores near 1 round to the same; their logits, where the table has them, don't.
const NO_LOGIT = -1e9;
const byScore = (a, b) => b.score - a.score
  || (b.score_logit ?? NO_LOGIT) - (a.score_logit ?? NO_LOGIT);

const SORTS = {
  "alert": (a, b) => b.over - a.over || byScore(a, b),
  "score": byScore,
  "score-up": (a, b) => byScore(b, a),
  "map_max": (a, b) => b.map_max - a.map_max,
  "anomalous_area": (a, b) => b.anomalous_area - a.anomalous_area,
  "category": (a, b) => (a.category < b.category ? -1 : a.category > b.category ? 1 : 0)
    || byScore(a, b),
  "newest": (a, b) => (a.scored_at < b.scored_at ? 1 : a.scored_at > b.scored_at ? -1 : 0)
    || byScore(a, b),
  "key": (a, b) => (a.uri < b.uri ? -1 : a.uri > b.uri ? 1 : 0),
};

const images = {
  rows: [], // all, each with its picture
  shared: "", // folder of all of them
  paired: false, // whether any of them has a reference image, to stand beside it
  found: [], // those that pass the filters, in order
  page: 0,
  size: 48,
  current: 0, // in found
  viewed: 0, // enlarged last, in found
};

async function paint(canvas, encoded) {
  const grey = new Image();
  grey.src = `data:image/webp;base64,${encoded}`;
  await grey.decode();
  canvas.width = grey.naturalWidth;
  canvas.height = grey.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(grey, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < pixels.data.length; i += 4) {
    const value = pixels.data[i];
    [pixels.data[i], pixels.data[i + 1], pixels.data[i + 2]] = HEAT[value];
    pixels.data[i + 3] = value;
  }
  context.putImageData(pixels, 0, 0);
}

const described = (row) =>
  `${shown(row.category ?? "no category")}, score ${score(row.score)}, ${shown(row.uri)}`;

// The image, its map and its box, one over the other, in an element of the image's proportions.
function fillPicture(place, row) {
  const picture = row.picture ?? {};
  place.style.setProperty("--aspect", `${row.width} / ${row.height}`);
  place.style.setProperty("--ratio", row.width / row.height);
  const parts = [];
  if (picture.image) {
    parts.push(make("img", {
      loading: "lazy", decoding: "async", alt: described(row), width: row.width, height: row.height,
      src: `data:image/webp;base64,${picture.image}`, draggable: false,
    }));
  } else {
    parts.push(make("span", { className: "missing", role: "img", "aria-label": described(row) },
      shown(picture.problem || "no picture")));
  }
  if (picture.map) {
    const canvas = make("canvas", { className: "heat", "aria-hidden": "true" });
    paint(canvas, picture.map);
    parts.push(canvas);
  }
  if (row.box_x0 !== null) {
    const box = make("span", { className: "box", "aria-hidden": "true" });
    box.style.left = `${(100 * row.box_x0) / row.width}%`;
    box.style.top = `${(100 * row.box_y0) / row.height}%`;
    box.style.width = `${(100 * (row.box_x1 - row.box_x0)) / row.width}%`;
    box.style.height = `${(100 * (row.box_y1 - row.box_y0)) / row.height}%`;
    parts.push(box);
  }
  place.replaceChildren(...parts);
}

// The reference image that an inspector holds the image against.
function fillReference(place, row) {
  const encoded = row.picture?.reference;
  const label = `most similar reference, ${shown(row.nearest_reference ?? "")}`;
  place.replaceChildren(...(encoded ? [
    make("img", { loading: "lazy", decoding: "async", alt: label, draggable: false,
      src: `data:image/webp;base64,${encoded}` }),
    make("span", { className: "caption", "aria-hidden": "true" }, "most similar reference"),
  ] : [make("span", { className: "missing" },
    row.nearest_reference ? "the reference image can't be read any more" : "no references")]));
}

function card(row, index) {
  const tabIndex = index === images.current ? 0 : -1;
  const picture = make("span", { className: "picture" });
  fillPicture(picture, row);
  const open = make("button", {
    type: "button", className: "open", tabIndex, "aria-label": `Enlarge: ${described(row)}`,
    onclick: () => enlarge(index), onfocus: () => setCurrent(index),
  }, picture);
  if (images.paired) {
    const reference = make("span", { className: "reference" });
    fillReference(reference, row);
    open.append(reference);
  }
  const copy = make("button", {
    type: "button", className: "copy", tabIndex, textContent: "Copy",
    "aria-label": `Copy file name ${shown(fileName(row.uri))}`, onclick: () => copyKey(row.uri, copy),
  });
  const meter = make("span", { className: "meter", "aria-hidden": "true" }, make("i"));
  meter.firstChild.style.width = `${100 * row.score}%`;
  return make("li", { className: row.over ? "card over" : "card" }, open,
    make("div", { className: "card-text" },
      make("span", { className: "card-score", textContent: score(row.score) }), meter,
      row.over ? make("span", { className: "flag", title: "over an alert threshold" }, "over") : "",
      make("bdi", { className: "card-category", textContent: shown(row.category ?? "–") }),
      row.reference_score === null ? ""
        : make("span", { className: "alone" }, `AdaCLIP alone ${score(row.zero_shot_score)}`),
      keyLabel(row.uri, images.shared), copy));
}

function setCurrent(index) {
  const cards = byId("gallery").children;
  const first = images.page * images.size;
  const focusable = (at, value) => {
    for (const button of cards[at - first]?.querySelectorAll("button") ?? []) button.tabIndex = value;
  };
  focusable(images.current, -1);
  images.current = index;
  focusable(index, 0);
}

function showPage({ focus = false } = {}) {
  const first = images.page * images.size;
  const rows = images.found.slice(first, first + images.size);
  if (images.current < first || images.current >= first + images.size) images.current = first;
  byId("gallery").replaceChildren(...rows.map((row, i) => card(row, first + i)));
  const pages = Math.max(1, Math.ceil(images.found.length / images.size));
  byId("pager").hidden = pages < 2;
  byId("page-shown").textContent = `${images.page + 1} of ${pages}`;
  byId("page-previous").disabled = images.page === 0;
  byId("page-next").disabled = images.page === pages - 1;
  const part = rows.length ? `${count(first + 1)}–${count(first + rows.length)} of ` : "";
  byId("images-count").textContent = part + count(images.found.length);
  if (focus) focusCard(images.current);
}

function focusCard(index) {
  const first = images.page * images.size;
  const button = byId("gallery").children[index - first]?.querySelector(".open");
  button?.focus({ preventScroll: true });
  button?.scrollIntoView({ block: "nearest" });
}

function turnPage(by, focus = true) {
  const pages = Math.ceil(images.found.length / images.size);
  const page = Math.min(Math.max(images.page + by, 0), Math.max(pages - 1, 0));
  if (page === images.page) return;
  images.page = page;
  images.current = page * images.size;
  showPage({ focus });
  if (focus) byId("images").scrollIntoView({ block: "start" });
}

// To another image, also across the edge of the page; index is in images.found.
function goTo(index) {
  if (index < 0 || index >= images.found.length) return;
  const page = Math.floor(index / images.size);
  if (page === images.page) {
    setCurrent(index);
  } else {
    images.page = page;
    images.current = index;
    showPage();
  }
  if (byId("viewer").open) fillViewer();
  else focusCard(index);
}

function columnsOfGallery() {
  const cards = [...byId("gallery").children];
  const next = cards.findIndex((each) => each.offsetTop > cards[0].offsetTop);
  return next < 0 ? Math.max(cards.length, 1) : next;
}

function refresh() {
  const key = byId("filter-key").value.toLowerCase();
  const category = byId("filter-category").value;
  const night = byId("filter-night").value;
  const least = Number(byId("filter-score").value) || 0;
  const over = byId("filter-over").checked;
  images.found = images.rows.filter((row) =>
    (!category || row.categoryIndex === category) && (!night || row.night === night)
    && row.score >= least && (!over || row.over) && (!key || row.uri.toLowerCase().includes(key)));
  images.found.sort(SORTS[byId("sort").value]);
  images.page = 0;
  images.current = 0;
  const none = images.rows.length ? "No image passes these filters."
    : "No images here: the page was made without, or nothing was scored.";
  byId("gallery-empty").textContent = none;
  byId("gallery-empty").hidden = images.found.length > 0;
  showPage();
}

function setOpacity(value) {
  const bounded = Math.min(100, Math.max(0, value));
  document.documentElement.style.setProperty("--opacity", bounded / 100);
  for (const slider of document.querySelectorAll(".opacity")) slider.value = bounded;
  for (const output of document.querySelectorAll(".opacity-shown")) {
    output.textContent = `${bounded} %`;
  }
}

const opacity = () => Number(document.querySelector(".opacity").value);

function enlarge(index) {
  setCurrent(index);
  byId("viewer").showModal();
  fillViewer();
}

function fillViewer() {
  images.viewed = images.current;
  const row = images.found[images.current];
  const problem = row.picture?.problem;
  fillPicture(byId("viewer-picture"), row);
  const paired = Boolean(row.picture?.reference);
  byId("viewer-stage").classList.toggle("paired", paired);
  byId("viewer-reference").hidden = !paired;
  fillReference(byId("viewer-reference"), row);
  byId("viewer-title").replaceChildren(`${score(row.score)} · `,
    make("bdi", { textContent: shown(row.category ?? "–") }));
  byId("viewer-key").textContent = shown(row.uri);
  byId("viewer-place").textContent = `${images.current + 1} of ${images.found.length}`;
  const box = [row.box_x0, row.box_y0, row.box_x1, row.box_y1];
  const facts = [
    ...(row.reference_score === null ? []
      : [["AdaCLIP alone", score(row.zero_shot_score)],
        ["References alone", score(row.reference_score)]]),
    ["Peak of the map", score(row.map_max)],
    ["Anomalous area", percent(row.anomalous_area)],
    ["Box x0, y0, x1, y1", box[0] === null ? "–" : box.join(", ")],
    ["Image", `${count(row.width)} × ${count(row.height)} px`],
    ["Night", row.night],
    ["Scored", row.scored_at.replace("T", " ").slice(0, 16) + " UTC"],
    ...(row.over ? [["Alert", "over a threshold"]] : []),
    ...(row.nearest_reference ? [["Reference", shown(row.nearest_reference)]] : []),
    ...(problem ? [["Missing", shown(problem)]] : []),
  ];
  byId("viewer-facts").replaceChildren(...facts.flatMap(([name, value]) =>
    [make("dt", { textContent: name }), make("dd", { textContent: value })]));
  byId("viewer-previous").disabled = images.current === 0;
  byId("viewer-next").disabled = images.current === images.found.length - 1;
}

function startGallery(data, pictures) {
  const names = data.categories.map((category) => category.name);
  images.rows = data.gallery.map((row, i) => ({
    ...row, picture: pictures[i], categoryIndex: String(names.indexOf(row.category)),
  }));
  images.paired = images.rows.some((row) => row.nearest_reference);
  byId("gallery").classList.toggle("paired", images.paired);
  images.shared = sharedFolder(images.rows.map((row) => row.uri));
  const choices = (id, all, values) => byId(id).append(
    make("option", { value: "", textContent: all }),
    ...values.map(([value, text]) => make("option", { value, textContent: text })));
  const used = new Set(images.rows.map((row) => row.category));
  choices("filter-category", "all", names.map((name, i) => [String(i), shown(name).slice(0, 60)])
    .filter((_, i) => used.has(names[i])).sort((a, b) => (a[1] < b[1] ? -1 : 1)));
  choices("filter-night", "all", data.dates.map((date) => [date, date]));
  byId("tools").hidden = !images.rows.length;
  byId("filter-night-label").hidden = data.dates.length < 2;
  byId("filter-over-label").hidden = !data.categories.some((each) => each.thresholds.length);
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["filter-key", "filter-category", "filter-night", "filter-score", "filter-over",
    "sort"]) byId(id).addEventListener("input", refresh);
  byId("page-size").addEventListener("input", () => {
    images.size = Number(byId("page-size").value);
    refresh();
  });
  byId("boxes").addEventListener("input", () =>
    document.documentElement.classList.toggle("no-boxes", !byId("boxes").checked));
  for (const slider of document.querySelectorAll(".opacity")) {
    slider.addEventListener("input", () => setOpacity(Number(slider.value)));
  }
  byId("page-previous").onclick = () => turnPage(-1);
  byId("page-next").onclick = () => turnPage(1);
  byId("viewer-close").onclick = () => byId("viewer").close();
  byId("viewer").addEventListener("close", () => {
    setCurrent(images.viewed); // the browser has just put the focus back to where it was before
    focusCard(images.viewed);
  });
  byId("viewer").addEventListener("click", (event) => {
    if (event.target === byId("viewer")) byId("viewer").close(); // beside the frame
  });
  byId("viewer-copy").onclick = () =>
    copyKey(images.found[images.current].uri, byId("viewer-copy"));
  byId("viewer-previous").onclick = () => goTo(images.current - 1);
  byId("viewer-next").onclick = () => goTo(images.current + 1);
  setOpacity(60);
  refresh();
}
