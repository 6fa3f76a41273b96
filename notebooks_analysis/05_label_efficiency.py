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
# # What few labels are worth
#
# A short paper about a sweep over `data.labels`, such as `sweeps/label_efficiency.yaml`. Every number in it is computed
# from the sweep's folder when the notebook runs; the folder is not changed, and the test stays sealed. Set
# `MEDTUNE_SWEEP` to the folder of yours. Without the code it is
# `jupyter nbconvert --to html --no-input --execute 05_label_efficiency.ipynb`.

# %%
import os
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from IPython.display import HTML, Markdown, display
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

import medtune
from medtune.data import DataError
from medtune.data.catalogue import describe
from medtune.data.splits import data_md5
from medtune.evaluation.calibration import binned, usual_kind
from medtune.figures.canvas import COLOURS
from medtune.label_efficiency import label_efficiency
from medtune.models.pretrained import described
from medtune.report.words import believed, interval, number
from medtune.search.prepare import weight_files

# %% tags=["parameters"]
folder = os.environ.get("MEDTUNE_SWEEP", "../runs/label_efficiency")

# %%
display(HTML(f"<script>{get_plotlyjs()}</script>"))  # plotly itself, so that no picture asks a network for it


def show(figure):
    figure.update_layout(template="simple_white", margin={"t": 50, "r": 20})
    display(HTML(figure.to_html(full_html=False, include_plotlyjs=False, include_mathjax=False)))


def say(*paragraphs):
    display(Markdown("\n\n".join(paragraphs)))


def table(caption, rows):
    """rows: dicts, a column a key."""
    say(caption)
    with pd.option_context("display.max_colwidth", None):
        text = pd.DataFrame(rows).to_html(index=False, border=0)
    display(
        HTML(text.replace("<td>", '<td style="text-align: left">').replace("<th>", '<th style="text-align: left">'))
    )


def percent(fraction):
    return f"{100 * fraction:g} %"


def listed(words):
    *others, last = map(str, words)
    return f"{', '.join(others)} and {last}" if others else last


def counted(count, one, many=None):
    return f"{count:,} {one if count == 1 else many or one + 's'}"


# %%
sweep = medtune.load_sweep(folder)
config, info = sweep.config, describe(sweep.config.data)
found, pooled = label_efficiency(sweep.folder, config)
arms, fractions, labelled = found["arms"], found["fractions"], found["labelled"]
cells = sorted(found["cells"], key=lambda cell: (cell["fraction"], arms.index(cell["arm"])))
trainings = sorted(trial for cell in cells for trial in cell["trials"])
used = {trial: sweep.folder.used(trial) for trial in trainings}
draws = sorted({one["labels"]["seed"] for one in used.values()})
middle = pooled[0].fraction  # the fraction nearest to a tenth, whatever came out


def verdict(difference):
    if difference["value"] is None:
        return "undefined"
    return "more" if difference["low"] > 0 else "less" if difference["high"] < 0 else "not told apart"


def encoder_at(path):
    """What is said of its weights, and why that cannot be had."""
    try:
        return described(Path(path)), f"nothing is said of {path}"
    except (DataError, OSError) as error:
        return None, str(error)


encoders = {path: encoder_at(path) for path in weight_files(config)}
known = [told for told, _ in encoders.values() if told]

# %% [markdown]
# ## Abstract

# %%
differences = found["differences"]
verdicts = pd.Series([verdict(one["auroc"]) for one in differences], dtype=str)
at_middle = [cell for cell in cells if cell["fraction"] == middle]
lower = sum(cell["ece_after"]["debiased"] < cell["ece"]["debiased"] for cell in cells)
added = [
    f"{one['arm']} less {one['against']} {interval(one['auroc'])}" for one in differences if one["fraction"] == middle
]
counts = {key: int(sum(verdicts == key)) for key in ("more", "less", "not told apart")}
paired = (
    f"What the encoder added, paired by draw and by case: {'; '.join(added) or 'nothing to compare with'}. Of "
    f"{counted(len(differences), 'such difference')} over all parts of the labels {counts['more']} "
    f"{'is' if counts['more'] == 1 else 'are'} above 0, {counts['less']} below, and {counts['not told apart']} cannot "
    "be told apart from it."
)
WORDS = {
    "more": "higher with",
    "less": "lower with",
    "not told apart": "not told apart with",
    "undefined": "undefined with",
}


