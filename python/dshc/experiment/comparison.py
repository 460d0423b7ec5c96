"""Methods compared under one protocol: the same data, splits, network, evaluation and tuning for all.

Every contestant is tuned alike: the same grid of factors on its learning rate and on its one main weight, at one
length and seed, by the mAP on the validation items. Then it is trained at every length with every seed, and measured
on the queries, which nothing was chosen by. What was done is found again: a comparison that was interrupted goes on,
one that is asked for more lengths or methods trains those alone.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..data import Dataset
from ..data.split import labels_digest
from ..errors import InputError
from ..evaluation import Conventions
from ..hasher import Hasher
from ..hasher.frozen import weights_digest
from ..runs import RunSettings
from ..runs.earlier import earlier_hasher, with_network
from ..runs.photos import for_photos
from ..runs.run import file_digest, load_dataset, split_of
from ..runs.run_folder import RunFolder
from ..storage import folder_lock, write_whole
from ..training import Interrupted
from .arguments import integers, names, refuse_decided, rising
from .comparison_table import ComparisonTable, Result, Tuning, results_of
from .contestants import Contestant, contestants
from .schedule import Steps, Todo, carry_out
from .trial import POSTPROCESSING, Measuring, Trial
from .tuning import Grid, GridSearch, Point
from .workshop import Workshop, workshop

__all__ = ["Grid", "compare"]

_FILE = "comparison.json"
_EARLIER = {"unseen_classes": 0, "pairs": None}  # of files of earlier versions, which do not say it
_NOT_SAID = {
    "labels",
    "start_from",
    "weights",
}  # by files of earlier versions, whose results are taken as they are
_TUNE_BITS = 32


Tell = Callable[[str], None]
Update = Callable[[int, int], None]


def compare(
    settings: RunSettings | str | os.PathLike[str],
    methods: Sequence[str],
    *,
    bits: Sequence[int],
    seeds: int = 1,
    seeds_at: Sequence[int] | None = None,
    out: str | os.PathLike[str],
    grid: Grid | None = None,
    tuned: str | os.PathLike[str] | None = None,
    nested: bool = False,
    postprocessing: Sequence[str] = (),
    conventions: Conventions = Conventions(),  # noqa: B008 - frozen
    jobs: int = 1,
    tell: Tell = lambda text: None,
    progress: Update = lambda done, total: None,
) -> ComparisonTable:
    """Compare methods; what was done before in ``out`` is taken over.

    Args:
        settings: of all trainings: data, protocol, network, optimisation; or the data source alone.
        methods: their names, each perhaps with settings (:mod:`dshc.experiment.contestants`); ``all`` for every one
            that takes the labels.
        bits: lengths, at least one.
        seeds: trainings per length, with the seeds 0, 1, ...; split, weights and batches are drawn from them.
        seeds_at: lengths that are trained with all seeds, the others with seed 0 alone; None: all are.
        out: folder for the trainings and results.
        grid: what is tuned; None: every method with its own defaults.
        tuned: folder of a comparison whose choices are taken over instead, of the same label or else of the same
            method; what a label sets itself stays.
        nested: methods that can are trained once, for all lengths.
        postprocessing: ``"itq"``, ``"map"``, ``"thresholds"``: codes found afterwards from the same outputs, each in
            rows of its own.
        conventions: of the evaluation; a method's own score ranks its codes.
        jobs: trainings at a time, each with its share of the CPU threads where ``settings`` leave these open. Seconds
            are then those of a machine that is shared.
        tell: told what is done, a line at a time.
        progress: told how many of how many trainings are done.

    Raises:
        ValueError, TypeError: settings that do not fit, or a folder that compares other data; before any training.
        Interrupted: after Ctrl-C, SIGTERM or SIGHUP; the same call goes on from there.
    """
    out, tuned = Path(out), None if tuned is None else Path(tuned)
    if not isinstance(settings, RunSettings):
        settings = RunSettings.of(source=os.fspath(settings))
    methods, postprocessing = names("methods", methods), names("postprocessing", postprocessing)
    lengths = rising(integers("bits", bits))
    seeds_at = None if seeds_at is None else integers("seeds_at", seeds_at)
    for name, number in (("seeds", seeds), ("jobs", jobs)):
        if type(number) is not int or number < 1:
            raise InputError(f"{name} must be a whole number of at least 1, got {number!r}")
    if jobs > 1 and settings.runtime.threads is None:
        settings = settings.with_values(**{"runtime.threads": max(1, torch.get_num_threads() // jobs)})
    if grid is not None and not settings.data.validation:
        raise InputError(
            f"validation must be more than 0 where a grid is tuned by it, got {settings.data.validation}"
        )
    refuse_decided(settings)
    if seeds_at is not None and (unknown := sorted(set(seeds_at) - set(lengths))):
        raise InputError(f"seeds_at must be among bits, got {', '.join(map(str, unknown))}")
    if tuned is not None and grid is not None:
        raise InputError(f"grid must be None with tuned={tuned}, which brings the choices, got {grid}")
    for name in postprocessing:
        if name not in POSTPROCESSING:
            raise InputError(f"postprocessing must be among {', '.join(POSTPROCESSING)}, got {name!r}")
    if conventions.score is not None:
        raise InputError(f"score must be each method's own in a comparison, got {conventions.score}")
    if settings.data.pairs is not None and settings.data.recover is None:
        settings = settings.with_values(**{"data.recover": "auto"})  # queries are measured by labels
    RunFolder.check_apart(out, settings.data.source)
    earlier = earlier_hasher(settings)
    settings = for_photos(with_network(settings, earlier), earlier)
    # Of the images only their files are looked at here; a frozen backbone's features are all that trainings read.
    lazily = {"data.max_memory_mib": 0} if settings.encoder.finetune == "none" else {}
    settings = settings.with_values(**lazily)
    dataset = load_dataset(settings.with_values(**{"data.max_memory_mib": 0}), any_labels=True)
    found = contestants(settings, methods, dataset)
    nesting = nested and len(lengths) > 1 and any(contestant.nests for contestant in found)
    if nesting and postprocessing:
        got = ", ".join(postprocessing)
        raise InputError(
            f"postprocessing must be none with nested, whose codes share their first bits, got {got}"
        )
    split_of(dataset, settings)  # what does not fit here would fail in every training
    measuring = Measuring(
        conventions.k,
        conventions.ks,
        str(conventions.ties),
        str(conventions.denominator),
        str(conventions.empty),
        tuple(postprocessing),
    )
    asked = {length: seeds if seeds_at is None or length in seeds_at else 1 for length in lengths}
    known = None if tuned is None else _tunings(tuned, found, own=tuned.resolve() == out.resolve())
    # The first trial leaves the features of a frozen backbone to all others.
    first_alone = dataset.kind == "images" and settings.encoder.finetune == "none"
    work = _Work(dataset, out, asked, grid, known, nested, measuring, jobs, first_alone, tell, progress)
    with folder_lock(out):
        _own(out, dataset, settings, earlier)
        # What trainings import late takes seconds, which would be every trial's: torch's optimizers bring its compiler.
        late = ["torch._dynamo", *(["timm"] if settings.encoder.timm_name is not None else [])]
        with workshop(*late) as shop:
            try:
                table = work.run(shop, found)
                shop.check_stop()
                return table
            except Interrupted as stop:
                again = f"{stop}; nothing is lost: the same command goes on ({shlex.quote(str(out))})"
                raise Interrupted(again, stop.signal_name) from None


class _Work:
    """The trials of a comparison: which there are, and what comes of them."""

    def __init__(
        self,
        dataset: Dataset,
        out: Path,
        seeds: dict[int, int],
        grid: Grid | None,
        known: dict[str, Tuning] | None,
        nested: bool,
        measuring: Measuring,
        jobs: int,
        first_alone: bool,
        tell: Tell,
        update: Update,
    ) -> None:
        self.dataset, self.out = dataset, out
        self.bits, self.seeds = tuple(seeds), seeds
        self.grid, self.known, self.nested, self.measuring = grid, known, nested, measuring
        self.jobs, self.first_alone = jobs, first_alone
        self.tell, self.update = tell, update
        self.done = self.total = 0

    def run(self, shop: Workshop, found: Sequence[Contestant]) -> ComparisonTable:
        for contestant in found:
            search = self.search(contestant)
            self.total += len(self.finals(contestant, {})) + (0 if search is None else len(search.take()))
        self.update(0, self.total)
        ended: dict[int, tuple[Tuning, list[Result]]] = {}
        work = [self.steps(contestant) for contestant in found]
        for place, result in carry_out(
            shop, work, jobs=self.jobs, first_alone=self.first_alone, done=self.done_with
        ):
            ended[place] = result
            in_order = [ended[place] for place in sorted(ended)]
            results = tuple(result for _, of_one in in_order for result in of_one)
            table = ComparisonTable(results, tuple(tuning for tuning, _ in in_order), self.facts())
            table.save(self.out)
        return table

    def steps(self, contestant: Contestant) -> Steps[tuple[Tuning, list[Result]]]:
        """What is done for a contestant: its tuning, then the trainings that are measured."""
        tuning = yield from self.tune(contestant)
        finals = self.finals(contestant, tuning.chosen)
        yield [Todo(trial, measure=True) for trial in finals]
        return tuning, [result for trial in finals for result in results_of(trial)]

    def facts(self) -> dict[str, Any]:
        """What all trainings share, for the head of the table."""
        return {
            "data": self.dataset.name,
            "n_items": self.dataset.n_items,
            "n_classes": self.dataset.n_classes,
            "seeds": max(self.seeds.values()),
            "bits": list(self.bits),
            "nested": self.nested,
        }

    def settings_of(
        self, contestant: Contestant, bits: int, seed: int, values: dict[str, Any]
    ) -> RunSettings:
        chosen: dict[str, Any] = {"method.bits": bits, "runtime.seed": seed, **values}
        if self.nested and contestant.nests and len(self.bits) > 1:
            chosen["method.lengths"] = ",".join(map(str, self.bits[:-1]))
        return contestant.settings.with_values(**chosen)

    def lengths_of(self, contestant: Contestant) -> tuple[int, ...]:
        """The lengths it is trained at: the longest alone where lengths are nested, its own where it has but one."""
        if contestant.method.bit_per_label:
            return (self.dataset.n_classes,)
        return self.bits[-1:] if self.nested and contestant.nests else self.bits

    def finals(self, contestant: Contestant, values: dict[str, Any]) -> list[Trial]:
        """The trainings that are measured."""
        return [
            self.trial(contestant, bits, seed, values)
            for bits in self.lengths_of(contestant)
            for seed in range(self.seeds.get(bits, max(self.seeds.values())))
        ]

    def trial(self, contestant: Contestant, bits: int, seed: int, values: dict[str, Any]) -> Trial:
        """One of its trainings, with some settings of the grid."""
        settings = self.settings_of(contestant, bits, seed, values)
        return Trial(contestant.label, settings, self.out / "runs", self.measuring)

    def tuning_bits(self, contestant: Contestant) -> int:
        """The length that the grid is tried at."""
        lengths = self.lengths_of(contestant)
        return _TUNE_BITS if _TUNE_BITS in lengths else lengths[len(lengths) // 2]

    def search(self, contestant: Contestant) -> GridSearch | None:
        """The grid around the method's own defaults; None where nothing is tuned."""
        if self.grid is None or self.known is not None:
            return None
        resolved = self.settings_of(contestant, self.tuning_bits(contestant), 0, {}).resolved(self.dataset)
        method = contestant.method
        if resolved.optim.lr is None or method.is_fitted():
            return None
        values = {"optim.lr": resolved.optim.lr}
        name = method.weight_to_tune(resolved.method)
        if name is not None and (weight := getattr(resolved.method, name)):
            values[f"method.{name}"] = weight
        return GridSearch(self.grid, values)

    def tune(self, contestant: Contestant) -> Steps[Tuning]:
        """Train at every point of the grid; the best by validation is chosen, the first of equals."""
        if self.known is not None:
            return self.known[contestant.label]
        search = self.search(contestant)
        if search is None:
            return Tuning(contestant.label, (), {})
        bits, trials, first = self.tuning_bits(contestant), [], True
        while points := search.take():
            self.total += 0 if first else len(points)
            first = False
            taken = [self.try_out(contestant, bits, point) for point in points]
            yield [Todo(trial, measure=False) for trial in taken if trial is not None]
            trained = [None if trial is None else trial.trained() for trial in taken]
            search.tell([None if done is None else done["validation_map"] for done in trained])
            trials += taken
        if search.best is None:
            return Tuning(contestant.label, search.tried, {})
        for i, trial in enumerate(trials):
            if i != search.best and trial is not None and trial.measured() is None:
                shutil.rmtree(trial.run_folder, ignore_errors=True)  # the numbers stay
        return Tuning(contestant.label, search.tried, search.tried[search.best][0])

    def try_out(self, contestant: Contestant, bits: int, point: Point) -> Trial | None:
        """The training at a point of the grid; None where the method takes no such value."""
        try:
            return self.trial(contestant, bits, 0, point)
        except InputError as error:
            self.done += 1
            self.tell(f"{contestant.label}: {error}")
            return None

    def done_with(self, todo: Todo, carried_out: bool) -> None:
        """Count a trial, and say what came of it."""
        self.done += 1
        self.update(self.done, self.total)
        if carried_out:
            self.tell(_line(todo.trial, todo.measure))


