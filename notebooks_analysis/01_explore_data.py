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
# # What is in a data set
#
# A model learns whatever separates the classes in the images that it is given: the disease, or the scanner, the crop,
# the brightness of one hospital. So look at the images first. This notebook shows train and validation of a data set.
#
# The test split stays sealed here. `medtune data audit NAME` counts it too, looks for images that are in two splits,
# and writes a page; a model never sees it before `medtune test`.
#
# | variable | what it says | without it |
# |---|---|---|
# | `MEDTUNE_DATASET` | a MedMNIST flag such as `breastmnist`, or a phantom | `phantom-binary` |
# | `MEDTUNE_DATA` | the folder with the `.npz` files | the medmnist cache |

# %%
import os

import numpy as np
import pandas as pd
import plotly.express as px
from IPython.display import HTML, display
from plotly.offline import get_plotlyjs

from medtune.config.sweep import Data
from medtune.data.catalogue import describe
from medtune.data.prevalence import prevalence_shift
from medtune.data.repeats import find_repeats
from medtune.data.splits import load_search_splits

# %% tags=["parameters"]
dataset = os.environ.get("MEDTUNE_DATASET", "phantom-binary")
root = os.environ.get("MEDTUNE_DATA")

# %%
display(HTML(f"<script>{get_plotlyjs()}</script>"))  # plotly itself, so that no picture asks a network for it


def show(figure):
    figure.update_layout(template="simple_white", margin={"t": 50, "r": 20})
    display(HTML(figure.to_html(full_html=False, include_plotlyjs=False, include_mathjax=False)))


# %%
data = Data(dataset=dataset, root=root)
info = describe(data)
train, val = load_search_splits(data)
splits = {"train": train, "val": val}
print(f"{info.title}: {info.task}, {len(info.classes)} classes, {train.images.shape[1:]} pixels, {info.licence}")
print(*(f"- {trap}" for trap in info.traps), sep="\n")

# %% [markdown]
# ## How frequent are the classes
#
# Three numbers follow from this picture. The share of the largest class is the accuracy of a model that has learned
# nothing. The number of cases of the rarest class in validation bounds how sure any sensitivity can be: with 20 cases,
# a 95 % interval is some 40 points wide. And if validation has other frequencies than train, so may have the clinic: a
# probability that is calibrated here will not be there.

# %%
multilabel = info.task == "multilabel"
counts = pd.DataFrame(
    {
        name: split.labels.sum(axis=0) if multilabel else np.bincount(split.labels, minlength=len(info.classes))
        for name, split in splits.items()
    },
    index=list(info.classes),
)
shares = (
    (counts / [len(train), len(val)]).reset_index(names="class").melt("class", var_name="split", value_name="share")
)
show(px.bar(shares, x="class", y="share", color="split", barmode="group", title="Share of the cases"))
display(counts)

# %%
if not multilabel:
    shift = prevalence_shift(counts.to_numpy().T, np.random.default_rng(0))
    told = "nothing to test" if shift.p is None else f"p = {shift.p:.2g}, Cramér's V = {shift.v:.3f}"
    print(f"Are the classes as frequent in validation as in train? {told} ({shift.test})")

# %% [markdown]
# ## What they look like
#
# Eight images a class, drawn at random, never the first ones of the file: files are often sorted. Can you tell the
# classes apart? If not, what does the model see that you do not?

# %%
generator = np.random.default_rng(0)
for label, name in enumerate(info.classes[:9]):
    cases = np.flatnonzero(train.labels[:, label] if multilabel else train.labels == label)
    drawn = np.sort(generator.permutation(cases)[:8])
    if len(drawn):
        figure = px.imshow(train.images[drawn], facet_col=0, binary_string=train.images.ndim == 3, title=name)
        figure.for_each_annotation(
            lambda note, drawn=drawn: note.update(text=str(drawn[int(note.text.split("=")[-1])]))
        )
        figure.update_xaxes(showticklabels=False).update_yaxes(showticklabels=False).update_layout(height=210)
        show(figure)

# %% [markdown]
# ## The mean image of each class
#
# What differs here could be used by a model that adds up pixels. A bright corner or a frame that only one class has is
# no disease, and every network will find it.

# %%
grey = train.images.reshape(len(train), *train.images.shape[1:3], -1).mean(axis=-1)
of_class = train.labels.T == 1 if multilabel else train.labels == np.arange(len(info.classes))[:, None]
there = [label for label in range(len(info.classes)) if of_class[label].any()][:9]
means = np.stack([grey[of_class[label]].mean(axis=0) for label in there]) - grey.mean(axis=0)
reach = float(np.abs(means).max())
figure = px.imshow(
    means,
    facet_col=0,
    facet_col_wrap=5,
    zmin=-reach,
    zmax=reach,
    color_continuous_scale="RdBu_r",
    title="Mean image of each class less the mean of all, in grey levels",
)
figure.for_each_annotation(lambda note: note.update(text=info.classes[there[int(note.text.split("=")[-1])]]))
show(figure)

# %% [markdown]
# ## How bright they are
#
# One number an image. Two classes whose curves lie apart can be told by a light meter; a validation split that lies
# apart from train comes from another machine.

# %%
brightness = pd.concat(
    pd.DataFrame(
        {
            "split": name,
            "brightness": split.images.reshape(len(split), -1).mean(axis=1),
            "class": "any" if multilabel else np.array(info.classes)[split.labels],
        }
    )
    for name, split in splits.items()
)
show(
    px.histogram(
        brightness,
        x="brightness",
        color="class",
        facet_row="split",
        histnorm="probability density",
        barmode="overlay",
        opacity=0.6,
        nbins=40,
        title="Mean grey level of the images",
    )
)

# %% [markdown]
# ## Images that are there twice
#
# A validation case that has a twin in train is no new case: the model may know it by heart. Identical images, and near
# twins (turned by a few degrees, moved by a pixel, brightened), are searched for within and between both splits.
# Data sets made from videos, slices or crops of one patient have many.

# %%
few = {name: type(split)(split.images[:2000], split.labels[:2000]) for name, split in splits.items()}
found = find_repeats(few)
print(f"{found.exact.groups} groups of identical images, {found.exact.across} of them in both splits")
print(f"{found.near.pairs} pairs of near twins, {found.near.across} of them across splits")
print(f"{found.in_train['val']} of {len(few['val'])} validation cases have a twin in train")
print(f"{found.exact.contradicting + found.near.contradicting} groups or pairs whose labels contradict each other")

# %%
if found.near.first:
    pair = found.near.first[0]
    both = np.stack([few[case.split].images[case.index] for case in (pair.a, pair.b)])
    title = f"{pair.a.split} {pair.a.index} and {pair.b.split} {pair.b.index}, correlation {pair.correlation}"
    show(px.imshow(both, facet_col=0, binary_string=both.ndim == 3, title=title))
else:
    print("No near twins to show.")

# %% [markdown]
# ## What to do with it
#
# - The majority's share is the accuracy to beat; AUROC does not care for frequencies, calibration does.
# - Write what you saw (twins, brightness, a rare class) beside the number that you will report.
# - A whole audit with the test split counted: `medtune data audit`. Then `medtune sweep`, and notebook 02.
