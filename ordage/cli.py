"""The command line: thin, and nothing heavy is imported before a command needs it.

The flags of ``fit`` and ``compare`` are made from the fields of their configurations, which are their one home.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import traceback
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from . import processes
from .config import CompareConfig, DataConfig, RunConfig, read_yaml
from .errors import MissingError, OrdageError, UsageError, did_you_mean

__all__ = ["app", "main"]

app = typer.Typer(
    name="ordage",
    add_completion=False,
    rich_markup_mode="rich",
    help="Predict an ordered quantity, such as age, from images, and learn whether the ordinal loss really helps.",
)

# What typer calls click's base of all usage errors, whichever click it brings along.
_ClickUsageError: type[Exception] = typer.BadParameter.__mro__[1]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of a table.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Tta = Annotated[
    Literal["none", "flip", "shift"] | None,
    typer.Option(
        metavar="none|flip|shift",
        help="Views that an answer is the mean of; those of the model's own test when left out.",
    ),
]
_RUN_PANEL = "Run"
_JUDGING_PANEL = "Judging"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = arguments or ["--help"]
    # What Pillow warns of is said in the reason of a rejected file, once.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="ordage", standalone_mode=False)
        sys.stdout.flush()
        if code == 130:  # typer turns Ctrl-C into a silent exit
            code = _fail("interrupted", 130, debug=False)
    except OrdageError as error:
        code = _fail(error, error.exit_code, debug)
    except (KeyboardInterrupt, typer.Abort):
        code = _fail("interrupted", 130, debug=False)
    except BrokenPipeError:  # the reader of our output has enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except _ClickUsageError as error:
        code = _fail(_usage(error), 2, debug)
    except Exception as error:  # an error that nobody foresaw still gets one line
        code = _fail(f"unexpected {type(error).__name__}: {error}; --debug shows where", 1, debug)
    sys.exit(code or 0)


def _fail(error: object, code: int, debug: bool) -> int:
    if isinstance(error, OrdageError) and not isinstance(error, MissingError) and not processes.is_first():
        return code  # the first process says it; memory is each one's own
    if debug:
        traceback.print_exc()
    print(f"ordage: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _usage(error: Any) -> str:
    message = error.format_message().rstrip(".").replace("Value error, ", "")
    if message.startswith("No such command") and "ean" not in message:
        word = message.split("'")[1]
        message += did_you_mean(word, [command.name or "" for command in app.registered_commands])
    return f"{message}; see {error.ctx.command_path if error.ctx else 'ordage'} --help"


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        print(f"ordage {version('ordage')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _flag_type(hint: Any) -> type:
    """Return the type that a flag's text is read as; lists and choices are text until the configuration reads them."""
    members = [member for member in (typing.get_args(hint) or (hint,)) if member is not type(None)]
    return members[0] if len(members) == 1 and members[0] in (bool, int, float) else str


def _metavar(hint: Any, kind: type) -> str | None:
    choices = [
        str(choice)
        for member in (hint, *typing.get_args(hint))
        if typing.get_origin(member) is typing.Literal
        for choice in typing.get_args(member)
    ]
    numbers = [member.__name__.upper() for member in typing.get_args(hint) if choices and member in (int, float)]
    return "|".join([*numbers, *choices]) if choices else kind.__name__.upper().replace("STR", "TEXT")


def _default(value: Any) -> str:
    if value is None or isinstance(value, bool) or value == ():
        return ""
    return f" (default: {','.join(map(str, value)) if isinstance(value, tuple) else value})"


def _split(value: Any, hint: Any) -> Any:
    if typing.get_origin(hint) is tuple:
        return [item.strip() for item in value.split(",") if item.strip()]
    return int(value) if isinstance(value, str) and value.isdigit() and _is_number_choice(hint) else value


def _is_number_choice(hint: Any) -> bool:
    return any(
        isinstance(choice, int)
        for member in typing.get_args(hint)
        if typing.get_origin(member) is typing.Literal
        for choice in typing.get_args(member)
    )


