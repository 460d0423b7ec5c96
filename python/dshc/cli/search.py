"""``dshc search``: the nearest items of one or many queries."""

from __future__ import annotations

import json
import tempfile
import webbrowser
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..data import IMAGE_SUFFIXES
from ..errors import InputError
from ..evaluation import Conventions
from ..index import CodeIndex
from ..index.answers import Answer, answer
from ..index.queries import Queries, pick_queries, read_queries
from ..runs import Run
from ..runs.encoding import stored_part
from ..runs.run_folder import is_run_file
from ..storage import CodeFile
from .console import remark, say, table, working
from .open_run import open_run

__all__ = ["run_search"]

DEFAULT_K = 10
DEFAULT_SHOWN = 5
PAGE = "gallery.html"


def run_search(
    target: Path,
    sources: Sequence[str],
    *,
    items: Sequence[int],
    k: int | None,
    score: str | None,
    run_folder: Path | None,
    as_json: bool,
    show: int | None,
    gallery: Path | None,
    open_page: bool,
) -> None:
    """Search a run's database or a code file for the items nearest to what ``sources`` name, or to the run's queries
    ``items``; print them and, with ``gallery`` or ``open_page``, write a page that shows them.
    """
    if bool(sources) == bool(items):
        came = "got both" if sources else "got neither"
        raise InputError(f"give either a QUERY (image, folder, array or code file) or --item NUMBER, {came}")
    Conventions(score=score)  # refuses a wrong one before anything is encoded
    page = None if gallery is None else _page_path(gallery)
    if target.is_dir():
        if run_folder is not None:
            raise InputError(f"--run must go with a code file to search, {target} is a run folder")
        run = owner = open_run(target)
        index = CodeIndex(_database_of(run, target))
    else:
        if target.suffix.lower() in (*IMAGE_SUFFIXES, ".npy", ".npz") and target.is_file():
            raise InputError(f"{target}: must be a run or a code file; what is searched for comes after it")
        index = CodeIndex.load(target)
        run = open_run(run_folder) if run_folder is not None else None
        owner = run if _is_database_of(target, run) else None
    if k is None:
        k = min(DEFAULT_K, len(index))
    if not 1 <= k <= len(index):
        raise InputError(f"--k must lie in 1..{len(index)} (the number of codes in the database), got {k}")
    if items:
        queries = [pick_queries(run if target.is_dir() else index.file, items)]
    else:
        queries = read_queries(sources, run)
    for part in queries:
        for text in part.remarks:
            remark(f"dshc: {text}")
    if show is None:
        show = max(DEFAULT_SHOWN, len(items), len(sources))
    answers = answer(index, queries, k, score=score, limit=None if as_json else show)
    total = sum(map(len, queries))
    if as_json:
        shown = _print_json(answers, show)
    else:
        with working("searching"):
            shown = list(answers)
        _print(shown, score or index.file.score, total)
    if page is not None or open_page:
        _write_page(page, index, queries, shown, owner, more=total - len(shown), open_page=open_page)


def _database_of(run: Run, target: Path) -> CodeFile:
    """The codes of a run's database; :class:`InputError` saying what to do where neither they nor its data are here."""
    try:
        return stored_part(run, "database")
    except (ValueError, OSError) as error:
        raise InputError(
            f"{error}; to search other items, encode them (dshc encode {target} INPUT) and search their codes "
            f"(dshc search codes.safetensors QUERY --run {target})"
        ) from None


def _is_database_of(target: Path, run: Run | None) -> bool:
    """Whether a code file is the one that a run keeps of its database, whose images the run knows."""
    own = None if run is None else run.folder / "codes" / "database.safetensors"
    return own is not None and own.is_file() and target.samefile(own)


def _print_json(answers: Iterable[Answer], keep: int) -> list[Answer]:
    """Print a line for every answer; returns the first ``keep``."""
    kept = []
    for found in answers:
        say(json.dumps(found.to_dict()))
        if len(kept) < keep:
            kept.append(found)
    return kept


def _print(answers: Sequence[Answer], score: str, total: int) -> None:
    relevant = {True: "yes", False: "no", None: ""}
    rows = [
        (found.query, r.rank, r.distance, r.index, r.id, r.label, relevant[r.relevant])
        for found in answers
        for r in found.results
    ]
    table("", ("query", "rank", score, "index", "id", "label", "relevant"), rows, numeric="lrrr")
    for found in answers:
        remark(found.line(), style="")
    if total > len(answers):
        remark(f"{total - len(answers)} more queries not shown; --show N shows more, --json gives all")


def _page_path(gallery: Path) -> Path:
    """The file that ``--gallery`` means: it, or ``gallery.html`` in a folder."""
    path = gallery / PAGE if gallery.is_dir() else gallery
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise InputError(f"--gallery must name an .html file or an existing folder, got {gallery}")
    if is_run_file(path):
        raise InputError(f"--gallery must not be one of a run's own files, got {path}")
    return path


def _write_page(
    path: Path | None,
    index: CodeIndex,
    queries: Sequence[Queries],
    answers: Sequence[Answer],
    owner: Run | None,
    *,
    more: int,
    open_page: bool,
) -> None:
    from ..index.search_page import write_search_page

    if path is None:  # --open alone
        path = Path(tempfile.mkdtemp(prefix="dshc-")) / PAGE
    write_search_page(path, index, queries, answers, owner, more=more)
    remark(f"gallery: {path}", style="")
    if open_page and not _open_in_browser(path):
        remark(f"dshc: no browser could be started here; open {path} in one")


def _open_in_browser(path: Path) -> bool:
    try:
        return webbrowser.open(path.resolve().as_uri())
    except (webbrowser.Error, OSError):
        return False
