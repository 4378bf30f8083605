"""The part of `docs/results.md` on a plane of threshold and acceptance; a summary without one has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.bench.markdown import table
from trainer.evaluation.estimates import (
    PointSummary,
    dagger,
    double_dagger,
    in_words,
    interval,
    percent,
    with_notes,
)
from trainer.evaluation.method_names import SPECULATIVE, label, spelled, spelled_setting, spelled_threshold
from trainer.evaluation.plane import LEARNED, WHOLE, WITHIN, Plane, PlanePoint
from trainer.evaluation.record import on_one_machine
from trainer.evaluation.summary import Summary, alone

PLANE_IMAGE = "-plane.png"
"""How the name of the plane's chart ends, beside the summary's other files."""

AT_0_TITLES = {
    "confidence-0": "SLM confidence",
    "co-llm": "Co-LLM style",
    "query": "query router",
    "citer-shortcut": "CITER without rollouts",
}
"""What the families of `plane.AT_0` are called."""

ANY_TITLES = {
    "random": "random",
    "confidence": AT_0_TITLES["confidence-0"],
    "entropy-or-margin": "SLM entropy or margin",
    "co-llm-any": AT_0_TITLES["co-llm"],
    "query-any": AT_0_TITLES["query"],
    "citer-shortcut-any": AT_0_TITLES["citer-shortcut"],
}
"""The same of `plane.ANY`."""

FAMILIES = {
    WHOLE: "**the whole plane**",
    "acceptance-0": "acceptance 0, all methods",
    "assisted-tuned": "**speculative decoding, tuned**",
    "assisted": "speculative decoding",
    **{family: f"{title}, any acceptance" for family, title in ANY_TITLES.items()},
    LEARNED: "routers with outcomes or what the LLM keeps, any acceptance",
    **{family: f"acceptance 0: {title}" for family, title in AT_0_TITLES.items()},
}


def plane_section(summary: Summary) -> str:
    """Cost at given accuracies by family, curves and front as Markdown tables; empty without a plane."""
    plane = summary.get("plane")
    if plane is None:
        return ""
    llm = alone(summary, "llm")
    size = llm["bytes"]
    lead = (
        "**The plane of threshold and acceptance.** Fewest bytes, as a share of LLM only, at which a measured point is "
        "as accurate as it says above; the point; how much its accuracy differs from LLM only’s on the same questions; "
        "and what the cheapest point of the whole plane moves of its bytes (95 % intervals; of the last, every "
        "resample chooses its own points):"
    )
    curves = (
        "Curves by acceptance: accuracy at the bytes of LLM only, one line per threshold. Behind a slash is "
        "`max_draft`, where it was fixed:"
    )
    front = "Its front, the best accuracy for the bytes:"
    parts = [lead, _families(plane, llm), curves, _curves(plane, size), front, _front(summary, plane, size)]
    return "\n\n".join(parts)


def _families(plane: Plane, llm: PointSummary) -> str:
    targets = [
        (f"the LLM’s accuracy, less {100 * WITHIN:g} point" if name == "llm" else f"{percent(float(name))} of the gap")
        + ("" if accuracy is None else f": {percent(accuracy, 1)}")
        for name, accuracy in plane["targets"].items()
    ]
    rows = [
        [FAMILIES[family], *(_reached(family, name, plane, llm) for name in plane["targets"])]
        for family in plane["families"]
    ]
    return with_notes(table(["", *targets], rows))


def _reached(family: str, target: str, plane: Plane, llm: PointSummary) -> str:
    reached, cheapest = (plane["families"][each][target] for each in (family, WHOLE))
    point, difference, ratio = reached["point"], reached["difference"], reached["ratio"]["bytes"]
    if point is None or difference is None:
        return "not reached"
    size = f"{percent(point['bytes'] / llm['bytes'])}{double_dagger([point, llm])}"
    text = f"{size}, {setting(point, plane)}; {in_words(difference, 1, ' points')}"
    if family == WHOLE or ratio["value"] is None or not cheapest["point"]:
        return text
    return f"{text}; the plane {in_words(ratio)}{dagger(ratio)}{double_dagger([point, cheapest['point']])}"


def setting(point: PlanePoint, plane: Plane) -> str:
    """A point's method with its dials, as `method_names` spells them, told from the others of its curve."""
    dials = point["method"], point["acceptance"], point["max_draft"]
    others = [each["threshold"] for each in plane["curves"].get(spelled(*dials), ())]
    # Of speculative decoding only: with the token that the LLM adds to a full draft, as the engine counts.
    limit = point["max_draft"] if point["method"] in SPECULATIVE else "auto"
    return spelled_setting(*dials, point["threshold"], others) + ("" if limit == "auto" else f", drafts of {limit - 1}")


def _curves(plane: Plane, llm: float) -> str:
    """A row per method and a column per acceptance."""
    curves = [(points[0], points) for points in plane["curves"].values()]
    acceptances = sorted({first["acceptance"] for first, _ in curves})
    drafts = {(first["method"], str(first["max_draft"])): first for first, _ in curves}
    rows = []
    for (method, draft), first in drafts.items():
        own = {
            point["acceptance"]: points
            for point, points in curves
            if (point["method"], str(point["max_draft"])) == (method, draft)
        }
        name = label(method) if method != "slm" else "no router, the SLM always drafts"
        name += "" if draft == "auto" else f" / {first['max_draft']}"
        rows.append([name, *("<br>".join(_in_curve(own.get(each, []), llm)) for each in acceptances)])
    return table(["", *(f"acceptance {each:g}" for each in acceptances)], rows)


def _in_curve(points: Sequence[PlanePoint], llm: float) -> Iterator[str]:
    thresholds = [point["threshold"] for point in points]
    for point in points:
        threshold = spelled_threshold(point["threshold"], thresholds)
        yield f"{threshold}: {percent(point['accuracy'], 1)} at {percent(point['bytes'] / llm)}"


def _front(summary: Summary, plane: Plane, llm: float) -> str:
    alike = on_one_machine(summary)
    rows = [
        [
            setting(point, plane),
            interval(point["accuracy"], point["accuracy_low"], point["accuracy_high"], 1),
            percent(point["bytes"] / llm),
            f"{point['seconds']:.3g}" if alike else "",
            percent(point["llm_share"]),
            *("" if value is None else f"{value:.1f}" for value in (point["llm_passes"], point["taken_back"])),
        ]
        for point in plane["front"]
    ]
    head = ["accuracy", "bytes of LLM only", "seconds, modelled", "LLM share", "LLM passes", "tokens taken back"]
    return table(["setting", *head], rows)