Config = Annotated[
    Path | None, typer.Option("--config", help="YAML file with options; flags win.", rich_help_panel=_RUN_PANEL)
]
Out = Annotated[Path, typer.Option("--out", help="Folder of all runs.", rich_help_panel=_RUN_PANEL)]
Name = Annotated[
    str | None,
    typer.Option("--name", help="Directory under --out; else made from the date.", rich_help_panel=_RUN_PANEL),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what was interrupted.", rich_help_panel=_RUN_PANEL)]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Delete what --name holds first.", rich_help_panel=_RUN_PANEL)
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Results only.", rich_help_panel=_RUN_PANEL)]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="A line an epoch.", rich_help_panel=_RUN_PANEL)]


Report = Annotated[
    bool,
    typer.Option(
        "--report/--no-report", help="Write report.html, summary.md and the figures.", rich_help_panel=_RUN_PANEL
    ),
]
Open = Annotated[bool, typer.Option("--open", help="Show the page in the browser.", rich_help_panel=_RUN_PANEL)]


def _work(
    config: Config = None,
    out: Out = Path("runs"),
    name: Name = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the configuration file, and the other arguments of ``fit`` and ``compare``."""
    verbosity = 0 if quiet else 1 + verbose
    work = {"out": out, "name": name, "resume": resume, "overwrite": overwrite, "verbosity": verbosity}
    return (read_yaml(config) if config else {}), work


def _manner(
    config: Config = None, quiet: Quiet = False, verbose: Verbose = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the configuration file, and the other argument of ``inspect``."""
    return (read_yaml(config) if config else {}), {"verbosity": 0 if quiet else 1 + verbose}


def _no_work() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return that there is no configuration file and no other argument."""
    return {}, {}


def _with_options(
    config: type[DataConfig],
    about: Callable[..., tuple[dict[str, Any], dict[str, Any]]] = _work,
    *,
    names: Sequence[str] | None = None,
    argument: str | None = "data",
    helps: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of ``config``, or those called ``names``, as flags, and the parameters of ``about``.

    The field ``argument`` is no flag but stands by itself, and ``helps`` says what a field means where that is another
    thing than in training.
    It receives the options that the user gave, those of ``--config`` included, and what ``about`` makes of its own.
    """
    hints = typing.get_type_hints(config)
    order = ("Data", "Input", "Model", "Training", "Machine", _RUN_PANEL)

    def parameter(name: str) -> inspect.Parameter:
        field = config.field(name)
        meta = field.metadata
        kind = _flag_type(hints[name])
        help_text = helps[name] if helps and name in helps else meta["help"] + _default(field.default)
        if name == argument:
            info = typer.Argument(help=meta["help"], show_default=False)
        else:
            flags = meta["flags"] or ("--" + name.replace("_", "-"),)
            info = typer.Option(
                *flags,
                help=help_text,
                rich_help_panel=meta["panel"],
                show_default=False,
                metavar=None if kind is bool else _metavar(hints[name], kind),
            )
        annotation = Annotated[kind | None, info]  # type: ignore[valid-type]  # made at run time from the field's type
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

    taken = sorted(names or hints, key=lambda name: order.index(config.field(name).metadata["panel"]))

    work_parameters = list(inspect.signature(about, eval_str=True).parameters.values())

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.default is not p.empty]

        def wrapper(**arguments: Any) -> None:
            given = {name: _split(arguments[name], hints[name]) for name in taken if arguments[name] is not None}
            file, work = about(**{p.name: arguments[p.name] for p in work_parameters})
            command({**file, **given}, work, **{p.name: arguments[p.name] for p in own})

        parameters = [*map(parameter, taken), *work_parameters, *own]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        return wrapper

    return decorate