def _tunings(folder: Path, found: Sequence[Contestant], *, own: bool) -> dict[str, Tuning]:
    """What the comparison in a folder chose for each contestant, by label; ``own``: it is the same comparison, whose
    tuning stays in its table."""
    try:
        table = ComparisonTable.load(folder)
    except FileNotFoundError:
        raise InputError(f"tuned must be the folder of a comparison, got {folder} (no table.json)") from None
    by_label = {tuning.label: tuning.chosen for tuning in table.tunings}
    by_method = {label.partition(":")[0]: chosen for label, chosen in reversed(by_label.items())}
    known = {}
    for contestant in found:
        method = contestant.method.name
        if method not in by_method:
            there = ", ".join(sorted(by_method))
            raise InputError(f"tuned must be a comparison with {method}, {folder} has {there}")
        chosen = by_label.get(contestant.label, by_method[method])
        left = {name: value for name, value in chosen.items() if name not in contestant.own}
        tried = next((t.tried for t in table.tunings if own and t.label == contestant.label), ())
        known[contestant.label] = Tuning(contestant.label, tried, left)
    return known


def _line(trial: Trial, measure: bool) -> str:
    if (failure := trial.failure()) is not None:
        return f"{trial.name}: failed: {failure}"
    done, measured = trial.trained() or {}, trial.measured() if measure else None
    text = f"{trial.name}: trained in {done['seconds']:.1f} s"
    if done.get("validation_map") is not None:
        text += f", validation {done['validation_map']:.4f}"
    if measured is not None:
        text += f", mAP {measured['rows'][0]['mean_ap']:.4f}"
    return text


