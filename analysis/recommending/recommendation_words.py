"""A recommendation in words: Markdown, a line per heading, paragraph, list item or command (indented by four)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from analysis.numbers import NO_INTERVAL, significant
from analysis.recommending.criterion import (
    BARGAIN,
    BY_LATENCY,
    BY_THROUGHPUT,
    KNEE,
    LATENCY,
    NEGLIGIBLE,
    THROUGHPUT,
    WEIGHTS,
    Constraint,
    Criterion,
)
from analysis.recommending.quantity_words import (
    counted,
    latency_words,
    percent_words,
    plain,
    probability_words,
    seconds_words,
    throughput_words,
)
from analysis.recommending.recommendation import Answer, Recommendation
from analysis.recommending.recommended_point import Pick
from analysis.recommending.robustness import Regret
from analysis.recommending.telling_apart import MOST_ROUNDS, POWER, PRACTICAL, Apart
from analysis.statistics import CONFIDENCE


def recommendation_lines(recommendation: Recommendation, directory: Path) -> list[str]:
    """The answer for every network asked for, then the robust one; `directory` is the run's, for commands."""
    lines = [f"# {recommendation.model}", *_origin(recommendation), _rule(recommendation), *_twins(recommendation)]
    for answer in recommendation.answers:
        lines += [f"## {recommendation.model}, network {answer.profile}", *_answer(recommendation, answer, directory)]
    if recommendation.robust:
        lines += [f"## {recommendation.model}, all networks measured", *_robust(recommendation)]
    return lines


def _origin(recommendation: Recommendation) -> list[str]:
    if recommendation.testbed == "simulated":
        return ["Simulated testbed: declared times, nothing was measured."]
    return ["Imported results: measured elsewhere, by other rules."] if recommendation.testbed == "imported" else []


def _twins(recommendation: Recommendation) -> list[str]:
    if not recommendation.twins:
        return []
    others = " and ".join(recommendation.twins)
    return [f"All on one host was measured with {others}, too: nothing crosses a link there, so it counts once."]


def _rule(recommendation: Recommendation) -> str:
    wanted = ", ".join(constraint_words(constraint) for constraint in recommendation.wish.constraints)
    bounds = f"Wanted: {wanted}." if wanted else "No constraints."
    return f"{bounds} Rule: {rule_words(recommendation.criterion, bounded=bool(wanted))}."


def rule_words(criterion: Criterion, *, bounded: bool) -> str:
    """How a choice is made of the points that meet the constraints."""
    among = " of the points that meet them" if bounded else " of all points"
    if criterion.rule == BY_THROUGHPUT:
        return f"with a bound on the latency only, the highest throughput{among}"
    if criterion.rule == BY_LATENCY:
        return f"with a bound on the throughput only, the lowest latency{among}"
    if criterion.rule == WEIGHTS:
        weights = ", ".join(f"{name} {w:.3g}" for w, name in zip(criterion.weights, _NAMES, strict=True))
        return f"the point{among} that is nearest to the best latency with the best throughput (weights {weights})"
    return f"the knee of the front{among}, furthest from the line through the front's ends"


_NAMES = ("latency", "throughput")


def constraint_words(constraint: Constraint) -> str:
    """`latency at most 500 ms`."""
    if constraint.column == LATENCY:
        return f"latency at most {seconds_words(constraint.limit)}"
    if constraint.column == THROUGHPUT:
        return f"throughput at least {plain(constraint.limit)} images/s"
    return f"at most {plain(constraint.limit / 1e3)} kB per batch between stages"


def loss_words(criterion: Criterion, loss: float) -> str:
    """How far a point is behind the best: `a factor of 1.310 in throughput`, `12 % of the front's span`."""
    if not criterion.of_factors:
        return f"{significant(100 * loss, 2)} % of the front's span"
    factor = math.exp(min(loss, 700.0))
    of = {BY_THROUGHPUT: "throughput", BY_LATENCY: "latency", WEIGHTS: "distance from the ideal"}[criterion.rule]
    return f"a factor of {f'{factor:.3f}' if factor < 10 else significant(factor)} in {of}"


