// %% scores
import { readdir } from "node:fs/promises";
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";

async function read(path, options = {}) {
  return parquetReadObjects({ file: await asyncBufferFromFile(path), compressors, ...options });
}

const table = [];
for (const path of await readdir("scores/scores", { recursive: true })) {
  if (!path.endsWith(".parquet")) continue;
  const scan_date = path.match(/scan_date=([^/]+)/)[1];
  for (const row of await read(`scores/scores/${path}`)) table.push({ scan_date, ...row });
}

// %% maps
table.sort((a, b) => (b.score ?? -1) - (a.score ?? -1));
const row = table[0];
const at = { rowStart: row.map_row, rowEnd: row.map_row + 1 };
const [found] = await read(`scores/${row.map_file}`, at);
const grid = found.logit_grid_q8.map((step) => step / 256); // row by row, grid_height rows

// %% told
const counts = {};
for (const { scan_date, score, error, score_logit } of table) {
  const night = (counts[scan_date] ??= [scan_date, 0, 0, 0]);
  [score, error, score_logit].forEach((value, i) => (night[i + 1] += value == null ? 0 : 1));
}
const nights = Object.values(counts);
const grids = { [row.uri]: grid };

// %% plain
const columns = [...new Set(table.flatMap((each) => Object.keys(each)))];

// %% half
const [old] = await readdir("scores/maps/scan_date=2026-11-21");
const half = [...(await read(`scores/maps/scan_date=2026-11-21/${old}`))[0].logit_grid];