def _own(out: Path, dataset: Dataset, settings: RunSettings, earlier: Hasher | None) -> None:
    """Make the folder this data's; refuse one that compares other data, whose results would be taken for these.

    The same for weights that all trainings start from: their settings know the place alone.
    """
    data, weights = settings.data, settings.encoder.weights
    asked = {"data": dataset.name, "digest": dataset.digest(), "labels": labels_digest(dataset)}
    asked |= {"protocol": data.protocol}
    asked["start_from"] = None if earlier is None else weights_digest(earlier)
    asked["weights"] = None if weights is None else file_digest(Path(weights))
    asked |= {"train_per_class": data.train_per_class, "unseen_classes": data.unseen_classes}
    asked["pairs"] = None if data.pairs is None else file_digest(Path(data.pairs))
    path = out / _FILE
    if path.is_file():
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            held = None
        if not isinstance(held, dict):
            raise InputError(f"{path}: damaged; without it nobody knows of which data the folder is")
        for name, value in asked.items():
            if name in _NOT_SAID and name not in held:
                continue
            if (known := held.get(name, _EARLIER.get(name))) != value:
                raise InputError(f"{name} must be {known!r} as in the comparison in {out}, got {value!r}")
        return
    if any(path.name != ".lock" for path in out.iterdir()):
        raise InputError(f"out must be an empty folder or one with a comparison, got {out}")
    write_whole(path, json.dumps(asked, indent=1) + "\n")
