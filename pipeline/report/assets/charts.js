// Charts by Plotly. It reads some HTML in the texts it is given, so it gets numbers and dates only.

const BARS = 48;
const ALL = null; // no category is chosen: all together

function colour(name) {
  const probe = byId("status");
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

// A histogram {start, counts} as an array of all bins.
function allBins({ start, counts }, bins) {
  const all = new Array(bins).fill(0);
  counts.forEach((n, i) => { all[start + i] = n; });
  return all;
}

// Shares of images in bars that several bins share, over the bins [from, to).
function bars(counts, from, to) {
  const width = Math.max(1, Math.ceil((to - from) / BARS));
  const total = counts.reduce((a, b) => a + b, 0) || 1;
  const x = [], y = [], n = [];
  for (let at = from; at < to; at += width) {
    const sum = counts.slice(at, at + width).reduce((a, b) => a + b, 0);
    x.push((at + width / 2) / counts.length);
    y.push(sum / total);
    n.push(sum);
  }
  return { x, y, n, width: width / counts.length };
}

function layout(more) {
  const axis = {
    gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, ticks: "",
    fixedrange: true, automargin: true,
  };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("soft") },
    margin: { l: 8, r: 12, t: 22, b: 8 }, bargap: 0.06, hovermode: "x unified",
    hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("line"),
      font: { color: colour("text"), size: 12 } },
    ...more,
    xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
  };
}

function draw(id, traces, more, label) {
  const place = byId(id);
  place.setAttribute("aria-label", label);
  const options = { displayModeBar: false, responsive: true, plotlyServerURL: "" };
  Plotly.react(place, traces, layout(more), options);
}

const heading = (text) => ({
  text, x: 0, xanchor: "left", xref: "paper", y: 1, yref: "container", yanchor: "top",
  pad: { t: 3 }, font: { size: 12 },
});

const scoreLimits = (category) =>
  category.thresholds.filter((each) => each.measure === "score").map((each) => each.value);

function drawScores(data, category, rows) {
  const now = allBins(category.histogram, data.bins);
  const past = allBins(category.past_histogram, data.bins);
  const limits = scoreLimits(category);
  const filled = now.map((n, i) => (n || past[i] ? i : -1)).filter((i) => i >= 0);
  const reach = limits.map((value) => Math.floor(value * data.bins));
  const all = filled.concat(reach);
  const margin = 4;
  const from = Math.max(0, Math.min(...all, data.bins) - margin);
  const to = Math.min(data.bins, Math.max(...all, 0) + 1 + margin);
  const front = bars(now, from, to), back = bars(past, from, to);
  const traces = [];
  if (past.some(Boolean)) {
    traces.push({
      type: "scatter", mode: "lines", x: back.x, y: back.y, line: { shape: "hvh", width: 1,
        color: colour("past-line") }, fill: "tozeroy", fillcolor: colour("past"),
      hovertemplate: "%{y:.2%} of the nights before<extra></extra>",
    });
  }
  traces.push({
    type: "bar", x: front.x, y: front.y, width: front.width * 0.86, customdata: front.n.map((n) => counted(n, "image")),
    marker: { color: colour("now") },
    hovertemplate: "%{y:.2%}: %{customdata}<extra></extra>",
  });
  const top = Math.max(...front.y, ...back.y, 1e-9);
  traces.push({
    type: "scatter", mode: "markers", x: rows.map((row) => row.score),
    y: rows.map(() => -0.035 * top), hoverinfo: "skip",
    marker: { symbol: "line-ns-open", size: 7, color: colour("alert"), line: { width: 1.2 } },
  });
  const [a, b] = [from / data.bins, to / data.bins];
  const digits = b - a < 0.1 ? 3 : 2; // else several ticks read the same
  draw("chart-scores", traces, {
    title: heading("Share of images by score"),
    xaxis: { range: [a, b], tickformat: `.${digits}~f` },
    yaxis: { range: [-0.07 * top, 1.08 * top], tickformat: ".0%", nticks: 5 },
    shapes: limits.map((x) => ({
      type: "line", x0: x, x1: x, yref: "paper", y0: 0, y1: 1,
      line: { color: colour("alert"), width: 1.5, dash: "dash" },
    })),
    annotations: limits.map((x, i) => ({
      x, y: 1 - 0.1 * i, yref: "paper", yanchor: "top", showarrow: false,
      xanchor: x > (a + b) / 2 ? "right" : "left", xshift: x > (a + b) / 2 ? -4 : 4,
      text: `alert over ${x.toFixed(3)}`, font: { color: colour("alert"), size: 11 },
    })),
  }, `Distribution of ${counted(category.now[0], "score")}: median ${score(category.now[3])}, ` +
     `before ${category.past[0] ? score(category.past[3]) : "nothing"}`);
}