@app.command(name="fit")
@_with_options(RunConfig)
def _fit(
    options: dict[str, Any],
    work: dict[str, Any],
    report: Report = True,
    open_: Open = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Train one model and judge it on the test part."""
    _check_open(report, open_)
    from . import tables
    from .fitting import fit

    run = fit(options, **work)
    if not processes.is_first():
        return
    _print(tables.run_json(run), json_output, lambda: tables.print_run(run))
    if report:
        from .reporting import report_run

        _show(report_run(run), open_, json_output)


@app.command(name="compare")
@_with_options(CompareConfig)
def _compare(
    options: dict[str, Any],
    work: dict[str, Any],
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what would be trained and how long it would take, by some steps of each.",
            rich_help_panel=_RUN_PANEL,
        ),
    ] = False,
    report: Report = True,
    open_: Open = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Train several losses under one protocol and say whether they differ."""
    _check_open(report, open_)
    from . import tables

    if dry_run:
        from .comparison.estimate import estimate

        planned = estimate(options, verbosity=work["verbosity"])
        _print(planned, json_output, lambda: tables.print_plan(planned))
        return
    from .comparison import compare

    comparison = compare(options, **work)
    _print(tables.comparison_json(comparison), json_output, lambda: tables.print_comparison(comparison))
    if report:
        from .reporting import report_comparison

        _show(report_comparison(comparison), open_, json_output)
    if failed := comparison.report["failed"]:
        raise typer.Exit(failed[0]["exit_code"])


@app.command(name="inspect")
@_with_options(DataConfig, _manner)
def _inspect(
    options: dict[str, Any],
    manner: dict[str, Any],
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write a page that shows what is odd.", rich_help_panel="Output"),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write", help="Write a table of what can be used, every picture once.", rich_help_panel="Output"
        ),
    ] = None,
    rejected: Annotated[
        Path | None,
        typer.Option(
            "--rejected",
            help="Write a table of what cannot be used, each with its reason.",
            rich_help_panel="Output",
        ),
    ] = None,
    conflicts: Annotated[
        Literal["drop", "mean"],
        typer.Option(
            help="With --write, identical pictures with different ages: drop them, or keep the mean of ages that lie "
            "within --tolerance.",
            metavar="drop|mean",
            rich_help_panel="Output",
        ),
    ] = "drop",
    tolerance: Annotated[float, typer.Option(help="In years.", rich_help_panel="Output")] = 5.0,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Look at every image and label before anything is trained on them."""
    for flag, path in (("--html", html), ("--write", write), ("--rejected", rejected)):
        _check_folder(flag, path)
    from . import tables
    from .inspection import inspect as look
    from .inspection import write_page, write_rejected

    audit = look(options, **manner)
    content = audit.to_dict()
    if write is not None:
        content["clean"] = {"path": str(write), **audit.write_csv(write, conflicts=conflicts, tolerance=tolerance)}
    if rejected is not None:
        write_rejected(audit, rejected)
        content["rejected"] = str(rejected)
    if html is not None:
        write_page(audit, html)
        content["html"] = str(html)
    _print(content, json_output, lambda: tables.print_audit(content))


cache = typer.Typer(name="cache", help="The folder of decoded images.")
app.add_typer(cache)


@cache.command(name="list")
def _cache_list(json_output: Json = False, debug: Debug = False) -> None:
    """Show what it holds, and how large that is."""
    from . import tables
    from .data.cache import cache_root, entries

    found = entries()
    content = {"folder": str(cache_root()), "entries": [entry.to_dict() for entry in found]}
    _print(content, json_output, lambda: tables.print_cache(content))


@cache.command(name="clear")
def _cache_clear(
    names: Annotated[list[str] | None, typer.Argument(help="Entries by name; all of them when left out.")] = None,
    unused: Annotated[float, typer.Option("--unused", help="Only what nobody opened for so many days.", min=0)] = 0.0,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Delete decoded images; they are decoded again when they are needed."""
    from .data.cache import cache_root, clear, size_text

    deleted = clear(names or (), unused_days=unused)
    size = sum(entry.size for entry in deleted)
    content = {"folder": str(cache_root()), "deleted": [entry.to_dict() for entry in deleted], "bytes": size}
    count = f"{len(deleted)} {'entry' if len(deleted) == 1 else 'entries'}"
    _print(content, json_output, lambda: print(f"{count} deleted from {cache_root()}, {size_text(size)} freed"))


# How another data set is read; what concerns splits and the input of a model has no meaning there.
_OTHER_DATA = (
    *("data", "layout", "image_root", "image_col", "age_col", "subject_col", "group_col", "split_col", "bins"),
    *("allow_rejected", "cache_limit"),
)