def concluded(arm):
    """For which parts of the labels an encoder helped it, in words."""
    parts = {
        key: [percent(one["fraction"]) for one in differences if one["arm"] == arm and verdict(one["auroc"]) == key]
        for key in WORDS
    }
    said = listed(f"{WORDS[key]} {listed(of)}" for key, of in parts.items() if of)
    return f"By the encoder the AUROC of {arm} was {said} of the labels."


say(
    "**Background.** Medical images are many and their labels few. An encoder can be trained on all of the images "
    "without the labels, and a classifier on the labels that there are.",
    f"**Methods.** {info.title}, {counted(len(trainings), 'training')} in {counted(len(arms), 'arm')} "
    f"({listed(arms)}), with {listed(map(percent, fractions))} of the {info.cases['train']:,} labels of train, in "
    f"{counted(len(draws), 'draw')} of them. AUROC, accuracy and the expected calibration error (ECE) on "
    f"{counted(found['cases'], 'validation case')}, means over the draws with 95 % intervals.",
    f"**Results.** With {percent(middle)} of the labels, {counted(labelled[str(middle)], 'case')}, the AUROC was: "
    f"{listed(cell['arm'] + ' ' + interval(cell['auroc']) for cell in at_middle)}. {paired} The ECE read, in "
    "that order, "
    f"{listed(number(cell['ece']['value']) for cell in at_middle)} as trained and "
    f"{listed(number(cell['ece_after']['value']) for cell in at_middle)} after a temperature; without its bias it was "
    f"lower afterwards in {lower} of {counted(len(cells), 'combination')} of arm and part.",
    f"**Conclusion.** {' '.join(concluded(arm) for arm in dict.fromkeys(one['arm'] for one in differences))} "
    f"This is validation: the test {'is sealed' if not sweep.looks else f'was opened {sweep.looks} times before'}.",
)

# %% [markdown]
# ## 1 Introduction
#
# A picture is taken of every patient; a label costs an expert's time. Methods that learn from two views of the same
# image need no labels: they pull the views together and others apart (SimCLR, Chen et al. 2020; MoCo, He et al. 2020),
# or keep the features from collapsing without any others (VICReg, Bardes et al. 2022). What such an encoder is worth
# shows beside the same network without it, on the same few labels; and as modern networks are often surer than they are
# right (Guo et al. 2017), so does whether its probabilities can be believed.

# %% [markdown]
# ## 2 Methods

# %%
classes = f"{len(info.classes)} {'labels' if sweep.task == 'multilabel' else 'classes'}"
say(
    f"**Data.** {info.title} ({sweep.task}, {classes}: {'; '.join(info.classes)}) at {config.data.side} px; "
    f"{info.cases['train']:,} cases of train, {found['cases']:,} of validation. Of train's labels "
    f"{listed(f'{percent(one)} ({labelled[str(one)]:,})' for one in fractions)} were known to a training; validation "
    "is labelled in full. The test split is not read here.",
    f"**Draws.** {counted(len(draws), 'draw')} of the labels (seeds {listed(draws)}), stratified, at least one case of "
    "each class. Of one draw the cases of a smaller part lie within those of a larger one, and all arms know the same. "
    "With all of the labels the draws are one and the same, and what differs are seeds of training alone.",
)
for told, why in encoders.values():
    if told is None:
        say(f"**Encoder.** Its description cannot be had here: {why}.")
        continue
    made = told["config"]
    method = ", ".join(f"{key} {value}" for key, value in made["method"].items() if key != "name")
    say(
        f"**Encoder.** {made['model']['name']} by {made['method']['name']}{f' ({method})' if method else ''} on the "
        f"{told['images']} images of {told['dataset']} at {told['size']} px, without labels: {made['epochs']} epochs "
        f"in batches of {made['batch_size']}, {made['optimizer']['name']} with a rate of {made['optimizer']['lr']:g}. "
        f"Epoch {told['epoch']} of trial {told['trial']} was taken, by the AUROC of a k-NN probe on validation "
        f"({number(told['probe']['val/auroc'])}, {made['neighbours']} neighbours)."
    )