def _answer(recommendation: Recommendation, answer: Answer, directory: Path) -> list[str]:
    if answer.choice is None:
        return _nothing_meets(recommendation, answer)
    choice = answer.choice
    constraints = recommendation.wish.constraints
    lines = [_headline(choice), f"- {_setting(choice)}"]
    stages = _stages(choice)
    lines += [f"- {stages}"] if stages else []
    lines.append(f"- Expect {_performance(choice, _n_rounds(choice))}.")
    if choice.rounds < 2:
        lines.append(f"- One valid round: these are point estimates, an interval is {NO_INTERVAL}.")
    lines += [f"- {text}" for text in (_standing(answer), *_doubts(choice, constraints)) if text]
    lines.append(f"- {_probabilities(recommendation, answer, choice)}")
    lines += _second(recommendation, answer, directory)
    lines += [f"- {_regret(recommendation, answer, regret)}" for regret in answer.regrets]
    if answer.unmeasured:
        lines.append(f"- {counted(answer.unmeasured, 'point')} without a valid round could not compete.")
    return lines


def _headline(pick: Pick) -> str:
    if pick.placement == "all local":
        return f"**Do not split: run it all on {pick.host or 'the first host'}.** Nothing crosses the network."
    if pick.placement == "all remote":
        host = pick.host or "the last host"
        sender = f"{pick.hosts[0]} only sends" if len(pick.hosts) > 1 else "the first host only sends"
        return f"**Do not split: run it all on {host}**; {sender} the images."
    return f"**Split at {pick.split}**, after {pick.split_name}."


def _setting(pick: Pick) -> str:
    """Depth, backend, engine, batch, pipeline."""
    depth = (
        "Depth unknown"
        if pick.depth is None
        else f"Depth {pick.depth} ({counted(pick.depth, 'batch', 'es')} in flight)"
    )
    batch = "unknown" if pick.batch_size is None else str(pick.batch_size)
    return f"{depth}, batch size {batch}, backend {pick.backend}, engine {pick.engine}, pipeline {pick.pipeline}."


def _stages(pick: Pick) -> str:
    if not pick.hosts:
        return ""
    times = [
        f"{host} {significant(1e3 * exec_s)} ms" if math.isfinite(exec_s) else host
        for host, exec_s in zip(pick.hosts, pick.exec_s, strict=True)
    ]
    return f"Stages, computing per batch: {', then '.join(times)}."


def _performance(pick: Pick, told: str = "") -> str:
    bytes_ = f", {plain(pick.bytes_per_batch / 1e3)} kB per batch between stages" if pick.bytes_per_batch > 0 else ""
    return (
        f"latency {latency_words(pick.latency_s)}, throughput {throughput_words(pick.throughput_img_s)}{told}{bytes_}"
    )


def _n_rounds(pick: Pick) -> str:
    return "" if pick.rounds < 2 else f" (± half the {percent_words(CONFIDENCE)} t-interval over {pick.rounds} rounds)"


def _standing(answer: Answer) -> str:
    if answer.standing == "ideal":
        return "No other point is better at either: latency or throughput."
    if answer.standing == "end":
        return "The front has no knee here; of its ends this one has the more throughput per latency."
    return ""


def _doubts(pick: Pick, constraints: Iterable[Constraint]) -> list[str]:
    """Bounds that the mean keeps and its interval does not."""
    import numpy as np

    found = []
    for constraint in constraints:
        interval = {LATENCY: pick.latency_s, THROUGHPUT: pick.throughput_img_s}.get(constraint.column)
        if interval is None or interval.n < 2:
            continue
        end = interval.high if constraint.at_most else interval.low
        if not constraint.holds(np.array([end]))[0]:
            found.append(f"Its mean keeps the bound, {constraint_words(constraint)}; the interval crosses it.")
    return found


def _probabilities(recommendation: Recommendation, answer: Answer, pick: Pick) -> str:
    if math.isnan(pick.p_best):
        return f"Probabilities are {NO_INTERVAL}: with one valid round nothing says how sure the means are."
    others = f"{recommendation.draws} draws of the means of {counted(answer.drawn, 'point')}"
    if not recommendation.wish.constraints:
        return f"Probability that it is the best: {probability_words(pick.p_best)} ({others})."
    return (
        f"Probability that it meets the constraints: {probability_words(pick.p_meets)}; that it meets them and is the "
        f"best of those that do: {probability_words(pick.p_best)} ({others})."
    )