@app.command(name="evaluate")
@_with_options(
    DataConfig,
    _no_work,
    names=_OTHER_DATA,
    argument=None,
    helps={
        "data": "Another data set to judge the run on; its own test part when left out.",
        "bins": "Bins to judge on: '0-10,11-20,21+'; '10', that many of equal width; 'width:5', of so many years; "
        "'years'; those of the run when left out.",
    },
)
def _evaluate(
    options: dict[str, Any],
    _: dict[str, Any],
    run: Annotated[
        Path, typer.Argument(help="Directory of a run or a comparison, or a table of answers (CSV, TSV, parquet).")
    ] = ...,  # type: ignore[assignment]  # typer's way to say that it is required
    baseline: Annotated[
        Path | None,
        typer.Option(help="Another run, or table, to compare with on the same images.", rich_help_panel=_JUDGING_PANEL),
    ] = None,
    part: Annotated[str, typer.Option(help="test or val.", rich_help_panel=_JUDGING_PANEL)] = "test",
    coverage: Annotated[
        float | None,
        typer.Option(help="What prediction intervals promise (default: 0.9).", rich_help_panel=_JUDGING_PANEL),
    ] = None,
    interval_by: Annotated[
        str | None,
        typer.Option(
            help="Column of groups that each have that promise for themselves.", rich_help_panel=_JUDGING_PANEL
        ),
    ] = None,
    true: Annotated[
        str | None, typer.Option(help="Of a table: column with the true ages.", rich_help_panel=_JUDGING_PANEL)
    ] = None,
    pred: Annotated[
        str | None, typer.Option(help="Of a table: column with the predicted ages.", rich_help_panel=_JUDGING_PANEL)
    ] = None,
    id_col: Annotated[
        str | None, typer.Option(help="Of a table: column with names of the rows.", rich_help_panel=_JUDGING_PANEL)
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder to draw the figures into.", rich_help_panel=_JUDGING_PANEL)
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="File to write a page into.", rich_help_panel=_JUDGING_PANEL)
    ] = None,
    open_: Open = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables as Markdown.", rich_help_panel=_JUDGING_PANEL)
    ] = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Judge a run on its test part, on other data, beside another run; or the answers of any other program."""
    _check_open(html is not None, open_, "--html")
    _check_folder("--html", html)
    from . import tables
    from .judging import judge

    if (run / "cells").is_dir():
        asked = (options, baseline, coverage, interval_by, true, pred, id_col, figures, html, markdown)
        if any(asked) or part != "test":
            raise UsageError(
                f"{run}: is a comparison; options are for one of its runs, in {run / 'cells'}, and its page is made by "
                "ordage report"
            )
        from .comparison import Comparison

        comparison = Comparison(run)
        _print(tables.comparison_json(comparison), json_output, lambda: tables.print_comparison(comparison))
        return
    look = partial(
        judge,
        options=options,
        true=true,
        pred=pred,
        id_col=id_col,
        part=part,
        coverage=coverage,
        interval_by=interval_by,
    )
    judged, other = look(run), None if baseline is None else look(baseline)
    if other is not None and other.name == judged.name:
        judged, other = replace(judged, name=str(run)), replace(other, name=str(baseline))
    content = tables.judged_json(judged, other)
    if figures is not None:
        from .drawing import draw

        content["figures"] = [str(path) for path in draw([judged, *([] if other is None else [other])], figures)]
    if html is not None:
        from .reporting import report_judged

        content["html"] = str(report_judged(judged, other, run, html))
    _print(content, json_output, lambda: tables.print_judged(judged, other, markdown=markdown))
    if html is not None:
        _show(html, open_, json_output)


@app.command(name="report")
def _report(
    paths: Annotated[list[Path], typer.Argument(help="A run, a comparison, or several runs to compare.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write into; that of the run, or report for several, when left out."),
    ] = None,
    open_: Open = False,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Write report.html, summary.md and the figures anew from saved predictions, without training."""
    from .reporting import report

    page = report(paths, out)
    _print({"html": str(page)}, json_output, lambda: None)
    _show(page, open_, json_output)


