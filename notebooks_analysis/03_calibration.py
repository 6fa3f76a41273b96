# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags
#     formats: ipynb,py:percent
#     notebook_metadata_filter: jupytext,kernelspec
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Can the probabilities be believed?
#
# A model says 80 %. Of all cases of which it says so, do 80 in 100 have the disease? Then it is *calibrated*, and a
# threshold can be chosen by its costs. Networks that were trained to the end are mostly too sure of themselves (Guo et
# al. 2017). This notebook looks at one trial of a sweep, on validation, and at what can be done about it.

# %%
import os

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
from IPython.display import HTML, display
from plotly.offline import get_plotlyjs

import medtune
from medtune.evaluation.calibration import binned, usual_kind
from medtune.evaluation.calibration_error import calibration_estimates
from medtune.evaluation.calibrators import CALIBRATORS, Temperature
from medtune.evaluation.metrics import auroc, ece, nll, probabilities
from medtune.evaluation.recalibration import cross_fitted
from medtune.search.folder import FolderError

# %% tags=["parameters"]
folder = os.environ.get("MEDTUNE_SWEEP", "../runs/quickstart")
trial = None  # a number; None: the best one

# %%
display(HTML(f"<script>{get_plotlyjs()}</script>"))  # plotly itself, so that no picture asks a network for it


def show(figure):
    figure.update_layout(template="simple_white", margin={"t": 50, "r": 20})
    display(HTML(figure.to_html(full_html=False, include_plotlyjs=False, include_mathjax=False)))


# %%
sweep = medtune.load_sweep(folder)
if trial is None:
    trial = int(sweep.best["number"])
task = sweep.task
logits, labels = sweep.predictions(trial)
shown = probabilities(logits, task)
print(sweep)
print(f"trial {trial}, epoch {sweep.trials.loc[trial, 'best_epoch']}: {len(labels)} validation cases, {task}")

# %% [markdown]
# ## The reliability diagram
#
# Cases are put in bins by the confidence of the model; each mark is the share of a bin that came true. On the diagonal
# it is as often right as it says; below, it is too sure. The size of a mark is how many cases it stands for: a small
# mark far off the diagonal is a handful of cases, not a finding.

# %%
kind = usual_kind(task)


def reliability(shown, name):
    cells = binned(shown, labels, task, kind)
    share = cells.mean - cells.excess / cells.count
    return pd.DataFrame({"confidence": cells.mean, "came true": share, "cases": cells.count, "model": name})


def diagram(*frames):
    figure = px.scatter(pd.concat(frames), x="confidence", y="came true", size="cases", color="model", size_max=28)
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": "grey", "dash": "dash"}, name="calibrated")
    show(figure.update_layout(title="Reliability", width=620, height=520))


diagram(reliability(shown, "as trained"))

# %% [markdown]
# ## ECE, and what it would be for nothing
#
# The expected calibration error is the mean distance from the diagonal, weighted by cases. It is never zero on a finite
# sample: a *perfectly* calibrated model with the same confidences on as many cases reads something too. Only what
# exceeds that says anything about the model.

# %%
generator = np.random.default_rng(0)
estimates = calibration_estimates(shown, labels, task, generator)
print(estimates[usual_kind(task).name].words)

# %% [markdown]
# There is not one ECE but many: how many bins, of equal width or with equally many cases, of the top label or of each
# class. They can disagree by a factor. A paper that does not say which one it reports has not reported one.

# %%
columns = ["value", "debiased", "low", "high", "if_perfect", "p"]
pd.DataFrame({name: one.as_json() for name, one in estimates.items() if not one.why}).T[columns].astype(float).round(3)

# %% [markdown]
# ## Temperature scaling
#
# All logits are divided by one number, chosen where the NLL is least. The order of the cases stays, so AUROC and
# accuracy of two classes do not move; only the confidence does. A temperature above 1: the model was too sure.

# %%
fitted = Temperature.fit(logits, labels, task)
temperatures = np.geomspace(0.25, 8, 60)
losses = [nll(logits.astype(np.float64) / temperature, labels, task) for temperature in temperatures]
figure = px.line(x=temperatures, y=losses, log_x=True, labels={"x": "temperature", "y": "NLL"}, title="One number")
figure.add_vline(fitted.temperature, line_dash="dash", annotation_text=f"{fitted.temperature:.2f}").add_vline(1)
show(figure)
diagram(
    reliability(shown, "as trained"), reliability(fitted.apply(logits, task), f"temperature {fitted.temperature:.2f}")
)

# %% [markdown]
# ## Not on the cases that it was fitted on
#
# The picture above flatters: the temperature was chosen on the same cases. Cross-fitting gives each case the
# probability of a calibrator that has not seen it. On few cases the richer calibrators (vector scaling, isotonic steps)
# then often do worse than one number; a calibrator that makes the NLL worse than `none` is not worth having.

# %%
rows = []
for name in CALIBRATORS:
    after = cross_fitted(name, logits, labels, task, np.random.default_rng(0)).probabilities
    clipped = np.clip(after, 1e-12, 1)
    true = (
        np.where(labels == 1, clipped, 1 - after) if task == "multilabel" else clipped[np.arange(len(labels)), labels]
    )
    rows.append(
        {
            "calibrator": name,
            "NLL": -np.log(np.clip(true, 1e-12, 1)).mean(),
            "ECE": ece(after, labels, task),
            "AUROC": auroc(after, labels, task),
        }
    )
pd.DataFrame(rows).set_index("calibrator").round(4)

# %% [markdown]
# ## Over the epochs
#
# AUROC and calibration part ways as training goes on: the ranking is still getting better, or stays, while the model
# becomes surer and surer. The epoch with the best AUROC is often not the one to be believed.

# %%
one = sweep.epochs[sweep.epochs["trial"] == trial]
figure = go.Figure()
for name in ("val/auroc", "val/ece", "val/loss"):
    figure.add_scatter(x=one["epoch"], y=one[name], name=name, mode="lines+markers")
show(figure.update_layout(title=f"Trial {trial}", xaxis_title="epoch"))

# %% [markdown]
# ## And the other trials?
#
# The temperature that each complete trial would want. Label smoothing and MixUp make a model less sure, and then
# temperatures fall below 1.

# %%
wanted = {}
for number in sweep.trials.query("state == 'complete'").index:
    try:
        wanted[number] = Temperature.fit(*sweep.predictions(number), task).temperature
    except (FolderError, ValueError):  # no predictions, or a training that diverged
        continue
frame = sweep.trials.loc[list(wanted)].assign(temperature=list(wanted.values()))
show(px.scatter(frame, x="temperature", y="val/ece", color="value", hover_data=["number", *sweep.swept], log_x=True))

# %% [markdown]
# All of this was validation, on which the trial was chosen. A calibrator that is to be used is fitted there, and judged
# on the sealed test, once. Frequencies differ between hospitals: it must be fitted again where it is to be used.
