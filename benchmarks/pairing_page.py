"""docs/pairing.md and its plot, from the results of `pairing.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TITLES = {
    "worlds": "six procedural worlds mixed together",
    "temple": "templeRing47",
    "mixture": "all real evaluation sets in one folder",
}


def draw_plot(results: dict[str, Any], path: Path) -> None:
    """Recall of true pairs against pairs per photo, a panel for each collection; and the calibration curve."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    figure, panels = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
    for panel, (name, part) in zip(panels.flat, results["pairing"].items(), strict=False):
        for pairing in dict.fromkeys(row["pairing"] for row in part["rows"]):
            rows = [row for row in part["rows"] if row["pairing"] == pairing]
            style = {"retrieval": "o-", "exhaustive": "k*", "random": "x:", "sequential": "s--"}.get(pairing, ".-")
            width = 2.2 if pairing == "retrieval" else 1.0
            x, y = [row["pairs_per_photo"] for row in rows], [row["recall"] for row in rows]
            panel.plot(x, y, style, label=pairing, linewidth=width, markersize=5)
        panel.set_xscale("log")
        panel.set(xlabel="pairs per photo", ylabel="recall of true pairs", ylim=(0, 1.03))
        panel.set_title(f"{TITLES[name]}\n{part['photos']} photos, {part['true_pairs']} true pairs", fontsize=9)
        panel.set_xticks([3, 5, 10, 20, 50, 100], ["3", "5", "10", "20", "50", "100"])
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.grid(alpha=0.3)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncol=4, fontsize=8)
    last = panels[1, 1]
    last.plot([0, 1], [0, 1], "k:", linewidth=1)
    for name, scores in results["classifier"].items():
        bins = scores["reliability"]
        last.plot([b["said"] for b in bins], [b["was"] for b in bins], "o-", label=name, markersize=4)
    last.set(xlabel="predicted probability", ylabel="share that overlaps", xlim=(0, 1), ylim=(0, 1.03))
    last.set_title(
        "overlap probability on places not used in training,\nas many overlapping pairs as others", fontsize=9
    )
    last.legend(fontsize=7, loc="upper left")
    last.grid(alpha=0.3)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def page(_: str, results: dict[str, Any]) -> str:
    """docs/pairing.md from pairing.json."""
    lines = [*_INTRODUCTION, "![Recall of true pairs against pairs per photo](pairing.png)", ""]
    for name, part in results["pairing"].items():
        lines += _pairing_table(TITLES[name], part)
    lines += _costs(results) + _classifier(results)
    machine = results["machine"]
    lines += ["", f"Machine: {machine['cpu']}, {machine['num_cpus']} cores, one thread; seconds are CPU time."]
    return "\n".join(lines) + "\n"


_INTRODUCTION = """# Choosing image pairs, and overlap probability

Made by `LIGHTMATCH_DATA=/path/to/data python benchmarks/pairing.py --cache FOLDER`; every number is in
`benchmarks/results/pairing.json`. SIFT, at most 2048 keypoints.

## Pair selection: exhaustive, sequential, retrieval, GPS

| `--pairs` | pairs | how many per photo |
|---|---|---|
| `exhaustive` | all | half the number of photos |
| `sequential` | each photo with the next 10 and those 20, 40, … on; 3 loop candidates | 10 + log₂ of the number, + 3 |
| `retrieval` | the 20 most similar photos (image retrieval); frames of a video also in sequence | 10 to 20 |
| `spatial` | the 20 nearest photos within 100 m by GPS; frames of a video also in sequence | 10 to 20 |
| `auto` | `exhaustive` up to 60 photos, beyond that `retrieval` | |

**Retrieval** learns 2048 words by k-means from 100,000 SIFT descriptors (or those of any other extractor) of the photos
themselves, in their 64 principal directions. For each word a photo keeps 64 signs: how its descriptors deviate from the
word on average. The similarity of two photos is summed over the words that both have: the share of equal signs above
half, to the third power, divided by the root of the number of words of both. This is the binary aggregated selective
match kernel, ASMK* (Tolias, Avrithis, Jégou: To aggregate or not to aggregate, ICCV 2013). A photo takes 18 kB, so
5000 photos take 92 MB. Up to 2000 photos all are compared with all, in blocks of 128 MB. Beyond, an index proposes 400
candidates for each photo (usearch: a graph of near neighbours; of each photo it keeps a sketch of 8 kB, sums of its
signs in random buckets) and only these are compared: of the pairs that a comparison of 3000 pictures of a
[city](scale.md) chooses, it leads to 90 %, and to 99 % of those with a similarity of 0.01 and more, in 18 s, not 54.

**GPS** distances are straight lines between points on the WGS 84 ellipsoid, exact to 1 mm in 10 km, also at the date
line and the poles. Photos without a position, or with no other photo near it, are paired by image retrieval where
descriptors are given, else with their neighbours in the list.

## Recall of true pairs

A true pair is one that is known to overlap:

- *Worlds*: 6 procedural plazas of 30 views, two with doppelgängers of objects, two more with doppelgängers and repeated
  facades. By true depth, the views share at least 10 % of the one that shows more besides, with at most 40° between the
  optical axes. In random order.
- *Temple*: at most 40° between the optical axes.
- *Mixture*: fountain (by angle, too), Reichstag (listed as covisible), door, and those of Oxford, homogr, fundamental
  and two pairs of LightGlue's authors; temple as above. Castle, Lund, TUM and the loop are distractors: which of their
  own pairs overlap is not known and not counted. In the order of the folders, which helps `sequential`.

*confirmed*: the same for true pairs that LightGlue and a fundamental matrix clearly confirm (30 inliers at 4 px and
half of the matches), in the sample of pairs on which the overlap probability is evaluated. Means of three seeds; ± is
the largest difference between them. *neighbours* is the requested number; *pairs* per photo are those to match, counted
once.

""".splitlines()