@app.command(name="predict")
def _predict(
    run: Annotated[Path, typer.Argument(help="A run, a folder with a model, or hf:user/name.")],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, patterns, a table, arrays in .npz or .npy, or - for a path a line on stdin."
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="File to write; stdout when left out.")] = None,
    kind: Annotated[
        str | None,
        typer.Option("--format", metavar="csv|jsonl|parquet", help="By the name of --out when left out, else csv."),
    ] = None,
    image_col: Annotated[str | None, typer.Option(help="Of a table: column with the image paths.")] = None,
    probs: Annotated[bool, typer.Option("--probs", help="Add the probability of every class.")] = False,
    tta: Tta = None,
    annotate: Annotated[
        Path | None, typer.Option("--annotate", help="Folder for copies of the images with the age written on them.")
    ] = None,
    detect: Annotated[
        bool, typer.Option("--detect", help="Find the faces in photographs: a row a face. Needs ordage\\[detect].")
    ] = False,
    margin: Annotated[
        float | None,
        typer.Option(help="With --detect: left around a face, as a share of it (default: 0.02, as in UTKFace)."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …; the GPU when there is one.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Tell the age in each image: a row with age, interval, bin, and how sure that is."""
    from .predicting import predict

    done = predict(
        run,
        images,
        out=out,
        kind=kind,
        image_col=image_col,
        probs=probs,
        tta=tta,
        annotated=annotate,
        detect=detect,
        margin=margin,
        device=device,
        verbosity=0 if quiet else 1,
    )
    if done.unreadable:
        raise typer.Exit(3)


@app.command(name="export")
def _export(
    run: Annotated[Path, typer.Argument(help="A run, a folder with a model, or hf:user/name.")],
    kind: Annotated[
        str,
        typer.Option(
            "--format", metavar="onnx|torch", help="ONNX, for onnxruntime alone, or a program of torch.export."
        ),
    ] = "onnx",
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write; RUN/export when left out.")] = None,
    tta: Tta = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Write a model as one file from uint8 images to ages, verified, with a model card beside it."""
    from . import tables
    from .exporting import export

    exported = export(run, kind=kind, out=out, tta=tta)
    _print(tables.exported_json(exported), json_output, lambda: tables.print_exported(exported))


@app.command(name="push")
def _push(
    folder: Annotated[Path, typer.Argument(help="A folder that ordage export wrote.")],
    name: Annotated[str, typer.Argument(help="Where it goes on the Hugging Face hub: user/name.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it; a new one is private else.")] = False,
    debug: Debug = False,
) -> None:
    """Put an exported model on the Hugging Face hub; no other command sends a model anywhere."""
    from .hub import push

    pushed = push(folder, name, private=not public)
    print(pushed.address)
    print(f"{name} can be seen by {'everybody' if pushed.public else 'its owner alone'}", file=sys.stderr)


@app.command(name="serve")
def _serve(
    run: Annotated[Path, typer.Argument(help="A run, a folder with a model, or hf:user/name.")],
    host: Annotated[str, typer.Option(help="Address to listen on; another lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes one that is free.")] = 8000,
    detect: Annotated[
        bool, typer.Option("--detect", help="Find the faces in photographs. Needs ordage\\[detect].")
    ] = False,
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, help="Size of the largest picture.")] = 16,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …; the GPU when there is one.")] = None,
    open_: Open = False,
    debug: Debug = False,
) -> None:
    """Show a page on which a picture is dropped and its age distribution shown, and answer in JSON at /predict."""
    from .serving import serve

    serve(run, host=host, port=port, detect=detect, megabytes=max_mb, device=device, opened=open_)


@app.command(name="losses")
def _losses(json_output: Json = False, debug: Debug = False) -> None:
    """List the losses, each with its source."""
    from . import tables

    rows = tables.loss_rows()
    _print({"losses": rows}, json_output, lambda: tables.print_losses(rows))


def _check_folder(flag: str, path: Path | None) -> None:
    """Tell before the work, not after it, that a file has no folder to go into."""
    if path is not None and not path.parent.is_dir():
        raise UsageError(f"{flag} {path}: there is no folder {path.parent}")


def _check_open(written: bool, shown: bool, flag: str = "--report") -> None:
    if shown and not written:
        raise UsageError(f"--open: there is no page to show without {flag}")


def _show(page: Path, shown: bool, as_json: bool) -> None:
    """Say where a page is, and show it where that is asked for."""
    if not as_json:
        print(f"Page: {page}")
    if shown:
        from .reporting import open_page

        open_page(page)


def _print(content: dict[str, Any], as_json: bool, table: Callable[[], None]) -> None:
    if as_json:
        print(json.dumps(content, ensure_ascii=False, allow_nan=False))
    else:
        table()
