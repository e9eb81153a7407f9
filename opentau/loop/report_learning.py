"""The report's sections on what was learned: advantages, critic, losses and whether the indicator is heard."""

from __future__ import annotations

from collections.abc import Sequence

from opentau.labelfacts import calibration_bins, histogram
from opentau.loop import report_charts as charts
from opentau.loop.report_charts import Mark, Series, percent
from opentau.loop.report_data import AdvantageReport, ConditioningReport, CriticReport
from opentau.loop.report_parts import Figure, Section, Table
from opentau.runstate import Curve, number_text
from opentau.types import Source

SOURCE_SERIES = {Source.DEMONSTRATION: 0, Source.AUTONOMOUS: 1, Source.INTERVENTION: 2}


def advantages_section(reports: Sequence[AdvantageReport]) -> Section:
    """Return a histogram an iteration, with thresholds and shares of positive labels."""
    return Section(
        id="advantages",
        title="Advantages",
        lead="Frames by how much better than expected they went on; the dashed line is the threshold (one a task) above which "
        "an autonomous frame is labelled positive. Demonstrations and interventions are positive by rule.",
        missing="No advantages have been labelled yet.",
        figures=tuple(_advantage_figure(report) for report in reports),
    )


def _advantage_figure(report: AdvantageReport) -> Figure:
    columns = {source.name.lower(): values for source, values in report.advantages.items() if len(values)}
    edges, of_source = histogram(columns)
    counts = {SOURCE_SERIES[Source[name.upper()]]: column.tolist() for name, column in of_source.items()}
    label = f"Histogram of the advantages of iteration {report.iteration}"
    chart = charts.histogram_chart(counts, edges.tolist(), sorted(report.thresholds.values()), label=label)
    shares = ", ".join(f"{source.name.lower()} {percent(share)}" for source, share in report.positive_shares.items())
    legend = tuple((SOURCE_SERIES[Source[name.upper()]], name) for name in columns)
    return Figure(title=f"Iteration {report.iteration}", chart=chart, legend=legend, note=f"Labelled positive: {shares}.")


def critic_section(reports: Sequence[CriticReport]) -> Section:
    """Return calibration charts and every measure of the critics."""
    names = list(dict.fromkeys(name for report in reports for name in report.measures))
    rows = tuple((str(r.iteration), *(_measure(r, name) for name in names)) for r in reports)
    return Section(
        id="critic",
        title="Critic quality",
        lead="Measured out of fold: every episode is scored by a critic that did not train on it. Each dot is a tenth of the "
        "autonomous frames; a calibrated critic lies on the dashed diagonal. Style is how often a demonstration is valued "
        "above a success of the policy, both less their returns: far from 0.5 the critic goes by who acts.",
        missing="No value function has been fitted yet.",
        figures=tuple(_calibration_figure(report) for report in reports if len(report.predicted)),
        table=Table(columns=("iteration", *(name.split("/")[-1] for name in names)), rows=rows) if rows else None,
    )


def _measure(report: CriticReport, name: str) -> str:
    return number_text(report.measures[name]) if name in report.measures else "—"


def _calibration_figure(report: CriticReport) -> Figure:
    bins = calibration_bins(report.predicted, report.realised)
    chart = charts.calibration_chart(bins, label=f"Predicted against realised return, iteration {report.iteration}")
    return Figure(title=f"Iteration {report.iteration}: realised over predicted return", chart=chart)


def training_section(curves: Sequence[Curve]) -> Section:
    """Return one chart a loss, one line a stage."""
    metrics = list(dict.fromkeys(curve.metric for curve in curves if "loss" in curve.metric))
    return Section(
        id="training",
        title="Losses",
        lead="One line a training stage.",
        missing="Nothing has been trained yet.",
        figures=tuple(_loss_figure(metric, [curve for curve in curves if curve.metric == metric]) for metric in metrics),
    )


def _loss_figure(metric: str, curves: Sequence[Curve]) -> Figure:
    lines = [Series(name=curve.stage, points=curve.points, series=i) for i, curve in enumerate(curves)]
    chart = charts.line_chart(lines, label=f"{metric} over updates", x_label="update")
    return Figure(title=metric, chart=chart, legend=tuple((line.series, line.name) for line in lines))


def conditioning_section(reports: Sequence[ConditioningReport]) -> Section:
    """Return the gap between the losses under the flipped and the right indicator."""
    marks = [
        Mark(
            group=f"iteration {report.iteration}",
            series=1,
            value=report.gap,
            text=f"right {report.loss_right:.4f}, flipped {report.loss_flipped:.4f}",
        )
        for report in reports
    ]
    figure: tuple[Figure, ...] = ()
    if marks:
        chart = charts.bar_chart(marks, label="Loss under the flipped minus under the right indicator")
        figure = (Figure(title="Flipped minus right indicator", chart=chart),)
    rows = tuple(
        (str(r.iteration), f"{r.loss_right:.4f}", f"{r.loss_flipped:.4f}", f"{r.gap:+.4f}", "yes" if r.gap > 0 else "no")
        for r in reports
    )
    columns = ("iteration", "right", "flipped", "gap", "listens")
    return Section(
        id="conditioning",
        title="Does the policy listen to its indicator?",
        lead="Loss under the flipped minus under the right advantage indicator. At zero or below, conditioning does nothing.",
        missing="No policy has been updated yet.",
        figures=figure,
        table=Table(columns=columns, rows=rows) if rows else None,
    )