def _second(recommendation: Recommendation, answer: Answer, directory: Path) -> list[str]:
    if answer.runner_up is None or answer.apart is None or answer.choice is None:
        return ["- No other point meets the constraints." if recommendation.wish.constraints else "- No other point."]
    second, apart = answer.runner_up, answer.apart
    text = f"- Runner-up: {_named(recommendation, second)}: {_performance(second)}."
    if not apart.known:
        return [
            f"{text} Whether the two differ is {NO_INTERVAL}: {counted(apart.difference.n, 'round')} valid in both."
        ]
    text += f" {_difference(apart)}"
    if apart.told_apart:
        return [f"{text}: the data tells the two apart."]
    bargain = _bargain(recommendation.criterion, answer.choice, second)
    return [f"{text}: the data does not tell the two apart.{bargain}", *_open(answer, apart, directory)]


def _bargain(criterion: Criterion, choice: Pick, second: Pick) -> str:
    """What the rule does not look at, where that speaks for the runner-up."""
    latency = second.latency_s.mean / choice.latency_s.mean
    throughput = second.throughput_img_s.mean / choice.throughput_img_s.mean
    if criterion.rule == BY_THROUGHPUT and latency < 1 - PRACTICAL:
        return f" The runner-up does it with {significant(latency)} x the latency, which the rule does not count."
    if criterion.rule == BY_LATENCY and throughput > 1 + PRACTICAL:
        return f" The runner-up does it with {significant(throughput)} x the throughput, which the rule does not count."
    return ""


def _open(answer: Answer, apart: Apart, directory: Path) -> list[str]:
    """What to do where the two are not told apart."""
    equal = f"By this rule they differ by less than {percent_words(PRACTICAL)}: for practical purposes they are equal."
    n = apart.difference.n
    if apart.rounds_needed:
        text = (
            f"- Not enough rounds to tell these two apart: {apart.rounds_needed} would, {apart.rounds_needed - n} more "
            f"than there are, if the difference is what it seems (paired t-test, power {percent_words(POWER)})."
        )
        text += f" {equal}" if apart.equal_in_practice else ""
    elif apart.equal_in_practice:
        return [f"- {equal} More than {MOST_ROUNDS} rounds would be needed to tell them apart."]
    elif apart.rounds_to_narrow:
        text = (
            f"- More than {MOST_ROUNDS} rounds would be needed to tell them apart; {apart.rounds_to_narrow}, "
            f"{apart.rounds_to_narrow - n} more than there are, would narrow the interval to "
            f"± {percent_words(PRACTICAL)}."
        )
    else:
        return [
            f"- More than {MOST_ROUNDS} rounds would be needed to tell them apart, or to narrow the interval to "
            f"± {percent_words(PRACTICAL)}: take what is simpler, or quieter hosts and longer windows."
        ]
    if answer.more is None:
        return [f"{text} No command for it: {answer.no_more}."]
    text += " A finished run takes no more rounds, so measure the two anew:"
    return [text, *(f"    {line}" for line in answer.more.lines(directory))]


def _difference(apart: Apart) -> str:
    interval = apart.difference
    ends = (interval.mean, interval.low, interval.high)
    percents = [100 * (math.expm1(min(end, 700.0)) if apart.criterion.of_factors else end) for end in ends]
    mean, low, high = (f"{percent:.1f}" for percent in percents)
    what = {
        BY_THROUGHPUT: f"The choice has {mean} % more throughput",
        BY_LATENCY: f"Its latency is {mean} % higher than the choice's",
        WEIGHTS: f"It is {mean} % further from the ideal than the choice",
        KNEE: f"It is {mean} % of the front's span behind the choice",
        BARGAIN: f"The choice has {mean} % more throughput per latency",
    }[apart.criterion.rule]
    return f"{what} ({percent_words(CONFIDENCE)} interval {low} to {high} %, paired over {interval.n} rounds)"


