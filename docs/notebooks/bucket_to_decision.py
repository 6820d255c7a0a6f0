# %% [markdown]
# # From a bucket to a decision
#
# Score a folder of product pictures, look at what came out, pick a threshold from known-good
# pictures, and export the boxes of what is above it. Run it as a script (`python
# docs/notebooks/bucket_to_decision.py`), or cell by cell in Jupyter or VS Code.
#
# The pictures are generated, and the model is the small one that comes with the package: it shows
# the way, and is not for real inspection. With your own bucket, put `s3://bucket/prefix` in the
# place of the folders, and leave `SMALL_MODEL` out of the configuration: the defaults are the
# released model.

# %%
from pathlib import Path

import ray

from pipeline.calibration import above, calibrate, read_calibration, write_calibration
from pipeline.config import ScoreConfig
from pipeline.distributed.scoring import score_bucket
from pipeline.packaged import SMALL_MODEL
from pipeline.results import open_results
from pipeline.synthetic import CATEGORIES, generate

HERE = Path("bucket_to_decision")
CATEGORY = "capsule"

# %% [markdown]
# ## The bucket
#
# Sixty pictures of which somebody knows that they are good, and a night's pictures from the line,
# of which nobody knows anything. The folder below the prefix names the category, and the model is
# told it.


# %%
pictures = HERE / "pictures" / CATEGORY


def save(name: str, defect: str, seed: int) -> None:
    """Put one generated picture into the folder."""
    file = pictures / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(generate(CATEGORY, defect, seed).jpeg())


for i in range(60):
    save(f"known-good/{i:03d}.jpg", "good", 3_000_000 + i)
for i in range(12):
    save(f"line-1/{i:03d}.jpg", "good", 4_000_000 + i)
for number, defect in enumerate(CATEGORIES[CATEGORY].defects):
    for i in range(2):
        save(f"line-1/{defect}-{i}.jpg", defect, 5_000_000 + 10 * number + i)

# %% [markdown]
# ## Score
#
# This is what `python jobs/score_bucket.py --input ... --output ...` does. On a cluster, submit
# that job instead. Running it again scores only what is new.

# %%
config = ScoreConfig(input=(str(HERE / "pictures"),), output=str(HERE / "scores"), **SMALL_MODEL)
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
report = score_bucket(config)
ray.shutdown()
print(report.table())

# %% [markdown]
# ## Query
#
# From here on, neither Ray nor torch is needed: this part runs on any laptop that reaches the
# bucket.

# %%
results = open_results(config.output)
place = f"file://{pictures.resolve()}"
line = results.scores(prefix=f"{place}/line-1/")
print(line[["uri", "score", "map_max", "anomalous_area"]].head().to_string())

# %% [markdown]
# ## Look
#
# The most anomalous picture with its map in colours and the box of its strongest region.

# %%
worst = results.top(1, prefix=f"{place}/line-1/").iloc[0]
results.overlay(worst).save(HERE / "worst.png")
anomaly_map = results.map(worst)
print(f"{worst['uri']}: score {worst['score']:.3f}, map of {anomaly_map.shape} pixels")

# %% [markdown]
# ## Pick a threshold
#
# At most 5 % of good pictures may raise an alarm, and we want to be 95 % sure of that. This takes
# 59 good pictures. `calibrate` says what the number of pictures allows to promise, and keeps it
# with the thresholds.

# %%
good = results.scores(prefix=f"{place}/known-good/")
calibration = calibrate(good, false_alarm_rate=0.05, confidence=0.95)
for measure in ("score", "map_max"):
    limit = calibration.limits[CATEGORY][measure]
    print(f"{measure} above {limit.value:.5f}. {calibration.statement(CATEGORY, measure)}")
write_calibration(str(HERE / "thresholds.json"), calibration)

# %% [markdown]
# ## Decide
#
# Above the threshold a person looks. The file of thresholds names the model: used on the scores
# of another one it is an error.

# %%
thresholds = read_calibration(str(HERE / "thresholds.json"))
alarms = line[above(line, thresholds)]
print(f"{len(alarms)} of {len(line)} pictures need a look")
print(alarms[["uri", "score"]].to_string())

# %% [markdown]
# ## Export the boxes
#
# Where in the pictures above the threshold: regions in which the map is above 0.5, that is, more
# probably abnormal than normal, in pixels of the original pictures; as a table and as COCO JSON for
# labelling tools. `results.to_masks(thresholds)` takes the calibrated thresholds of `map_max`
# instead; this small model's maps of good pictures reach nearly 1 somewhere, so that they would
# leave nothing.

# %%
masks = results.to_masks(0.5, alarms, min_area=20)
print(masks.boxes().drop(columns="uri").round(3).to_string())
masks.write_coco(str(HERE / "boxes.json"))