if not encoders:
    say("**Encoder.** No training begins with an encoder of a pretraining.")


# %%
def begins_with(model):
    path = model["weights"]
    if path is None or path == "imagenet":
        return "random weights" if path is None else "published weights (ImageNet)"
    told, _ = encoders.get(path, (None, ""))
    return f"encoder of {told['sweep']}" if told else Path(path).name


def learns(model):
    if model["finetune"] == "probe":
        return "a logistic regression on its standardised features"
    what = {"all": "all layers", "head": "the head alone"}.get(str(model["finetune"]), f"layers {model['finetune']}")
    slower = model["backbone_lr"] != 1 and model["finetune"] != "head"
    return what + (f", the encoder at {model['backbone_lr']:g} of the rate" if slower else "")


def steps(one):
    if one["model"]["finetune"] == "probe":
        return "none: L-BFGS"
    return (
        f"{one['epochs']} epochs, batches of {one['batch_size']}, {one['optimizer']['name']} {one['optimizer']['lr']:g}"
    )


def distinct(values):
    values = list(dict.fromkeys(values))
    return "; ".join(values[:3]) + (f" and {len(values) - 3} more" if len(values) > 3 else "")


rows = []
for arm in arms:
    each = [used[trial] for cell in cells if cell["arm"] == arm for trial in cell["trials"]]
    row = {"arm": arm, "network": distinct(one["model"]["name"] for one in each)}
    row |= {"begins with": distinct(begins_with(one["model"]) for one in each)}
    row |= {"learns": distinct(learns(one["model"]) for one in each), "by": distinct(steps(one) for one in each)}
    rows.append(row | {"trainings": len(each)})
table("**Table 1.** The arms.", rows)

# %% [markdown]
# **Numbers.** A training by epochs counts with its last one. AUROC and accuracy are means over the draws. Their
# intervals are for other cases and other draws: the influence of each case on the mean (DeLong et al. 1988) and the
# t-interval of the draws, squares added; with a single draw it is the cases' alone. Differences are paired, draw by
# draw and case by case. The ECE is that of the top label in 15 bins (of each label where several can be true). On few
# cases it reads too large, so beside it stands an estimate of the true one, with the interval of that.
#
# **Temperature.** All logits of a training are divided by one number (Guo et al. 2017), which for each fifth of the
# cases is fitted on the other four.

# %% [markdown]
# ## 3 Results
#
# ### 3.1 By the part of the labels

# %%
table(
    "**Table 2.** Means over the draws with 95 % intervals.",
    [
        {
            "labels": f"{percent(cell['fraction'])} ({labelled[str(cell['fraction'])]:,})",
            "arm": cell["arm"],
            "trainings": len(cell["trials"]),
            "AUROC": interval(cell["auroc"]),
            "accuracy": interval(cell["accuracy"]),
            "ECE, read": number(cell["ece"]["value"]),
            "true ECE": believed(cell["ece"]),
        }
        for cell in cells
    ],
)

# %%
colours = dict(zip(arms, COLOURS * len(arms), strict=False))


def with_ends(centre, found):
    """Values and the lengths of both sides of their intervals, as plotly has them; nothing where there is no number."""
    frame = pd.DataFrame(found, columns=[centre, "low", "high"], dtype=float)
    return frame[centre], frame["high"] - frame[centre], frame[centre] - frame["low"]