def _regret(recommendation: Recommendation, answer: Answer, regret: Regret) -> str:
    where = f"Under {regret.profile}"
    here, best = answer.elsewhere[regret.profile]
    if not regret.measured or here is None:
        return f"{where}: not measured, so nothing is known of it there."
    among = f"of the {counted(regret.n_common, 'point')} measured under both networks"
    if not regret.solvable or best is None:
        return f"{where} none {among} meets the constraints; this one has {_performance(here)}."
    if not regret.meets:
        named = _named(recommendation, best)
        return f"{where} it breaks the constraints: {_performance(here)}; the best there is {named}."
    if regret.value <= NEGLIGIBLE:
        return f"{where} it is the best {among}, too: {_performance(here)}."
    lost = _lost(recommendation, regret.value, here, best)
    return f"{where} it has {_performance(here)}: {lost} the best {among}, {_named(recommendation, best)}."


def _lost(recommendation: Recommendation, loss: float, here: Pick, best: Pick) -> str:
    """How far `here` is behind `best`; with the knee in what it means for both objectives."""
    if recommendation.criterion.of_factors:
        return f"{loss_words(recommendation.criterion, loss)} behind"
    latency = here.latency_s.mean / best.latency_s.mean
    throughput = here.throughput_img_s.mean / best.throughput_img_s.mean
    return f"{significant(latency)} x the latency and {significant(throughput)} x the throughput of"


def _robust(recommendation: Recommendation) -> list[str]:
    robust = recommendation.robust
    assert robust is not None
    left_out = [f"- {name}: nothing meets the constraints there, so it is not counted." for name in robust.unsolvable]
    if not robust.n_common:
        return ["No point was measured under all networks, so none can be called robust."]
    among = f"the {counted(robust.n_common, 'point')} measured under all networks"
    if not recommendation.robust_picks:
        return [f"None of {among} meets the constraints under all of them."]
    first = next(iter(recommendation.robust_picks.values()))
    same = [a.profile for a in recommendation.answers if a.choice and a.choice.cell == _cell(recommendation, a)]
    text = f"**{_named(recommendation, first)}** has the least greatest regret of {among}"
    text += "." if math.isnan(robust.probability) else f" (probability {probability_words(robust.probability)})."
    if len(same) == len(recommendation.answers):
        text += " It is the choice under each network." if len(same) > 1 else " It is the choice."
    lines = [text]
    for profile, pick in recommendation.robust_picks.items():
        if profile in robust.regrets:
            best = recommendation.robust_best[profile]
            lost = f"{_lost(recommendation, robust.regrets[profile], pick, best)} {_named(recommendation, best)}"
            lost = "the best there" if robust.regrets[profile] <= NEGLIGIBLE else lost
            lines.append(f"- {profile}: {_performance(pick)}: {lost}.")
    return lines + left_out


def _cell(recommendation: Recommendation, answer: Answer) -> str:
    """The cell of the robust choice under the answer's network, if it is at the answer's depth."""
    pick = recommendation.robust_picks.get(answer.profile)
    return pick.cell if pick and answer.choice and pick.depth == answer.choice.depth else ""


def _nothing_meets(recommendation: Recommendation, answer: Answer) -> list[str]:
    total = len(answer.candidates)
    if not total:
        return [f"No operating point has a valid round here ({counted(answer.unmeasured, 'point')} without one)."]
    lines = [f"**No operating point of {total} meets the constraints.**"]
    for constraint in recommendation.wish.constraints:
        words = constraint_words(constraint)
        lines.append(f"- {words[0].upper()}{words[1:]}: {answer.broken[constraint.column]} of {total} break it.")
    if answer.nearest:
        by = f", off by a factor of {answer.nearest_factor:.3g}" if math.isfinite(answer.nearest_factor) else ""
        lines.append(f"- The nearest is {_named(recommendation, answer.nearest)}{by}: {_performance(answer.nearest)}.")
    return lines


def _named(recommendation: Recommendation, pick: Pick) -> str:
    """`P3, depth 2, rpc`: with the axes that more than one point differs in."""
    values = {"backend": pick.backend, "engine": pick.engine, "pipeline": pick.pipeline}
    values["batch_size"] = f"batch size {pick.batch_size if pick.batch_size is not None else 'unknown'}"
    return ", ".join([pick.place, *(values[axis] for axis in recommendation.varying)])
