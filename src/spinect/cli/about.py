"""`spinect models`, `methods`, `info`, `doctor`, `cite`: what is there and whether it works."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spinect.cli import choices as c
from spinect.cli.guard import guarded, print_json


class ModelsAction(StrEnum):
    list = "list"
    verify = "verify"
    show = "show"
    import_ = "import"


class WeightsFormat(StrEnum):
    graf2023 = "graf2023"


class WeightsSampler(StrEnum):
    ancestral = "ancestral"
    graf2023 = "graf2023"


@guarded
def models(
    action: Annotated[ModelsAction, typer.Argument(help="What to do.")] = ModelsAction.list,
    name: Annotated[
        str | None, typer.Argument(help="Model, or a bundle's folder; a file to import.")
    ] = None,
    kind: Annotated[
        WeightsFormat | None, typer.Option("--format", help="import: whose checkpoint it is.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FOLDER", help="import: of the new bundle."),
    ] = None,
    ema: Annotated[bool, typer.Option("--ema", help="import: the averaged copy.")] = False,
    sampler: Annotated[
        WeightsSampler, typer.Option(help="import: graf2023 draws as published, wrong sign.")
    ] = WeightsSampler.ancestral,
    json: c.Json = False,
) -> None:
    """List the models, check their files, show a model's card, or import foreign weights."""
    from spinect import card as bundle
    from spinect.errors import ConfigError

    if action is ModelsAction.show:
        if name is None:
            raise ConfigError("no model is named: spinect models show NAME")
        card = bundle.read_card(bundle.find_bundle(name))
        if json:
            print_json(card.model_dump(mode="json"))
        else:
            typer.echo(bundle.model_card(card))
        return
    if action is not ModelsAction.import_ and (kind or output or ema):
        raise ConfigError("--format, --output and --ema belong to spinect models import")
    if action is ModelsAction.import_:
        from spinect.workflows.import_weights import import_graf2023

        if name is None or kind is None:
            raise ConfigError("say what to import: spinect models import FILE --format graf2023")
        made = import_graf2023(Path(name), output, ema=ema, sampler=sampler.value)
        if json:
            print_json({"bundle": str(made)})
        else:
            typer.echo(made)
        return
    cards = [bundle.read_card(bundle.find_bundle(name))] if name else bundle.list_bundles()
    if action is ModelsAction.verify:
        sums = {card.name: bundle.verify(name or card.name) for card in cards}
        if json:
            print_json(sums)
        else:
            for model, sha256 in sums.items():
                typer.echo(f"{model}: {sha256} as its card says")
        return
    if json:
        print_json([card.model_dump(mode="json") for card in cards])
        return
    rows = [[k.name, k.summary, ", ".join(k.modes), k.licence] for k in cards]
    _table(["model", "what it does", "modes", "licence"], rows)


@guarded
def methods(json: c.Json = False) -> None:
    """List the methods that can be trained."""
    from spinect.methods.registry import describe

    rows = describe()
    if json:
        print_json(rows)
        return
    cells = [
        [r["name"], r["summary"], "/".join(f"{n}D" for n in r["ndim"]), ", ".join(r["modes"])]
        for r in rows
    ]
    _table(["method", "what it is", "dimensions", "modes"], cells)


@guarded
def info(json: c.Json = False) -> None:
    """Versions, device, models and methods; for bug reports."""
    from spinect.workflows.doctor import info as collect

    found = collect()
    if json:
        print_json(found)
        return
    found["versions"] = ", ".join(f"{k} {v}" for k, v in found["versions"].items())
    found["models"] = ", ".join(f"{m['name']} {m['sha256'][:12]}" for m in found["models"])
    found["methods"] = ", ".join(found["methods"])
    for key, value in found.items():
        typer.echo(f"{key + ':':<14} {value}")


@guarded
def doctor(json: c.Json = False) -> None:
    """Check torch, device, memory, disk, GL and weights; say how to mend what is not well."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.markup import escape

    from spinect.workflows.doctor import doctor as examine

    checks = examine()
    problems = sum(check.state == "problem" for check in checks)
    if json:
        print_json([asdict(check) for check in checks])
    else:
        console = Console(highlight=False)
        colour = {"ok": "green", "note": "yellow", "problem": "red"}
        for check in checks:
            state = f"[{colour[check.state]}]{check.state:<8}[/]"
            console.print(f"{state} {check.name:<22} {escape(check.found)}", soft_wrap=True)
            if check.mend:
                console.print(f"{'':<31} -> {escape(check.mend)}", soft_wrap=True)
        count = "nothing to mend" if not problems else f"{problems} to mend"
        console.print(f"{len(checks)} checks, {count}")
    raise typer.Exit(1 if problems else 0)


@guarded
def cite(
    bibtex: Annotated[bool, typer.Option("--bibtex", help="As BibTeX.")] = False,
) -> None:
    """What to cite when spinect served your work."""
    from spinect.workflows.citation import as_bibtex, as_text

    typer.echo(as_bibtex() if bibtex else as_text())


def _table(headings: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False).print(table)