figure = make_subplots(1, 3, subplot_titles=("AUROC", "accuracy", "true ECE"), horizontal_spacing=0.07)
for place, arm in enumerate(arms):
    ours = [cell for cell in cells if cell["arm"] == arm]
    x = [cell["fraction"] * 1.07 ** (place - (len(arms) - 1) / 2) for cell in ours]  # no interval hides another
    for column, (key, centre) in enumerate((("auroc", "value"), ("accuracy", "value"), ("ece", "debiased")), 1):
        y, above, below = with_ends(centre, [cell[key] for cell in ours])
        error = {"type": "data", "array": above, "arrayminus": below, "thickness": 1.2, "width": 3}
        marks = {"mode": "lines+markers", "line_color": colours[arm], "legendgroup": arm, "showlegend": column == 1}
        figure.add_scatter(x=x, y=y, error_y=error, name=arm, row=1, col=column, **marks)
ticks = {"tickvals": fractions, "ticktext": [percent(one) for one in fractions], "minor_ticks": ""}
figure.update_xaxes(type="log", title="labels that were known", **ticks).update_layout(width=1050, height=430)
show(figure.update_layout(legend={"orientation": "h", "y": -0.28}))
say("**Figure 1.** What came of how many labels, with 95 % intervals. Higher is better, but for the ECE.")

# %% [markdown]
# ### 3.2 What the encoder adds

# %%
if differences:
    table(
        "**Table 3.** Differences of the AUROC between the same training with the encoder and without.",
        [
            {
                "labels": percent(one["fraction"]),
                "with": one["arm"],
                "without": one["against"],
                "difference": interval(one["auroc"]),
                "from nothing": verdict(one["auroc"]),
            }
            for one in sorted(differences, key=lambda one: (one["fraction"], arms.index(one["arm"])))
        ],
    )
    figure = go.Figure()
    for arm in dict.fromkeys(one["arm"] for one in differences):
        ours = [one for one in differences if one["arm"] == arm]
        x, above, below = with_ends("value", [one["auroc"] for one in ours])
        names = [f"{percent(one['fraction'])}, {arm}" for one in ours]
        error = {"type": "data", "array": above, "arrayminus": below}
        figure.add_scatter(x=x, y=names, error_x=error, mode="markers", name=arm, marker_color=colours[arm])
    figure.add_vline(0, line_dash="dash", line_width=1, opacity=1).update_yaxes(autorange="reversed")
    show(figure.update_layout(xaxis_title="difference of the AUROC", height=170 + 32 * len(differences), width=850))
    say("**Figure 2.** The same. An interval that holds 0 shows neither a gain nor that there is none.")
else:
    say("There is nothing to compare with: no training without the encoder on the same labels.")

# %% [markdown]
# ### 3.3 Whether the probabilities can be believed

# %%
table(
    "**Table 4.** ECE as trained and after a temperature. A temperature above 1: the training was too sure.",
    [
        {
            "labels": percent(cell["fraction"]),
            "arm": cell["arm"],
            "ECE, read": number(cell["ece"]["value"]),
            "after": number(cell["ece_after"]["value"]),
            "if perfect": number(cell["ece"]["if_perfect"]),
            "true ECE": believed(cell["ece"]),
            "true ECE after": believed(cell["ece_after"]),
            "temperatures": f"{min(cell['temperatures']):.2f} to {max(cell['temperatures']):.2f}",
        }
        for cell in cells
    ],
)

