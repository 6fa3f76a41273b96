# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags
#     formats: ipynb,py:percent
#     notebook_metadata_filter: jupytext,kernelspec
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What a sweep found
#
# A sweep leaves a folder. `medtune.load_sweep(folder)` reads it as data frames, while the sweep runs, when it is done
# and after it was killed, and changes nothing in it. Set `MEDTUNE_SWEEP` to the folder of yours; make one with
# `medtune sweep sweeps/quickstart.yaml`.

# %%
import os
import tempfile
from pathlib import Path

import plotly.express as px
import plotly.graph_objects as go
from IPython.display import HTML, Image, display
from plotly.offline import get_plotlyjs

import medtune
from medtune.figures.pareto import pareto_front
from medtune.figures.sweeps import placed
from medtune.overview import by_importance, draw_overview

# %% tags=["parameters"]
folder = os.environ.get("MEDTUNE_SWEEP", "../runs/quickstart")

# %%
display(HTML(f"<script>{get_plotlyjs()}</script>"))  # plotly itself, so that no picture asks a network for it


def show(figure):
    figure.update_layout(template="simple_white", margin={"t": 50, "r": 20})
    display(HTML(figure.to_html(full_html=False, include_plotlyjs=False, include_mathjax=False)))


# %%
sweep = medtune.load_sweep(folder)
trials, metric = sweep.trials, sweep.metric
print(sweep)
print(trials["state"].value_counts().to_string())

# %% [markdown]
# ## The trials
#
# A row a trial: what was drawn, how it ended, and the metrics of its best epoch. A pruned trial was stopped early
# because others were ahead of it at the same epoch; its value is that of a training that was never finished.

# %%
ascending = sweep.config.direction == "min"
shown = ["state", "value", "val/auroc/low", "val/auroc/high", "val/ece", "best_epoch", "epochs", *sweep.swept]
trials.sort_values("value", ascending=ascending)[shown].head(15)

# %% [markdown]
# ## In the order in which they were tried
#
# Hover over a mark to see the trial. The line is the best so far. Where it has been flat for half of the sweep, more
# trials will bring little; where it still climbs at the end, `medtune resume FOLDER --trials N` goes on.

# %%
figure = px.scatter(trials, x="number", y="value", color="state", hover_data=sweep.swept, title=metric)
figure.add_scatter(x=trials["number"], y=sweep.best_so_far, mode="lines", line_shape="hv", name="best so far")
show(figure)

# %% [markdown]
# ## What did tuning buy?
#
# Trial 0 is the untuned default: nobody has to have tuned anything to get it. The intervals say how far the AUROC of
# each would move with other validation cases. They do not say that the best one was *chosen* on these very cases: the
# best of 40 equally good trials looks better than it is. So the gain below is an upper bound; `medtune select` takes
# that luck off, and only the sealed test shows what is left.

# %%
if sweep.best is None:
    print("No trial has a value yet.")
else:
    chosen = [number for number in dict.fromkeys([0, int(sweep.best["number"])]) if number in trials.index]
    display(trials.loc[chosen, ["value", "val/auroc", "val/auroc/low", "val/auroc/high", "val/ece", "val/accuracy"]])
print("test:", sweep.test or "sealed")

# %% [markdown]
# ## Which dimension matters
#
# fANOVA (Hutter et al. 2014) asks a random forest how much of the differences between trials each dimension explains by
# itself. Two things to keep in mind:
#
# - The column `noise` is what a dimension of random numbers got from the same trials. A dimension that is not above it
#   may be chance, and with 16 trials most are not.
# - With early stopping the trials are compared at `up_to_epoch`, the last epoch that all of them reached. What matters
#   late in training, such as a schedule, is underrated.

# %%
importance = sweep.importance()
display(importance)

# %%
known = importance.dropna(subset="importance")
figure = px.bar(known, x="importance", y="dimension", orientation="h", hover_data=["trials"], title="Importance")
figure.add_scatter(
    x=known["noise"], y=known["dimension"], mode="markers", name="random numbers", marker_symbol="line-ns-open"
)
figure.update_yaxes(autorange="reversed")
show(figure)

# %% [markdown]
# ## The metric against each value
#
# Look for a trend, and for a best value at the edge of its range: then the range was too narrow.

# %%
columns = by_importance(sweep, importance)[:6]
for name in columns:
    log = sweep.scales[name] == "log" and (trials[name].dropna() > 0).all()
    values = trials.assign(**{name: trials[name].astype(str)}) if sweep.scales[name] == "choice" else trials
    figure = px.scatter(
        values.dropna(subset="value"), x=name, y="value", color="state", hover_data=["number"], log_x=log
    )
    show(figure.update_layout(height=330))

# %% [markdown]
# ## Every trial as a line
#
# Where a trial has no value, as adam has no momentum, its line has a gap. Click on the name of a trial to hide it,
# twice to see it alone.

# %%
figure = go.Figure()
layouts = [placed(trials[name], sweep.scales[name]) for name in columns] + [placed(trials["value"], "linear")]
for number in trials.dropna(subset="value").sort_values("value", ascending=not ascending).index:
    texts = [f"{name}: {trials.loc[number, name]}" for name in [*columns, "value"]]
    heights = [layout.spread[number] for layout in layouts]
    figure.add_scatter(x=[*columns, metric], y=heights, text=texts, hoverinfo="text+name", name=f"trial {number}")
show(figure.update_yaxes(visible=False).update_traces(mode="lines+markers"))

# %% [markdown]
# ## How they learned
#
# A curve that ends early was pruned. One that falls while `train/loss` falls on has begun to overfit.

# %%
show(px.line(sweep.epochs, x="epoch", y=metric, color="trial", hover_data=["train/loss", "lr"], title=metric))

# %% [markdown]
# ## Right in order, or right in probability?
#
# AUROC says whether sick cases are ranked above healthy ones, ECE whether 80 % comes true in 80 of 100. No
# other complete trial beats those on the front in both. Mind the lower end: a model that answers the same for every
# case is well calibrated, and useless.

# %%
complete = trials[(trials["state"] == "complete") & trials["val/auroc"].notna()]
front = complete[pareto_front(complete["val/auroc"].to_numpy(), complete["val/ece"].to_numpy())].sort_values("val/ece")
figure = px.scatter(complete, x="val/ece", y="val/auroc", hover_data=["number", *sweep.swept])
figure.add_scatter(x=front["val/ece"], y=front["val/auroc"], mode="lines", line_shape="hv", name="front")
show(figure)

# %% [markdown]
# ## The same as files
#
# `draw_overview` writes these pictures as PNG, for a report or a slide.

# %%
with tempfile.TemporaryDirectory() as scratch:
    paths = draw_overview(sweep, Path(scratch))
    for name in ("slices", "rungs"):
        display(Image(paths[name].read_bytes()))

# %% [markdown]
# Next: `medtune retrain FOLDER` trains the winner again, `medtune test FOLDER` opens the sealed test, once. Are the
# probabilities to be believed? Notebook 03.
