"""Which faults of the gateware the fast suite sees.

    python -m benchmarks.mutation [--count 240 --seed 1] [--json verdicts.json --markdown table.md]

A sample of single faults, so many of each module and of each kind, is put into the gateware one after the other, and
tests of the fast suite run on it until one fails: those of the component, then whole networks, then those of the
accelerator. What no test sees is compared with the faultless module by Yosys, which may prove that the two are the
same. Run it from the repository's root; --again FILE takes from an earlier run's JSON what was seen there.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from zeropoint.cli import terminal
from zeropoint.cli.failures import exit_status
from zeropoint.errors import ZeropointError
from zeropoint.files import atomic_write
from zeropoint_sim.cxxrtl_build import design_identity

from . import equivalence, suite
from .faults import Fault
from .sample import population, sampled
from .stages import STAGES, Stage

#: What is asked about the faults: tests, and Yosys.
PROOFS = "proofs"
QUESTIONS = (STAGES[0].name, PROOFS, *(stage.name for stage in STAGES[1:]))

#: Why faults that no test sees and Yosys does not prove to change nothing do so, or what they change; and of which
#: gateware, since a fault's name may be another one's when that has changed.
EXPLAINED = Path(__file__).with_name("explained.json")

DETECTED, PROVED, ARGUED, SURVIVING = "detected", "equal, proved", "equal, argued", "surviving"


class Verdicts:
    """What is known of each fault, kept in a file from the first on.

    Parameters
    ----------
    faults
        By number.
    path
        The file, or None.
    """

    def __init__(self, faults: Mapping[int, Fault], path: Path | None) -> None:
        self.faults, self._path = faults, path
        self.entries: dict[int, dict[str, Any]] = {}
        self.known = suite.Known()
        self.gateware = design_identity("zeropoint_hw").hex()

    def tell(self, number: int, **entry: Any) -> None:
        """Enter what is known of a fault."""
        fault = self.faults[number]
        known = self.entries.get(number, {"fault": str(fault), "module": fault.place.module, "kind": fault.kind})
        self.entries[number] = known | entry
        if entry["state"] in (DETECTED, PROVED):
            self.known.blind.pop(str(fault), None)
        if self._path:
            ordered = [self.entries[index] for index in sorted(self.entries)]
            told = {"gateware": self.gateware, **asdict(self.known), "faults": ordered}
            atomic_write(self._path, (json.dumps(told, indent=1) + "\n").encode())

    def take(self, path: Path) -> None:
        """Take what another file says of the tests without a fault, and to be detected or proved."""
        told = json.loads(path.read_text())
        if told["gateware"] != self.gateware:
            raise ZeropointError(f"'{path}' is of another gateware; leave out --again")
        self.known = suite.Known(told["seconds"], told["passing"], told["blind"])
        numbers = {str(fault): number for number, fault in self.faults.items()}
        for entry in told["faults"]:
            if (number := numbers.get(entry["fault"])) is not None and entry["state"] in (DETECTED, PROVED):
                self.tell(number, **entry)

    def unseen(self) -> dict[int, Fault]:
        """Return the faults that nothing is known of."""
        done = {number for number, entry in self.entries.items() if entry["state"] in (DETECTED, PROVED)}
        return {number: fault for number, fault in self.faults.items() if number not in done}


def judge(
    verdicts: Verdicts, components: Mapping[str, list[Any]], wanted: Sequence[str], note: Callable[[str], None]
) -> None:
    """Have the stages in ``wanted`` say what becomes of the faults, each of those that are left."""
    for stage in STAGES:
        if stage.name in wanted:
            _ask(verdicts, stage, note)
        if stage is STAGES[0] and PROOFS in wanted:
            for number, fault in verdicts.unseen().items():
                if equivalence.is_equivalent(fault, components[fault.place.module]):
                    note(f"{number} {fault}: {PROVED}")
                    verdicts.tell(number, state=PROVED)


def _ask(verdicts: Verdicts, stage: Stage, note: Callable[[str], None]) -> None:
    faults = {number: fault for number, fault in verdicts.unseen().items() if stage.tests(fault)}
    files = sorted({path for fault in faults.values() for path in stage.tests(fault)})

    def told(number: int, verdict: suite.Verdict) -> None:
        state = DETECTED if verdict.detected else SURVIVING
        note(f"{number} {faults[number]}: {state} {verdict.test} ({verdict.seconds:.1f} s)")
        found = {"stage": stage.name, "test": verdict.test, "reason": verdict.reason} if verdict.detected else {}
        verdicts.tell(number, state=state, **found)

    around = stage.around(faults)
    suite.run(faults, [*files, *stage.options], stage.tests, around, told, verdicts.known, stage.patience)


def explain(verdicts: Verdicts, explained: Mapping[str, Any]) -> None:
    """Enter what nobody has seen as surviving, and why it does, if that was said of this gateware."""
    said = explained["faults"] if explained["gateware"] == verdicts.gateware else {}
    for number, fault in verdicts.unseen().items():
        if (entry := said.get(str(fault))) is None:
            verdicts.tell(number, state=SURVIVING)
        else:
            verdicts.tell(number, state=ARGUED if entry["equal"] else SURVIVING, why=entry["why"])


def summary(entries: list[dict[str, Any]]) -> tuple[list[list[Any]], list[Any]]:
    """Return the rows of the table, one for each source file, and the total."""
    states = (DETECTED, PROVED, ARGUED, SURVIVING)
    counts: dict[str, Counter[str]] = {}
    for entry in entries:
        counts.setdefault(entry["module"].split(".")[0], Counter())[entry["state"]] += 1
    rows = [[name, sum(count.values()), *(count[state] for state in states)] for name, count in sorted(counts.items())]
    return rows, ["total", *(sum(row[index] for row in rows) for index in range(1, 6))]


def markdown(entries: list[dict[str, Any]]) -> str:
    """Return the table and the survivors as Markdown."""
    rows, total = summary(entries)
    lines = [f"| {' | '.join(HEADER)} |", f"| --- |{' ---: |' * (len(HEADER) - 1)}"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in [*rows, total]]
    lines += ["", "| fault that no test sees | state | why |", "| --- | --- | --- |"]
    for entry in entries:
        if entry["state"] != DETECTED:
            why = entry.get("why", "")
            lines.append(f"| `{entry['fault'].replace('|', '&#124;')}` | {entry['state']} | {why} |")
    return "\n".join([*lines, ""])


HEADER = ["module", "faults", "detected", "equal, proved", "equal, argued", "surviving"]


def share(entries: list[dict[str, Any]]) -> float:
    """Return the share of detected faults among those that change anything."""
    states = Counter(entry["state"] for entry in entries)
    return states[DETECTED] / max(1, states[DETECTED] + states[SURVIVING])


@click.command(help=__doc__)
@click.option("--count", default=240, show_default=True, help="Faults.")
@click.option("--seed", default=1, show_default=True, help="Of the sample.")
@click.option("--only", multiple=True, help="Source files to be tried, such as requantizer; all if none is named.")
@click.option("--again", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="An earlier run's JSON.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Verdicts, written as they come.")
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="The table and the survivors.")
@click.option("--ask", "asked", multiple=True, type=click.Choice(QUESTIONS), default=QUESTIONS, help="Whom to ask.")
@click.option("--blind", is_flag=True, help="The control: tests compare nothing. With python -O, without assertions.")
@click.option("--floor", default=0.95, show_default=True, help="Share of detected faults that is expected.")
def main(
    count: int,
    seed: int,
    only: tuple[str, ...],
    again: Path | None,
    json_path: Path | None,
    markdown_path: Path | None,
    asked: tuple[str, ...],
    blind: bool,
    floor: float,
) -> None:
    if blind:
        if __debug__:
            raise click.UsageError("--blind wants python -O, which leaves out assertions")
        np.testing.assert_array_equal = lambda *_, **__: None
    faults, components = population()
    sources = sorted({fault.place.module.split(".")[0] for fault in faults})
    if unknown := sorted(set(only) - set(sources)):
        raise click.BadParameter(f"there is no {', '.join(unknown)}; there are {', '.join(sources)}")
    wanted = [fault for fault in faults if not only or fault.place.module.split(".")[0] in only]
    chosen = sampled(wanted, count, seed)
    terminal.note(f"{len(chosen)} faults, of {len(wanted)} in {len({fault.place.module for fault in wanted})} modules")
    verdicts = Verdicts(dict(enumerate(chosen, 1)), json_path)
    if again is not None:
        verdicts.take(again)
    judge(verdicts, components, asked, terminal.note)
    explain(verdicts, json.loads(EXPLAINED.read_text()))
    entries = [verdicts.entries[number] for number in sorted(verdicts.entries)]
    rows, total = summary(entries)
    terminal.table(f"Faults that the fast suite sees, seed {seed}", HEADER, rows, total)
    if markdown_path:
        atomic_write(markdown_path, markdown(entries).encode())
    seen = share(entries)
    terminal.say(f"{terminal.percent(seen)} of those that change anything are detected")
    if seen < floor:
        raise click.ClickException(f"less than {terminal.percent(floor)}")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(standalone_mode=False)))