def _pairing_table(title: str, part: dict[str, Any]) -> list[str]:
    lines = [
        f"### {title[0].upper()}{title[1:]}: {part['photos']} photos, {part['true_pairs']} true pairs",
        "",
        "| pairing | neighbours | pairs per photo | recall | ± | recall of confirmed |",
        "|---|---|---|---|---|---|",
    ]
    for row in part["rows"]:
        lines.append(
            f"| {row['pairing']} | {row['neighbors']} | {row['pairs_per_photo']:.1f} | {row['recall']:.3f}"
            f" | {row['recall_spread']:.3f} | {row['recall_confirmed']:.3f} |"
        )
    return [*lines, ""]


def _costs(results: dict[str, Any]) -> list[str]:
    """Times, of the mixture."""
    lines = [
        "## Costs",
        "",
        "| descriptor | learn the words, once | describe a photo | bytes of a photo |",
        "|---|---|---|---|",
    ]
    sizes = {"retrieval": 18432, "retrieval, 512 words": 4608, "VLAD 64": 32768, "VLAD 256": 131072}
    seen = set()
    for row in results["pairing"]["mixture"]["rows"]:
        if "learn_s" in row and row["pairing"] not in seen:
            seen.add(row["pairing"])
            size = sizes.get(row["pairing"], 16384)
            lines.append(
                f"| {row['pairing']} | {row['learn_s']:.1f} s | {1000 * row['describe_s_per_photo']:.1f} ms | {size} |"
            )
    seconds = results["compare_s"]
    times = ", ".join(f"{count} photos {value:.0f} s" for count, value in seconds.items())
    return [
        *lines,
        "",
        f"Exhaustive comparison with 2048 words: {times}; the time grows with the square of the number.",
        "The machine was also busy with other work, which makes CPU times longer.",
        "",
    ]


def _classifier(results: dict[str, Any]) -> list[str]:
    lines = ["## Overlap probability", "", *_VERDICT, ""]
    trained = results["classifier_training"]
    lines += [
        f"Trained on {trained['pairs']} pairs ({trained['overlapping']} overlapping), evaluated on other places.",
        *_CAUTION,
        "",
        "| matcher, model | pairs | overlapping | ROC AUC | ROC AUC of the number of matches | Brier"
        " | calibration error |",
        "|---" * 7 + "|",
    ]
    for name, s in results["classifier"].items():
        lines.append(
            f"| {name} | {s['pairs']} | {s['overlapping']} | {s['roc_area']:.4f} | {s['roc_area_of_count']:.4f}"
            f" | {s['brier']:.4f} | {s['expected_calibration_error']:.3f} |"
        )
    lines += [
        "",
        "### Pairs that are not verified",
        "",
        *_SKIPPED,
        "",
        "| matcher, model | threshold | overlapping: skipped | with 15 inliers: skipped | confirmed: skipped"
        " | in between, confirmed: skipped | others: skipped | others with fewer than 15 matches |",
        "|---" * 8 + "|",
    ]
    for name, s in results["classifier"].items():
        others = s["pairs"] - s["overlapping"]
        lines.append(
            f"| {name} | {s['skip_below']:.3f} | {s['true_skipped']} of {s['overlapping']}"
            f" | {s['verified_true_skipped']} of {s['verified_true']}"
            f" | {s['confirmed_true_skipped']} of {s['confirmed_true']}"
            f" | {s['unsure_confirmed_skipped']} of {s['unsure_confirmed']} | {s['others_skipped']} of {others}"
            f" | {s['others_with_few_matches']} of {others} |"
        )
    lines += [
        "",
        "### False positives of geometric verification",
        "",
        *_CHANCE,
        "",
        "| matcher, model | others with 15 inliers | of these below 0.5 | others confirmed"
        " | confirmed true pairs below 0.5 |",
        "|---" * 5 + "|",
    ]
    for name, s in results["classifier"].items():
        lines.append(
            f"| {name} | {s['verified_others']} of {s['pairs'] - s['overlapping']}"
            f" | {s['verified_others_below_half']} | {s['confirmed_others']}"
            f" | {s['confirmed_true_below_half']} of {s['confirmed_true']} |"
        )
    for name, s in results["classifier"].items():
        lines += [
            "",
            f"### Calibration: {name}",
            "",
            "| predicted | pairs | predicted, mean | overlapping |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {b['lowest']:.1f} to {b['lowest'] + 0.1:.1f} | {b['num_cases']} | {b['said']:.3f} | {b['was']:.3f} |"
            for b in s["reliability"]
        ]
    lines += [
        "",
        "### By set: LightGlue, with doppelgängers",
        "",
        "*cross*: random photos of different sets; *lookalike*: photos of different sets that retrieval proposes.",
        "",
        "| set | overlapping | confirmed | probability on average | skipped | confirmed and skipped"
        " | others | confirmed | probability on average | skipped |",
        "|---" * 10 + "|",
    ]
    for name, g in results["classifier"]["LightGlue, with doppelgängers"]["groups"].items():
        true, others = (
            "" if value is None else f"{value:.3f}"
            for value in (g["mean_probability_true"], g["mean_probability_others"])
        )
        lines.append(
            f"| {name} | {g['overlapping']} | {g['confirmed_true']} | {true} | {g['true_skipped']}"
            f" | {g['confirmed_true_skipped']} | {g['pairs'] - g['overlapping']} | {g['confirmed_others']}"
            f" | {others} | {g['others_skipped']} |"
        )
    return lines


