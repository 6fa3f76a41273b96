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
# # One sweep against another
#
# Is the new augmentation better, or did the second sweep just have more trials? Set `MEDTUNE_SWEEPS` to folders with
# a `:` between them (`;` on Windows). With one folder alone its best trial is compared with its untuned default.

# %%
import os
from itertools import combinations

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
from IPython.display import HTML, display
from plotly.offline import get_plotlyjs

import medtune
from medtune.evaluation.comparison import accuracy_difference, auroc_difference
from medtune.search.folder import FolderError

# %% tags=["parameters"]
folders = os.environ.get("MEDTUNE_SWEEPS", os.environ.get("MEDTUNE_SWEEP", "../runs/quickstart")).split(os.pathsep)

# %%
display(HTML(f"<script>{get_plotlyjs()}</script>"))  # plotly itself, so that no picture asks a network for it


def show(figure):
    figure.update_layout(template="simple_white", margin={"t": 50, "r": 20})
    display(HTML(figure.to_html(full_html=False, include_plotlyjs=False, include_mathjax=False)))


# %%
sweeps = {}
for folder in folders:
    sweep = medtune.load_sweep(folder)
    name = sweep.config.sweep if sweep.config.sweep not in sweeps else f"{sweep.config.sweep} {len(sweeps) + 1}"
    sweeps[name] = sweep
    print(sweep)
first = next(iter(sweeps.values()))
metric, direction = first.metric, first.config.direction
titles = {sweep.config.data.title for sweep in sweeps.values()}
if len(titles) > 1 or len({sweep.metric for sweep in sweeps.values()}) > 1:
    print(f"Mind: other data or another metric ({', '.join(sorted(titles))}); their values are not comparable.")

# %% [markdown]
# ## What was spent, and what came of it
#
# `seconds` is the time in which trials trained, summed: what a sweep costs, however many ran beside each other.

# %%
rows = []
for name, sweep in sweeps.items():
    states = sweep.trials["state"].value_counts()
    row = {"sweep": name, "trials": len(sweep.trials), "complete": states.get("complete", 0)}
    row |= {"epochs": sweep.trials["epochs"].sum(), "seconds": sweep.trials["seconds"].sum().round(1)}
    for which, of in (("default", sweep.trials.loc[0] if 0 in sweep.trials.index else None), ("best", sweep.best)):
        row |= {} if of is None else {f"{which} {metric}": of["value"], f"{which} val/ece": of["val/ece"]}
    rows.append(row)
pd.DataFrame(rows).set_index("sweep")

# %% [markdown]
# ## The best so far
#
# Against what was spent, not against the number of trials: a sweep that prunes tries more for the same price.

# %%
figure = go.Figure()
for name, sweep in sweeps.items():
    spent = sweep.trials["seconds"].cumsum()
    figure.add_scatter(x=spent, y=sweep.best_so_far, line_shape="hv", name=name, text=sweep.trials["number"])
show(figure.update_layout(title=f"Best {metric} so far", xaxis_title="seconds of training", yaxis_title=metric))

# %% [markdown]
# ## What would be expected of k trials
#
# One sweep is one draw of luck: shuffle its trials and the best of the first ten is another one. This curve is the mean
# over all such draws, with replacement (Dodge et al. 2019), so that sweeps of different length can be compared
# at the same k. It is exact for random search; a sampler that learns does better later than its early trials say.

# %%
figure = go.Figure()


def expected_best(values, most):
    """Of the best of 1, 2, ... trials."""
    ordered = np.sort(values) if direction == "max" else np.sort(values)[::-1]
    share = np.arange(len(ordered) + 1) / len(ordered)
    return [float(np.diff(share**k) @ ordered) for k in range(1, most + 1)]


for name, sweep in sweeps.items():
    values = sweep.trials["value"].dropna().to_numpy()
    if len(values):
        figure.add_scatter(x=np.arange(1, len(values) + 1), y=expected_best(values, len(values)), name=name)
show(figure.update_layout(title=f"Expected best {metric}", xaxis_title="trials", yaxis_title=metric))

# %% [markdown]
# ## All values
#
# A space that is easy to search has most of its trials near its best one.

# %%
long = pd.concat(sweep.trials.assign(sweep=name) for name, sweep in sweeps.items())
show(px.strip(long, x="sweep", y="value", color="state", hover_data=["number"], title=metric))

# %% [markdown]
# ## Is the difference more than luck?
#
# Two models on the *same* cases are compared case by case: a hard case is hard for both, and what they share cancels
# (DeLong et al. 1988 for the AUROC, McNemar 1947 for the accuracy). If the interval holds 0, these validation cases
# cannot tell the two apart. If it does not, remember that both were chosen as the best of many on these very cases:
# the p-value does not know that. The sealed test does.

# %%
models = {}
for name, sweep in sweeps.items():
    picked = {f"{name}, best": sweep.best["number"]} if sweep.best is not None else {}
    picked |= {f"{name}, default": 0} if len(sweeps) == 1 else {}
    for label, number in picked.items():
        try:
            models[label] = (*sweep.probabilities(int(number)), sweep.task)
        except (FolderError, ValueError) as error:
            print(f"{label}: {error}")
rows = []
for (one, (ours, labels, task)), (other, (theirs, same, _)) in combinations(models.items(), 2):
    if not np.array_equal(labels, same):
        print(f"{one} and {other} were validated on other cases: they cannot be paired")
        continue
    for name, difference in (("AUROC", auroc_difference), ("accuracy", accuracy_difference)):
        found = difference(ours, theirs, labels, task)
        row = {"first": one, "second": other, "of": name, "difference": found.value}
        rows.append(row | {"low": found.low, "high": found.high, "p": found.p, "why undefined": found.why})
pd.DataFrame(rows)

# %% [markdown]
# ## On the test
#
# What `medtune test` measured, where the test has been opened. Compare sweeps by it once, at the very end: each look
# spends a little of it.

# %%
tests = {name: sweep.test for name, sweep in sweeps.items() if sweep.test}
for name, test in tests.items():
    told = {key: "undefined" if value is None else f"{value:.3f}" for key, value in test["auroc"].items()}
    print(f"{name}: AUROC {told['value']} ({told['low']} to {told['high']}), look {test['looks']}")
if not tests:
    print("Sealed in all of them.")