# %%
columns = min(len(pooled), 4)
figure = make_subplots(-(-len(pooled) // columns), columns, subplot_titles=[one.arm for one in pooled])
for place, one in enumerate(pooled):
    at = {"row": place // columns + 1, "col": place % columns + 1}
    for name, shown, colour in (("as trained", one.before, "grey"), ("after", one.after, colours[one.arm])):
        of = binned(shown, one.labels, sweep.task, usual_kind(sweep.task))
        size = (4 + 26 * (of.count / of.count.sum()) ** 0.5).tolist()
        texts = [f"{name}: {count:.0f} cases" for count in of.count]
        marker = {"size": size, "color": colour, "opacity": 0.65}
        share = of.mean - of.excess / of.count
        figure.add_scatter(x=of.mean, y=share, mode="markers", marker=marker, text=texts, showlegend=False, **at)
    line = {"color": "grey", "dash": "dash", "width": 1}
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line=line, showlegend=False, hoverinfo="skip", **at)
figure.update_xaxes(range=[0.45 if sweep.task == "binary" else -0.03, 1.03], title="confidence")
figure.update_yaxes(range=[-0.05, 1.05]).update_yaxes(title="came true", col=1)
show(figure.update_layout(width=1050, height=60 + 300 * -(-len(pooled) // columns)).update_annotations(font_size=13))
say(
    f"**Figure 3.** Reliability with {percent(middle)} of the labels, before (grey) and after the temperature; the "
    f"larger a mark, the more cases. All trainings of an arm are in one, so each of the {found['cases']:,} cases "
    "is there once for each of them: the marks look surer than they are."
)

# %% [markdown]
# ## 4 Limitations

# %%
last = sweep.epochs.groupby("trial")["epoch"].max()
at_best = [trial for trial in trainings if last[trial] not in sweep.folder.predictions(trial)["epochs"]]
begun = {trial for trial in trainings if used[trial]["model"]["weights"] not in (None, "imagenet")}
varied = [name for name in sweep.swept if name.split(".")[0] not in ("labels", "model")]
limits = [
    f"All of it is on {counted(found['cases'], 'validation case')}. They are labelled in full, while train knows as "
    f"few as {counted(labelled[str(fractions[0])], 'label')}: where labels are few, validation has few as well.",
    "Probes chose their regularisation on the same cases, with the encoder and without.",
    "The settings of a training are the same for all parts of the labels, and tuned for none of them."
    if not varied
    else f"Settings varied too ({', '.join(varied)}); the means are over what was tried, and not over draws alone.",
    "The intervals know of these images and draws, and of no other hospital or device, nor of another pretraining.",
]
if differences:
    by_chance = f"{0.05 * len(differences):.2g} of {counted(len(differences), 'interval')} for differences"
    limits.append(
        f"By chance alone {by_chance} would not hold 0, were there no difference at all; nothing is corrected."
    )
if begun:
    limits.insert(
        1, "The encoder was chosen by a probe on the same cases, so what begins with it looks somewhat better."
    )
limits += [
    f"The encoder of {told['sweep']} has seen the validation images, without labels: what begins with it looks better."
    for told in known
    if told["images"] != "train" and told["data_md5"] == data_md5(config.data)
]
limits += (
    [f"How {counted(len(encoders) - len(known), 'encoder')} came about is not known here."]
    if len(encoders) > len(known)
    else []
)
limits += (
    ["There is a single draw of the labels: how much another would change is not known."] if len(draws) == 1 else []
)
limits += (
    [f"{counted(len(at_best), 'training')} kept their best epoch alone, which was chosen on the same cases."]
    if at_best
    else []
)
say("\n".join(f"- {one}" for one in [*limits, *(f"Known of {info.title}: {trap}" for trap in info.traps)]))

# %% [markdown]
# `medtune report --label-efficiency FOLDER --test` tells the same of the sealed test, in one look that is counted.

# %% [markdown]
# ## 5 Reproducibility checklist

# %%
states = sweep.trials["state"].value_counts()
ended, failed, pruned = (int(states.get(state, 0)) for state in ("complete", "failed", "pruned"))
others = len(sweep.trials) - ended - failed - pruned
versions = [{**one["versions"]} for one in used.values()]
machines = distinct(f"{one['device']} ({one['processor']}), {one['precision']}" for one in used.values())
checklist = [
    ("data", f"{info.title}, {config.data.size} px", "sweep.yaml"),
    ("MD5 of the data", data_md5(config.data), "of the file that was read"),
    ("split", f"{info.cases['train']:,} train, {found['cases']:,} validation; test not read here", "as published"),
    ("draws of the labels", f"seeds {listed(draws)}", "sweep.yaml, data.labels.seed"),
    ("seed of the sweep", config.seed, "sweep.yaml"),
    ("seeds of the trainings", f"{len({one['seed'] for one in used.values()})} distinct", "trials/*/config.yaml"),
    ("versions", distinct(", ".join(f"{k} {v}" for k, v in one.items()) for one in versions), "trials/*/config.yaml"),
    ("machine, precision", machines, "trials/*/config.yaml"),
    (
        "trainings",
        f"{len(sweep.trials)} begun, of {config.search.trials} at most: {ended} ended, {failed} failed, {pruned} pruned"
        + (f", {others} not ended yet" if others else ""),
        "ledger.log",
    ),
    ("looks at the test", sweep.looks, "ledger.log"),
]
for told in known:
    checklist += [
        ("encoder, SHA-256", told["sha256"], "encoder.json"),
        ("encoder, its pretraining", f"{told['sweep']}, trial {told['trial']}, epoch {told['epoch']}", "encoder.json"),
        ("encoder, seed", told["seed"], "encoder.json"),
        ("encoder, MD5 of its data", told["data_md5"], "encoder.json"),
        ("encoder, images it has seen", f"{told['images']} of {told['dataset']}, no labels", "encoder.json"),
        ("encoder, versions", ", ".join(f"{name} {one}" for name, one in told["versions"].items()), "encoder.json"),
        ("encoder, chosen on", "validation, by its k-NN probe", "the pretraining's ledger.log"),
    ]
checklist += [("encoder", f"not described here: {why}", path) for path, (told, why) in encoders.items() if not told]
space = f"sampler {config.search.sampler}, pruning {config.pruning.name}"
fixed = config.search.sampler == "grid" and config.pruning.name == "none"
checklist += [
    ("which trainings", f"{'fixed before the first' if fixed else 'as they were drawn'}: {space}", "sweep.yaml"),
    ("which epoch", "the last" + (f"; of {len(at_best)} the best on validation" if at_best else ""), "validation.npz"),
    ("a probe's regularisation", "chosen on validation, by its loss", "medtune/pretraining/probe.py"),
    ("the temperature", "cross-fitted on validation, five folds", "medtune/label_efficiency.py"),
    ("other settings", f"varied: {', '.join(varied)}" if varied else "the same for all", "sweep.yaml"),
]
table(
    "**Table 5.** What is needed to do it again, and what could have been chosen.",
    [{"item": item, "value": value, "where it stands": where} for item, value, where in checklist],
)

# %%
pretrained = [f"medtune pretrain {told['sweep']}.yaml" for told in known]
commands = [
    *pretrained,
    f"medtune sweep {config.sweep}.yaml",
    f"medtune report --label-efficiency runs/{config.sweep}",
    f"medtune replay runs/{config.sweep} {trainings[0]} --verify",
]
print("\n".join(commands))

# %% [markdown]
# The last one trains any of them again and compares to the last bit.
#
# ## References
#
# - Bardes A, Ponce J, LeCun Y. VICReg: variance-invariance-covariance regularization for self-supervised learning.
#   ICLR 2022.
# - Chen T, Kornblith S, Norouzi M, Hinton G. A simple framework for contrastive learning of visual representations.
#   ICML 2020.
# - DeLong ER, DeLong DM, Clarke-Pearson DL. Comparing the areas under two or more correlated receiver operating
#   characteristic curves: a nonparametric approach. Biometrics 1988; 44: 837-845.
# - Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural networks. ICML 2017.
# - He K, Fan H, Wu Y, Xie S, Girshick R. Momentum contrast for unsupervised visual representation learning. CVPR 2020.
