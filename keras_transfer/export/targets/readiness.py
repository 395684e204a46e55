"""Whether a runtime takes a file, and why not: the rules of a target applied to what the file holds. Light."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from keras_transfer.export.inspection import FileFacts, OperatorFacts
from keras_transfer.export.targets.rules import Rules
from keras_transfer.export.targets.specs import TargetSpec

SHOWN = 4
"""So many kinds of trouble are named."""
WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"})


@dataclass(frozen=True)
class Readiness:
    """What a target makes of a file.

    Attributes:
        target: its name.
        state: ``taken``, ``partly`` (some operators run elsewhere) or ``refused``.
        reasons: why not, or what to know, one sentence each.
    """

    target: str
    state: str
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"target": self.target, "state": self.state, "reasons": list(self.reasons)}


def judge(facts: FileFacts, spec: TargetSpec) -> Readiness:
    """Whether a target takes a file, by its rules: operators, number types, sizes, names."""
    rules = spec.rules
    reasons = list(_whole(facts, rules))
    lacking = [(one, why) for one in facts.operators if (why := _lacks(facts, one, rules))]
    known = [f"{free}, which counts as 1; inner shapes may be untrue." for free in _free(facts)]
    known = known if rules.free_size == "one" else []
    if not lacking:
        return Readiness(spec.name, "refused" if reasons else "taken", (*reasons, *known))
    named = _named(facts, lacking)
    if not rules.elsewhere:
        return Readiness(spec.name, "refused", (*reasons, *named))
    everything = len(facts.operators)
    away = len(elsewhere(facts, rules))
    if away == everything:
        reasons.append(f"Nothing of it would run there: {named[0]}")
        return Readiness(spec.name, "refused", tuple(reasons))
    after = (
        ": those before the first that it has, and all after the next that it lacks" if rules.one_part else ""
    )
    places = (f"{away} of {everything} operators run on {rules.elsewhere}{after}.", *named)
    return Readiness(spec.name, "refused" if reasons else "partly", (*reasons, *places, *known))


def _free(facts: FileFacts) -> list[str]:
    """The first input with a size that is open, in words."""
    found = [facts.tensors[index] for index in facts.inputs if -1 in facts.tensors[index].shape]
    return [f"The input {one.name} has a free size {list(one.shape)}" for one in found[:1]]


def elsewhere(facts: FileFacts, rules: Rules) -> dict[int, str]:
    """Why operators run elsewhere, by their places in ``facts``."""
    lacking = {place: _lacks(facts, one, rules) for place, one in enumerate(facts.operators)}
    away = _away([bool(why) for why in lacking.values()], rules.one_part)
    return {place: lacking[place] or "comes after one that it lacks" for place in away}


def _away(lacking: list[bool], one_part: bool) -> list[int]:
    """The places of operators that run elsewhere; ``lacking`` says of each whether the runtime lacks it."""
    if not one_part:
        return [place for place, lacks in enumerate(lacking) if lacks]
    start = lacking.index(False) if False in lacking else len(lacking)
    here = next((place for place, lacks in enumerate(lacking[start:]) if lacks), len(lacking) - start)
    return [place for place in range(len(lacking)) if not start <= place < start + here]


def _whole(facts: FileFacts, rules: Rules) -> list[str]:
    """What is wrong with the file as a whole."""
    reasons = []
    if rules.free_size == "refused":
        reasons += [f"{free}; every size must be stated." for free in _free(facts)]
    edges = [facts.tensors[index] for index in (*facts.inputs, *facts.outputs)]
    wrong = [one for one in edges if rules.edges and one.type not in rules.edges]
    if wrong:
        reasons.append(f"{wrong[0].name} is {wrong[0].type}; {' or '.join(sorted(rules.edges))} is expected.")
    if rules.distinct_names:
        twice = [name for name, count in Counter(one.name for one in facts.tensors).items() if count > 1]
        if twice:
            reasons.append(
                f"Several tensors are called {twice[0]!r}; the converter tells them by their names."
            )
    return reasons


def _lacks(facts: FileFacts, operator: OperatorFacts, rules: Rules) -> str:
    """Why an operator cannot run there; empty where it can."""
    if operator.name not in rules.operators:
        return "" if rules.others and not operator.custom else "is not among its operators"
    data, kinds = facts.data(operator), rules.operators[operator.name]
    wrong = [one.type for one in data if kinds is not None and one.type not in kinds]
    if wrong:
        return f"of {wrong[0]} (it takes {', '.join(sorted(kinds or ()))})"
    if not rules.hybrid and operator.name in WEIGHTED and data and data[0].type == "float32":
        weights = [facts.tensors[index].type for index in operator.inputs[1:2] if index >= 0]
        if weights and weights[0] != "float32":
            return f"meets float32 data with {weights[0]} weights"
    return ""


def _named(facts: FileFacts, lacking: list[tuple[OperatorFacts, str]]) -> list[str]:
    """A sentence for each kind of trouble: the first layer it is in, and how many more."""
    groups: dict[tuple[str, str], list[OperatorFacts]] = {}
    for operator, why in lacking:
        groups.setdefault((operator.name, why), []).append(operator)
    sentences = []
    for (name, why), found in list(groups.items())[:SHOWN]:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        sentences.append(f"{name} {why}: layer {facts.layer(found[0])}{more}.")
    if len(groups) > SHOWN:
        sentences.append(f"And other kinds: {len(groups) - SHOWN}.")
    return sentences