// As many dates as fit beside each other.
const nightAxis = (id) => ({
  type: "category", tickangle: 0, nticks: Math.max(2, Math.floor(byId(id).clientWidth / 90)),
});

// Median, quantiles and highest score of one category, night by night.
function drawNights(data, category) {
  const nights = category.nights;
  const x = nights.map((night) => night[0]);
  const column = (i) => nights.map((night) => night[i]);
  const line = (y, more) => ({ type: "scatter", x, y, hoverinfo: "skip", ...more });
  const none = { mode: "lines", line: { width: 0 } };
  const limits = scoreLimits(category);
  const chosen = x.map((date) => data.dates.includes(date));
  const text = nights.map((n) => counted(n[1], "image"));
  draw("chart-nights", [
    line(column(2), none),
    line(column(6), { ...none, fill: "tonexty", fillcolor: colour("band") }),
    line(column(3), none),
    line(column(5), { ...none, fill: "tonexty", fillcolor: colour("band") }),
    line(column(4), {
      mode: "lines+markers", line: { color: colour("now"), width: 1.8 }, hoverinfo: undefined, text,
      marker: { size: chosen.map((is) => (is ? 7 : 4)), color: colour("now") },
      hovertemplate: "median %{y:.3f}, %{text}<extra></extra>",
    }),
    line(column(7), {
      mode: "markers", hoverinfo: undefined,
      marker: { size: 5, color: chosen.map((is) => colour(is ? "alert" : "past-line")) },
      hovertemplate: "highest %{y:.3f}<extra></extra>",
    }),
  ], {
    title: heading("By night: median, quartiles, 5 to 95 %, highest"),
    xaxis: nightAxis("chart-nights"),
    yaxis: { tickformat: ".2~f", nticks: 5, rangemode: "tozero" },
    shapes: limits.map((y) => ({
      type: "line", y0: y, y1: y, xref: "paper", x0: 0, x1: 1,
      line: { color: colour("alert"), width: 1, dash: "dash" },
    })),
  }, `Scores of ${nights.length} nights; the last median is ${nights.at(-1)?.[4] ?? "unknown"}`);
}

function drawCounts(data) {
  const x = data.nights.map((night) => night.date);
  const shade = (name, faint) => data.nights.map((n) => colour(n.selected ? name : faint));
  const bar = (y, colours, what) => ({
    type: "bar", x, y, marker: { color: colours }, hovertemplate: `%{y:,} ${what}<extra></extra>`,
  });
  draw("chart-counts", [
    bar(data.nights.map((n) => n.scored), shade("now", "past-line"), "scored"),
    bar(data.nights.map((n) => n.errors), shade("alert", "alert-soft"), "errors"),
  ], {
    title: heading("Images by night, all categories"), barmode: "stack",
    xaxis: nightAxis("chart-counts"), yaxis: { nticks: 3, tickformat: ",d" },
  }, `Images of ${x.length} nights`);
}

function drawCharts(data, chosen) {
  if (!window.Plotly) return; // still loading: it draws when it is there
  const category = chosen ?? data.together;
  const rows = chosen ? data.gallery.filter((row) => row.category === chosen.name) : data.gallery;
  byId("chart-title").replaceChildren(
    chosen ? make("bdi", { textContent: shown(chosen.name) }) : "All categories");
  // Without a score, Plotly draws axes that run backwards and shares of 0, 0 and 0 %.
  const scored = category.now[0] + category.past[0] > 0;
  for (const id of ["chart-scores", "legend"]) byId(id).hidden = !scored;
  byId("chart-none").hidden = scored;
  byId("chart-none").textContent = category.errors
    ? `Nothing was scored: ${counted(category.errors, "error")}, listed below.`
    : "Nothing was scored.";
  if (scored) drawScores(data, category, rows);
  byId("chart-nights").hidden = category.nights.length < 2;
  if (!byId("chart-nights").hidden) drawNights(data, category);
  byId("chart-counts").hidden = data.nights.length < 2;
  if (!byId("chart-counts").hidden) drawCounts(data);
}