_VERDICT = """`lightmatch.pairing.overlap_probability` says from features and matches, before any geometry, how
probable it is that two photos show part of the same scene. It is a logistic regression on logarithms of three numbers:
the matches that are expected to be right and to be wrong, by their [probabilities](match-probability.md), and the right
ones times the share of neighbouring matches that are neighbours in the other photo too. It takes 2 to 20 ms. LightGlue
without probabilities (weights of others) and other matchers have models of the number of matches and their neighbours
alone; the latter was trained on mutual nearest neighbours with the ratio test. All models were trained and evaluated on
SIFT; other features and SuperGlue were not measured. For a matcher with many wrong matches the probability is too high.

Ground truth: procedural scenes by depth (at least 10 % of the view in common and at most 40° between the optical axes,
against nothing in common); photos of places that are known to be different; and in training, photos of one place with
a clear geometry (30 inliers, half of the matches). Opposite sides of the temple (more than 110° apart) count as not
overlapping. Pairs in between have no label.

Doppelgängers cannot be recognised from the matches of two photos alone ([visual disambiguation](disambiguation.md)
does that later). Some procedural scenes contain doppelgängers that are equal in every texel; pairs of their views that
have nothing in common were left out of training and are evaluated only in rows "with doppelgängers".

Probabilities assume as many overlapping pairs as others, in training and in these tables. Of the pairs that retrieval
proposes for photos of one place most overlap, of all pairs of many places few: then the probability is too low or too
high.""".splitlines()

_CAUTION = """The terms were chosen by cross-validation on the training pairs, between a dozen sets of terms whose
results on these pairs were seen too: the rows are not an independent test. Models with more terms (share of the
keypoints, coverage, agreement in rotation and scale) were no better.

Between 0.1 and 0.7 probabilities are too high, as the tables of calibration show; with the probabilities of matches few
pairs are there, and above 0.9 none was wrong. Most of LightGlue's error is on opposite sides of the temple: see the
table by set. The number of matches alone ranks pairs almost as well, but it is not a probability and gives no
threshold.""".splitlines()

_SKIPPED = """A pair is verified if it has at least 8 matches and its probability reaches the threshold of the model:
half of the lowest probability of an overlapping, geometrically confirmed pair in training, at most 0.05. *15 inliers*
at 4 px are COLMAP's minimum, *confirmed* is 30 inliers and half of the matches. *in between*: pairs of a procedural
scene that have something in common, but less than 10 % or more than 40° apart, and sides of the temple 40° to 110°
apart. *others*: pairs with nothing in common, where skipping saves time. Pairs with fewer than 15 matches can never be
verified, so those in the last column could be skipped without a probability; for the ratio test that is the better
rule. Where none of 369 is skipped, the true rate may be up to 0.8 % (95 %, if pairs were independent; those of one
place are not quite).""".splitlines()

_CHANCE = """15 inliers among the many matches of LightGlue are often due to chance (with this package's RANSAC, not
COLMAP's). The probability recognises most of these pairs, and `reconstruct` drops the matches of a pair if as many
random matches in the same places would agree (a-contrario test of Moisan & Stival 2004).""".splitlines()
